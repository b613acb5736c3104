/* vec.h - one vector type for every instruction set: 1, 4, 8 or 16 floats.
 *
 * Kernels are written once over rp_vf and compiled once per instruction set, with RP_ISA_<isa>
 * defined by the build. The operators + - * / and the comparisons are the compiler's own; what they
 * lack (fma, sqrt, select, partial loads) is here. No operation here mixes lanes, so the width of a
 * vector cannot change a bit. This file and numerics.h alone ask which compiler or instruction set
 * it is.
 *
 *   rp_vf, rp_vi, rp_vu      RP_VW floats, int32_t, uint32_t; a cast between them keeps the bits
 *   a < b, a == b, ...       give a rp_vi: all bits set where true, else 0 (a mask)
 *
 * `wide` is for tests: the 16-float code on a machine that has AVX2 only. */
#ifndef RP_VEC_H
#define RP_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(RP_ISA_avx512)
#include <immintrin.h>
#define RP_VW 16
#elif defined(RP_ISA_wide)
#include <immintrin.h>
#define RP_VW 16
#elif defined(RP_ISA_avx2)
#include <immintrin.h>
#define RP_VW 8
#elif defined(RP_ISA_neon)
#include <arm_neon.h>
#define RP_VW 4
#elif defined(RP_ISA_scalar)
#define RP_VW 1
#else
#error "define one of RP_ISA_avx512, _wide, _avx2, _neon, _scalar"
#endif

#define RP_VEC_FN static inline __attribute__((always_inline, unused))

typedef float rp_vf __attribute__((vector_size(4 * RP_VW)));
typedef int32_t rp_vi __attribute__((vector_size(4 * RP_VW)));
typedef uint32_t rp_vu __attribute__((vector_size(4 * RP_VW)));
/* The same in memory: any address, any type behind it. */
typedef float rp_vf_mem __attribute__((vector_size(4 * RP_VW), aligned(4), may_alias));
typedef int32_t rp_vi_mem __attribute__((vector_size(4 * RP_VW), aligned(4), may_alias));

RP_VEC_FN rp_vf rp_vload(const float *from)
{
    return *(const rp_vf_mem *)from;
}
RP_VEC_FN void rp_vstore(float *to, rp_vf x)
{
    *(rp_vf_mem *)to = x;
}
RP_VEC_FN rp_vi rp_vload_i(const int32_t *from)
{
    return *(const rp_vi_mem *)from;
}
RP_VEC_FN void rp_vstore_i(int32_t *to, rp_vi x)
{
    *(rp_vi_mem *)to = x;
}

