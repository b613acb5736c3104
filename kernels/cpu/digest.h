/* digest.h - private to kernels/cpu: the digest of README.md chapter 12 over vectors.
 *
 * Whoever writes a tensor that is kept calls rp_digest_chunk on each chunk right after writing it,
 * while it is in the cache, or rp_digest_range on all of a small one. */
#ifndef RP_CPU_DIGEST_H
#define RP_CPU_DIGEST_H

#include "cpu/vec.h"
#include "../digest.h"

/* The keys of one chunk, made once per call and thread (under a microsecond for all of them). */
struct rp_digest_keys {
    uint32_t key[RP_DIGEST_CHUNK];
};

/* Makes the keys that a tensor of n elements needs. */
static inline void rp_digest_keys_make(struct rp_digest_keys *keys, int64_t n)
{
    uint32_t count = n < RP_DIGEST_CHUNK ? (uint32_t)n + (uint32_t)(n & 1) : RP_DIGEST_CHUNK;
    for (uint32_t i = 0; i < count; i++) keys->key[i] = rp_digest_key(i);
}

#if RP_VW > 1
typedef uint64_t rp_digest_sums __attribute__((vector_size(4 * RP_VW)));

/* Of each 64 bits: lower half times upper half. */
RP_VEC_FN rp_digest_sums rp_digest_products(rp_vu keyed)
{
#if defined(RP_ISA_avx512)
    return (rp_digest_sums)_mm512_mul_epu32((__m512i)keyed, _mm512_srli_epi64((__m512i)keyed, 32));
#elif defined(RP_ISA_avx2)
    return (rp_digest_sums)_mm256_mul_epu32((__m256i)keyed, _mm256_srli_epi64((__m256i)keyed, 32));
#else
    rp_digest_sums both = (rp_digest_sums)keyed;
    return (both & 0xffffffffu) * (both >> 32);
#endif
}
#endif

/* The sum over the pairs of a chunk of n elements, n at most RP_DIGEST_CHUNK. */
static inline uint64_t rp_digest_pairs(const float *x, int64_t n, const uint32_t *key)
{
    uint64_t sum = 0;
    int64_t i = 0;
#if RP_VW > 1
    rp_digest_sums sums = {0};
    for (; i + RP_VW <= n; i += RP_VW) {
        rp_vf value = rp_vload(x + i);
        rp_vi bits = rp_vselect_i(value != value, rp_vset_i(0x7fc00000), (rp_vi)value);
        sums += rp_digest_products((rp_vu)bits + (rp_vu)rp_vload_i((const int32_t *)key + i));
    }
    for (int lane = 0; lane < RP_VW / 2; lane++) sum += sums[lane];
#endif
    for (; i < n; i += 2) {
        uint32_t bits[2] = {0, 0};
        memcpy(bits, x + i, i + 1 < n ? sizeof(bits) : sizeof(bits[0]));
        sum += rp_digest_pair(rp_digest_bits(bits[0]), rp_digest_bits(bits[1]), key[i], key[i + 1]);
    }
    return sum;
}

/* What chunk number `chunk` of tensor `tensor_number`, n elements at x, adds to the digest. */
static inline uint64_t rp_digest_chunk(const float *x, int64_t n, const struct rp_digest_keys *keys,
                                       uint32_t tensor_number, int64_t chunk)
{
    return rp_digest_finish(rp_digest_pairs(x, n, keys->key), tensor_number, (uint64_t)chunk);
}

/* What elements [begin, end) at x add; begin is a multiple of RP_DIGEST_CHUNK, and at x itself
 * chunk number `first_chunk` of the tensor begins. */
static inline uint64_t rp_digest_range(const float *x, int64_t begin, int64_t end,
                                       uint32_t tensor_number, uint32_t first_chunk)
{
    struct rp_digest_keys keys;
    rp_digest_keys_make(&keys, end - begin);
    uint64_t sum = 0;
    for (int64_t at = begin; at < end; at += RP_DIGEST_CHUNK) {
        int64_t n = end - at < RP_DIGEST_CHUNK ? end - at : RP_DIGEST_CHUNK;
        sum += rp_digest_chunk(x + at, n, &keys, tensor_number, first_chunk + at / RP_DIGEST_CHUNK);
    }
    return sum;
}

#endif
