/* mse.cu - the squared error and its gradient. README.md chapter 10. */
#include "cuda/elementwise.h"
#include "cuda/rows.h"

struct mse_job {
    const float *y, *target; /* (rows, n) */
    float *loss;             /* (rows) */
    int64_t rows;
    int n;
};

template <int kind> __global__ void RP_ROW_BOUNDS(kind, 2) mse_rows(const struct mse_job job)
{
    rp_row_team<kind, 2> team(job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        float sum[1];
        team.take(0, job.y + row * job.n);
        team.take(1, job.target + row * job.n);
        team.sum(
            [](auto batch, float *const *v, int, float *acc) {
                RP_UNROLL
                for (int i = 0; i < batch.n; i++) {
                    float d = v[0][i] - v[1][i];
                    if (batch.has(i)) acc[0] = rp_fma(d, d, acc[0]);
                }
            },
            sum);
        if (team.leads()) job.loss[row] = sum[0];
    }
}

RP_CUDA_KERNEL(mse)
{
    (void)pass;
    const struct rp_tensor *y = &call->in[0];
    int64_t rows = rp_tensor_rows(y);
    struct mse_job job = {(const float *)y->data, (const float *)call->in[1].data,
                          (float *)call->out[0].data, rows, (int)y->dims[y->n_dims - 1]};
    struct rp_row_plan plan = rp_row_plan(cuda, rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, mse_rows, job);
    return RP_STATUS_OK;
}

struct mse_dx_term {
    const struct rp_pass *pass;
    float scale;
    __device__ void prepare() { scale = pass->grad_scale; }
    __device__ float operator()(float y, float target) const
    {
        float d = y - target;
        return (d + d) * scale;
    }
};

RP_CUDA_KERNEL(mse_dx)
{
    mse_dx_term term = {rp_cuda_pass(cuda, pass), 0};
    return rp_map_run<mse_dx_term, 2>(cuda, call, term, err);
}