/* Every lane x. Built lane by lane: adding x to a zero vector would turn -0 into +0. */
RP_VEC_FN rp_vf rp_vset(float x)
{
#if RP_VW == 16
    return (rp_vf){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#elif RP_VW == 8
    return (rp_vf){x, x, x, x, x, x, x, x};
#elif RP_VW == 4
    return (rp_vf){x, x, x, x};
#else
    return (rp_vf){x};
#endif
}
RP_VEC_FN rp_vi rp_vset_i(int32_t x)
{
    return (rp_vi){0} + x;
}
RP_VEC_FN rp_vu rp_vset_u(uint32_t x)
{
    return (rp_vu){0} + x;
}
RP_VEC_FN rp_vf rp_vzero(void)
{
    return (rp_vf){0};
}

/* Lane i is i. */
RP_VEC_FN rp_vi rp_vlanes(void)
{
#if RP_VW == 16
    return (rp_vi){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#elif RP_VW == 8
    return (rp_vi){0, 1, 2, 3, 4, 5, 6, 7};
#elif RP_VW == 4
    return (rp_vi){0, 1, 2, 3};
#else
    return (rp_vi){0};
#endif
}

/* A mask of the first n lanes, any n. */
RP_VEC_FN rp_vi rp_vfirst(int64_t n)
{
    int32_t count = n < 0 ? 0 : n > RP_VW ? RP_VW : (int32_t)n;
    return rp_vlanes() < rp_vset_i(count);
}

/* mask ? a : b, lane by lane; a mask is all ones or all zeros. */
RP_VEC_FN rp_vf rp_vselect(rp_vi mask, rp_vf a, rp_vf b)
{
#if defined(RP_ISA_avx2)
    return (rp_vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (rp_vf)((mask & (rp_vi)a) | (~mask & (rp_vi)b));
#endif
}
RP_VEC_FN rp_vi rp_vselect_i(rp_vi mask, rp_vi a, rp_vi b)
{
    return (mask & a) | (~mask & b);
}

/* a * b + c, rounded once. */
RP_VEC_FN rp_vf rp_vfma(rp_vf a, rp_vf b, rp_vf c)
{
#if defined(RP_ISA_avx512)
    return (rp_vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(RP_ISA_wide)
    union {
        rp_vf v;
        __m256 half[2];
    } x = {a}, y = {b}, z = {c};
    for (int i = 0; i < 2; i++) z.half[i] = _mm256_fmadd_ps(x.half[i], y.half[i], z.half[i]);
    return z.v;
#elif defined(RP_ISA_avx2)
    return (rp_vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(RP_ISA_neon)
    return (rp_vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return (rp_vf){__builtin_fmaf(a[0], b[0], c[0])};
#endif
}

RP_VEC_FN rp_vf rp_vsqrt(rp_vf x)
{
#if defined(RP_ISA_avx512)
    return (rp_vf)_mm512_sqrt_ps((__m512)x);
#elif defined(RP_ISA_wide)
    union {
        rp_vf v;
        __m256 half[2];
    } y = {x};
    for (int i = 0; i < 2; i++) y.half[i] = _mm256_sqrt_ps(y.half[i]);
    return y.v;
#elif defined(RP_ISA_avx2)
    return (rp_vf)_mm256_sqrt_ps((__m256)x);
#elif defined(RP_ISA_neon)
    return (rp_vf)vsqrtq_f32((float32x4_t)x);
#else
    return (rp_vf){__builtin_sqrtf(x[0])};
#endif
}

RP_VEC_FN rp_vf rp_vabs(rp_vf x)
{
    return (rp_vf)((rp_vi)x & 0x7fffffff);
}

/* The first n floats at `from`, the other lanes +0; nothing past them is read. */
RP_VEC_FN rp_vf rp_vload_first(const float *from, int64_t n)
{
#if defined(RP_ISA_avx512)
    return (rp_vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), from);
#elif defined(RP_ISA_avx2)
    return (rp_vf)_mm256_maskload_ps(from, (__m256i)rp_vfirst(n));
#else
    float x[RP_VW] = {0};
    for (int64_t i = 0; i < n; i++) x[i] = from[i];
    return rp_vload(x);
#endif
}

/* Stores the first n lanes and touches nothing past them. */
RP_VEC_FN void rp_vstore_first(float *to, rp_vf x, int64_t n)
{
#if defined(RP_ISA_avx512)
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << n) - 1u), (__m512)x);
#elif defined(RP_ISA_avx2)
    _mm256_maskstore_ps(to, (__m256i)rp_vfirst(n), (__m256)x);
#else
    float y[RP_VW];
    rp_vstore(y, x);
    for (int64_t i = 0; i < n; i++) to[i] = y[i];
#endif
}

/* The low 32 bits of a * b, and the high ones in *high. */
RP_VEC_FN rp_vu rp_vmul_wide(rp_vu a, rp_vu b, rp_vu *high)
{
#if defined(RP_ISA_avx512)
    __m512i even = _mm512_mul_epu32((__m512i)a, (__m512i)b);
    __m512i odd =
        _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), _mm512_srli_epi64((__m512i)b, 32));
    *high = (rp_vu)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
    return (rp_vu)_mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
#elif defined(RP_ISA_avx2)
    __m256i even = _mm256_mul_epu32((__m256i)a, (__m256i)b);
    __m256i odd =
        _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), _mm256_srli_epi64((__m256i)b, 32));
    *high = (rp_vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return (rp_vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
#else
    rp_vu low = a * b;
    for (int i = 0; i < RP_VW; i++) (*high)[i] = (uint32_t)(((uint64_t)a[i] * b[i]) >> 32);
    return low;
#endif
}

/* All RP_VW elements, or the first `lanes` of them: a known full width costs no mask. */
RP_VEC_FN rp_vf rp_vload_lanes(const float *from, int64_t lanes)
{
    return lanes == RP_VW ? rp_vload(from) : rp_vload_first(from, lanes);
}
RP_VEC_FN void rp_vstore_lanes(float *to, rp_vf x, int64_t lanes)
{
    if (lanes == RP_VW)
        rp_vstore(to, x);
    else
        rp_vstore_first(to, x, lanes);
}

/* The elementary functions over rp_vf: rp_vexp, rp_vsigmoid, rp_vtanh, rp_verf. */
#define RP_E_FN       RP_VEC_FN
#define RP_E_NAME(x)  rp_v##x
#define RP_E_F        rp_vf
#define RP_E_U        rp_vu
#define RP_E_C(x)     rp_vset(x)
#define RP_E_BITS(x)  ((rp_vu)(x))
#define RP_E_FLOAT(u) ((rp_vf)(u))
#define RP_E_IF       rp_vselect
#define RP_E_FMA      rp_vfma
#include "elementary.inc"
#undef RP_E_FN
#undef RP_E_NAME
#undef RP_E_F
#undef RP_E_U
#undef RP_E_C
#undef RP_E_BITS
#undef RP_E_FLOAT
#undef RP_E_IF
#undef RP_E_FMA

#endif
