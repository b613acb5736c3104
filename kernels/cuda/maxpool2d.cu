/* maxpool2d.cu - the largest value of each window and its tap, and the gradient. README.md
 * chapter 7. */
#include "cuda/pool.h"

template <int lanes>
static __device__ __forceinline__ void tap_store(uint8_t *tap, int64_t at, const int number[lanes])
{
    if constexpr (lanes == 4)
        *reinterpret_cast<uchar4 *>(tap + at) =
            make_uchar4((unsigned char)number[0], (unsigned char)number[1],
                        (unsigned char)number[2], (unsigned char)number[3]);
    else
        tap[at] = (uint8_t)number[0];
}

template <int lanes>
static __device__ __forceinline__ void tap_load(const uint8_t *tap, int64_t at, int number[lanes])
{
    if constexpr (lanes == 4) {
        uchar4 quad = *reinterpret_cast<const uchar4 *>(tap + at);
        number[0] = quad.x, number[1] = quad.y, number[2] = quad.z, number[3] = quad.w;
    } else {
        number[0] = tap[at];
    }
}

/* A later tap takes over when it is greater, or when it is NaN and what stands there is not. */
template <int lanes>
static __device__ __forceinline__ void take_larger(const float x[lanes], int tap, float best[lanes],
                                                   int number[lanes])
{
    RP_UNROLL
    for (int k = 0; k < lanes; k++) {
        bool taken = !(x[k] <= best[k]) && best[k] == best[k];
        best[k] = taken ? x[k] : best[k];
        number[k] = taken ? tap : number[k];
    }
}

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) maxpool2d_windows(struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    const struct rp_pool2d_params &win = job.window;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(i, job.oh, job.ow, job.channels);
    int h0, h1, w0, w1, number[lanes] = {};
    float best[lanes] = {};
    rp_pool_taps(at.h, job.h, win.kernel_h, win.stride_h, win.pad_h, &h0, &h1);
    rp_pool_taps(at.w, job.w, win.kernel_w, win.stride_w, win.pad_w, &w0, &w1);
    for (int h = h0; h < h1; h++) {
        int64_t row = at.n * job.h + at.h * win.stride_h - win.pad_h + h;
        for (int w = w0; w < w1; w++) {
            int64_t column = at.w * win.stride_w - win.pad_w + w;
            float x[lanes];
            rp_pool_load<lanes>(job.in, (row * job.w + column) * job.channels + at.c, x);
            if (h == h0 && w == w0) {
                RP_UNROLL
                for (int k = 0; k < lanes; k++) best[k] = x[k], number[k] = h * win.kernel_w + w;
            } else {
                take_larger<lanes>(x, h * win.kernel_w + w, best, number);
            }
        }
    }
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, best);
    tap_store<lanes>(job.tap_out, (int64_t)i * lanes, number);
}

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS) maxpool2d_dx_positions(struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    const struct rp_pool2d_params &win = job.window;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(i, job.h, job.w, job.channels);
    int oh0, oh1, ow0, ow1;
    float dx[lanes] = {};
    rp_pool_outputs(at.h, job.oh, win.kernel_h, win.stride_h, win.pad_h, &oh0, &oh1);
    rp_pool_outputs(at.w, job.ow, win.kernel_w, win.stride_w, win.pad_w, &ow0, &ow1);
    for (int oh = oh0; oh < oh1; oh++) {
        for (int ow = ow0; ow < ow1; ow++) {
            int64_t from = ((at.n * job.oh + oh) * job.ow + ow) * job.channels + at.c;
            int tap_h = at.h + win.pad_h - oh * win.stride_h;
            int tap_w = at.w + win.pad_w - ow * win.stride_w;
            int number[lanes], here = tap_h * win.kernel_w + tap_w;
            float dy[lanes];
            rp_pool_load<lanes>(job.in, from, dy);
            tap_load<lanes>(job.tap_in, from, number);
            RP_UNROLL
            for (int k = 0; k < lanes; k++) dx[k] += number[k] == here ? dy[k] : 0.0f;
        }
    }
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, dx);
}

RP_CUDA_KERNEL(maxpool2d)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->in[0], &call->out[0]);
    job.tap_out = (uint8_t *)call->out[1].data;
    RP_POOL_LAUNCH(cuda, maxpool2d_windows, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(maxpool2d_dx)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->out[0], &call->in[0]);
    job.tap_in = (const uint8_t *)call->in[1].data;
    RP_POOL_LAUNCH(cuda, maxpool2d_dx_positions, job);
    return RP_STATUS_OK;
}
