/* gemm.h - private to kernels/cuda: the one product behind linear, conv2d and their gradients.
 *
 *     c[m, n] = sum over k of a[m, k] * b[n, k]   (+ bias[n])
 *
 * in the order of README.md chapter 5. gemm_source.cuh says where the elements of an operand lie,
 * gemm_load.cuh brings them into shared memory, gemm_tile.cuh multiplies, gemm_sum.cuh is the order
 * of additions, gemm_plan.cu cuts the work, gemm_run.cuh launches it. */
#ifndef RP_CUDA_GEMM_H
#define RP_CUDA_GEMM_H

#include "cuda/divisor.h"
#include "cuda/gpu.h"

enum { RP_GEMM_PANEL = RP_PANEL, RP_GEMM_MAX_LEVELS = 20 };

/* ---- which k a product holds ------------------------------------------------------------------*/

/* All `rows` of each of `shards`, a power of two; or, with one shard, its rows [first, first +
 * count), continuing what an earlier pass left in c and chain. k counts the terms held, from 0. */
struct rp_gemm_sum {
    int64_t shards, rows, first, count;
};

/* One shard of k terms: a sum that no sample cut touches. */
static inline struct rp_gemm_sum rp_gemm_whole(int64_t k)
{
    struct rp_gemm_sum sum = {1, k, 0, k};
    return sum;
}

/* The cut of a pass over samples, with `per_sample` terms in each. */
static inline struct rp_gemm_sum rp_gemm_cut(const struct rp_rows *rows, int64_t per_sample)
{
    struct rp_gemm_sum sum = {rows->n_shards, rows->samples_per_shard * per_sample,
                              rows->first_sample * per_sample, rows->n_samples * per_sample};
    if (sum.shards > 1) sum.count = sum.rows;
    return sum;
}

/* ---- where outputs go -------------------------------------------------------------------------*/

/* Row m of group g begins at base + g group + (m's row): m stride, or, where `images` is set, the
 * digits (n, y, x) of m with a stride each. n runs with stride 1. */
struct rp_gemm_out {
    float *base;
    int64_t group, stride;
    bool images;
    struct rp_divisor per_image, per_line; /* y x, x */
    int64_t image, line, pixel;
    bool vector; /* n and every row are multiples of 16 bytes */
};

/* ---- the job of one launch, by value ----------------------------------------------------------*/

/* A segment is the part of a panel that this pass holds: one chain of fmas. Segments are counted
 * shard by shard, `panels` in each. An item is `per_item` segments; its result is the sum of these
 * in the written order, or, where `chains` is set (then per_item is 1), the chain itself. A piece
 * of work is one tile of outputs of one item; a block takes every gridDim.x-th piece. */
struct rp_gemm_job {
    int64_t m, n;
    int groups;
    struct rp_gemm_sum sum;
    int panels, first_panel;
    int first_segment, per_item, items;
    int shards_of_item; /* the tree inside an item */
    bool chains;
    int64_t tiles_m, tiles_n, pieces;
    struct rp_gemm_out c; /* c of the product; or parts, one after the other */
    int64_t item_stride;
    struct rp_gemm_out open; /* the chain that is open at either end of a part of a shard */
    float *nodes;            /* of each block: a tile for each level of the tree */
    int levels;
    const float *bias; /* (groups, n), or NULL */
};

/* Adds up the parts that items have left, in the written order: leaf p of shard s lies at
 * parts + (s leaves + p) stride, as (groups, m, n). */
struct rp_gemm_fold {
    const float *parts;
    int64_t stride, leaves, shards;
    bool continues; /* one shard: goes on from what is in c */
    float *open;    /* takes the leaf after the last, a chain that stays open; or NULL */
    int64_t m, n;
    int groups;
    struct rp_gemm_out c;
    const float *bias;
};

/* gemm_fold.cu */
RP_NODISCARD enum rp_status rp_gemm_fold_run(struct rp_cuda *cuda, const struct rp_gemm_fold *fold,
                                             struct rp_error *err);

/* ---- the product ------------------------------------------------------------------------------*/

struct rp_gemm {
    int64_t m, n; /* of one group */
    int groups;
    struct rp_gemm_sum sum;
    struct rp_gemm_out c;
    float *chain; /* like c, dense: (groups, m, n); or NULL */
    const float *bias;
    bool thin; /* n <= 4, and a can be read 16 bytes at a time */
};

/* Tiles of outputs that a block can hold (gemm_tile.cuh). */
enum rp_gemm_tile {
    RP_GEMM_TILE_128_128,
    RP_GEMM_TILE_128_64, /* of operands that both run along k */
    RP_GEMM_TILE_64_128, /* of others */
    RP_GEMM_TILE_64_64,
    RP_GEMM_TILE_512_4, /* thin: at most four columns, of operands that know it */
    RP_GEMM_TILE_COUNT
};

/* How a product is cut into launches (gemm_plan.cu). Nothing here can change a bit. */
struct rp_gemm_plan {
    enum rp_gemm_tile tile;
    bool chains;            /* an item is one segment; else it is whole shards */
    int64_t shards_of_item; /* of a launch's item; of chains: the shards that one fold joins */
    int64_t segments;       /* of one launch, at most */
    int64_t blocks;         /* of one launch, at most */
    int levels;             /* of the tree inside an item */
    double time;            /* as estimated, in cycles */
};

/* All that there is room for: at least one. */
struct rp_gemm_plans {
    struct rp_gemm_plan plan[RP_GEMM_TILE_COUNT * RP_GEMM_MAX_LEVELS];
    int n;
};

/* Bytes of scratch for a product over k terms; `samples`: cut into shards, nobody knows how. */
size_t rp_gemm_scratch(int64_t m, int64_t n, int groups, int64_t k, bool samples);
/* `narrow`: the operands cannot be read 16 bytes at a time; `along_k`: both lie with k side by
 * side. */
void rp_gemm_plans(const struct rp_cuda *cuda, const struct rp_gemm *gemm, bool narrow,
                   bool along_k, struct rp_gemm_plans *plans);
struct rp_gemm_plan rp_gemm_plan(const struct rp_cuda *cuda, const struct rp_gemm *gemm,
                                 bool narrow, bool along_k);

/* Outputs with rows one after the other, `stride` apart, and groups `group` apart. */
struct rp_gemm_out rp_gemm_out_plain(float *base, int64_t n, int64_t stride, int64_t group);
/* Segments of a shard that the pass holds; at least one: an empty sum is a chain of no terms. */
int64_t rp_gemm_panels(const struct rp_gemm_sum *sum);
void rp_gemm_tile_size(enum rp_gemm_tile tile, int *bm, int *bn);

static inline bool rp_gemm_aligned(const void *at)
{
    return (uintptr_t)at % 16 == 0;
}

#endif
