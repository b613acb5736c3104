/* digest.cu - the digest of one tensor. README.md chapter 12. */
#include "cuda/chunk.h"

enum { CHUNKS = 4 /* of a block: the keys are made once for all of them */ };

template <bool aligned>
__global__ void __launch_bounds__(RP_CHUNK_THREADS)
    digest_chunks(const float *x, int64_t n, struct rp_digest_params place, uint64_t *digest)
{
    uint32_t key[RP_CHUNK_QUADS][4];
    RP_UNROLL
    for (int i = 0; i < RP_CHUNK_QUADS; i++) rp_chunk_keys(rp_chunk_place(i), key[i]);
    int64_t chunk = (int64_t)blockIdx.x * CHUNKS;
    for (int64_t end = chunk + CHUNKS; chunk < end && chunk * RP_DIGEST_CHUNK < n; chunk++) {
        float v[RP_CHUNK_QUADS][4];
        uint64_t pairs = 0;
        RP_UNROLL
        for (int i = 0; i < RP_CHUNK_QUADS; i++)
            rp_quad_load<aligned>(x, chunk * RP_DIGEST_CHUNK + rp_chunk_place(i), n, v[i]);
        RP_UNROLL
        for (int i = 0; i < RP_CHUNK_QUADS; i++)
            pairs += rp_chunk_pairs(v[i], chunk * RP_DIGEST_CHUNK + rp_chunk_place(i), n, key[i]);
        rp_chunk_add(pairs, place.tensor_number, place.first_chunk + (uint64_t)chunk, digest);
    }
}

RP_CUDA_KERNEL(digest)
{
    (void)pass;
    const float *x = (const float *)call->in[0].data;
    uint64_t *digest = (uint64_t *)call->out[0].data;
    struct rp_digest_params place = call->params.digest;
    int64_t n = rp_tensor_elements(&call->in[0]);
    unsigned blocks = rp_blocks(n, CHUNKS * RP_DIGEST_CHUNK);
    if (rp_quad_fits(x))
        RP_LAUNCH(cuda, (digest_chunks<true>), blocks, RP_CHUNK_THREADS, 0, x, n, place, digest);
    else
        RP_LAUNCH(cuda, (digest_chunks<false>), blocks, RP_CHUNK_THREADS, 0, x, n, place, digest);
    return RP_STATUS_OK;
}
