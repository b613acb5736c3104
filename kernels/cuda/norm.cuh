/* norm.cuh - private to kernels/cuda: rows normalised, and the gradient of that; layer norm is
 * centred, rms norm is the same without mean and shift. README.md chapter 9. */
#ifndef RP_CUDA_NORM_CUH
#define RP_CUDA_NORM_CUH

#include "cuda/rows.h"

struct rp_norm_job {
    const float *x, *dy;       /* (rows, n) */
    const float *gamma, *beta; /* (n); beta may be NULL */
    float *mean, *inv;         /* (rows); mean where centred */
    float *out;                /* (rows, n) */
    int64_t rows;
    int n;
    float eps;
};

static inline struct rp_norm_job rp_norm_begin(const struct rp_op_call *call)
{
    const struct rp_tensor *x = &call->in[0];
    struct rp_norm_job job = {};
    job.out = (float *)call->out[0].data;
    job.rows = rp_tensor_rows(x);
    job.n = (int)x->dims[x->n_dims - 1];
    job.eps = call->params.norm.eps;
    return job;
}

/* What is held in registers becomes x - mean. */
template <int kind, bool centred>
static __device__ __forceinline__ void rp_norm_rows(const struct rp_norm_job &job)
{
    typedef rp_row_team<kind, 1> rows_team;
    rows_team team(job.n);
    const float *gamma = job.gamma, *beta = job.beta;
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        float *out = job.out + row * job.n, mean = 0.0f, sum[1];
        auto centre = [&](float x) { return centred && rows_team::streams ? x - mean : x; };
        team.take(0, job.x + row * job.n);
        if constexpr (centred) {
            mean = rp_row_plain_sum(team) / (float)job.n;
            team.change([=](auto batch, float *const *v, int) {
                (void)batch; /* but for its type */
                RP_UNROLL
                for (int i = 0; i < batch.n; i++) v[0][i] = v[0][i] - mean;
            });
        }
        team.sum(
            [=](auto batch, float *const *v, int, float *acc) {
                RP_UNROLL
                for (int i = 0; i < batch.n; i++)
                    if (batch.has(i)) acc[0] = rp_fma(centre(v[0][i]), centre(v[0][i]), acc[0]);
            },
            sum);
        float inv = 1.0f / rp_sqrt(sum[0] / (float)job.n + job.eps);
        if (team.leads()) {
            if (centred) job.mean[row] = mean;
            job.inv[row] = inv;
        }
        team.each([=](auto batch, float *const *v, int e) {
            float y[batch.n], scale[batch.n], shift[batch.n];
            rp_batch_load(batch, gamma, e, scale);
            if (centred && beta) rp_batch_load(batch, beta, e, shift);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) {
                float h = centre(v[0][i]) * inv;
                y[i] = centred && beta ? rp_fma(h, scale[i], shift[i]) : h * scale[i];
            }
            rp_batch_store(batch, out, e, y);
        });
    }
}

/* g = dy gamma, h = (x - mean) inv of input 0 and 1. */
template <bool centred, class Batch>
static __device__ __forceinline__ void rp_norm_factors(Batch batch, float *const *v, int e,
                                                       const float *gamma, float mean, float inv)
{
    float scale[Batch::n];
    rp_batch_load(batch, gamma, e, scale);
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) {
        v[0][i] = v[0][i] * scale[i];
        v[1][i] = (centred ? v[1][i] - mean : v[1][i]) * inv;
    }
}

/* Both sums in one walk. What is held in registers, dy and x, becomes g and h. */
template <int kind, bool centred>
static __device__ __forceinline__ void rp_norm_dx_rows(const struct rp_norm_job &job)
{
    typedef rp_row_team<kind, 2, 2> rows_team;
    rows_team team(job.n);
    const float *gamma = job.gamma;
    int n = job.n;
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        float *out = job.out + row * n, sum[1 + centred];
        float mean = centred ? job.mean[row] : 0.0f, inv = job.inv[row];
        auto make = [=](auto batch, float *const *v, int e) {
            rp_norm_factors<centred>(batch, v, e, gamma, mean, inv);
        };
        team.take(0, job.dy + row * n);
        team.take(1, job.x + row * n);
        team.change(make);
        team.sum(
            [=](auto batch, float *const *v, int e, float *acc) {
                if (rows_team::streams) make(batch, v, e);
                RP_UNROLL
                for (int i = 0; i < batch.n; i++) {
                    if (!batch.has(i)) continue;
                    acc[0] = rp_fma(v[0][i], v[1][i], acc[0]);
                    if (centred) acc[centred] += v[0][i];
                }
            },
            sum);
        float b = sum[0] / (float)n, a = centred ? sum[centred] / (float)n : 0.0f;
        team.each([=](auto batch, float *const *v, int e) {
            float dx[batch.n];
            if (rows_team::streams) make(batch, v, e);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                dx[i] = inv * rp_fma(-v[1][i], b, centred ? v[0][i] - a : v[0][i]);
            rp_batch_store(batch, out, e, dx);
        });
    }
}

#endif
