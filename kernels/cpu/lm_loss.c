/* lm_loss.c - the head of a language model and its loss on the CPU: the product of some rows, then
 * their losses, so that never more than these rows of logits are there. README.md chapter 10. */
#include "lm_loss.h"

#include "cpu/classes.h"
#include "cpu/lm_head.h"
#include "cpu/parallel.h"

/* Where nobody wants the logits: as many rows as one packing of the head is worth. */
enum { ROWS_UNKEPT = 288 };

struct lm_job {
    const float *logits;   /* (rows, n) */
    const int32_t *target; /* (rows) */
    float *loss;           /* (rows) */
    int32_t *rank;         /* (rows), or NULL */
    float *stats;          /* (rows, 2), or NULL */
    int64_t rows, n;
    float smoothing;
    int n_threads;
};

static void keep_stats(const struct lm_job *job, int64_t row, float maximum, float sum)
{
    if (!job->stats) return;
    job->stats[2 * row] = maximum;
    job->stats[2 * row + 1] = sum;
}

static void row_loss(const struct lm_job *job, int64_t row)
{
    int64_t n = job->n, target = job->target[row];
    const float *x = job->logits + row * n;
    if (target == RP_LM_NO_TARGET) {
        job->loss[row] = 0;
        if (job->rank) job->rank[row] = -1;
        keep_stats(job, row, 0, 0);
        return;
    }
    struct rp_classes one = {.x = x, .n = n, .maximum = rp_classes_maximum(x, n)};
    float sum = rp_rsum(n, rp_classes_exp_term, &one);
    bool legal = target >= 0 && target < n;
    keep_stats(job, row, one.maximum, sum);
    job->loss[row] =
        legal ? rp_classes_loss(&one, sum, target, job->smoothing) : rp_float_of_bits(0x7fc00000u);
    if (job->rank) job->rank[row] = legal ? rp_classes_rank(x, n, target) : (int32_t)n;
}

static void loss_work(void *arg, int thread)
{
    const struct lm_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) row_loss(job, row);
}

static int64_t rows_at_once(const struct rp_op_call *call)
{
    int64_t rows = rp_tensor_rows(&call->in[0]);
    if (call->out[3].data) return call->out[3].dims[0];
    return rows < ROWS_UNKEPT ? rows : ROWS_UNKEPT;
}

static size_t logits_bytes(const struct rp_op_call *call)
{
    if (call->out[3].data) return 0;
    return RP_GEMM_ROUND((size_t)(rows_at_once(call) * call->in[1].dims[0]) * sizeof(float));
}

RP_CPU_KERNEL(lm_loss)
{
    (void)pass, (void)err;
    int64_t rows = rp_tensor_rows(&call->in[0]), n = call->in[1].dims[0];
    int64_t most = rows_at_once(call), count = rows % most ? rows % most : most;
    float *logits = call->out[3].data ? call->out[3].data : (float *)cpu->scratch;
    for (int64_t row = 0; row < rows; row += count, count = most) { /* the last rows stay */
        struct rp_gemm gemm = rp_lm_head(call, row, count, 0, n, logits, n);
        struct lm_job job = {.logits = logits,
                             .target = (const int32_t *)call->in[2].data + row,
                             .loss = (float *)call->out[0].data + row,
                             .rows = count,
                             .n = n,
                             .smoothing = call->params.loss.label_smoothing,
                             .n_threads = rp_threads_for(cpu, 8 * count * n)};
        if (call->out[1].data) job.rank = (int32_t *)call->out[1].data + row;
        if (call->out[2].data) job.stats = (float *)call->out[2].data + 2 * row;
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, cpu->scratch + logits_bytes(call));
        rp_pool_run(cpu->pool, job.n_threads, loss_work, &job);
    }
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_lm_loss)(const struct rp_op_call *call, int n_threads)
{
    int64_t n = call->in[1].dims[0];
    struct rp_gemm gemm = rp_lm_head(call, 0, 1, 0, n, NULL, n);
    return logits_bytes(call) + RP_ISA_NAME(rp_gemm_scratch)(&gemm, n_threads);
}
