/* cross_entropy.cu - the loss on classes and its gradient. README.md chapter 10. */
#include "cuda/elementary.h"
#include "cuda/rows.h"

struct ce_job {
    const float *logits;   /* (rows, n) */
    const int32_t *target; /* (rows), or (rows, 3) when mixed */
    float *loss;           /* (rows) */
    int32_t *rank;         /* (rows), or NULL */
    float *dx;             /* (rows, n); may be the logits */
    int64_t rows;
    int n;
    float smoothing;
    const struct rp_pass *pass;
};

static struct ce_job ce_begin(const struct rp_op_call *call)
{
    const struct rp_tensor *logits = &call->in[0];
    struct ce_job job = {};
    job.logits = (const float *)logits->data;
    job.target = (const int32_t *)call->in[1].data;
    job.rows = rp_tensor_rows(logits);
    job.n = (int)logits->dims[logits->n_dims - 1];
    job.smoothing = call->params.loss.label_smoothing;
    return job;
}

/* Not (x_j < x_t, or x_j = x_t and j > t): class j stands before the target. */
static __device__ __forceinline__ int stands_before(float x, float at_target, bool behind)
{
    bool below = behind ? x <= at_target : x < at_target;
    return !below;
}

/* What a row is trained towards: class a, or two classes by their weights. */
struct ce_target {
    int a, b;
    float weight_a, weight_b;
    bool legal;
};

template <bool mixed>
static __device__ __forceinline__ struct ce_target target_of(const struct ce_job &job, int64_t row)
{
    struct ce_target target = {};
    if constexpr (mixed) {
        const int32_t *mix = job.target + 3 * row;
        const int whole = 1 << 24;
        target.a = mix[0], target.b = mix[1];
        target.legal = target.a >= 0 && target.a < job.n && target.b >= 0 && target.b < job.n &&
                       mix[2] >= 0 && mix[2] <= whole;
        target.weight_a = (float)(target.legal ? mix[2] : 0) * 0x1p-24f;
        target.weight_b = (float)(target.legal ? whole - mix[2] : 0) * 0x1p-24f;
    } else {
        target.a = target.b = job.target[row];
        target.legal = target.a >= 0 && target.a < job.n;
    }
    return target;
}

template <bool mixed>
static __device__ __forceinline__ double logit_at(const struct ce_target &target, float at_a,
                                                  const float *logits)
{
    if constexpr (mixed)
        return (double)target.weight_a * (double)at_a +
               (double)target.weight_b * (double)(target.legal ? logits[target.b] : 0.0f);
    return (double)at_a;
}

static __device__ __forceinline__ float loss_of(const struct ce_job &job, float maximum, float sum,
                                                double at_target, float sum_x)
{
    double lse = (double)maximum + rp_log64((double)sum);
    double loss = lse - at_target;
    if (job.smoothing != 0.0f) {
        double mean = (double)sum_x / (double)job.n, smoothing = (double)job.smoothing;
        loss = (1.0 - smoothing) * loss + smoothing * (lse - mean);
    }
    return (float)loss;
}

template <bool is_long, bool cached, bool mixed>
static __device__ __forceinline__ void loss_rows(const struct ce_job &job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    if (team.first() < job.rows) team.copy_row(0, job.logits + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *logits = job.logits + row * job.n, *x = team.input(0, logits);
        const float *next = team.next(row) < job.rows ? job.logits + team.next(row) * job.n : NULL;
        struct ce_target target = target_of<mixed>(job, row);
        int count = 0;
        float at_a = target.legal ? logits[target.a] : 0.0f;
        float best = rp_float_of_bits(0xff800000u), sum_x = 0;
        team.copies_wait();
        team.prefetch(next);
        team.each([&](auto batch, int e) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) {
                int j = e + 32 * i;
                best = v[i] > best ? v[i] : best;
                count += !mixed && j != target.a && stands_before(v[i], at_a, j > target.a);
            }
        });
        team.join(&best, &count);
        if (job.smoothing != 0.0f) sum_x = team.sum_of(x);
        float sum = team.sum([=](auto batch, int e, float acc) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            team.copy(batch, e, 0, next);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) v[i] = rp_exp_below(v[i] - best);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc += v[i];
            return acc;
        });
        if (!team.leads()) continue;
        double at_target = logit_at<mixed>(target, at_a, logits);
        job.loss[row] = target.legal ? loss_of(job, best, sum, at_target, sum_x)
                                     : rp_float_of_bits(0x7fc00000u);
        if (job.rank) job.rank[row] = target.legal ? count : job.n;
    }
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) cross_entropy_rows(struct ce_job job)
{
    loss_rows<is_long, cached, false>(job);
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) cross_entropy_mix_rows(struct ce_job job)
{
    loss_rows<is_long, cached, true>(job);
}

template <bool is_long, bool cached, bool mixed>
static __device__ __forceinline__ void dx_rows(const struct ce_job &job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    float scale = job.pass->grad_scale;
    float rest = 1.0f - job.smoothing, off = job.smoothing / (float)job.n;
    if (team.first() < job.rows) team.copy_row(0, job.logits + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *x = team.input(0, job.logits + row * job.n);
        const float *next = team.next(row) < job.rows ? job.logits + team.next(row) * job.n : NULL;
        float *dx = job.dx + row * job.n, *kept = cached ? team.cache : dx;
        struct ce_target target = target_of<mixed>(job, row);
        int count = 0;
        float on_a = rest + off, on_b = off;
        if constexpr (mixed) {
            if (target.a != target.b) {
                on_a = target.weight_a * rest + off;
                on_b = target.weight_b * rest + off;
            }
        }
        float best = rp_float_of_bits(0xff800000u);
        team.copies_wait();
        team.prefetch(next);
        team.each([&](auto batch, int e) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) best = v[i] > best ? v[i] : best;
        });
        team.join(&best, &count);
        float sum = team.sum([=](auto batch, int e, float acc) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) v[i] = rp_exp_below(v[i] - best);
            rp_batch_store(batch, kept, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc += v[i];
            return acc;
        });
        if (!target.legal) sum = rp_float_of_bits(0x7fc00000u);
        team.each([=](auto batch, int e) {
            float v[batch.n];
            rp_batch_load(batch, kept, e, v);
            team.copy(batch, e, 0, next);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) {
                int j = e + 32 * i;
                float other = mixed && j == target.b ? on_b : off;
                v[i] = (v[i] / sum - (j == target.a ? on_a : other)) * scale;
            }
            rp_batch_store(batch, dx, e, v);
        });
    }
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) cross_entropy_dx_rows(struct ce_job job)
{
    dx_rows<is_long, cached, false>(job);
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long))
    cross_entropy_mix_dx_rows(struct ce_job job)
{
    dx_rows<is_long, cached, true>(job);
}

RP_CUDA_KERNEL(cross_entropy)
{
    (void)pass;
    struct ce_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    job.rank = (int32_t *)call->out[1].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_dx)
{
    struct ce_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_dx_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix)
{
    (void)pass;
    struct ce_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_mix_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix_dx)
{
    struct ce_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_mix_dx_rows, job);
    return RP_STATUS_OK;
}
