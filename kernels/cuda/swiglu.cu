/* swiglu.cu - silu of the gate times up, and its gradient. README.md chapter 8. */
#include "cuda/divisor.h"
#include "cuda/elementary.h"
#include "cuda/quad.h"

enum { SWIGLU_THREADS = 256 };

/* Four neighbours of a row of `half` elements, by_row of them to each. */
template <bool aligned>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_quads(const float *x, float *y, int64_t quads, int64_t half, struct rp_divisor by_row)
{
    int64_t i = (int64_t)blockIdx.x * SWIGLU_THREADS + threadIdx.x;
    if (i >= quads) return;
    int64_t row = rp_divide_wide(i, by_row), at = (i - row * by_row.by) * 4;
    const float *gate = x + 2 * row * half;
    float a[4], b[4];
    rp_quad_load<aligned>(gate, at, half, a);
    rp_quad_load<aligned>(gate + half, at, half, b);
    RP_UNROLL
    for (int k = 0; k < 4; k++) a[k] = a[k] * rp_sigmoid_fast(a[k]) * b[k];
    rp_quad_store<aligned>(y + row * half, at, half, a);
}

template <bool aligned>
__global__ void __launch_bounds__(SWIGLU_THREADS)
    swiglu_dx_quads(const float *dy, const float *x, float *dx, int64_t quads, int64_t half,
                    struct rp_divisor by_row)
{
    int64_t i = (int64_t)blockIdx.x * SWIGLU_THREADS + threadIdx.x;
    if (i >= quads) return;
    int64_t row = rp_divide_wide(i, by_row), at = (i - row * by_row.by) * 4;
    const float *gate = x + 2 * row * half;
    float *to = dx + 2 * row * half;
    float a[4], b[4], g[4];
    rp_quad_load<aligned>(gate, at, half, a);
    rp_quad_load<aligned>(gate + half, at, half, b);
    rp_quad_load<aligned>(dy + row * half, at, half, g);
    RP_UNROLL
    for (int k = 0; k < 4; k++) {
        float e = rp_exp_below(rp_float_of_bits(rp_float_bits(a[k]) | 0x80000000u));
        float w = 1.0f / (1.0f + e), q = e * w;
        float s = a[k] < 0.0f ? q : w, t = a[k] < 0.0f ? w : q;
        b[k] = g[k] * b[k] * (s * rp_fma(a[k], t, 1.0f));
        a[k] = g[k] * (a[k] * s);
    }
    rp_quad_store<aligned>(to, at, half, b);
    rp_quad_store<aligned>(to + half, at, half, a);
}

/* Rows of both halves begin on borders of 16 bytes. */
static bool fits(const void *a, const void *b, const void *c, int64_t half)
{
    return rp_quad_fits(a) && rp_quad_fits(b) && rp_quad_fits(c) && half % 4 == 0;
}

RP_CUDA_KERNEL(swiglu)
{
    (void)pass;
    const struct rp_tensor *y = &call->out[0];
    int64_t half = y->dims[y->n_dims - 1], quads = rp_tensor_rows(y) * ((half + 3) / 4);
    const float *x = (const float *)call->in[0].data;
    float *out = (float *)y->data;
    unsigned blocks = rp_blocks(quads, SWIGLU_THREADS);
    struct rp_divisor by_row = rp_divisor_of((half + 3) / 4);
    if (fits(x, out, NULL, half))
        RP_LAUNCH(cuda, (swiglu_quads<true>), blocks, SWIGLU_THREADS, 0, x, out, quads, half,
                  by_row);
    else
        RP_LAUNCH(cuda, (swiglu_quads<false>), blocks, SWIGLU_THREADS, 0, x, out, quads, half,
                  by_row);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(swiglu_dx)
{
    (void)pass;
    const struct rp_tensor *in = &call->in[0];
    int64_t half = in->dims[in->n_dims - 1], quads = rp_tensor_rows(in) * ((half + 3) / 4);
    const float *dy = (const float *)in->data, *x = (const float *)call->in[1].data;
    float *dx = (float *)call->out[0].data;
    unsigned blocks = rp_blocks(quads, SWIGLU_THREADS);
    struct rp_divisor by_row = rp_divisor_of((half + 3) / 4);
    if (fits(dy, x, dx, half))
        RP_LAUNCH(cuda, (swiglu_dx_quads<true>), blocks, SWIGLU_THREADS, 0, dy, x, dx, quads, half,
                  by_row);
    else
        RP_LAUNCH(cuda, (swiglu_dx_quads<false>), blocks, SWIGLU_THREADS, 0, dy, x, dx, quads, half,
                  by_row);
    return RP_STATUS_OK;
}
