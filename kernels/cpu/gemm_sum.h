/* gemm_sum.h - private to gemm*.c: the order of additions over k, as steps of pieces. */
#ifndef RP_GEMM_SUM_H
#define RP_GEMM_SUM_H

#include "cpu/gemm.h"
#include "cpu/gemm_tile.h"

/* A step is what a tile does between two visits to its state: several short panels, or a part of a
 * long one. `k` counts the terms that this product holds, from 0. */
struct rp_gemm_step {
    int64_t k;
    int n_k, n_pieces;
    bool pairs, last;
    struct rp_gemm_piece piece[STEP_K + 1];
};

/* The first step, and the one that follows; false after the last. `pairs`: short shards may be
 * taken two by two (struct rp_gemm_piece). */
void RP_ISA_NAME(rp_gemm_step_first)(const struct rp_gemm_sum *sum, bool pairs,
                                     struct rp_gemm_step *step);
bool RP_ISA_NAME(rp_gemm_step_next)(const struct rp_gemm_sum *sum, struct rp_gemm_step *step);

/* Slots that a tile needs. */
int RP_ISA_NAME(rp_gemm_slots)(const struct rp_gemm_sum *sum);

/* A part of a shard: what it finds in c and chain, and what it leaves there. */
static inline bool rp_gemm_finds_chain(const struct rp_gemm_sum *sum)
{
    return sum->first % RP_GEMM_PANEL != 0;
}
static inline bool rp_gemm_finds_sum(const struct rp_gemm_sum *sum)
{
    return sum->first >= RP_GEMM_PANEL;
}
static inline bool rp_gemm_is_open(const struct rp_gemm_sum *sum)
{
    return sum->first + sum->count < sum->rows;
}
static inline bool rp_gemm_leaves_chain(const struct rp_gemm_sum *sum)
{
    return rp_gemm_is_open(sum) && (sum->first + sum->count) % RP_GEMM_PANEL != 0;
}
static inline bool rp_gemm_leaves_sum(const struct rp_gemm_sum *sum)
{
    return rp_gemm_is_open(sum) && sum->first + sum->count >= RP_GEMM_PANEL;
}

#endif
