/* cross_entropy.cu - the loss on classes and its gradient. README.md chapter 10. */
#include "cuda/elementary.h"
#include "cuda/rows.h"

struct ce_job {
    const float *logits;   /* (rows, n) */
    const int32_t *target; /* (rows) */
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

static __device__ __forceinline__ float loss_of(const struct ce_job &job, float maximum, float sum,
                                                float at_target, float sum_x)
{
    double lse = (double)maximum + rp_log64((double)sum);
    double loss = lse - (double)at_target;
    if (job.smoothing != 0.0f) {
        double mean = (double)sum_x / (double)job.n, smoothing = (double)job.smoothing;
        loss = (1.0 - smoothing) * loss + smoothing * (lse - mean);
    }
    return (float)loss;
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) cross_entropy_rows(struct ce_job job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    if (team.first() < job.rows) team.copy_row(0, job.logits + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *logits = job.logits + row * job.n, *x = team.input(0, logits);
        const float *next = team.next(row) < job.rows ? job.logits + team.next(row) * job.n : NULL;
        int target = job.target[row], count = 0;
        bool legal = target >= 0 && target < job.n;
        float at_target = legal ? logits[target] : 0.0f;
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
                count += j != target && stands_before(v[i], at_target, j > target);
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
        job.loss[row] =
            legal ? loss_of(job, best, sum, at_target, sum_x) : rp_float_of_bits(0x7fc00000u);
        if (job.rank) job.rank[row] = legal ? count : job.n;
    }
}

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) cross_entropy_dx_rows(struct ce_job job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    float scale = job.pass->grad_scale;
    float off = job.smoothing / (float)job.n, on = (1.0f - job.smoothing) + off;
    if (team.first() < job.rows) team.copy_row(0, job.logits + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *x = team.input(0, job.logits + row * job.n);
        const float *next = team.next(row) < job.rows ? job.logits + team.next(row) * job.n : NULL;
        float *dx = job.dx + row * job.n, *kept = cached ? team.cache : dx;
        int target = job.target[row], count = 0;
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
        if (target < 0 || target >= job.n) sum = rp_float_of_bits(0x7fc00000u);
        team.each([=](auto batch, int e) {
            float v[batch.n];
            rp_batch_load(batch, kept, e, v);
            team.copy(batch, e, 0, next);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                v[i] = (v[i] / sum - (e + 32 * i == target ? on : off)) * scale;
            rp_batch_store(batch, dx, e, v);
        });
    }
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
