/* gemm_fold.cu - adds up what the items of a product have left, in the written order: the leaves of
 * a shard one after the other, then the binary tree over the shards. A thread adds four
 * neighbouring outputs of a usual number of shards, all loaded together, or else one output. */
#include "cuda/gemm_sum.cuh"
#include "cuda/quad.h"

enum { THREADS = 256, MAX_LEVELS = 18 };

/* The sum of one shard. */
static __device__ __forceinline__ float add_leaves(const struct rp_gemm_fold &fold,
                                                   const float *leaf, float sum, bool continues)
{
    sum = continues ? sum + leaf[0] : leaf[0];
    for (int64_t p = 1; p < fold.leaves; p++) sum = sum + leaf[p * fold.stride];
    return sum;
}

static __global__ void __launch_bounds__(THREADS) fold_parts(const struct rp_gemm_fold fold)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= fold.groups * fold.m * fold.n) return;
    int64_t n = i % fold.n, m = i / fold.n % fold.m, group = i / fold.n / fold.m;
    if (fold.open) fold.open[i] = fold.parts[i + fold.shards * fold.leaves * fold.stride];
    if (fold.leaves == 0) return;
    float *c = rp_gemm_out_row(fold.c, m) + group * fold.c.group + n;
    float node[MAX_LEVELS], sum = 0.0f;
    for (int64_t shard = 0; shard < fold.shards; shard++) {
        const float *leaf = fold.parts + i + shard * fold.leaves * fold.stride;
        sum = add_leaves(fold, leaf, fold.continues ? *c : 0.0f, fold.continues);
        int level = 0;
        for (; shard >> level & 1; level++) sum = node[level] + sum;
        node[level] = sum;
    }
    if (fold.bias) sum = sum + fold.bias[group * fold.n + n];
    *c = sum;
}

template <int shards>
__global__ void __launch_bounds__(THREADS)
    fold_quads(const struct rp_gemm_fold fold, struct rp_divisor quads_of_row)
{
    uint32_t i = blockIdx.x * THREADS + threadIdx.x, m = rp_divide(i, quads_of_row);
    int64_t n = (int64_t)(i - m * quads_of_row.by) * 4, of_shard = fold.leaves * fold.stride;
    if (m >= fold.m) return;
    const float *leaf = fold.parts + (int64_t)i * 4;
    float sum[shards][4];
    RP_UNROLL
    for (int s = 0; s < shards; s++) rp_quad_load<true>(leaf + s * of_shard, 0, 4, sum[s]);
    RP_NO_UNROLL
    for (int64_t p = 1; p < fold.leaves; p++) {
        float next[shards][4];
        RP_UNROLL
        for (int s = 0; s < shards; s++)
            rp_quad_load<true>(leaf + s * of_shard + p * fold.stride, 0, 4, next[s]);
        RP_UNROLL
        for (int s = 0; s < shards; s++) RP_UNROLL
        for (int k = 0; k < 4; k++) sum[s][k] = sum[s][k] + next[s][k];
    }
    RP_UNROLL
    for (int h = 1; h < shards; h *= 2) RP_UNROLL
    for (int s = 0; s < shards; s += 2 * h) RP_UNROLL
    for (int k = 0; k < 4; k++) sum[s][k] = sum[s][k] + sum[(s + h) % shards][k];
    RP_UNROLL
    for (int k = 0; k < 4 && fold.bias; k++) sum[0][k] = sum[0][k] + fold.bias[n + k];
    rp_quad_store<true>(fold.c.base + m * fold.c.stride, n, n + 4, sum[0]);
}

/* Four outputs lie side by side, all shards are whole, and are as many as there is a kernel for. */
static bool folds_quads(const struct rp_gemm_fold *fold)
{
    bool plain = fold->c.vector && !fold->c.images && fold->groups == 1 && fold->n % 4 == 0;
    bool whole = fold->leaves > 0 && !fold->continues && !fold->open;
    return plain && whole && fold->shards <= 16 && fold->m * fold->n / 4 <= INT32_MAX - THREADS;
}

#define FOLD_QUADS(shards)                                                                         \
    case shards:                                                                                   \
        RP_LAUNCH(cuda, (fold_quads<shards>), rp_blocks(outputs / 4, THREADS), THREADS, 0, *fold,  \
                  rp_divisor_of(fold->n / 4));                                                     \
        return RP_STATUS_OK

enum rp_status rp_gemm_fold_run(struct rp_cuda *cuda, const struct rp_gemm_fold *fold,
                                struct rp_error *err)
{
    int64_t outputs = fold->groups * fold->m * fold->n;
    switch (folds_quads(fold) ? fold->shards : 0) {
        FOLD_QUADS(1);
        FOLD_QUADS(2);
        FOLD_QUADS(4);
        FOLD_QUADS(8);
        FOLD_QUADS(16);
    default: /* one by one */
        break;
    }
    RP_LAUNCH(cuda, fold_parts, rp_blocks(outputs, THREADS), THREADS, 0, *fold);
    return RP_STATUS_OK;
}
