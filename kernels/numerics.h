/* numerics.h - the arithmetic of rp-num-1 for scalars, in C and in CUDA: fused multiply-add,
 * elementary functions, fp64 logarithm and trigonometry by fixed schedules, Philox. No libm
 * function is used but fma and sqrt, which IEEE 754 defines to the bit. kernels/README.md, chapters
 * 1 to 4, is the specification. Every compiler must keep contraction off (-ffp-contract=off; nvcc
 * -fmad=false). */
#ifndef RP_NUMERICS_H
#define RP_NUMERICS_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define RP_NUM_FN static __host__ __device__ __forceinline__
#else
#define RP_NUM_FN static inline __attribute__((unused))
#endif

/* ---- bits and the IEEE operations that C has no operator for --------------------------------- */

RP_NUM_FN uint32_t rp_float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
RP_NUM_FN float rp_float_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
RP_NUM_FN uint64_t rp_double_bits(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}
RP_NUM_FN double rp_double_of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

RP_NUM_FN float rp_fma(float a, float b, float c)
{
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}
RP_NUM_FN float rp_sqrt(float x)
{
#if defined(__CUDA_ARCH__)
    return __fsqrt_rn(x);
#else
    return __builtin_sqrtf(x);
#endif
}
RP_NUM_FN double rp_sqrt64(double x)
{
#if defined(__CUDA_ARCH__)
    return __dsqrt_rn(x);
#else
    return __builtin_sqrt(x);
#endif
}

/* ---- elementary functions: rp_exp, rp_sigmoid, rp_tanh, rp_erf ------------------------------- */

#define RP_E_FN             RP_NUM_FN
#define RP_E_NAME(x)        rp_##x
#define RP_E_F              float
#define RP_E_U              uint32_t
#define RP_E_C(x)           (x)
#define RP_E_BITS(x)        rp_float_bits(x)
#define RP_E_FLOAT(u)       rp_float_of_bits(u)
#define RP_E_IF(mask, a, b) ((mask) ? (a) : (b))
#define RP_E_FMA            rp_fma
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

/* ---- fp64 by a fixed schedule: + - * / only, no fma ------------------------------------------ */

/* Natural logarithm. x = 2^k m with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh((m - 1) / (m + 1))
 * by its series to s^23. 0 gives -inf, a negative number or NaN gives NaN, +inf gives +inf. */
