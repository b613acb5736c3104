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

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long))
    cross_entropy_mix_rows(struct rp_classes_job job)
{
    rp_classes_run<is_long, cached, true>(job);
}

template <bool is_long, bool cached, bool mixed>
static __device__ __forceinline__ void dx_rows(const struct rp_classes_job &job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    float scale = job.pass->grad_scale;
    float rest = 1.0f - job.smoothing, off = job.smoothing / (float)job.n;
    if (team.first() < job.rows) team.copy_row(0, job.logits + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *x = team.input(0, job.logits + row * job.n);
        const float *next = team.next(row) < job.rows ? job.logits + team.next(row) * job.n : NULL;
        float *dx = job.dx + row * job.n, *kept = cached ? team.cache : dx;
        struct rp_classes_target target = rp_classes_target_of<mixed>(job, row);
        int count = 0;
        float on_a = rest + off, on_b = off;
        if (mixed && target.a != target.b) {
            on_a = target.weight_a * rest + off;
            on_b = target.weight_b * rest + off;
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
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long))
    cross_entropy_dx_rows(struct rp_classes_job job)
{
    dx_rows<is_long, cached, false>(job);
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long))
    cross_entropy_mix_dx_rows(struct rp_classes_job job)
{
    dx_rows<is_long, cached, true>(job);
}

RP_CUDA_KERNEL(cross_entropy)
{
    (void)pass;
    struct rp_classes_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    job.rank = (int32_t *)call->out[1].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, rp_classes_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_dx)
{
    struct rp_classes_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_dx_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix)
{
    (void)pass;
    struct rp_classes_job job = ce_begin(call);
    job.loss = (float *)call->out[0].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_mix_rows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(cross_entropy_mix_dx)
{
    struct rp_classes_job job = ce_begin(call);
    job.dx = (float *)call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, cross_entropy_mix_dx_rows, job);
    return RP_STATUS_OK;
}
