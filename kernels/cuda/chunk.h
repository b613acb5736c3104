/* chunk.h - private to kernels/cuda: the digest of one chunk of 4096 elements (README.md chapter
 * 12) by one block of threads. Its sums are of integers, so any order gives the same bits. */
#ifndef RP_CUDA_CHUNK_H
#define RP_CUDA_CHUNK_H

#include "cuda/quad.h"

enum {
    RP_CHUNK_THREADS = 256,
    RP_CHUNK_QUADS = RP_DIGEST_CHUNK / (4 * RP_CHUNK_THREADS) /* of a thread */
};

/* Place in its chunk of the first element of this thread's quad number i. */
static __device__ __forceinline__ uint32_t rp_chunk_place(int i)
{
    return 4 * (threadIdx.x + (uint32_t)i * RP_CHUNK_THREADS);
}

static __device__ __forceinline__ void rp_chunk_keys(uint32_t place, uint32_t key[4])
{
    RP_UNROLL
    for (uint32_t k = 0; k < 4; k++) key[k] = rp_digest_key(place + k);
}

/* The two pairs of a quad at element `at` of a tensor that ends at `end`. */
static __device__ __forceinline__ uint64_t rp_chunk_pairs(const float v[4], int64_t at, int64_t end,
                                                          const uint32_t key[4])
{
    uint64_t sum = 0;
    RP_UNROLL
    for (int k = 0; k < 4; k += 2) {
        uint32_t second = at + k + 1 < end ? rp_digest_bits(rp_float_bits(v[k + 1])) : 0;
        uint64_t pair =
            rp_digest_pair(rp_digest_bits(rp_float_bits(v[k])), second, key[k], key[k + 1]);
        sum += at + k < end ? pair : 0;
    }
    return sum;
}

/* Adds the chunk to *digest. Every thread of the block comes with the sum of its own pairs. */
static __device__ __forceinline__ void rp_chunk_add(uint64_t pairs, uint32_t tensor_number,
                                                    uint64_t chunk, uint64_t *digest)
{
    RP_SHARED(uint64_t, of_warp, [RP_CHUNK_THREADS / 32]);
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) pairs += __shfl_xor_sync(0xffffffffu, pairs, h);
    __syncthreads(); /* an earlier chunk's sums have been read */
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = pairs;
    __syncthreads();
    if (threadIdx.x > 0) return;
    uint64_t sum = 0;
    RP_UNROLL
    for (int i = 0; i < RP_CHUNK_THREADS / 32; i++) sum += of_warp[i];
    atomicAdd((unsigned long long *)digest,
              (unsigned long long)rp_digest_finish(sum, tensor_number, chunk));
}

#endif
