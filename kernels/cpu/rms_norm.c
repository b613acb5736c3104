/* rms_norm.c - every row divided by its root mean square, on the CPU. README.md chapter 9. */
#include "cpu/parallel.h"
#include "cpu/rsum.h"
#include "cpu/sum_rows.h"
#include "numerics.h"

struct rms_job {
    const float *x, *dy; /* (rows, C) */
    const float *gamma;  /* (C) */
    float *out;          /* (rows, C) */
    float *inv;          /* (rows) */
    int64_t rows, n_cols;
    float eps;
    int n_threads;
};

struct rms_row {
    const float *x, *dy, *gamma;
    float inv;
};

RP_VEC_FN rp_vf square_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    rp_vf x = rp_vload_lanes((const float *)arg + i, lanes);
    return rp_vfma(x, x, acc);
}

static void normalize_row(const struct rms_job *job, int64_t r)
{
    int64_t n = job->n_cols;
    const float *x = job->x + r * n;
    float inv = 1.0f / rp_sqrt(rp_rsum(n, square_term, x) / (float)n + job->eps);
    job->inv[r] = inv;
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf h = rp_vload_lanes(x + i, lanes) * rp_vset(inv);
        rp_vstore_lanes(job->out + r * n + i, h * rp_vload_lanes(job->gamma + i, lanes), lanes);
    }
}

static void normalize_work(void *arg, int thread)
{
    const struct rms_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) normalize_row(job, row);
}

RP_CPU_KERNEL(rms_norm)
{
    (void)pass, (void)err;
    const struct rp_tensor *x = &call->in[0];
    struct rms_job job = {.x = x->data,
                          .gamma = call->in[1].data,
                          .out = call->out[0].data,
                          .inv = call->out[1].data,
                          .rows = rp_tensor_rows(x),
                          .n_cols = x->dims[x->n_dims - 1],
                          .eps = call->params.norm.eps,
                          .n_threads = rp_threads_for(cpu, 3 * rp_tensor_elements(x))};
    rp_threads_run(cpu, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

RP_VEC_FN rp_vf gradient_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct rms_row *row = arg;
    rp_vf h = rp_vload_lanes(row->x + i, lanes) * rp_vset(row->inv);
    rp_vf g = rp_vload_lanes(row->dy + i, lanes) * rp_vload_lanes(row->gamma + i, lanes);
    return rp_vfma(g, h, acc);
}

static void gradient_row(const struct rms_job *job, int64_t r)
{
    int64_t n = job->n_cols;
    struct rms_row row = {
        .x = job->x + r * n, .dy = job->dy + r * n, .gamma = job->gamma, .inv = job->inv[r]};
    rp_vf b = rp_vset(rp_rsum(n, gradient_term, &row) / (float)n);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf h = rp_vload_lanes(row.x + i, lanes) * rp_vset(row.inv);
        rp_vf g = rp_vload_lanes(row.dy + i, lanes) * rp_vload_lanes(row.gamma + i, lanes);
        rp_vstore_lanes(job->out + r * n + i, rp_vset(row.inv) * rp_vfma(-h, b, g), lanes);
    }
}

static void gradient_work(void *arg, int thread)
{
    const struct rms_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) gradient_row(job, row);
}

RP_CPU_KERNEL(rms_norm_dx)
{
    (void)pass, (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct rms_job job = {.dy = dy->data,
                          .x = call->in[1].data,
                          .gamma = call->in[2].data,
                          .inv = call->in[3].data,
                          .out = call->out[0].data,
                          .rows = rp_tensor_rows(dy),
                          .n_cols = dy->dims[dy->n_dims - 1],
                          .n_threads = rp_threads_for(cpu, 6 * rp_tensor_elements(dy))};
    rp_threads_run(cpu, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient of gamma ----------------------------------------------------------------------- */

RP_VEC_FN void dg_term(const struct rp_sum_job *sums, int shard, int64_t row, int64_t n_rows,
                       int64_t col, int64_t lanes, rp_vf *acc)
{
    const struct rms_job *job = sums->arg;
    (void)shard;
    for (int64_t i = row; i < row + n_rows; i++) {
        int64_t at = i * sums->n_cols + col;
        rp_vf h = rp_vload_lanes(job->x + at, lanes) * rp_vset(job->inv[i]);
        acc[0] = rp_vfma(rp_vload_lanes(job->dy + at, lanes), h, acc[0]);
    }
}

static void dg_chain(const struct rp_sum_job *sums, int shard, int64_t begin, int64_t end,
                     int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(sums, shard, begin, end, col, col_end, chain, dg_term, 1);
}

size_t RP_ISA_NAME(rp_cpu_scratch_rms_norm_dg)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return rp_sum_rows_scratch(&call->in[0], 1);
}

RP_CPU_KERNEL(rms_norm_dg)
{
    (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct rms_job job = {.dy = dy->data, .x = call->in[1].data, .inv = call->in[2].data};
    float *open[] = {call->out[1].data};
    struct rp_sum_job sums;
    rp_sum_rows_begin(&sums, cpu, &pass->rows, rp_tensor_rows(dy), dy->dims[dy->n_dims - 1], 1);
    rp_sum_rows_run(&sums, dg_chain, &job, open);
    rp_sum_rows_node(&sums, 0, call->out[0].data, open[0]);
    return RP_STATUS_OK;
}
