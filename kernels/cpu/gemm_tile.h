/* gemm_tile.h - private to gemm*.c, attention*.c: the tile, which holds TILE_M x TILE_N outputs
 * in registers.
 *
 * A tile walks over k in pieces. A piece is one chain of fmas; at its end the chain is added to
 * what waits in the slots of the tile's state (the sum of earlier panels, then the nodes of the
 * tree over shards, lowest first) and the result is put into a slot, or is the output. */
#ifndef RP_GEMM_TILE_H
#define RP_GEMM_TILE_H

#include <stdbool.h>
#include <stddef.h>

#include "cpu/vec.h"

/* Accumulators, one row of b and one broadcast fill the register file of each instruction set. */
#if RP_VW == 16
enum { TILE_M = 14, TILE_VECTORS = 2 };
#elif RP_VW == 8
enum { TILE_M = 6, TILE_VECTORS = 2 };
#elif RP_VW == 4
enum { TILE_M = 6, TILE_VECTORS = 4 };
#else
enum { TILE_M = 6, TILE_VECTORS = 2 };
#endif
enum {
    TILE_N = TILE_VECTORS * RP_VW,
    TILE_SIZE = TILE_M * TILE_N,
    /* k terms between two visits to the state: a strip of b takes 24 or 32 KiB of the L1 cache. */
    STEP_K = RP_VW == 16 ? 256 : 384,
};

/* Slots of a tile's state; SLOT_TREE + l holds the node of level l. */
enum { SLOT_NONE = -1, SLOT_CHAIN = 0, SLOT_SUM = 1, SLOT_TREE = 2 };

struct rp_gemm_piece {
    int n_k;
    int8_t load;         /* slot that the chain goes on from, or SLOT_NONE: from +0 */
    int8_t add, add_end; /* slots [add, add_end) are added in this order when the piece ends */
    int8_t store;        /* slot that takes the result, or SLOT_NONE: it is the output */
    bool pair;           /* two whole shards of n_k terms each, one behind the other; a is packed */
};

struct rp_gemm_tile {
    const float *a[TILE_M]; /* row i of the tile, at offset 0 of k */
    const ptrdiff_t *a_k;   /* offset of each k of the step */
    const float *b;         /* (n_k, TILE_N) */
    ptrdiff_t b_step;       /* floats from one k of b to the next: TILE_N where it is packed */
    const struct rp_gemm_piece *piece;
    int n_pieces;
    float *state;      /* slots of TILE_SIZE floats */
    ptrdiff_t slot;    /* floats from one slot to the next */
    float *c[TILE_M];  /* where row i of the output goes, TILE_N floats */
    const float *bias; /* (TILE_N) or NULL: added to the output */
};

/* In all that follows `height` is a constant where it is called: the rows that are computed, the
 * first of TILE_M. A lower tile at the end of the rows costs no more than its share. */

/* acc += column of a times row of b, for one k. */
RP_VEC_FN void rp_gemm_add_term(const float *const a[TILE_M], ptrdiff_t k, const float *b,
                                rp_vf acc[TILE_M][TILE_VECTORS], int height)
{
    rp_vf row[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; v++) row[v] = rp_vload(b + v * RP_VW);
    for (int i = 0; i < height; i++) {
        rp_vf x = rp_vset(a[i][k]);
        for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vfma(x, row[v], acc[i][v]);
    }
}

/* The same where a is packed: one pointer, and offsets that the compiler knows. */
RP_VEC_FN void rp_gemm_add_packed_term(const float *a, const float *b,
                                       rp_vf acc[TILE_M][TILE_VECTORS], int height)
{
    rp_vf row[TILE_VECTORS];
    for (int v = 0; v < TILE_VECTORS; v++) row[v] = rp_vload(b + v * RP_VW);
    for (int i = 0; i < height; i++) {
        rp_vf x = rp_vset(a[i]);
        for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vfma(x, row[v], acc[i][v]);
    }
}

/* ---- pieces: rows [first, first + height) of the tile ---------------------------------------- */

