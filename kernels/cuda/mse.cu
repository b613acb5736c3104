/* mse.cu - the squared error and its gradient. README.md chapter 10. */
#include "cuda/elementwise.h"
#include "cuda/rows.h"

struct mse_job {
    const float *y, *target; /* (rows, n) */
    float *loss;             /* (rows) */
    int64_t rows;
    int n;
};

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) mse_rows(struct mse_job job)
{
    rp_row_team<is_long, cached, 0> team(job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *y = job.y + row * job.n, *target = job.target + row * job.n;
        float sum = team.sum([=](auto batch, int e, float acc) {
            float a[batch.n], b[batch.n];
            rp_batch_load(batch, y, e, a);
            rp_batch_load(batch, target, e, b);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc = rp_fma(a[i] - b[i], a[i] - b[i], acc);
            return acc;
        });
        if (team.leads()) job.loss[row] = sum;
    }
}

RP_CUDA_KERNEL(mse)
{
    (void)pass;
    const struct rp_tensor *y = &call->in[0];
    int64_t rows = rp_tensor_rows(y);
    struct mse_job job = {(const float *)y->data, (const float *)call->in[1].data,
                          (float *)call->out[0].data, rows, (int)y->dims[y->n_dims - 1]};
    struct rp_row_plan plan = rp_row_plan(cuda, rows, job.n, 0);
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
