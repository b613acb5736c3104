/* cross_entropy.c - the loss on classes and its gradient on the CPU, row by row. README.md
 * chapter 10.
 */
#include "cpu/classes.h"
#include "cpu/parallel.h"

struct ce_job {
    const float *logits;   /* (rows, C) */
    const int32_t *target; /* (rows), or (rows, 3) when mixed */
    bool mixed;
    float *loss;   /* (rows) */
    int32_t *rank; /* (rows), or NULL */
    float *dx;     /* (rows, C); may be the logits */
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

/* What a row is trained towards: x of class a, or of two classes by their weights. */
struct ce_target {
    int64_t a, b; /* b = a when not mixed */
    float weight_a, weight_b;
    bool legal;
};

static struct ce_target target_of(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols;
    if (!job->mixed) {
        int64_t a = job->target[row];
        return (struct ce_target){.a = a, .b = a, .weight_a = 1, .legal = a >= 0 && a < n};
    }
    const int32_t *mix = job->target + 3 * row, whole = 1 << 24;
    bool legal =
        mix[0] >= 0 && mix[0] < n && mix[1] >= 0 && mix[1] < n && mix[2] >= 0 && mix[2] <= whole;
    int32_t weight = legal ? mix[2] : 0;
    return (struct ce_target){.a = mix[0],
                              .b = mix[1],
                              .weight_a = (float)weight * 0x1p-24f,
                              .weight_b = (float)(whole - weight) * 0x1p-24f,
                              .legal = legal};
}

static void row_loss(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols;
    struct ce_target target = target_of(job, row);
    const float *x = job->logits + row * n;
    if (!target.legal) {
        job->loss[row] = rp_float_of_bits(0x7fc00000u);
        if (job->rank) job->rank[row] = (int32_t)n;
        return;
    }
    struct rp_classes one = {.x = x, .n = n, .maximum = rp_classes_maximum(x, n)};
    float sum = rp_rsum(n, rp_classes_exp_term, &one);
    double at_target = (double)x[target.a];
    if (job->mixed)
        at_target =
            (double)target.weight_a * at_target + (double)target.weight_b * (double)x[target.b];
    job->loss[row] = rp_classes_loss_at(&one, sum, at_target, job->smoothing);
    if (job->rank) job->rank[row] = rp_classes_rank(x, n, target.a);
}

static void row_gradient(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols;
    struct ce_target target = target_of(job, row);
    const float *x = job->logits + row * n;
    struct rp_classes one = {
        .x = x, .n = n, .e = job->dx + row * n, .maximum = rp_classes_maximum(x, n)};
    rp_vf sum = rp_vset(rp_rsum(n, rp_classes_keep_term, &one));
    float rest = 1.0f - job->smoothing, off = job->smoothing / (float)n, at_a = 0, at_b = 0;
    if (target.legal) {
        bool one_class = target.a == target.b;
        float on_a = (one_class ? rest : target.weight_a * rest) + off;
        float on_b = one_class ? on_a : target.weight_b * rest + off;
        at_a = (one.e[target.a] / sum[0] - on_a) * job->scale;
        at_b = (one.e[target.b] / sum[0] - on_b) * job->scale;
    } else {
        sum = rp_vset(rp_float_of_bits(0x7fc00000u));
    }
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf p = rp_vload_lanes(one.e + i, lanes) / sum;
        rp_vstore_lanes(one.e + i, (p - rp_vset(off)) * rp_vset(job->scale), lanes);
    }
    if (!target.legal) return;
    one.e[target.a] = at_a;
    one.e[target.b] = at_b;
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

static void run_loss(struct rp_cpu *cpu, const struct rp_op_call *call, bool mixed)
{
    struct ce_job job = ce_begin(cpu, call);
    job.mixed = mixed;
    job.loss = call->out[0].data;
    job.rank = mixed ? NULL : call->out[1].data;
    rp_pool_run(cpu->pool, job.n_threads, loss_work, &job);
}

static void run_gradient(struct rp_cpu *cpu, const struct rp_op_call *call, bool mixed, float scale)
{
    struct ce_job job = ce_begin(cpu, call);
    job.mixed = mixed;
    job.dx = call->out[0].data;
    job.scale = scale;
    rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
}

RP_CPU_KERNEL(cross_entropy)
{
    (void)pass, (void)err;
    run_loss(cpu, call, false);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(cross_entropy_dx)
{
    (void)err;
    run_gradient(cpu, call, false, pass->grad_scale);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(cross_entropy_mix)
{
    (void)pass, (void)err;
    run_loss(cpu, call, true);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(cross_entropy_mix_dx)
{
    (void)err;
    run_gradient(cpu, call, true, pass->grad_scale);
    return RP_STATUS_OK;
}