RP_VEC_FN void rp_gemm_begin_piece(const struct rp_gemm_tile *tile,
                                   const struct rp_gemm_piece *piece,
                                   rp_vf acc[TILE_M][TILE_VECTORS], int height)
{
    const float *slot = tile->state + piece->load * tile->slot;
    for (int i = 0; i < height; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            acc[i][v] =
                piece->load != SLOT_NONE ? rp_vload(slot + i * TILE_N + v * RP_VW) : rp_vzero();
}

RP_VEC_FN void rp_gemm_output_tile(const struct rp_gemm_tile *tile, rp_vf acc[TILE_M][TILE_VECTORS],
                                   int first, int height)
{
    for (int v = 0; v < TILE_VECTORS; v++) {
        if (!tile->bias) {
            for (int i = 0; i < height; i++) rp_vstore(tile->c[first + i] + v * RP_VW, acc[i][v]);
            continue;
        }
        rp_vf bias = rp_vload(tile->bias + v * RP_VW);
        for (int i = 0; i < height; i++)
            rp_vstore(tile->c[first + i] + v * RP_VW, acc[i][v] + bias);
    }
}

RP_VEC_FN void rp_gemm_end_piece(const struct rp_gemm_tile *tile, const struct rp_gemm_piece *piece,
                                 rp_vf acc[TILE_M][TILE_VECTORS], int first, int height)
{
    float *state = tile->state + first * TILE_N;
    for (int s = piece->add; s < piece->add_end; s++) {
        const float *slot = state + s * tile->slot;
        for (int i = 0; i < height; i++)
            for (int v = 0; v < TILE_VECTORS; v++)
                acc[i][v] = rp_vload(slot + i * TILE_N + v * RP_VW) + acc[i][v];
    }
    if (piece->store == SLOT_NONE) {
        rp_gemm_output_tile(tile, acc, first, height);
        return;
    }
    float *slot = state + piece->store * tile->slot;
    for (int i = 0; i < height; i++)
        for (int v = 0; v < TILE_VECTORS; v++) rp_vstore(slot + i * TILE_N + v * RP_VW, acc[i][v]);
}

/* The chains of two shards side by side, for half the rows, and their sum: the lowest level of the
 * tree never leaves the registers. */
RP_VEC_FN void rp_gemm_run_pair(const struct rp_gemm_tile *tile, const struct rp_gemm_piece *piece,
                                const float *a, const float *b, int first, int height)
{
    rp_vf left[TILE_M][TILE_VECTORS], right[TILE_M][TILE_VECTORS];
    ptrdiff_t b_step = tile->b_step, a_right = (ptrdiff_t)piece->n_k * TILE_M;
    ptrdiff_t b_right = (ptrdiff_t)piece->n_k * b_step;
    const float *stop = b + b_right;
    for (int i = 0; i < height; i++)
        for (int v = 0; v < TILE_VECTORS; v++) left[i][v] = right[i][v] = rp_vzero();
#pragma GCC unroll 2
    for (; b != stop; b += b_step, a += TILE_M) {
        rp_gemm_add_packed_term(a + first, b, left, height);
        rp_gemm_add_packed_term(a + first + a_right, b + b_right, right, height);
    }
    for (int i = 0; i < height; i++)
        for (int v = 0; v < TILE_VECTORS; v++) left[i][v] = left[i][v] + right[i][v];
    rp_gemm_end_piece(tile, piece, left, first, height);
}

/* Runs the pieces of one step. `packed` is a constant where this is called: two loops come of it.
 * They are unrolled as the few instructions of a loop's end would cost several percent, and count
 * the terms: then the end is looked for once in four of them. */
RP_VEC_FN void rp_gemm_tile_run(const struct rp_gemm_tile *tile, bool packed, int height)
{
    rp_vf acc[TILE_M][TILE_VECTORS];
    const float *a[TILE_M], *b = tile->b, *a_packed = tile->a[0];
    const ptrdiff_t *a_k = tile->a_k;
    const ptrdiff_t b_step = tile->b_step;
    for (int i = 0; i < height; i++) a[i] = tile->a[packed ? 0 : i];

    for (const struct rp_gemm_piece *piece = tile->piece, *end = piece + tile->n_pieces;
         piece != end; piece++) {
        if (packed && piece->pair) {
            rp_gemm_run_pair(tile, piece, a_packed, b, 0, height / 2);
            rp_gemm_run_pair(tile, piece, a_packed, b, height / 2, height / 2);
            a_packed += 2 * (ptrdiff_t)piece->n_k * TILE_M;
            b += 2 * (ptrdiff_t)piece->n_k * b_step;
            continue;
        }
        rp_gemm_begin_piece(tile, piece, acc, height);
        if (packed) {
#pragma GCC unroll 4
            for (int k = piece->n_k; k != 0; k--, b += b_step, a_packed += TILE_M)
                rp_gemm_add_packed_term(a_packed, b, acc, height);
        } else {
#pragma GCC unroll 4
            for (int k = piece->n_k; k != 0; k--, b += b_step, a_k++)
                rp_gemm_add_term(a, *a_k, b, acc, height);
        }
        rp_gemm_end_piece(tile, piece, acc, 0, height);
    }
}

#endif
