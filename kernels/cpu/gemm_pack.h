/* gemm_pack.h - private to gemm*.c, attention*.c: copies of operands in the order in which a tile
 * reads them. */
#ifndef RP_GEMM_PACK_H
#define RP_GEMM_PACK_H

#include "cpu/gemm.h"
#include "cpu/gemm_tile.h"

/* k terms that are copied at a time from rows or strips that lie side by side: as many as the L1
 * cache has ways, for where they are a power of two apart, all their lines fall into one set. */
enum { PACK_CHUNK = 8 };

/* Offsets of indices [begin, begin + n) of an axis. */
void RP_ISA_NAME(rp_gemm_offsets)(const struct rp_gemm_axis *axis, int64_t begin, int n,
                                  ptrdiff_t *offsets);

/* to (n_k, TILE_N): column j is from + columns[j]; those from n_columns on become +0. */
void RP_ISA_NAME(rp_gemm_pack_strip)(const float *from, const ptrdiff_t *columns, int n_columns,
                                     const ptrdiff_t *k, int n_k, float *to);

/* to (n_rows / TILE_M, n_k, TILE_M), n_rows a multiple of TILE_M: row i is from + rows[i]. */
void RP_ISA_NAME(rp_gemm_pack_rows)(const float *from, const ptrdiff_t *rows, int n_rows,
                                    const ptrdiff_t *k, int n_k, float *to);

#endif
