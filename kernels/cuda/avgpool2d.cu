/* avgpool2d.cu - the mean of each window, and the gradient. README.md chapter 7. */
#include "cuda/pool.h"

enum { BATCH = 4 /* taps in flight */ };

/* Adds the taps of a window in their order, several of them loaded together. */
template <class Index, int lanes>
static __device__ __forceinline__ void sum_window(const struct rp_pool_job &job,
                                                  const struct rp_pool_place &at, float sum[lanes])
{
    const struct rp_pool2d_params &win = job.window;
    int h0, h1, w0, w1;
    rp_pool_taps(at.h, job.h, win.kernel_h, win.stride_h, win.pad_h, &h0, &h1);
    rp_pool_taps(at.w, job.w, win.kernel_w, win.stride_w, win.pad_w, &w0, &w1);
    Index row = (Index)at.n * (Index)job.h + (Index)(at.h * win.stride_h - win.pad_h + h0);
    Index line =
        (row * (Index)job.w + (Index)(at.w * win.stride_w - win.pad_w)) * (Index)job.channels +
        (Index)at.c;
    int w = w0, left = h1 > h0 && w1 > w0 ? (h1 - h0) * (w1 - w0) : 0;
    RP_NO_UNROLL
    for (; left > 0; left -= BATCH) {
        float x[BATCH][lanes];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) {
            Index from = line + (Index)w * (Index)job.channels;
            if (i < left) rp_pool_load<lanes>(job.in, (int64_t)from, x[i]);
            if (++w == w1) w = w0, line += (Index)job.w * (Index)job.channels;
        }
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) {
            RP_UNROLL
            for (int k = 0; k < lanes; k++)
                if (i < left) sum[k] += x[i][k];
        }
    }
}

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) avgpool2d_windows(const struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    float sum[lanes] = {};
    sum_window<Index, lanes>(job, rp_pool_place<Index, lanes>(job, i), sum);
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
