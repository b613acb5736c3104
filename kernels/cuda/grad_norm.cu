/* grad_norm.cu - the fp64 sum of squares of each chunk of 4096 elements. README.md chapter 11.
 *
 * The 32 lanes of a chunk are the lanes of a warp. A product of two floats is exact in fp64, so
 * that the fma rounds once where the page adds. */
#include "cuda/gpu.h"

enum { WARPS = 8, BATCH = 16 /* loads in flight */ };

static __device__ __forceinline__ double square_add(float g, double sum)
{
    return __fma_rn((double)g, (double)g, sum);
}

__global__ void __launch_bounds__(32 * WARPS)
    grad_norm_chunks(const float *g, int64_t n, double *chunks)
{
    int64_t chunk = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int64_t at = chunk * RP_DIGEST_CHUNK + threadIdx.x % 32;
    int64_t end = (chunk + 1) * RP_DIGEST_CHUNK < n ? (chunk + 1) * RP_DIGEST_CHUNK : n;
    if (chunk * RP_DIGEST_CHUNK >= n) return; /* the whole warp */
    double sum = 0;
    for (; at + 32 * (BATCH - 1) < end; at += 32 * BATCH) {
        float v[BATCH];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) v[i] = g[at + 32 * i];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) sum = square_add(v[i], sum);
    }
    for (; at < end; at += 32) sum = square_add(g[at], sum);
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, h);
    if (threadIdx.x % 32 == 0)
        chunks[chunk] = sum == sum ? sum : rp_double_of_bits(0x7ff8000000000000u);
}

RP_CUDA_KERNEL(grad_norm)
{
    (void)pass;
    int64_t n = rp_tensor_elements(&call->in[0]);
    RP_LAUNCH(cuda, grad_norm_chunks, rp_blocks(n, (int64_t)WARPS * RP_DIGEST_CHUNK), 32 * WARPS, 0,
              (const float *)call->in[0].data, n, (double *)call->out[0].data);
    return RP_STATUS_OK;
}
