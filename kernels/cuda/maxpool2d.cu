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
__global__ void __launch_bounds__(RP_POOL_THREADS) maxpool2d_windows(const struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(job, i);
    int number[lanes] = {};
    float best[lanes] = {};
    bool first = true;
    rp_pool_window<Index>(job, at, [&](Index from, int tap) {
        float x[lanes];
        rp_pool_load<lanes>(job.in, (int64_t)from, x);
        if (first) {
            RP_UNROLL
            for (int k = 0; k < lanes; k++) best[k] = x[k], number[k] = tap;
            first = false;
        } else {
            take_larger<lanes>(x, tap, best, number);
        }
    });
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, best);
    tap_store<lanes>(job.tap_out, (int64_t)i * lanes, number);
}

template <class Index, int lanes, bool overlap>
__global__ void __launch_bounds__(RP_POOL_THREADS)
    maxpool2d_dx_positions(const struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(job, i);
    float dx[lanes] = {};
    rp_pool_covers<Index, overlap>(job, at, [&](Index from, int tap) {
        int number[lanes];
        float dy[lanes];
        rp_pool_load<lanes>(job.in, (int64_t)from, dy);
        tap_load<lanes>(job.tap_in, (int64_t)from, number);
        RP_UNROLL
        for (int k = 0; k < lanes; k++) dx[k] += number[k] == tap ? dy[k] : 0.0f;
    });
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, dx);
}

RP_CUDA_KERNEL(maxpool2d)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->in[0], &call->out[0]);
    job.tap_out = (uint8_t *)call->out[1].data;
    RP_POOL_LAUNCH(cuda, job, maxpool2d_windows);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(maxpool2d_dx)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->out[0], &call->in[0]);
    job.tap_in = (const uint8_t *)call->in[1].data;
    if (rp_pool_overlaps(job))
        RP_POOL_LAUNCH(cuda, job, maxpool2d_dx_positions, true);
    else
        RP_POOL_LAUNCH(cuda, job, maxpool2d_dx_positions, false);
    return RP_STATUS_OK;
}
