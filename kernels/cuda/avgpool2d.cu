/* avgpool2d.cu - the mean of each window, and the gradient. README.md chapter 7. */
#include "cuda/pool.h"

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) avgpool2d_windows(const struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    float sum[lanes] = {};
    rp_pool_window<Index>(job, rp_pool_place<Index, lanes>(job, i), [&](Index from, int) {
        float x[lanes];
        rp_pool_load<lanes>(job.in, (int64_t)from, x);
        RP_UNROLL
        for (int k = 0; k < lanes; k++) sum[k] += x[k];
    });
    RP_UNROLL
    for (int k = 0; k < lanes; k++) sum[k] = rp_pool_mean(job, sum[k]);
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, sum);
}

template <class Index, int lanes, bool overlap>
__global__ void __launch_bounds__(RP_POOL_THREADS)
    avgpool2d_dx_positions(const struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    float dx[lanes] = {};
    rp_pool_covers<Index, overlap>(job, rp_pool_place<Index, lanes>(job, i), [&](Index from, int) {
        float dy[lanes];
        rp_pool_load<lanes>(job.in, (int64_t)from, dy);
        RP_UNROLL
        for (int k = 0; k < lanes; k++) dx[k] += rp_pool_mean(job, dy[k]);
    });
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, dx);
}

RP_CUDA_KERNEL(avgpool2d)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->in[0], &call->out[0]);
    RP_POOL_LAUNCH(cuda, job, avgpool2d_windows);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(avgpool2d_dx)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->out[0], &call->in[0]);
    if (rp_pool_overlaps(job))
        RP_POOL_LAUNCH(cuda, job, avgpool2d_dx_positions, true);
    else
        RP_POOL_LAUNCH(cuda, job, avgpool2d_dx_positions, false);
    return RP_STATUS_OK;
}
