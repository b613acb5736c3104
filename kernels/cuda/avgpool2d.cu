/* avgpool2d.cu - the mean of each window, and the gradient. README.md chapter 7. */
#include "cuda/pool.h"

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) avgpool2d_windows(struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    const struct rp_pool2d_params &win = job.window;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(i, job.oh, job.ow, job.channels);
    int h0, h1, w0, w1;
    float sum[lanes] = {}, count = (float)(win.kernel_h * win.kernel_w);
    rp_pool_taps(at.h, job.h, win.kernel_h, win.stride_h, win.pad_h, &h0, &h1);
    rp_pool_taps(at.w, job.w, win.kernel_w, win.stride_w, win.pad_w, &w0, &w1);
    for (int h = h0; h < h1; h++) {
        int64_t row = at.n * job.h + at.h * win.stride_h - win.pad_h + h;
        for (int w = w0; w < w1; w++) {
            int64_t column = at.w * win.stride_w - win.pad_w + w;
            float x[lanes];
            rp_pool_load<lanes>(job.in, (row * job.w + column) * job.channels + at.c, x);
            RP_UNROLL
            for (int k = 0; k < lanes; k++) sum[k] += x[k];
        }
    }
    RP_UNROLL
    for (int k = 0; k < lanes; k++) sum[k] /= count;
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, sum);
}

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) avgpool2d_dx_positions(struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    const struct rp_pool2d_params &win = job.window;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(i, job.h, job.w, job.channels);
    int oh0, oh1, ow0, ow1;
    float dx[lanes] = {}, count = (float)(win.kernel_h * win.kernel_w);
    rp_pool_outputs(at.h, job.oh, win.kernel_h, win.stride_h, win.pad_h, &oh0, &oh1);
    rp_pool_outputs(at.w, job.ow, win.kernel_w, win.stride_w, win.pad_w, &ow0, &ow1);
    for (int oh = oh0; oh < oh1; oh++) {
        for (int ow = ow0; ow < ow1; ow++) {
            int64_t from = ((at.n * job.oh + oh) * job.ow + ow) * job.channels + at.c;
            float dy[lanes];
            rp_pool_load<lanes>(job.in, from, dy);
            RP_UNROLL
            for (int k = 0; k < lanes; k++) dx[k] += dy[k] / count;
        }
    }
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, dx);
}

RP_CUDA_KERNEL(avgpool2d)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->in[0], &call->out[0]);
    RP_POOL_LAUNCH(cuda, avgpool2d_windows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(avgpool2d_dx)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->out[0], &call->in[0]);
    RP_POOL_LAUNCH(cuda, avgpool2d_dx_positions, job);
    return RP_STATUS_OK;
}
