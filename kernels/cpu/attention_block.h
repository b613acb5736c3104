/* attention_block.h - private to attention*.c: a block of queries of one head against the keys.
 *
 * Scores and weights of a block lie as (keys, RP_AT_QUERIES): the queries of one key side by side.
 * So each is a vector for the elementwise work, maxima and row sums run down without mixing lanes,
 * and the same memory serves both products that follow: of a few queries (a row of y or dq each)
 * and of a few keys (a row of dk or dv each), without a copy. Keys after a query are absent: they
 * are computed where whole tiles are, and then left out. */
#ifndef RP_ATTENTION_BLOCK_H
#define RP_ATTENTION_BLOCK_H

#include "attention.h"
#include "cpu/gemm_tile.h"
#include "cpu/parallel.h"
#include "numerics.h"
#include "row.h"

/* Queries of a block: strips of TILE_N, and few rows left over from tiles of TILE_M. */
enum { RP_AT_QUERIES = RP_VW == 16 ? 64 : 48 };
_Static_assert(RP_AT_QUERIES % TILE_N == 0, "a block is whole strips");

struct rp_at_job {
    const float *qkv; /* (N, T, width) */
    float *y, *stats; /* (N, T, heads d), (N, heads, T, 2) or NULL */
    const float *dy;  /* backward: like y, which it reads too, and stats */
    float *dqkv;      /* backward: like qkv */
    int64_t samples, tokens, width;
    int d, heads, kv_heads, group;
    float scale, drop; /* drop: factor of the weights that stay */
    bool drops;
    uint32_t threshold, site;
    uint64_t seed, position;
    bool backward;
    unsigned char *scratch; /* a part for each thread */
    size_t scratch_bytes;   /* of a part */
    int n_threads;
};

/* What one thread works in. K: keys, in whole tiles; D: values of a head, in whole strips. */
struct rp_at_memory {
    float *k_tiles, *v_tiles;      /* (K / TILE_M, d, TILE_M); v: backward */
    float *strips;                 /* (D / TILE_N, tokens, TILE_N): of v, backward of k */
    float *q_columns, *dy_columns; /* (RP_AT_QUERIES / TILE_N, d, TILE_N); dy: backward */
    float *q_strips, *dy_strips;   /* (D / TILE_N, RP_AT_QUERIES, TILE_N); backward */
    float *weights, *ds;           /* (K, RP_AT_QUERIES); ds: backward */
    float *lanes;                  /* (32, RP_AT_QUERIES), of row sums */
    float *blocks;                 /* (K / 4096, RP_AT_QUERIES) */
    uint32_t *keep;                /* (K / 32, RP_AT_QUERIES): bit j % 32 of word j / 32 */
    float *chain[2], *total[2];    /* (D / TILE_N, K, TILE_N) of dk, dv; total past one panel */
};

/* One head and block: queries [first, first + count) of a sample. */
struct rp_at_block {
    int64_t sample, head, first;
    int count;
};

struct rp_at_job RP_ISA_NAME(rp_at_begin)(struct rp_cpu *cpu, const struct rp_op_call *call,
                                          const struct rp_pass *pass);
/* Bytes for one thread; `memory` NULL, or where its parts are noted. */
size_t RP_ISA_NAME(rp_at_lay_out)(const struct rp_at_job *job, unsigned char *scratch,
                                  struct rp_at_memory *memory);

/* Copies: rows of d values, `stride` apart, as tiles of TILE_M rows, as columns of a block, as
 * strips of TILE_N values. */
void RP_ISA_NAME(rp_at_pack_tiles)(const float *from, int64_t stride, int64_t rows, int d,
                                   float *to);
void RP_ISA_NAME(rp_at_pack_columns)(const float *from, int64_t stride, int64_t rows, int d,
                                     float *to);
void RP_ISA_NAME(rp_at_pack_strips)(const float *from, int64_t stride, int64_t rows, int d,
                                    int64_t strip_rows, float *to);

/* to (keys, RP_AT_QUERIES) = tiles times columns, for keys that some query of the block sees. */
void RP_ISA_NAME(rp_at_scores)(const struct rp_at_job *job, const struct rp_at_block *block,
                               const float *tiles, const float *columns, float *to);
/* Which weights dropout keeps. */
void RP_ISA_NAME(rp_at_draw)(const struct rp_at_job *job, const struct rp_at_block *block,
                             uint32_t *keep);
/* out row of query first + i = (sum over its keys of weights times strips) factor[i]. */
void RP_ISA_NAME(rp_at_query_rows)(const struct rp_at_job *job, const struct rp_at_block *block,
                                   const float *weights, const float *strips, const float *factor,
                                   float *out, int64_t stride);

static inline int64_t rp_at_least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t rp_at_up(int64_t n, int64_t grain)
{
    return (n + grain - 1) / grain * grain;
}

/* Row t of head `head` of a sample's qkv; of its y. */
static inline int64_t rp_at_qkv(const struct rp_at_job *job, int64_t sample, int64_t t,
                                int64_t head)
{
    return (sample * job->tokens + t) * job->width + head * job->d;
}
static inline int64_t rp_at_y(const struct rp_at_job *job, int64_t sample, int64_t t, int64_t head)
{
    return ((sample * job->tokens + t) * job->heads + head) * job->d;
}
/* The head of k that a query head reads; v lies kv_heads further. */
static inline int64_t rp_at_key_head(const struct rp_at_job *job, int64_t head)
{
    return job->heads + head / job->group;
}

/* All ones where the queries of vector v (from lane v RP_VW on) keep key j. */
RP_VEC_FN rp_vi rp_at_kept(const uint32_t *keep, int64_t j, int v)
{
    rp_vu word = (rp_vu)rp_vload_i((const int32_t *)keep + j / 32 * RP_AT_QUERIES + v * RP_VW);
    return (rp_vi)(word << (31 - (uint32_t)(j % 32))) < rp_vset_i(0);
}

/* acc[i] += a[i row + k step] times row k of b (n_k, TILE_N). height, row and step are constants
 * where this is called. */
RP_VEC_FN void rp_at_product(const float *a, ptrdiff_t row, ptrdiff_t step, const float *b,
                             int64_t n_k, rp_vf acc[TILE_M][TILE_VECTORS], int height)
{
#pragma GCC unroll 2
    for (int64_t k = 0; k < n_k; k++, a += step, b += TILE_N) {
        rp_vf x[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++) x[v] = rp_vload(b + v * RP_VW);
        for (int i = 0; i < height; i++) {
            rp_vf w = rp_vset(a[i * row]);
            for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vfma(w, x[v], acc[i][v]);
        }
    }
}

#endif
