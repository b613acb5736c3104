/* batch_norm.c - batch normalisation on the CPU: statistics of each logical shard, then one pass
 * over the rows. README.md chapter 9. */
#include "cpu/digest.h"
#include "cpu/sum_rows.h"
#include "numerics.h"

struct bn_job {
    const float *x, *dy;          /* (rows, C) */
    const float *gamma, *beta;    /* (C) */
    const float *mean, *inv;      /* (shards, C) */
    const float *mean_b, *mean_g; /* (shards, C): dbeta / m and dgamma / m of each shard */
    float *out;                   /* (rows, C) */
    int64_t rows, rows_per_shard, n_cols;
    int n_threads;
};

/* What a pass over all rows does with n_rows rows of the columns [col, col + lanes). */
typedef void (*bn_body)(const struct bn_job *job, int64_t shard, int64_t row, int64_t n_rows,
                        int64_t col, int64_t lanes);

RP_VEC_FN void bn_columns(const struct bn_job *job, int64_t shard, int64_t row, int64_t n_rows,
                          bn_body body)
{
    int64_t col = 0;
    for (; n_rows == RP_SUM_BLOCK && col + RP_VW <= job->n_cols; col += RP_VW)
        body(job, shard, row, RP_SUM_BLOCK, col, RP_VW);
    for (; col < job->n_cols; col += RP_VW)
        body(job, shard, row, n_rows, col, rp_min(RP_VW, job->n_cols - col));
}

/* The rows of one thread, eight at a time, so that a channel's numbers are loaded once for eight.
 */
RP_VEC_FN void bn_rows(const struct bn_job *job, int thread, bn_body body)
{
    int64_t row, end;
    rp_pool_cut(job->rows, RP_SUM_BLOCK, thread, job->n_threads, &row, &end);
    while (row < end) {
        int64_t shard = row / job->rows_per_shard;
        int64_t stop = rp_min(end, (shard + 1) * job->rows_per_shard);
        for (; row < stop; row += rp_min(RP_SUM_BLOCK, stop - row))
            bn_columns(job, shard, row, rp_min(RP_SUM_BLOCK, stop - row), body);
    }
}

RP_VEC_FN void normalize_body(const struct bn_job *job, int64_t shard, int64_t row, int64_t n_rows,
                              int64_t col, int64_t lanes)
{
    int64_t of = shard * job->n_cols + col;
    rp_vf mean = rp_vload_lanes(job->mean + of, lanes);
    rp_vf scale = rp_vload_lanes(job->inv + of, lanes) * rp_vload_lanes(job->gamma + col, lanes);
    rp_vf beta = rp_vload_lanes(job->beta + col, lanes);
    for (int64_t i = 0; i < n_rows; i++) {
        int64_t at = (row + i) * job->n_cols + col;
        rp_vf x = rp_vload_lanes(job->x + at, lanes);
        rp_vstore_lanes(job->out + at, rp_vfma(x - mean, scale, beta), lanes);
    }
}

static void normalize_work(void *arg, int thread)
{
    bn_rows(arg, thread, normalize_body);
}

/* ---- statistics ------------------------------------------------------------------------------ */

RP_VEC_FN void variance_term(const struct rp_sum_job *sums, int shard, int64_t row, int64_t n_rows,
                             int64_t col, int64_t lanes, rp_vf *acc)
{
    const struct bn_job *job = sums->arg;
    const float *x = job->x + row * sums->n_cols + col;
    rp_vf mean = rp_vload_lanes(job->mean + shard * sums->n_cols + col, lanes);
    for (int64_t i = 0; i < n_rows; i++) {
        rp_vf d = rp_vload_lanes(x + i * sums->n_cols, lanes) - mean;
        acc[0] = rp_vfma(d, d, acc[0]);
    }
}

static void variance_chain(const struct rp_sum_job *sums, int shard, int64_t begin, int64_t end,
                           int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(sums, shard, begin, end, col, col_end, chain, variance_term, 1);
}

/* Batch norm needs a shard's statistics before the shard's first output. */
static enum rp_status check_whole(const struct rp_pass *pass, struct rp_error *err)
{
    const struct rp_rows *rows = &pass->rows;
    if (rows->n_samples == rows->samples_per_shard * rows->n_shards) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_INTERNAL,
                        "batch_norm: a pass holds a part of a shard; plan must not cut one");
}

