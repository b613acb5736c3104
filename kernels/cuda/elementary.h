/* elementary.h - private to kernels/cuda: the functions of elementary.inc with fewer instructions.
 *
 * rp_exp applies 2^n in two multiplications that it makes from n anew, and cuts x on both sides. An
 * argument that is known to be at most 40 needs neither the upper cut nor two powers made from n:
 * 2^(n + 64), then 2^-64; the first product is exact, so the second rounds as rp_exp's does. The
 * functions here give the bits of those in numerics.h for every float: `elementary-all` of
 * rp_test_ops holds them to the same digests. */
#ifndef RP_CUDA_ELEMENTARY_H
#define RP_CUDA_ELEMENTARY_H

#include "numerics.h"

/* exp(x) 2^-n, and the bits of a float whose low ones are n. */
RP_NUM_FN float rp_exp_mantissa(float x, uint32_t *n_bits)
{
    const float magic = 0x1.8p23f;
    float shifted = rp_fma(x, 0x1.715476p0f, magic);
    float n = shifted - magic;
    float high = rp_fma(n, -0x1.62e43p-1f, x);
    float r = rp_fma(n, 0x1.05c61p-29f, high);
    float c = rp_fma(n, 0x1.05c61p-29f, high - r);
    *n_bits = rp_float_bits(shifted);
    return 1.0f + rp_exp_reduced(r, c);
}

/* rp_exp(x) for x from -80 to 40, or NaN: every power of two is normal. */
RP_NUM_FN float rp_exp_normal(float x)
{
    uint32_t n;
    float p = rp_exp_mantissa(x, &n);
    return p * rp_float_of_bits((n << 23) + (127u << 23));
}

/* rp_exp(x) for x up to 40, or NaN. */
RP_NUM_FN float rp_exp_below(float x)
{
    uint32_t n;
    x = x < -105.0f ? -105.0f : x;
    float p = rp_exp_mantissa(x, &n);
    return p * rp_float_of_bits((n << 23) + (191u << 23)) * 0x1p-64f;
}

RP_NUM_FN float rp_sigmoid_fast(float x)
{
    float e = rp_exp_below(rp_float_of_bits(rp_float_bits(x) | 0x80000000u));
    float y = (x < 0.0f ? e : 1.0f) / (1.0f + e);
    return x < -0.6931472f ? rp_fma(-e, y, e) : y;
}

/* From 20 on tanh has long rounded to 1. */
RP_NUM_FN float rp_tanh_fast(float x)
{
    uint32_t sign = rp_float_bits(x) & 0x80000000u;
    float a = rp_float_of_bits(rp_float_bits(x) & 0x7fffffffu);
    float z = x * x, p = 0x1.1a2e3ep-9f;
    p = rp_fma(p, z, -0x1.0c602p-7f);
    p = rp_fma(p, z, 0x1.63a57ep-6f);
    p = rp_fma(p, z, -0x1.b9f18ap-5f);
    p = rp_fma(p, z, 0x1.11107ap-3f);
    p = rp_fma(p, z, -0x1.555554p-2f);
    float small = rp_fma(p * z, a, a);
    float e = rp_exp_normal(a > 20.0f ? 40.0f : a + a);
    float large = 1.0f - 2.0f / (e + 1.0f);
    float y = a < 0.625f ? small : large;
    return rp_float_of_bits(rp_float_bits(y) | sign);
}

RP_NUM_FN float rp_erf_fast(float x)
{
    uint32_t sign = rp_float_bits(x) & 0x80000000u;
    float a = rp_float_of_bits(rp_float_bits(x) & 0x7fffffffu);
    float z = x * x, p = 0x1.4f045ep-14f;
    p = rp_fma(p, z, -0x1.a5ea9cp-11f);
    p = rp_fma(p, z, 0x1.5446b2p-8f);
    p = rp_fma(p, z, -0x1.b800dp-6f);
    p = rp_fma(p, z, 0x1.ce2d62p-4f);
    p = rp_fma(p, z, -0x1.81274p-2f);
    p = rp_fma(p, z, 0x1.06eba8p-3f);
    float small = rp_fma(p, a, a);
    float b = a > 4.0f ? 4.0f : a, q = 0x1.5d75a4p-16f;
    q = rp_fma(q, b, -0x1.c45e02p-12f);
    q = rp_fma(q, b, 0x1.106416p-8f);
    q = rp_fma(q, b, -0x1.9aecd6p-6f);
    q = rp_fma(q, b, 0x1.bb45aap-4f);
    q = rp_fma(q, b, 0x1.444d16p-1f);
    q = rp_fma(q, b, 0x1.212628p0f);
    q = rp_fma(q, b, -0x1.62d9ap-13f);
    float large = 1.0f - rp_exp_normal(-q);
    float y = a < 0.921875f ? small : large;
    return rp_float_of_bits(rp_float_bits(y) | sign);
}

#endif
