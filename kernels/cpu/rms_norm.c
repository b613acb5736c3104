/* rms_norm.c - every row divided by its root mean square, on the CPU. README.md chapter 9. */
#include "cpu/parallel.h"
#include "cpu/rms_row.h"
#include "cpu/sum_rows.h"

struct rms_job {
    const float *x, *dy; /* (rows, C) */
    const float *gamma;  /* (C) */
    float *out;          /* (rows, C) */
    float *inv;          /* (rows) */
    int64_t rows, n_cols;
    float eps;
    int n_threads;
};

static void normalize_work(void *arg, int thread)
{
    const struct rms_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++)
        job->inv[row] = rp_rms_normalize(job->n_cols, job->x + row * job->n_cols, job->gamma,
                                         job->eps, job->out + row * job->n_cols);
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
    rp_pool_run(cpu->pool, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

static void gradient_work(void *arg, int thread)
{
    const struct rms_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        int64_t at = row * job->n_cols;
        struct rp_rms_row one = {
            .x = job->x + at, .dy = job->dy + at, .gamma = job->gamma, .inv = job->inv[row]};
        rp_rms_gradient(job->n_cols, &one, job->out + at);
    }
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
    rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
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
