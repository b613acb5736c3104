/* digest.h - the 64-bit digest of tensors, as pure scalar functions for C and CUDA.
 *
 * README.md chapter 12 defines it. A tensor is cut into chunks of RP_DIGEST_CHUNK elements; each
 * chunk gives one 64-bit value, and the digest is their sum mod 2^64, so it may be added in any
 * order. */
#ifndef RP_DIGEST_H
#define RP_DIGEST_H

#include <stdint.h>

#ifdef __CUDACC__
#define RP_DIGEST_FN static inline __host__ __device__
#else
#define RP_DIGEST_FN static inline
#endif

enum { RP_DIGEST_CHUNK = 4096 };

/* Key of place i (0 .. RP_DIGEST_CHUNK-1) in a chunk: a bijection of 32-bit words (multiply by an
 * odd number, xor with a right shift), so all keys differ. */
RP_DIGEST_FN uint32_t rp_digest_key(uint32_t i)
{
    uint32_t k = i + 0x9e3779b9u;
    k = (k ^ (k >> 16)) * 0x85ebca6bu;
    k = (k ^ (k >> 13)) * 0xc2b2ae35u;
    return k ^ (k >> 16);
}

/* The bits that count for the digest: every NaN is 7fc00000, since its payload is not promised. */
RP_DIGEST_FN uint32_t rp_digest_bits(uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits;
}

/* One pair of neighbours, keyed: 32-bit adds that wrap, then an exact 64-bit product. */
RP_DIGEST_FN uint64_t rp_digest_pair(uint32_t bits0, uint32_t bits1, uint32_t key0, uint32_t key1)
{
    return (uint64_t)(uint32_t)(bits0 + key0) * (uint32_t)(bits1 + key1);
}

/* A bijection of 64-bit words in which every bit in moves every bit out. */
RP_DIGEST_FN uint64_t rp_digest_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The value of one chunk from its sum over pairs. */
RP_DIGEST_FN uint64_t rp_digest_finish(uint64_t pairs, uint32_t tensor_number, uint64_t chunk)
{
    uint64_t place = ((uint64_t)tensor_number << 32) + chunk + 0x9e3779b97f4a7c15u;
    return rp_digest_mix(pairs ^ rp_digest_mix(place));
}

#endif
