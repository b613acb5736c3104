/* cross_entropy.cu - the loss on classes and its gradient. README.md chapter 10. */
#include "cuda/classes.cuh"

static struct rp_classes_job ce_begin(const struct rp_op_call *call)
{
    const struct rp_tensor *logits = &call->in[0];
    struct rp_classes_job job = {};
    job.logits = (const float *)logits->data;
    job.target = (const int32_t *)call->in[1].data;
    job.rows = rp_tensor_rows(logits);
    job.n = (int)logits->dims[logits->n_dims - 1];
    job.smoothing = call->params.loss.label_smoothing;
    return job;
}

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) cross_entropy_mix_rows(const struct rp_classes_job job)
{
    rp_classes_run<kind, true>(job);
}

/* What dx is made with. */
struct dx_row {
    int a, b;
    float on_a, on_b, off, scale;
    bool legal;
};

template <bool mixed>
static __device__ __forceinline__ struct dx_row dx_row_of(const struct rp_classes_job &job,
                                                          const struct rp_classes_target &target)
{
    float rest = 1.0f - job.smoothing, off = job.smoothing / (float)job.n;
    struct dx_row row = {target.a,    target.b, rest + off, off, off, job.pass->grad_scale,
                         target.legal};
    if (mixed && target.a != target.b) {
        row.on_a = target.weight_a * rest + off;
        row.on_b = target.weight_b * rest + off;
    }
    return row;
}

/* d of exp(x - best) / sum. */
template <bool mixed, class Batch>
static __device__ __forceinline__ void dx_finish(Batch, const struct dx_row &row, int e, float *v)
{
    unsigned first = (unsigned)e - threadIdx.x % 32, width = 32 * Batch::n;
    if ((unsigned)row.a - first >= width && (!mixed || (unsigned)row.b - first >= width)) {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++) v[i] = (v[i] - row.off) * row.scale;
        return;
    }
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) {
        int j = e + 32 * i;
        float other = mixed && j == row.b ? row.on_b : row.off;
        v[i] = (v[i] - (j == row.a ? row.on_a : other)) * row.scale;
    }
}

/* dx may be the logits: a stream keeps the exponentials there. */
template <int kind, bool mixed>
static __device__ __forceinline__ void dx_rows(const struct rp_classes_job &job)
{
    typedef rp_row_team<kind, 1> rows_team;
    rows_team team(job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        float *dx = job.dx + row * job.n;
        struct dx_row make = dx_row_of<mixed>(job, rp_classes_target_of<mixed>(job, row));
        int count = 0;
        struct rp_classes_maximum maximum;
        team.take(0, job.logits + row * job.n);
        team.each([&](auto batch, float *const *v, int) { maximum.see(batch, v[0]); });
        float best = maximum.get();
        team.join(&best, &count);
        float sum = rp_classes_exp_sum(team, best, [=](auto batch, int e, const float *v) {
            if (rows_team::streams) rp_batch_store(batch, dx, e, v);
        });
        team.changed(0, dx);
        if (!make.legal) sum = rp_float_of_bits(0x7fc00000u);
        team.each([=](auto batch, float *const *v, int e) {
            float d[batch.n];
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) d[i] = v[0][i] / sum;
            dx_finish<mixed>(batch, make, e, d);
            rp_batch_store(batch, dx, e, d);
        });
    }
}

/* a / sum, for a = exp(x) up to 1 and sum from 1 to 2^24, or NaN. With y = 1 / sum, rounded once,
 * and q = a y, the rest a - q sum is small and its share corrects q to the quotient as it is
 * rounded: shown for all mantissas by test_share, as long as nothing is subnormal. */
struct dx_share {
    float sum, y;

    __device__ __forceinline__ explicit dx_share(float of) : sum(of), y(1.0f / of) {}
    template <class Batch>
    __device__ __forceinline__ void of(Batch, const float *a, float d[Batch::n]) const
    {
        bool small = false;
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++) small |= rp_float_bits(a[i]) < 0x12800000u; /* 2^-90 */
        if (small) {
            RP_UNROLL
            for (int i = 0; i < Batch::n; i++) d[i] = a[i] / sum;
            return;
        }
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++) {
            float q = a[i] * y;
            d[i] = rp_fma(rp_fma(-q, sum, a[i]), y, q);
        }
    }
};

