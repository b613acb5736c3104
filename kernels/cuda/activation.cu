/* activation.cu - the elementwise ops as README.md chapter 8 writes them. */
#include "cuda/elementary.h"
#include "cuda/elementwise.h"

#define SQRT_1_2      0x1.6a09e6p-1f /* 1 / sqrt 2 */
#define ONE_SQRT_2PI  0x1.988454p-2f /* 1 / sqrt(2 pi) */
#define LINEAR        0x1.988454p0f  /* 2 sqrt(2 / pi) */
#define CUBIC         0x1.2444f2p-4f /* 0.044715 times that */
#define CUBIC_TIMES_3 0x1.b6676cp-3f

struct relu_term : rp_term {
    __device__ float operator()(float x, float) const { return x <= 0.0f ? 0.0f : x; }
};
struct relu_dx_term : rp_term {
    __device__ float operator()(float dy, float y) const { return y <= 0.0f ? 0.0f : dy; }
};

struct gelu_term : rp_term {
    __device__ float operator()(float x, float) const
    {
        return 0.5f * x * (1.0f + rp_erf_fast(x * SQRT_1_2));
    }
};
struct gelu_dx_term : rp_term {
    __device__ float operator()(float dy, float x) const
    {
        float p = 0.5f * (1.0f + rp_erf_fast(x * SQRT_1_2));
        float d = rp_exp_below(-0.5f * x * x) * ONE_SQRT_2PI;
        return dy * rp_fma(x, d, p);
    }
};

/* s = sigmoid(x) and 1 - s, both with a small relative error. */
static __device__ __forceinline__ float sigmoid_sides(float x, float *rest)
{
    float e = rp_exp_below(rp_float_of_bits(rp_float_bits(x) | 0x80000000u));
    float w = 1.0f / (1.0f + e), ew = e * w;
    *rest = x < 0.0f ? w : ew;
    return x < 0.0f ? ew : w;
}

/* (1 + tanh u) / 2 is sigmoid(2 u), which loses nothing where tanh u is near -1. */
struct gelu_tanh_term : rp_term {
    __device__ float operator()(float x, float) const
    {
        return x * rp_sigmoid_fast(x * rp_fma(CUBIC, x * x, LINEAR));
    }
};
struct gelu_tanh_dx_term : rp_term {
    __device__ float operator()(float dy, float x) const
    {
        float z = x * x, t, s = sigmoid_sides(x * rp_fma(CUBIC, z, LINEAR), &t);
        float d = rp_fma(CUBIC_TIMES_3, z, LINEAR);
        return dy * rp_fma(x * (s * t), d, s);
    }
};

struct silu_term : rp_term {
    __device__ float operator()(float x, float) const { return x * rp_sigmoid_fast(x); }
};
struct silu_dx_term : rp_term {
    __device__ float operator()(float dy, float x) const
    {
        float t, s = sigmoid_sides(x, &t);
        return dy * (s * rp_fma(x, t, 1.0f));
    }
};

struct sigmoid_term : rp_term {
    __device__ float operator()(float x, float) const { return rp_sigmoid_fast(x); }
};
struct sigmoid_dx_term : rp_term {
    __device__ float operator()(float dy, float y) const { return dy * (y * (1.0f - y)); }
};

struct tanh_term : rp_term {
    __device__ float operator()(float x, float) const { return rp_tanh_fast(x); }
};
struct tanh_dx_term : rp_term {
    __device__ float operator()(float dy, float y) const { return dy * rp_fma(-y, y, 1.0f); }
};

struct add_term : rp_term {
    __device__ float operator()(float a, float b) const { return a + b; }
};

RP_MAP_KERNEL(relu, 1)
RP_MAP_KERNEL(relu_dx, 2)
RP_MAP_KERNEL(gelu, 1)
RP_MAP_KERNEL(gelu_dx, 2)
RP_MAP_KERNEL(gelu_tanh, 1)
RP_MAP_KERNEL(gelu_tanh_dx, 2)
RP_MAP_KERNEL(silu, 1)
RP_MAP_KERNEL(silu_dx, 2)
RP_MAP_KERNEL(sigmoid, 1)
RP_MAP_KERNEL(sigmoid_dx, 2)
RP_MAP_KERNEL(tanh, 1)
RP_MAP_KERNEL(tanh_dx, 2)
RP_MAP_KERNEL(add, 2)
