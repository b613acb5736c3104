/* divisor.h - private to kernels/cuda: division by a number that the host knows. */
#ifndef RP_CUDA_DIVISOR_H
#define RP_CUDA_DIVISOR_H

#include "cuda/gpu.h"

/* Of numbers below 2^31: multiply and shift. */
struct rp_divisor {
    uint32_t by, magic;
    int shift;
};

static inline struct rp_divisor rp_divisor_of(int64_t by)
{
    struct rp_divisor d = {(uint32_t)by, 0, 0};
    while (INT64_C(1) << d.shift < by) d.shift++;
    d.magic = (uint32_t)((((UINT64_C(1) << d.shift) - (uint64_t)by) << 32) / (uint64_t)by + 1);
    return d;
}

static __device__ __forceinline__ uint32_t rp_divide(uint32_t n, const struct rp_divisor &d)
{
    return ((uint32_t)(((uint64_t)n * d.magic) >> 32) + n) >> d.shift;
}

/* Of any number that is not negative; those below 2^31 are the fast ones. */
static __device__ __forceinline__ int64_t rp_divide_wide(int64_t n, const struct rp_divisor &d)
{
    return n >> 31 ? n / d.by : (int64_t)rp_divide((uint32_t)n, d);
}

#endif