/* mean (shards, C), and their node of the tree. */
static void make_mean(struct rp_sum_job *sums, const float *x, float *mean, float *seen_mean)
{
    float m = (float)sums->rows_per_shard;
    rp_sum_rows_run(sums, rp_sum_rows_plain, x, NULL);
    for (int shard = 0; shard < sums->n_shards; shard++) {
        float *sum = rp_sum_rows_shard(sums, shard, 0);
        for (int64_t c = 0; c < sums->n_cols; c++)
            sum[c] = mean[shard * sums->n_cols + c] = sum[c] / m;
    }
    if (seen_mean) rp_sum_rows_node(sums, 0, seen_mean, NULL);
}

/* inv (shards, C), and the node over the unbiased variances. */
static void make_inv(struct rp_sum_job *sums, const struct bn_job *job, float eps, float *inv,
                     float *seen_var)
{
    float m = (float)sums->rows_per_shard;
    float less_one = (float)(sums->rows_per_shard > 1 ? sums->rows_per_shard - 1 : 1);
    rp_sum_rows_run(sums, variance_chain, job, NULL);
    for (int shard = 0; shard < sums->n_shards; shard++) {
        float *sum = rp_sum_rows_shard(sums, shard, 0);
        for (int64_t c = 0; c < sums->n_cols; c++) {
            inv[shard * sums->n_cols + c] = 1.0f / rp_sqrt(sum[c] / m + eps);
            sum[c] = sum[c] / less_one;
        }
    }
    if (seen_var) rp_sum_rows_node(sums, 0, seen_var, NULL);
}

size_t RP_ISA_NAME(rp_cpu_scratch_batch_norm)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return rp_sum_rows_scratch(&call->in[0], 1);
}

RP_CPU_KERNEL(batch_norm)
{
    const struct rp_tensor *x = &call->in[0];
    RP_TRY(check_whole(pass, err));
    struct rp_sum_job sums;
    rp_sum_rows_begin(&sums, cpu, &pass->rows, rp_tensor_rows(x), x->dims[x->n_dims - 1], 1);
    struct bn_job job = {.x = x->data,
                         .gamma = call->in[1].data,
                         .beta = call->in[2].data,
                         .mean = call->out[1].data,
                         .inv = call->out[2].data,
                         .out = call->out[0].data,
                         .rows = sums.rows,
                         .rows_per_shard = sums.rows_per_shard,
                         .n_cols = sums.n_cols,
                         .n_threads = sums.n_threads};
    make_mean(&sums, x->data, call->out[1].data, call->out[3].data);
    make_inv(&sums, &job, call->params.norm.eps, call->out[2].data, call->out[4].data);
    rp_pool_run(cpu->pool, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient -------------------------------------------------------------------------------- */

RP_VEC_FN void gradient_term(const struct rp_sum_job *sums, int shard, int64_t row, int64_t n_rows,
                             int64_t col, int64_t lanes, rp_vf *acc)
{
    const struct bn_job *job = sums->arg;
    int64_t of = shard * sums->n_cols + col;
    rp_vf mean = rp_vload_lanes(job->mean + of, lanes), inv = rp_vload_lanes(job->inv + of, lanes);
    for (int64_t i = row; i < row + n_rows; i++) {
        int64_t at = i * sums->n_cols + col;
        rp_vf dy = rp_vload_lanes(job->dy + at, lanes);
        rp_vf h = (rp_vload_lanes(job->x + at, lanes) - mean) * inv;
        acc[0] = rp_vfma(dy, h, acc[0]);
        acc[1] += dy;
    }
}

static void gradient_chain(const struct rp_sum_job *sums, int shard, int64_t begin, int64_t end,
                           int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(sums, shard, begin, end, col, col_end, chain, gradient_term, 2);
}

RP_VEC_FN void gradient_body(const struct bn_job *job, int64_t shard, int64_t row, int64_t n_rows,
                             int64_t col, int64_t lanes)
{
    int64_t of = shard * job->n_cols + col;
    rp_vf mean = rp_vload_lanes(job->mean + of, lanes), inv = rp_vload_lanes(job->inv + of, lanes);
    rp_vf scale = inv * rp_vload_lanes(job->gamma + col, lanes);
    rp_vf b = rp_vload_lanes(job->mean_b + of, lanes), g = rp_vload_lanes(job->mean_g + of, lanes);
    for (int64_t i = row; i < row + n_rows; i++) {
        int64_t at = i * job->n_cols + col;
        rp_vf h = (rp_vload_lanes(job->x + at, lanes) - mean) * inv;
        rp_vf d = rp_vfma(-h, g, rp_vload_lanes(job->dy + at, lanes) - b);
        rp_vstore_lanes(job->out + at, scale * d, lanes);
    }
}

static void gradient_work(void *arg, int thread)
{
    bn_rows(arg, thread, gradient_body);
}

/* Behind the scratch of the sums: both sums of each shard over m, which the rows need. */
static void make_means(const struct rp_sum_job *sums, float *mean_g, float *mean_b)
{
    float m = (float)sums->rows_per_shard;
    for (int shard = 0; shard < sums->n_shards; shard++) {
        const float *g = rp_sum_rows_shard(sums, shard, 0), *b = rp_sum_rows_shard(sums, shard, 1);
        for (int64_t c = 0; c < sums->n_cols; c++) {
            mean_g[shard * sums->n_cols + c] = g[c] / m;
            mean_b[shard * sums->n_cols + c] = b[c] / m;
        }
    }
}

size_t RP_ISA_NAME(rp_cpu_scratch_batch_norm_dx)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return rp_sum_rows_scratch(&call->in[0], 2) + 2 * rp_tensor_bytes(&call->in[3]);
}

RP_CPU_KERNEL(batch_norm_dx)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(check_whole(pass, err));
    struct rp_sum_job sums;
    rp_sum_rows_begin(&sums, cpu, &pass->rows, rp_tensor_rows(dy), dy->dims[dy->n_dims - 1], 2);
    float *means = (float *)(cpu->scratch + rp_sum_rows_scratch(dy, 2));
    int64_t per_shard = sums.n_shards * sums.n_cols;
    struct bn_job job = {.dy = dy->data,
                         .x = call->in[1].data,
                         .gamma = call->in[2].data,
                         .mean = call->in[3].data,
                         .inv = call->in[4].data,
                         .mean_g = means,
                         .mean_b = means + per_shard,
                         .out = call->out[0].data,
                         .rows = sums.rows,
                         .rows_per_shard = sums.rows_per_shard,
                         .n_cols = sums.n_cols,
                         .n_threads = sums.n_threads};
    rp_sum_rows_run(&sums, gradient_chain, &job, NULL);
    make_means(&sums, means, means + per_shard);
    if (job.out) rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
    for (int i = 0; i < 2; i++)
        if (call->out[1 + i].data) rp_sum_rows_node(&sums, i, call->out[1 + i].data, NULL);
    return RP_STATUS_OK;
}

