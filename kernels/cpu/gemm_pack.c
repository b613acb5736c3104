/* gemm_pack.c - copies of operands in the order in which a tile reads them. */
#include "cpu/gemm_pack.h"

#include <string.h>

#include "cpu/gemm_ahead.h"

void RP_ISA_NAME(rp_gemm_offsets)(const struct rp_gemm_axis *axis, int64_t begin, int n,
                                  ptrdiff_t *offsets)
{
    int64_t i2 = begin % axis->n2, i1 = begin / axis->n2 % axis->n1;
    int64_t at = begin / axis->n2 / axis->n1 * axis->s0 + i1 * axis->s1 + i2 * axis->s2;
    for (int i = 0; i < n; i++) {
        offsets[i] = at;
        at += axis->s2;
        if (++i2 < axis->n2) continue;
        i2 = 0;
        at += axis->s1 - axis->n2 * axis->s2;
        if (++i1 < axis->n1) continue;
        i1 = 0;
        at += axis->s0 - axis->n1 * axis->s1;
    }
}

static bool are_adjacent(const ptrdiff_t *offsets, int n)
{
    for (int i = 1; i < n; i++)
        if (offsets[i] != offsets[0] + i) return false;
    return true;
}

/* ---- a strip of TILE_N columns --------------------------------------------------------------- */

static void copy_strip(const float *from, const ptrdiff_t *k, int n_k, float *to)
{
    for (int i = 0; i < n_k; i++, to += TILE_N) {
        const float *row = from + k[i];
        for (int v = 0; v < TILE_VECTORS; v++) rp_vstore(to + v * RP_VW, rp_vload(row + v * RP_VW));
    }
}

typedef float quad __attribute__((vector_size(16)));
typedef float quad_mem __attribute__((vector_size(16), aligned(4), may_alias));

static inline quad load_quad(const float *from)
{
    return *(const quad_mem *)from;
}

static inline void store_quad(float *to, quad x)
{
    *(quad_mem *)to = x;
}

/* Four adjacent k of four rows become four rows, `stride` apart. */
static inline void transpose_quad(const float *from, const ptrdiff_t *rows, float *to, int stride)
{
    quad a = load_quad(from + rows[0]), b = load_quad(from + rows[1]);
    quad c = load_quad(from + rows[2]), d = load_quad(from + rows[3]);
    quad ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    store_quad(to, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    store_quad(to + stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    store_quad(to + 2 * stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    store_quad(to + 3 * stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/* The same for the two rows that are left of a tile. */
static inline void transpose_pair(const float *from, const ptrdiff_t *rows, float *to, int stride)
{
    quad a = load_quad(from + rows[0]), b = load_quad(from + rows[1]);
    quad low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    memcpy(to, &low, 8);
    memcpy(to + stride, (const char *)&low + 8, 8);
    memcpy(to + 2 * stride, &high, 8);
    memcpy(to + 3 * stride, (const char *)&high + 8, 8);
}

static void gather_row(const float *from, const ptrdiff_t *columns, int n_columns, float *to)
{
    for (int j = 0; j < n_columns; j++) to[j] = from[columns[j]];
    for (int j = n_columns; j < TILE_N; j++) to[j] = 0;
}

static void transpose_strip(const float *from, const ptrdiff_t *columns, const ptrdiff_t *k,
                            int n_k, float *to)
{
    int i = 0;
    while (i < n_k) {
        if (i + 4 > n_k || !are_adjacent(k + i, 4)) {
            gather_row(from + k[i], columns, TILE_N, to + i * TILE_N);
            i++;
            continue;
        }
        for (int j = 0; j < TILE_N; j += 4)
            transpose_quad(from + k[i], columns + j, to + i * TILE_N + j, TILE_N);
        i += 4;
    }
}

void RP_ISA_NAME(rp_gemm_pack_strip)(const float *from, const ptrdiff_t *columns, int n_columns,
                                     const ptrdiff_t *k, int n_k, float *to)
{
    if (n_columns == TILE_N && are_adjacent(columns, TILE_N)) {
        copy_strip(from + columns[0], k, n_k, to);
    } else if (n_columns == TILE_N && TILE_N % 4 == 0) {
        transpose_strip(from, columns, k, n_k, to);
    } else {
        for (int i = 0; i < n_k; i++) gather_row(from + k[i], columns, n_columns, to + i * TILE_N);
    }
}

/* ---- blocks of TILE_M rows ------------------------------------------------------------------- */

static void copy_rows(const float *from, const ptrdiff_t *k, int n_k, float *to)
{
    for (int i = 0; i < n_k; i++, to += TILE_M) memcpy(to, from + k[i], TILE_M * sizeof *to);
}

_Static_assert(TILE_M % 4 == 2, "the last two rows of a tile are a pair");

/* `more`: as many rows follow, of the same k; they are fetched meanwhile. */
static void transpose_rows(const float *from, const ptrdiff_t *rows, const ptrdiff_t *k, int n_k,
                           float *to, bool more)
{
    int i = 0;
    while (i < n_k) {
        if (more && i % RP_AHEAD_LINE == 0)
            for (int j = TILE_M; j < 2 * TILE_M; j++)
                __builtin_prefetch(from + rows[j] + k[i], 0, 2);
        if (i + 4 > n_k || !are_adjacent(k + i, 4)) {
            for (int j = 0; j < TILE_M; j++) to[i * TILE_M + j] = from[rows[j] + k[i]];
            i++;
            continue;
        }
        for (int j = 0; j + 4 <= TILE_M; j += 4)
            transpose_quad(from + k[i], rows + j, to + i * TILE_M + j, TILE_M);
        transpose_pair(from + k[i], rows + TILE_M - 2, to + i * TILE_M + TILE_M - 2, TILE_M);
        i += 4;
    }
}

/* Where `n_k` more k of rows side by side begin a line of a cache, it is fetched into the L2 cache:
 * what they need of a row of k is short, and the next is far away. */
static void fetch_rows(const float *from, ptrdiff_t row, int r, const ptrdiff_t *k, int n_k)
{
    if (r % RP_AHEAD_LINE >= TILE_M) return;
    for (int i = 0; i < n_k; i++) __builtin_prefetch(from + row + k[i], 0, 2);
}

/* Rows that lie side by side are taken in turn for few k at a time, as strips are in gemm.c. */
void RP_ISA_NAME(rp_gemm_pack_rows)(const float *from, const ptrdiff_t *rows, int n_rows,
                                    const ptrdiff_t *k, int n_k, float *to)
{
    bool side_by_side = rows[1] == rows[0] + 1;
    int chunk = side_by_side ? PACK_CHUNK : n_k;
    for (int i = 0; i < n_k; i += chunk) {
        int n = n_k - i < chunk ? n_k - i : chunk, next = n_k - i - n < chunk ? n_k - i - n : chunk;
        for (int r = 0; r < n_rows; r += TILE_M) {
            float *block = to + (ptrdiff_t)r * n_k + i * TILE_M;
            if (side_by_side) fetch_rows(from, rows[r], r, k + i + n, next);
            if (are_adjacent(rows + r, TILE_M))
                copy_rows(from + rows[r], k + i, n, block);
            else
                transpose_rows(from, rows + r, k + i, n, block, r + TILE_M < n_rows);
        }
    }
}
