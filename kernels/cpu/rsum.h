/* rsum.h - private to kernels/cpu: sums along a row, in the order of README.md chapter 2.
 *
 * 32 lanes lie in 32 / RP_VW vectors. Each starts from -0, which is the same as starting from its
 * first element: -0 + x = x, and fma(a, b, -0) is the rounded product. */
#ifndef RP_RSUM_H
#define RP_RSUM_H

#include "cpu/vec.h"
#include "row.h"

enum { RP_RSUM_VECTORS = RP_ROW_LANES / RP_VW };

/* Adds elements [i, i + lanes) of the row, lanes <= RP_VW, to `acc`; what it does to lanes further
 * on does not matter. */
typedef rp_vf (*rp_rsum_term)(const void *arg, int64_t i, int64_t lanes, rp_vf acc);

/* Lane j += lane j + h for h = 16, 8, 4, 2, 1. */
RP_VEC_FN float rp_rsum_fold(rp_vf acc[RP_RSUM_VECTORS])
{
    float lane[RP_VW];
    for (int h = RP_RSUM_VECTORS / 2; h > 0; h /= 2)
        for (int v = 0; v < h; v++) acc[v] += acc[v + h];
    rp_vstore(lane, acc[0]);
    for (int h = RP_VW / 2; h > 0; h /= 2)
        for (int j = 0; j < h; j++) lane[j] += lane[j + h];
    return lane[0];
}

/* Elements [begin, end), at most RP_ROW_BLOCK of them. */
RP_VEC_FN float rp_rsum_block(int64_t begin, int64_t end, rp_rsum_term term, const void *arg)
{
    rp_vf acc[RP_RSUM_VECTORS];
    int64_t i = begin;
    for (int v = 0; v < RP_RSUM_VECTORS; v++) acc[v] = rp_vset(-0.0f);
    for (; i + RP_ROW_LANES <= end; i += RP_ROW_LANES)
        for (int v = 0; v < RP_RSUM_VECTORS; v++) acc[v] = term(arg, i + v * RP_VW, RP_VW, acc[v]);
    for (int v = 0; v < RP_RSUM_VECTORS && i < end; v++, i += RP_VW) {
        int64_t lanes = end - i < RP_VW ? end - i : RP_VW;
        acc[v] = rp_vselect(rp_vfirst(lanes), term(arg, i, lanes, acc[v]), acc[v]);
    }
    return rp_rsum_fold(acc);
}

RP_VEC_FN rp_vf rp_rsum_plain_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    return acc + rp_vload_lanes((const float *)arg + i, lanes);
}

/* A row of n elements, 1 <= n <= RP_ROW_MAX. */
RP_VEC_FN float rp_rsum(int64_t n, rp_rsum_term term, const void *arg)
{
    if (n <= RP_ROW_BLOCK) return rp_rsum_block(0, n, term, arg);
    float block[RP_ROW_BLOCK];
    int64_t n_blocks = 0;
    for (int64_t i = 0; i < n; i += RP_ROW_BLOCK)
        block[n_blocks++] =
            rp_rsum_block(i, i + RP_ROW_BLOCK < n ? i + RP_ROW_BLOCK : n, term, arg);
    return rp_rsum_block(0, n_blocks, rp_rsum_plain_term, block);
}

#endif
