/* head_norm.c - each q and k head normalised by itself, on the CPU. README.md chapter 14. */
#include "attention.h"
#include "cpu/parallel.h"
#include "cpu/rms_row.h"
#include "cpu/sum_rows.h"

struct hn_job {
    const float *x, *dy;   /* (rows, width) */
    const float *gamma[2]; /* of q heads, of k heads */
    float *inv;            /* (rows, heads + kv_heads) */
    float *out;            /* (rows, width) */
    int64_t rows, width;
    int head_dim, heads, kv_heads;
    float eps;
    int first, count; /* head_norm_dg: the heads of one sum */
    int n_threads;
};

static struct hn_job begin(const struct rp_op_call *call)
{
    const struct rp_tensor *x = &call->in[0];
    const struct rp_attention_params *p = &call->params.attention;
    return (struct hn_job){.rows = rp_tensor_rows(x),
                           .width = x->dims[2],
                           .head_dim = p->head_dim,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .eps = p->eps};
}

/* v stands behind the q and k heads of a row. */
static void copy_v(const struct hn_job *job, const float *x, float *y)
{
    int64_t v = (int64_t)(job->heads + job->kv_heads) * job->head_dim;
    if (x != y) memcpy(y + v, x + v, (size_t)(job->width - v) * sizeof *y);
}

static void normalize_work(void *arg, int thread)
{
    const struct hn_job *job = arg;
    int n_heads = job->heads + job->kv_heads;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        int64_t at = row * job->width;
        for (int h = 0; h < n_heads; h++, at += job->head_dim)
            job->inv[row * n_heads + h] = rp_rms_normalize(
                job->head_dim, job->x + at, job->gamma[h >= job->heads], job->eps, job->out + at);
        copy_v(job, job->x + row * job->width, job->out + row * job->width);
    }
}

RP_CPU_KERNEL(head_norm)
{
    (void)pass, (void)err;
    struct hn_job job = begin(call);
    job.x = call->in[0].data;
    job.gamma[0] = call->in[1].data;
    job.gamma[1] = call->in[2].data;
    job.out = call->out[0].data;
    job.inv = call->out[1].data;
    job.n_threads = rp_threads_for(cpu, 3 * rp_tensor_elements(&call->in[0]));
    rp_pool_run(cpu->pool, job.n_threads, normalize_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradient of the heads ------------------------------------------------------------------- */

static void gradient_work(void *arg, int thread)
{
    const struct hn_job *job = arg;
    int n_heads = job->heads + job->kv_heads;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        int64_t at = row * job->width;
        for (int h = 0; h < n_heads; h++, at += job->head_dim) {
            struct rp_rms_row head = {.x = job->x + at,
                                      .dy = job->dy + at,
                                      .gamma = job->gamma[h >= job->heads],
                                      .inv = job->inv[row * n_heads + h]};
            rp_rms_gradient(job->head_dim, &head, job->out + at);
        }
        copy_v(job, job->dy + row * job->width, job->out + row * job->width);
    }
}

RP_CPU_KERNEL(head_norm_dx)
{
    (void)pass, (void)err;
    struct hn_job job = begin(call);
    job.dy = call->in[0].data;
    job.x = call->in[1].data;
    job.gamma[0] = call->in[2].data;
    job.gamma[1] = call->in[3].data;
    job.inv = call->in[4].data;
    job.out = call->out[0].data;
    job.n_threads = rp_threads_for(cpu, 6 * rp_tensor_elements(&call->in[0]));
    rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}

/* ---- gradients of gq and gk ------------------------------------------------------------------ */

/* Row i of the sum is head i mod count of token i div count. */
RP_VEC_FN void dg_term(const struct rp_sum_job *sums, int shard, int64_t row, int64_t n_rows,
                       int64_t col, int64_t lanes, rp_vf *acc)
{
    const struct hn_job *job = sums->arg;
    (void)shard;
    for (int64_t i = row; i < row + n_rows; i++) {
        int64_t token = i / job->count, head = job->first + i % job->count;
        int64_t at = token * job->width + head * job->head_dim + col;
        rp_vf inv = rp_vset(job->inv[token * (job->heads + job->kv_heads) + head]);
        acc[0] = rp_vfma(rp_vload_lanes(job->dy + at, lanes),
                         rp_vload_lanes(job->x + at, lanes) * inv, acc[0]);
    }
}

static void dg_chain(const struct rp_sum_job *sums, int shard, int64_t begin, int64_t end,
                     int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(sums, shard, begin, end, col, col_end, chain, dg_term, 1);
}

/* Rows of the larger of the two sums. */
size_t RP_ISA_NAME(rp_cpu_scratch_head_norm_dg)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    const struct rp_attention_params *p = &call->params.attention;
    struct rp_tensor rows = call->in[0];
    rows.dims[1] *= p->heads;
    rows.dims[2] = p->head_dim;
    return rp_sum_rows_scratch(&rows, 1);
}

RP_CPU_KERNEL(head_norm_dg)
{
    (void)err;
    struct hn_job job = begin(call);
    job.dy = call->in[0].data;
    job.x = call->in[1].data;
    job.inv = call->in[2].data;
    for (int i = 0; i < 2; i++) {
        float *open = call->out[2 + i].data;
        struct rp_sum_job sums;
        if (!call->out[i].data) continue;
        job.first = i == 0 ? 0 : job.heads;
        job.count = i == 0 ? job.heads : job.kv_heads;
        rp_sum_rows_begin(&sums, cpu, &pass->rows, job.rows * job.count, job.head_dim, 1);
        rp_sum_rows_run(&sums, dg_chain, &job, &open);
        rp_sum_rows_node(&sums, 0, call->out[i].data, open);
    }
    return RP_STATUS_OK;
}