RP_NUM_FN double rp_log64(double x)
{
    const double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    int k = 0;
    uint64_t bits = rp_double_bits(x);
    if (bits == 0 || bits << 1 == 0) return rp_double_of_bits(0xfff0000000000000u);
    if (bits >> 63 || x != x) return rp_double_of_bits(0x7ff8000000000000u);
    if (bits >> 52 == 0x7ff) return x;
    if (bits >> 52 == 0) { /* subnormal */
        x *= 0x1p54;
        bits = rp_double_bits(x);
        k = -54;
    }
    /* Adding the distance from sqrt(1/2)'s bits to those of 1 carries into the exponent from
     * sqrt(2)/2. */
    uint64_t moved = bits + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    k += (int)(moved >> 52) - 1023;
    double m = rp_double_of_bits((moved & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu);
    double f = m - 1.0, s = f / (m + 1.0), z = s * s;
    double p = 1.0 / 23;
    p = p * z + 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    double tail = (s + s) * (z * p); /* log m = 2 s + tail */
    return (double)k * ln2_high + ((s + s) + (tail + (double)k * ln2_low));
}

/* Rounded once from fp64: at most a hair over half an ulp. */
RP_NUM_FN float rp_log(float x)
{
    return (float)rp_log64((double)x);
}

/* e to the x for abs x <= 700: x = n ln 2 + r, the series of e^r to r^13, times 2^n. */
RP_NUM_FN double rp_exp64(double x)
{
    const double magic = 0x1.8p52; /* x + magic rounds x to an integer, in its low bits */
    double shifted = x * 0x1.71547652b82fep0 + magic, n = shifted - magic;
    double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = 1.0 + (r + r * r * p);
    return p * rp_double_of_bits((rp_double_bits(shifted) + 1023u) << 52);
}

/* sin and cos of (pi/2) f for f in [-1/2, 1/2]: Taylor series of t = (pi/2) f to t^17 and t^18. */
RP_NUM_FN double rp_sin_series(double t)
{
    double z = t * t, p = 1.0 / 355687428096000.0;
    p = p * z - 1.0 / 1307674368000.0;
    p = p * z + 1.0 / 6227020800.0;
    p = p * z - 1.0 / 39916800.0;
    p = p * z + 1.0 / 362880.0;
    p = p * z - 1.0 / 5040.0;
    p = p * z + 1.0 / 120.0;
    p = p * z - 1.0 / 6.0;
    return t + t * (z * p);
}
RP_NUM_FN double rp_cos_series(double t)
{
    double z = t * t, p = -1.0 / 6402373705728000.0;
    p = p * z + 1.0 / 20922789888000.0;
    p = p * z - 1.0 / 87178291200.0;
    p = p * z + 1.0 / 479001600.0;
    p = p * z - 1.0 / 3628800.0;
    p = p * z + 1.0 / 40320.0;
    p = p * z - 1.0 / 720.0;
    p = p * z + 1.0 / 24.0;
    return (1.0 - 0.5 * z) + (z * z) * p;
}

/* sin(t + quadrant pi/2), t in [-pi/4, pi/4]. cos is a quadrant further. */
RP_NUM_FN double rp_sin_quadrant(double t, uint32_t quadrant)
{
    double y = quadrant & 1 ? rp_cos_series(t) : rp_sin_series(t);
    return quadrant & 2 ? -y : y;
}

/* x = n pi/2 + t with n the nearest integer (its low bits are returned), |x| < 2^20: pi/2 in three
 * parts, the first two of 33 bits, so that n times each is exact. */
RP_NUM_FN uint32_t rp_reduce64(double x, double *t)
{
    const double magic = 0x1.8p52;
    double shifted = x * 0x1.45f306dc9c883p-1 + magic;
    double n = shifted - magic;
    *t = ((x - n * 0x1.921fb544p0) - n * 0x1.0b4611a6p-34) - n * 0x1.3198a2e037073p-69;
    return (uint32_t)rp_double_bits(shifted);
}

/* For schedules and tables made on the host, angles of places: |x| < 2^20, error about 1 ulp of
 * fp64 away from zeros.
 */
RP_NUM_FN double rp_sin64(double x)
{
    double t;
    uint32_t n = rp_reduce64(x, &t);
    return rp_sin_quadrant(t, n);
}
RP_NUM_FN double rp_cos64(double x)
{
    double t;
    uint32_t n = rp_reduce64(x, &t);
    return rp_sin_quadrant(t, n + 1);
}

/* The angle by which rope turns pair i of a head of `head_dim` at `place`: kernels/README.md
 * chapter 14. */
RP_NUM_FN double rp_rope_angle(float base, int head_dim, int i, int64_t place)
{
    double part = (double)(2 * i) / (double)head_dim;
    return (double)place * rp_exp64(-part * rp_log64((double)base));
}

/* |x| = n pi/2 + t for a float of 2^19 or more. |x| is a 24-bit integer m times 2^e; m times the
 * bits of 2/pi that weigh less than four quadrants is taken in integers, modulo a turn, to 64 bits.
 */
RP_NUM_FN uint32_t rp_reduce_large(uint32_t bits, double *t)
{
    /* 2/pi / 2^32 as a binary fraction, 32 bits a word. */
    const uint32_t two_over_pi[8] = {0,           0xa2f9836eu, 0x4e441529u, 0xfc2757d1u,
                                     0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu};
    uint32_t m = (bits & 0x7fffffu) | 0x800000u, first = (bits >> 23) - 120u;
    uint32_t word = first / 32u, shift = first % 32u;
    uint64_t high = (uint64_t)two_over_pi[word] << 32 | two_over_pi[word + 1];
    uint64_t low = (uint64_t)two_over_pi[word + 2] << 32 | two_over_pi[word + 3];
    high = high << shift | (low >> (63u - shift)) >> 1;
    low = low << shift >> 32;
    uint64_t turn = (m * (high >> 32) << 32) + m * (high & 0xffffffffu) + (m * low >> 32);
    uint32_t n = (uint32_t)((turn + ((uint64_t)1 << 61)) >> 62);
    *t = (double)(int64_t)(turn - ((uint64_t)n << 62)) * 0x1p-62 * 0x1.921fb54442d18p0;
    return n;
}

/* sin(|x| + quadrant pi/2) of any float: fp64 inside, rounded once. */
RP_NUM_FN float rp_sin_of_bits(uint32_t bits, uint32_t quadrant)
{
    double t, a = (double)rp_float_of_bits(bits);
    if (bits >= 0x7f800000u) return rp_float_of_bits(0x7fc00000u);
    uint32_t n = bits < 0x49000000u ? rp_reduce64(a, &t) : rp_reduce_large(bits, &t);
    return (float)rp_sin_quadrant(t, n + quadrant);
}
RP_NUM_FN float rp_sin(float x)
{
    uint32_t bits = rp_float_bits(x);
    float y = rp_sin_of_bits(bits & 0x7fffffffu, 0);
    return rp_float_of_bits(rp_float_bits(y) ^ (bits & 0x80000000u));
}
RP_NUM_FN float rp_cos(float x)
{
    return rp_sin_of_bits(rp_float_bits(x) & 0x7fffffffu, 1);
}

/* ---- random numbers: Philox4x32-10 (Salmon et al., SC 2011) ---------------------------------- */

#define RP_PHILOX_M0 0xd2511f53u
#define RP_PHILOX_M1 0xcd9e8d57u
#define RP_PHILOX_W0 0x9e3779b9u
#define RP_PHILOX_W1 0xbb67ae85u

/* What a draw is for: the high byte of the counter's last word. Values are for ever. */
enum rp_purpose {
    RP_PURPOSE_INIT = 1,      /* site: number of the parameter; element: index in the tensor */
    RP_PURPOSE_ORDER = 2,     /* perm(seed, epoch) */
    RP_PURPOSE_SPLIT = 3,     /* perm(seed, split) */
    RP_PURPOSE_TRANSFORM = 4, /* site: place in data.transform; p: position of the sample */
    RP_PURPOSE_DROPOUT = 5, /* site: number of the layer; p: position; element: within the sample */
    RP_PURPOSE_SYNTHETIC = 6, /* p: number of the sample in the made data set */
    RP_PURPOSE_SAMPLING = 7,  /* drawing tokens from a model */
    RP_PURPOSE_TEST = 255
};

struct rp_draw {
    uint32_t u[4];
};

RP_NUM_FN struct rp_draw rp_philox_block(const uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)RP_PHILOX_M0 * c0, b = (uint64_t)RP_PHILOX_M1 * c2;
        uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ key0, n2 = (uint32_t)(a >> 32) ^ c3 ^ key1;
        c0 = n0, c1 = (uint32_t)b, c2 = n2, c3 = (uint32_t)a;
        key0 += RP_PHILOX_W0, key1 += RP_PHILOX_W1;
    }
    struct rp_draw draw = {{c0, c1, c2, c3}};
    return draw;
}

