/* layer_norm.c - normalisation of each row on the CPU. README.md chapter 9. */
#include "cpu/parallel.h"
#include "cpu/rsum.h"
#include "cpu/sum_rows.h"
#include "numerics.h"

struct ln_job {
    const float *x, *dy;       /* (rows, C) */
    const float *gamma, *beta; /* (C); beta may be NULL */
    float *mean, *inv;         /* (rows) */
    float *out;                /* (rows, C) */
    int64_t rows, n_cols;
    float eps;
    int n_threads;
};

struct ln_row {
    const float *x, *dy, *gamma;
    float mean, inv;
};

RP_VEC_FN rp_vf square_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ln_row *row = arg;
    rp_vf d = rp_vload_lanes(row->x + i, lanes) - rp_vset(row->mean);
    return rp_vfma(d, d, acc);
}

static void normalize_row(const struct ln_job *job, int64_t r)
{
    int64_t n = job->n_cols;
    struct ln_row row = {.x = job->x + r * n};
    row.mean = rp_rsum(n, rp_rsum_plain_term, row.x) / (float)n;
    row.inv = 1.0f / rp_sqrt(rp_rsum(n, square_term, &row) / (float)n + job->eps);
    job->mean[r] = row.mean;
    job->inv[r] = row.inv;
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf d = rp_vload_lanes(row.x + i, lanes) - rp_vset(row.mean);
        rp_vf h = d * rp_vset(row.inv), gamma = rp_vload_lanes(job->gamma + i, lanes);
        rp_vf y = job->beta ? rp_vfma(h, gamma, rp_vload_lanes(job->beta + i, lanes)) : h * gamma;
        rp_vstore_lanes(job->out + r * n + i, y, lanes);
    }
}

static void normalize_work(void *arg, int thread)
{
    const struct ln_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) normalize_row(job, row);
}

RP_CPU_KERNEL(layer_norm)
{
    (void)pass, (void)err;
    const struct rp_tensor *x = &call->in[0];
    struct ln_job job = {.x = x->data,
                         .gamma = call->in[1].data,
                         .beta = call->in[2].data,
                         .out = call->out[0].data,
                         .mean = call->out[1].data,
                         .inv = call->out[2].data,
                         .rows = rp_tensor_rows(x),
                         .n_cols = x->dims[x->n_dims - 1],
                         .eps = call->params.norm.eps,
                         .n_threads = rp_threads_for(cpu, 4 * rp_tensor_elements(x))};
    rp_pool_run(cpu->pool, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

RP_VEC_FN rp_vf gradient_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ln_row *row = arg;
    return acc + rp_vload_lanes(row->dy + i, lanes) * rp_vload_lanes(row->gamma + i, lanes);
}

RP_VEC_FN rp_vf gradient_h_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ln_row *row = arg;
    rp_vf h = (rp_vload_lanes(row->x + i, lanes) - rp_vset(row->mean)) * rp_vset(row->inv);
    rp_vf g = rp_vload_lanes(row->dy + i, lanes) * rp_vload_lanes(row->gamma + i, lanes);
    return rp_vfma(g, h, acc);
}

static void gradient_row(const struct ln_job *job, int64_t r)
{
    int64_t n = job->n_cols;
    struct ln_row row = {.x = job->x + r * n,
                         .dy = job->dy + r * n,
                         .gamma = job->gamma,
                         .mean = job->mean[r],
                         .inv = job->inv[r]};
    rp_vf a = rp_vset(rp_rsum(n, gradient_term, &row) / (float)n);
    rp_vf b = rp_vset(rp_rsum(n, gradient_h_term, &row) / (float)n);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf h = (rp_vload_lanes(row.x + i, lanes) - rp_vset(row.mean)) * rp_vset(row.inv);
        rp_vf g = rp_vload_lanes(row.dy + i, lanes) * rp_vload_lanes(row.gamma + i, lanes);
        rp_vstore_lanes(job->out + r * n + i, rp_vset(row.inv) * rp_vfma(-h, b, g - a), lanes);
    }
}

static void gradient_work(void *arg, int thread)
{
    const struct ln_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) gradient_row(job, row);
}

RP_CPU_KERNEL(layer_norm_dx)
{
    (void)pass, (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct ln_job job = {.dy = dy->data,
                         .x = call->in[1].data,
                         .gamma = call->in[2].data,
                         .mean = call->in[3].data,
                         .inv = call->in[4].data,
                         .out = call->out[0].data,
                         .rows = rp_tensor_rows(dy),
                         .n_cols = dy->dims[dy->n_dims - 1],
                         .n_threads = rp_threads_for(cpu, 8 * rp_tensor_elements(dy))};
    rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradients of gamma and beta ------------------------------------------------------------- */

RP_VEC_FN void dgb_term(const struct rp_sum_job *sums, int shard, int64_t row, int64_t n_rows,
                        int64_t col, int64_t lanes, rp_vf *acc)
{
    const struct ln_job *job = sums->arg;
    (void)shard;
    for (int64_t i = row; i < row + n_rows; i++) {
        int64_t at = i * sums->n_cols + col;
        rp_vf dy = rp_vload_lanes(job->dy + at, lanes);
        rp_vf d = rp_vload_lanes(job->x + at, lanes) - rp_vset(job->mean[i]);
        acc[0] = rp_vfma(dy, d * rp_vset(job->inv[i]), acc[0]);
        acc[1] += dy;
    }
}

static void dgb_chain(const struct rp_sum_job *sums, int shard, int64_t begin, int64_t end,
                      int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(sums, shard, begin, end, col, col_end, chain, dgb_term, 2);
}

size_t RP_ISA_NAME(rp_cpu_scratch_layer_norm_dgb)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return rp_sum_rows_scratch(&call->in[0], 2);
}

RP_CPU_KERNEL(layer_norm_dgb)
{
    (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct ln_job job = {
        .dy = dy->data, .x = call->in[1].data, .mean = call->in[2].data, .inv = call->in[3].data};
    float *open[] = {call->out[2].data, call->out[3].data};
    struct rp_sum_job sums;
    rp_sum_rows_begin(&sums, cpu, &pass->rows, rp_tensor_rows(dy), dy->dims[dy->n_dims - 1], 2);
    rp_sum_rows_run(&sums, dgb_chain, &job, open);
    for (int i = 0; i < 2; i++)
        if (call->out[i].data) rp_sum_rows_node(&sums, i, call->out[i].data, open[i]);
    return RP_STATUS_OK;
}
