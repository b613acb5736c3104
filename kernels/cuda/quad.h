/* quad.h - private to kernels/cuda: four neighbouring floats of a tensor, in one access where the
 * addresses allow it. No operation mixes the four, so what a kernel gives does not depend on it. */
#ifndef RP_CUDA_QUAD_H
#define RP_CUDA_QUAD_H

#include "cuda/gpu.h"

/* True where `data` may be read as float4; an absent tensor is no obstacle. */
static inline bool rp_quad_fits(const void *data)
{
    return (uintptr_t)data % 16 == 0;
}

/* Elements [at, at + 4) of x, of which those from `end` on are absent and read as +0. `at` is a
 * multiple of 4 from an aligned x where `aligned`. */
template <bool aligned>
static __device__ __forceinline__ void rp_quad_load(const float *x, int64_t at, int64_t end,
                                                    float v[4])
{
    if (aligned && at + 4 <= end) {
        float4 quad = *reinterpret_cast<const float4 *>(x + at);
        v[0] = quad.x, v[1] = quad.y, v[2] = quad.z, v[3] = quad.w;
        return;
    }
    RP_UNROLL
    for (int k = 0; k < 4; k++) v[k] = at + k < end ? x[at + k] : 0.0f;
}

template <bool aligned>
static __device__ __forceinline__ void rp_quad_store(float *x, int64_t at, int64_t end,
                                                     const float v[4])
{
    if (aligned && at + 4 <= end) {
        *reinterpret_cast<float4 *>(x + at) = make_float4(v[0], v[1], v[2], v[3]);
        return;
    }
    RP_UNROLL
    for (int k = 0; k < 4; k++)
        if (at + k < end) x[at + k] = v[k];
}

#endif
