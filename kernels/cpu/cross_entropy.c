/* cross_entropy.c - the loss on classes and its gradient on the CPU, row by row. README.md
 * chapter 10.
 */
#include "cpu/parallel.h"
#include "cpu/rsum.h"
#include "numerics.h"

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

/* The greatest element; NaN ones are passed over. A maximum is the same in any order. */
static float row_maximum(const float *x, int64_t n)
{
    rp_vf best = rp_vset(rp_float_of_bits(0xff800000u));
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf v = rp_vload_lanes(x + i, lanes);
        best = rp_vselect((v > best) & rp_vfirst(lanes), v, best);
    }
    float lane[RP_VW];
    rp_vstore(lane, best);
    for (int i = 1; i < RP_VW; i++) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
    return lane[0];
}

struct ce_row {
    const float *x;
    float *e; /* keeps exp(x - maximum), or NULL */
    float maximum;
};

RP_VEC_FN rp_vf exp_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ce_row *row = arg;
    return acc + rp_vexp(rp_vload_lanes(row->x + i, lanes) - rp_vset(row->maximum));
}

RP_VEC_FN rp_vf exp_keep_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ce_row *row = arg;
    rp_vf e = rp_vexp(rp_vload_lanes(row->x + i, lanes) - rp_vset(row->maximum));
    rp_vstore_lanes(row->e + i, e, lanes);
    return acc + e;
}

/* Classes that stand before the target; a NaN counts as before. */
static int32_t row_rank(const float *x, int64_t n, int64_t target)
{
    int32_t rank = 0;
    for (int64_t j = 0; j < n; j++) {
        bool after = x[j] < x[target] || (x[j] == x[target] && j > target);
        rank += j != target && !after;
    }
    return rank;
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
    struct ce_row one = {.x = x, .maximum = row_maximum(x, n)};
    double lse = (double)one.maximum + rp_log64((double)rp_rsum(n, exp_term, &one));
    double at_target = (double)x[target.a];
    if (job->mixed)
        at_target =
            (double)target.weight_a * at_target + (double)target.weight_b * (double)x[target.b];
    double loss = lse - at_target;
    if (job->smoothing != 0.0f) {
        double mean = (double)rp_rsum(n, rp_rsum_plain_term, x) / (double)n;
        double smoothing = (double)job->smoothing;
        loss = (1.0 - smoothing) * loss + smoothing * (lse - mean);
    }
    job->loss[row] = (float)loss;
    if (job->rank) job->rank[row] = row_rank(x, n, target.a);
}

static void row_gradient(const struct ce_job *job, int64_t row)
{
    int64_t n = job->n_cols;
    struct ce_target target = target_of(job, row);
    const float *x = job->logits + row * n;
    struct ce_row one = {.x = x, .e = job->dx + row * n, .maximum = row_maximum(x, n)};
    rp_vf sum = rp_vset(rp_rsum(n, exp_keep_term, &one));
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
    rp_threads_run(cpu, job.n_threads, loss_work, &job);
}

static void run_gradient(struct rp_cpu *cpu, const struct rp_op_call *call, bool mixed, float scale)
{
    struct ce_job job = ce_begin(cpu, call);
    job.mixed = mixed;
    job.dx = call->out[0].data;
    job.scale = scale;
    rp_threads_run(cpu, job.n_threads, gradient_work, &job);
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