/* The four words of block `block` (elements 4 block .. 4 block + 3) of a stream. site < 2^24. */
RP_NUM_FN struct rp_draw rp_draw_block(uint64_t seed, enum rp_purpose purpose, uint32_t site,
                                       uint64_t p, uint32_t block)
{
    const uint32_t counter[4] = {block, (uint32_t)p, (uint32_t)(p >> 32),
                                 (uint32_t)purpose << 24 | (site & 0xffffffu)};
    return rp_philox_block(counter, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* [0, 1) in steps of 2^-24: exact. */
RP_NUM_FN float rp_uniform(uint32_t u)
{
    return (float)(u >> 8) * 0x1p-24f;
}

/* Two independent standard normals from two words (Box and Muller), fp64 inside, rounded once. */
RP_NUM_FN void rp_normal_pair(uint32_t u0, uint32_t u1, float normal[2])
{
    double radius = rp_sqrt64(-2.0 * rp_log64(((double)u0 + 0.5) * 0x1p-32));
    uint32_t quadrant = (u1 + 0x20000000u) >> 30; /* u1 / 2^32 of a turn */
    double t = (double)(int32_t)(u1 - (quadrant << 30)) * 0x1p-30 * 0x1.921fb54442d18p0;
    normal[0] = (float)(radius * rp_sin_quadrant(t, quadrant + 1));
    normal[1] = (float)(radius * rp_sin_quadrant(t, quadrant));
}

/* An event of probability p is u < threshold: p rounded to a multiple of 2^-32, 0 <= p < 1. */
RP_NUM_FN uint32_t rp_threshold(float p)
{
    double scaled = (double)p * 0x1p32 + 0.5;
    return scaled >= 0x1.fffffffep31 ? 0xffffffffu : (uint32_t)scaled;
}

#endif
