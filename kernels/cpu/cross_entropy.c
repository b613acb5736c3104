/* cross_entropy.c - the loss on classes and its gradient on the CPU, row by row. README.md
 * chapter 10.
 */
#include "cpu/classes.h"
#include "cpu/parallel.h"

struct ce_job {
    const float *logits;   /* (rows, C) */
    const int32_t *target; /* (rows) */
    float *loss;           /* (rows) */
    int32_t *rank;         /* (rows), or NULL */
    float *dx;             /* (rows, C); may be the logits */
    int64_t rows, n_cols;
    float smoothing, scale;
    int n_threads;
};

static struct ce_job ce_begin(struct rp_cpu *cpu, const struct rp_op_call *call)
{
    const struct rp_tensor *logits = &call->in[0];
    return (struct ce_job){.logits = logits->data,
                           .target = call->in[1].data,
                           .rows = rp_tensor_rows(logits),
                           .n_cols = logits->dims[logits->n_dims - 1],
                           .smoothing = call->params.loss.label_smoothing,
                           .n_threads = rp_threads_for(cpu, 8 * rp_tensor_elements(logits))};
}

static void row_loss(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols, target = job->target[row];
    const float *x = job->logits + row * n;
    if (target < 0 || target >= n) {
        job->loss[row] = rp_float_of_bits(0x7fc00000u);
        if (job->rank) job->rank[row] = (int32_t)n;
        return;
    }
    struct rp_classes one = {.x = x, .n = n, .maximum = rp_classes_maximum(x, n)};
    float sum = rp_rsum(n, rp_classes_exp_term, &one);
    job->loss[row] = rp_classes_loss(&one, sum, target, job->smoothing);
    if (job->rank) job->rank[row] = rp_classes_rank(x, n, target);
}

static void row_gradient(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols, target = job->target[row];
    const float *x = job->logits + row * n;
    struct rp_classes one = {
        .x = x, .n = n, .e = job->dx + row * n, .maximum = rp_classes_maximum(x, n)};
    rp_vf sum = rp_vset(rp_rsum(n, rp_classes_keep_term, &one));
    float off = job->smoothing / (float)n, on = (1.0f - job->smoothing) + off;
    bool legal = target >= 0 && target < n;
    float at_target = legal ? (one.e[target] / sum[0] - on) * job->scale : 0.0f;
    if (!legal) sum = rp_vset(rp_float_of_bits(0x7fc00000u));
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf p = rp_vload_lanes(one.e + i, lanes) / sum;
        rp_vstore_lanes(one.e + i, (p - rp_vset(off)) * rp_vset(job->scale), lanes);
    }
    if (legal) one.e[target] = at_target;
}

static void loss_work(void *arg, int thread)
{
    const struct ce_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) row_loss(job, row);
}

static void gradient_work(void *arg, int thread)
{
    const struct ce_job *job = arg;
    int64_t row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) row_gradient(job, row);
}

RP_CPU_KERNEL(cross_entropy)
{
    (void)pass, (void)err;
    struct ce_job job = ce_begin(cpu, call);
    job.loss = call->out[0].data;
    job.rank = call->out[1].data;
    rp_threads_run(cpu, job.n_threads, loss_work, &job);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(cross_entropy_dx)
{
    (void)err;
    struct ce_job job = ce_begin(cpu, call);
    job.dx = call->out[0].data;
    job.scale = pass->grad_scale;
    rp_threads_run(cpu, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}
