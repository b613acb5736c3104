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

/* dx may be the logits: a stream keeps the exponentials there. */
template <int kind, bool mixed>
static __device__ __forceinline__ void dx_rows(const struct rp_classes_job &job)
{
    typedef rp_row_team<kind, 1> rows_team;
    rows_team team(job.n);
    float scale = job.pass->grad_scale;
    float rest = 1.0f - job.smoothing, off = job.smoothing / (float)job.n;
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        float *dx = job.dx + row * job.n;
        struct rp_classes_target target = rp_classes_target_of<mixed>(job, row);
        int count = 0;
        float on_a = rest + off, on_b = off;
        if (mixed && target.a != target.b) {
            on_a = target.weight_a * rest + off;
            on_b = target.weight_b * rest + off;
        }
        float best = rp_float_of_bits(0xff800000u);
        team.take(0, job.logits + row * job.n);
        team.each([&](auto batch, float *const *v, int) {
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                best = batch.has(i) && v[0][i] > best ? v[0][i] : best;
        });
        team.join(&best, &count);
        float sum = rp_classes_exp_sum(team, best, [=](auto batch, int e, const float *v) {
            if (rows_team::streams) rp_batch_store(batch, dx, e, v);
        });
        team.changed(0, dx);
        if (!target.legal) sum = rp_float_of_bits(0x7fc00000u);
        team.each([=](auto batch, float *const *v, int e) {
            float d[batch.n];
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) {
                int j = e + 32 * i;
                float other = mixed && j == target.b ? on_b : off;
                d[i] = (v[0][i] / sum - (j == target.a ? on_a : other)) * scale;
            }
            rp_batch_store(batch, dx, e, d);
        });
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
