/* clip.cu - norm, clip factor and finite flag, in one block: it reads 8 bytes for 4096 gradients.
 * README.md chapter 11. */
#include "cuda/gpu.h"

enum { WARPS = 32, BATCH = 16 /* loads in flight */, BLOCK = RP_ROW_BLOCK };

/* The row sum of chapter 2 over one block of at most 4096, by a warp; every lane gets it. */
static __device__ double block_sum(const double *x, int64_t n)
{
    double sum = 0;
    int64_t at = threadIdx.x % 32;
    for (; at + 32 * (BATCH - 1) < n; at += 32 * BATCH) {
        double v[BATCH];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) v[i] = x[at + 32 * i];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) sum += v[i];
    }
    for (; at < n; at += 32) sum += x[at];
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, h);
    return sum;
}

/* x - x is 0 unless x is infinite or NaN. */
static __device__ bool is_finite(double x)
{
    return x - x == 0;
}

static __device__ void control_write(double sum, const float *loss, double max_norm,
                                     struct rp_control *control)
{
    double norm = rp_sqrt64(sum);
    bool apply = is_finite(norm) && (!loss || is_finite((double)loss[0]));
    control->norm = norm == norm ? norm : rp_double_of_bits(0x7ff8000000000000u);
    control->factor = apply && max_norm > 0 && norm > max_norm ? (float)(max_norm / norm) : 1.0f;
    control->apply = apply;
}

__global__ void __launch_bounds__(32 * WARPS)
    clip_block(const double *chunks, int64_t n, const float *loss, double max_norm,
               struct rp_control *control)
{
    RP_SHARED(double, sums, [BLOCK]);
    int64_t n_blocks = (n + BLOCK - 1) / BLOCK;
    for (int64_t i = threadIdx.x / 32; i < n_blocks; i += WARPS) {
        int64_t left = n - i * BLOCK;
        double sum = block_sum(chunks + i * BLOCK, left < BLOCK ? left : (int64_t)BLOCK);
        if (threadIdx.x % 32 == 0) sums[i] = sum;
    }
    __syncthreads();
    if (threadIdx.x >= 32) return; /* whole warps */
    double sum = n_blocks == 1 ? sums[0] : block_sum(sums, n_blocks);
    if (threadIdx.x == 0) control_write(sum, loss, max_norm, control);
}

RP_CUDA_KERNEL(clip)
{
    (void)pass;
    int64_t n = rp_tensor_elements(&call->in[0]);
    if (n > (int64_t)BLOCK * BLOCK)
        return rp_error_set(err, RP_STATUS_INTERNAL, "clip: gradients of more than 2^36 elements");
    RP_LAUNCH(cuda, clip_block, 1, 32 * WARPS, 0, (const double *)call->in[0].data, n,
              (const float *)call->in[1].data, call->params.clip.max_norm,
              (struct rp_control *)call->out[0].data);
    return RP_STATUS_OK;
}
