/* gemm.c - the product behind linear, conv2d and their gradients. */
#include "cpu/gemm.h"

struct job {
    struct rp_pool *pool;
    const struct rp_gemm *gemm;
};

static float output(const struct rp_gemm *g, int64_t m, int64_t n)
{
    const float *a = g->a + rp_gemm_offset(&g->a_m, m), *b = g->b + rp_gemm_offset(&g->b_n, n);
    int64_t at = rp_gemm_offset(&g->c_m, m) + rp_gemm_offset(&g->c_n, n), k = 0;
    float tree[32] = {0}, result = 0;
    for (int64_t shard = 0; shard < g->sum.shards; shard++) {
        int64_t row = g->sum.first, end = row + g->sum.count;
        float chain = row % RP_GEMM_PANEL ? g->chain[at] : 0.0f;
        float sum = row >= RP_GEMM_PANEL ? g->c[at] : 0.0f;
        for (; row < end; row++, k++) {
            chain =
                __builtin_fmaf(a[rp_gemm_offset(&g->a_k, k)], b[rp_gemm_offset(&g->b_k, k)], chain);
            if ((row + 1) % RP_GEMM_PANEL == 0 || row + 1 == g->sum.rows) {
                sum = row < RP_GEMM_PANEL ? chain : sum + chain;
                chain = 0;
            }
        }
        if (end < g->sum.rows && end % RP_GEMM_PANEL) g->chain[at] = chain;
        result = sum;
        int level = 0;
        for (; shard >> level & 1; level++) result = tree[level] + result;
        tree[level] = result;
    }
    return g->bias ? result + g->bias[n] : result;
}

static void run_part(void *arg, int thread)
{
    struct job *job = arg;
    const struct rp_gemm *g = job->gemm;
    int64_t begin, end;
    rp_pool_cut(g->m, 1, thread, rp_pool_threads(job->pool), &begin, &end);
    for (int64_t m = begin; m < end; m++)
        for (int64_t n = 0; n < g->n; n++)
            g->c[rp_gemm_offset(&g->c_m, m) + rp_gemm_offset(&g->c_n, n)] = output(g, m, n);
}

void RP_ISA_NAME(rp_gemm_run)(struct rp_cpu *cpu, const struct rp_gemm *gemm,
                              unsigned char *scratch)
{
    (void)scratch;
    struct job job = {.pool = cpu->pool, .gemm = gemm};
    rp_pool_run(cpu->pool, run_part, &job);
}

size_t RP_ISA_NAME(rp_gemm_scratch)(int n_threads)
{
    (void)n_threads;
    return 0;
}
