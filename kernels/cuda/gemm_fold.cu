/* gemm_fold.cu - adds up what the items of a product have left, in the written order: the leaves of
 * a shard one after the other, then the binary tree over the shards. A thread adds one output. */
#include "cuda/gemm_sum.cuh"

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

enum rp_status rp_gemm_fold_run(struct rp_cuda *cuda, const struct rp_gemm_fold *fold,
                                struct rp_error *err)
{
    int64_t outputs = fold->groups * fold->m * fold->n;
    RP_LAUNCH(cuda, fold_parts, rp_blocks(outputs, THREADS), THREADS, 0, *fold);
    return RP_STATUS_OK;
}
