/* gemm.h - private to kernels/cpu: the one product behind linear, conv2d and their gradients.
 *
 *     c[m, n] = sum over k of a[m, k] * b[n, k]   (+ bias[n])
 *
 * in the order of README.md chapter 5: chains of fmas over panels of 1024, panels added in
 * ascending order, and over shards the binary tree. Each operand is `base + offset(outer index) +
 * offset(k)`, and an offset is made of three digits of the index (struct rp_gemm_axis): that covers
 * matrices, their transposes, and the windows of a convolution, which therefore is never written
 * out as a matrix. */
#ifndef RP_GEMM_H
#define RP_GEMM_H

#include "cpu/cpu_int.h"
#include "row.h"

enum { RP_GEMM_PANEL = RP_PANEL };

/* Parts of scratch begin on such a border. */
#define RP_GEMM_ROUND(bytes) (((size_t)(bytes) + 255) / 256 * 256)

/* Index i lies at (i / (n1 n2)) s0 + (i / n2 % n1) s1 + (i % n2) s2, in elements. */
struct rp_gemm_axis {
    int64_t n1, n2, s0, s1, s2;
};

static inline struct rp_gemm_axis rp_gemm_plain(int64_t stride)
{
    return (struct rp_gemm_axis){.n1 = 1, .n2 = INT64_C(1) << 40, .s2 = stride};
}

static inline int64_t rp_gemm_offset(const struct rp_gemm_axis *axis, int64_t i)
{
    int64_t i2 = i % axis->n2, rest = i / axis->n2;
    return rest / axis->n1 * axis->s0 + rest % axis->n1 * axis->s1 + i2 * axis->s2;
}

/* Which k this product holds: all `rows` of each of `shards`, a power of two; or, with one shard,
 * its rows [first, first + count), continuing what an earlier product left in c and chain. */
struct rp_gemm_sum {
    int64_t shards, rows, first, count;
};

struct rp_gemm {
    int64_t m, n;
    struct rp_gemm_sum sum;
    const float *a, *b;
    float *c;
    float *chain; /* like c: the chain that is open at either end of a part of a shard; else NULL */
    struct rp_gemm_axis a_m, a_k, b_n, b_k, c_m, c_n;
    const float *bias; /* (n), or NULL */
    /* Rows of a, columns of b that lie close together, as the windows of an image do: they stay in
     * the caches, and copies of them are made later or not at all. For speed only. */
    bool near_a, near_b;
};

/* One shard of k terms: a sum that no sample cut touches. */
static inline struct rp_gemm_sum rp_gemm_whole(int64_t k)
{
    return (struct rp_gemm_sum){.shards = 1, .rows = k, .first = 0, .count = k};
}

/* The cut of a pass over samples, with `per_sample` terms in each. */
static inline struct rp_gemm_sum rp_gemm_cut(const struct rp_rows *rows, int64_t per_sample)
{
    struct rp_gemm_sum sum = {.shards = rows->n_shards,
                              .rows = rows->samples_per_shard * per_sample,
                              .first = rows->first_sample * per_sample,
                              .count = rows->n_samples * per_sample};
    if (sum.shards > 1) sum.count = sum.rows;
    return sum;
}

#ifdef RP_ISA
/* Bytes of scratch that the product needs: n and sum are looked at, and of sum how many terms there
 * are, not how they are cut. `scratch` below is 256-byte aligned. */
size_t RP_ISA_NAME(rp_gemm_scratch)(const struct rp_gemm *gemm, int n_threads);
void RP_ISA_NAME(rp_gemm_run)(struct rp_cpu *cpu, const struct rp_gemm *gemm,
                              unsigned char *scratch);
#endif

#endif
