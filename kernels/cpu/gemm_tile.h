/* gemm_tile.h - private to gemm*.c: the tile, which holds TILE_M x TILE_N outputs in registers.
 *
 * A tile walks over k in pieces. A piece is one chain of fmas; at its end the chain is added to
 * what waits in the slots of the tile's state (the sum of earlier panels, then the nodes of the
 * tree over shards, lowest first) and the result is put into a slot, or is the output. */
#ifndef RP_GEMM_TILE_H
#define RP_GEMM_TILE_H

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
    STEP_K =
        256, /* k terms between two visits to the state: a strip of b fits half of a 32 KiB L1 */
};

/* Slots of a tile's state; SLOT_TREE + l holds the node of level l. */
enum { SLOT_NONE = -1, SLOT_CHAIN = 0, SLOT_SUM = 1, SLOT_TREE = 2 };

struct rp_gemm_piece {
    int n_k;
    int8_t load;         /* slot that the chain goes on from, or SLOT_NONE: from +0 */
    int8_t add, add_end; /* slots [add, add_end) are added in this order when the piece ends */
    int8_t store;        /* slot that takes the result, or SLOT_NONE: it is the output */
};

struct rp_gemm_tile {
    const float *a[TILE_M]; /* row i of the tile, at offset 0 of k */
    const ptrdiff_t *a_k;   /* offset of each k of the step */
    const float *b;         /* (n_k, TILE_N), packed */
    const struct rp_gemm_piece *piece;
    int n_pieces;
    float *state;      /* slots of TILE_SIZE floats */
    ptrdiff_t slot;    /* floats from one slot to the next */
    float *c[TILE_M];  /* where row i of the output goes, TILE_N floats */
    const float *bias; /* (TILE_N) or NULL: added to the output */
};

/* Runs the pieces of one step. */
RP_VEC_FN void rp_gemm_tile_run(const struct rp_gemm_tile *tile)
{
    rp_vf acc[TILE_M][TILE_VECTORS];
    const float *b = tile->b;
    const ptrdiff_t *a_k = tile->a_k;
    const float *a[TILE_M];
    for (int i = 0; i < TILE_M; i++) a[i] = tile->a[i];

    for (const struct rp_gemm_piece *piece = tile->piece, *end = piece + tile->n_pieces;
         piece != end; piece++) {
        if (piece->load == SLOT_NONE) {
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vzero();
        } else {
            const float *slot = tile->state + piece->load * tile->slot;
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    acc[i][v] = rp_vload(slot + i * TILE_N + v * RP_VW);
        }
        for (const ptrdiff_t *stop = a_k + piece->n_k; a_k != stop; a_k++) {
            rp_vf row[TILE_VECTORS];
            for (int v = 0; v < TILE_VECTORS; v++) row[v] = rp_vload(b + v * RP_VW);
            for (int i = 0; i < TILE_M; i++) {
                rp_vf x = rp_vset(a[i][*a_k]);
                for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vfma(x, row[v], acc[i][v]);
            }
            b += TILE_N;
        }
        for (int s = piece->add; s < piece->add_end; s++) {
            const float *slot = tile->state + s * tile->slot;
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    acc[i][v] = rp_vload(slot + i * TILE_N + v * RP_VW) + acc[i][v];
        }
        if (piece->store != SLOT_NONE) {
            float *slot = tile->state + piece->store * tile->slot;
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    rp_vstore(slot + i * TILE_N + v * RP_VW, acc[i][v]);
        } else if (tile->bias) {
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    rp_vstore(tile->c[i] + v * RP_VW, acc[i][v] + rp_vload(tile->bias + v * RP_VW));
        } else {
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++) rp_vstore(tile->c[i] + v * RP_VW, acc[i][v]);
        }
    }
}

#endif