/* The exponentials take the place of the row. */
static __device__ __forceinline__ float dx_sum_kept(rp_kept_row<1> &kept, float best)
{
    float chain = -0.0f;
    RP_NO_UNROLL
    for (int q = 0; q < kept.batches; q++) {
        kept.begin_batch(q, &chain);
        kept.visit(q, [&](auto batch, float *at, int) {
            float v[batch.n];
            rp_batch_load(batch, at, 0, v);
            rp_classes_add_exp(batch, v, best, &chain);
            rp_batch_store(batch, at, 0, v);
        });
        kept.end_batch(q, 0, chain);
    }
    return kept.sum(kept.meet(), 0);
}

/* Long rows: the next one comes as d is made of one. */
template <bool mixed>
static __device__ __forceinline__ void dx_kept(const struct rp_classes_job &job)
{
    rp_kept_row<1> kept(job.n);
    int64_t step = gridDim.x, row = (int64_t)blockIdx.x - step;
    float best = 0;
    struct dx_row make = {};
    for (;; row += step) {
        bool here = row >= 0, more = row + step < job.rows;
        float *dx = job.dx + row * job.n, sum = 1;
        const float *logits = job.logits + (row + step) * job.n;
        if (here) {
            make = dx_row_of<mixed>(job, rp_classes_target_of<mixed>(job, row));
            sum = dx_sum_kept(kept, best);
        }
        struct dx_share share(make.legal ? sum : rp_float_of_bits(0x7fc00000u));
        struct rp_classes_maximum maximum;
        RP_NO_UNROLL
        for (int q = 0; q < kept.batches + RP_KEPT_LAG; q++) {
            if (q < kept.batches)
                kept.visit(q, [&](auto batch, float *at, int e) {
                    if (here) {
                        float v[batch.n], d[batch.n];
                        rp_batch_load(batch, at, 0, v);
                        share.of(batch, v, d);
                        dx_finish<mixed>(batch, make, e, d);
                        rp_batch_store(batch, dx, e, d);
                    }
                    if (more) rp_kept_fill(batch, at, logits, e);
                });
            rp_copy_async_commit();
            if (!more || q < RP_KEPT_LAG) continue;
            rp_copy_async_wait<RP_KEPT_LAG>();
            kept.visit(q - RP_KEPT_LAG, [&](auto batch, float *at, int) {
                float v[batch.n];
                rp_batch_load(batch, at, 0, v);
                maximum.see(batch, v);
            });
        }
        if (!more) return;
        int count = 0;
        kept.tell(maximum.get(), 0);
        kept.told(kept.meet(), &best, &count);
    }
}

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) cross_entropy_dx_rows(const struct rp_classes_job job)
{
    dx_rows<kind, false>(job);
}

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) cross_entropy_mix_dx_rows(const struct rp_classes_job job)
{
    dx_rows<kind, true>(job);
}

template <bool mixed>
__global__ void RP_KEPT_BOUNDS cross_entropy_dx_kept(const struct rp_classes_job job)
{
    dx_kept<mixed>(job);
}

RP_CUDA_KERNEL(cross_entropy)
{
    (void)pass;
    struct rp_classes_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    job.rank = (int32_t *)call->out[1].data;
    struct rp_row_plan plan = rp_classes_plan(cuda, job);
    RP_CLASSES_LAUNCH(cuda, plan, rp_classes_rows, rp_classes_kept<false>, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_dx)
{
    struct rp_classes_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_CLASSES_LAUNCH(cuda, plan, cross_entropy_dx_rows, cross_entropy_dx_kept<false>, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix)
{
    (void)pass;
    struct rp_classes_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    struct rp_row_plan plan = rp_classes_plan(cuda, job);
    RP_CLASSES_LAUNCH(cuda, plan, cross_entropy_mix_rows, rp_classes_kept<true>, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix_dx)
{
    struct rp_classes_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_CLASSES_LAUNCH(cuda, plan, cross_entropy_mix_dx_rows, cross_entropy_dx_kept<true>, job);
    return RP_STATUS_OK;
}