/* ---- evaluation, and the running statistics it uses ------------------------------------------ */

size_t RP_ISA_NAME(rp_cpu_scratch_batch_norm_eval)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return rp_tensor_bytes(&call->in[4]);
}

RP_CPU_KERNEL(batch_norm_eval)
{
    (void)pass, (void)err;
    const struct rp_tensor *x = &call->in[0];
    const float *var = call->in[4].data;
    float *inv = (float *)cpu->scratch;
    struct bn_job job = {.x = x->data,
                         .gamma = call->in[1].data,
                         .beta = call->in[2].data,
                         .mean = call->in[3].data,
                         .inv = inv,
                         .out = call->out[0].data,
                         .rows = rp_tensor_rows(x),
                         .rows_per_shard = rp_tensor_rows(x),
                         .n_cols = x->dims[x->n_dims - 1],
                         .n_threads = rp_threads_for(cpu, rp_tensor_elements(x))};
    for (int64_t c = 0; c < job.n_cols; c++)
        inv[c] = 1.0f / rp_sqrt(var[c] + call->params.norm.eps);
    rp_pool_run(cpu->pool, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(running_update)
{
    (void)cpu, (void)pass, (void)err;
    const struct rp_running_params *params = &call->params.running;
    const float *old = call->in[0].data, *seen = call->in[1].data, *kept = old;
    float *running = call->out[0].data;
    uint64_t *digest = call->out[1].data;
    int64_t n = rp_tensor_elements(&call->in[0]);
    struct rp_control control;
    memcpy(&control, call->in[2].data, sizeof(control));
    if (control.apply) {
        for (int64_t c = 0; c < n; c++) {
            float step = seen[c] / (float)params->shards - old[c];
            running[c] = rp_fma(params->momentum, step, old[c]);
        }
        kept = running;
    }
    if (digest) *digest += rp_digest_range(kept, 0, n, params->tensor_number, params->first_chunk);
    return RP_STATUS_OK;
}
