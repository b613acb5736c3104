/* gemm_few.c - products of few rows, as a model that speaks token by token has them.
 *
 * Such a product reads b once and does little with it: what counts is that b streams through. A
 * strip of b is transposed in registers, four k at a time, and never written. Each output is the
 * same chain as in a tile: README.md chapter 5. */
#include "cpu/gemm_few.h"

#if RP_VW >= 4

enum { VECTORS = 2, STRIP = VECTORS * RP_VW, LINE = 16, QUADS = RP_VW == 16 ? 4 : 2 };

typedef float quad __attribute__((vector_size(16)));
typedef float quad_mem __attribute__((vector_size(16), aligned(4), may_alias));

RP_VEC_FN quad load_quad(const float *from)
{
    return *(const quad_mem *)from;
}

/* ---- four k of RP_VW rows -------------------------------------------------------------------- */

/* The indices of a shuffle that does the same in each lane of four floats. */
#if RP_VW == 16
#define EACH_LANE(a, b, c, d)                                                                      \
    (a), (b), (c), (d), (a) + 4, (b) + 4, (c) + 4, (d) + 4, (a) + 8, (b) + 8, (c) + 8, (d) + 8,    \
        (a) + 12, (b) + 12, (c) + 12, (d) + 12
#elif RP_VW == 8
#define EACH_LANE(a, b, c, d) (a), (b), (c), (d), (a) + 4, (b) + 4, (c) + 4, (d) + 4
#else
#define EACH_LANE(a, b, c, d) (a), (b), (c), (d)
#endif

/* Lane l: four k of row 4 l. */
RP_VEC_FN rp_vf load_lanes(const float *const *row, ptrdiff_t k)
{
#if RP_VW == 4
    return load_quad(row[0] + k);
#else
    typedef float oct __attribute__((vector_size(32)));
    oct low = __builtin_shufflevector(load_quad(row[0] + k), load_quad(row[4] + k), 0, 1, 2, 3, 4,
                                      5, 6, 7);
#if RP_VW == 8
    return low;
#else
    oct high = __builtin_shufflevector(load_quad(row[8] + k), load_quad(row[12] + k), 0, 1, 2, 3, 4,
                                       5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
#endif
}

/* Lane l of row[j] holds elements of row 4 l + j: column q gets element q of all of them. */
RP_VEC_FN void transpose_lanes(const rp_vf row[4], rp_vf column[4])
{
    rp_vf a = row[0], b = row[1], c = row[2], d = row[3];
    rp_vf ab_low = __builtin_shufflevector(a, b, EACH_LANE(0, RP_VW, 1, RP_VW + 1));
    rp_vf ab_high = __builtin_shufflevector(a, b, EACH_LANE(2, RP_VW + 2, 3, RP_VW + 3));
    rp_vf cd_low = __builtin_shufflevector(c, d, EACH_LANE(0, RP_VW, 1, RP_VW + 1));
    rp_vf cd_high = __builtin_shufflevector(c, d, EACH_LANE(2, RP_VW + 2, 3, RP_VW + 3));
    column[0] = __builtin_shufflevector(ab_low, cd_low, EACH_LANE(0, 1, RP_VW, RP_VW + 1));
    column[1] = __builtin_shufflevector(ab_low, cd_low, EACH_LANE(2, 3, RP_VW + 2, RP_VW + 3));
    column[2] = __builtin_shufflevector(ab_high, cd_high, EACH_LANE(0, 1, RP_VW, RP_VW + 1));
    column[3] = __builtin_shufflevector(ab_high, cd_high, EACH_LANE(2, 3, RP_VW + 2, RP_VW + 3));
}

RP_VEC_FN rp_vf load_column(const float *const *row, ptrdiff_t k)
{
    rp_vf column;
    for (int j = 0; j < RP_VW; j++) column[j] = row[j][k];
    return column;
}

/* ---- one strip ------------------------------------------------------------------------------- */

struct strip {
    const float *row[STRIP];          /* rows of b; those past the last repeat it */
    const float *a[RP_GEMM_FEW_ROWS]; /* rows of a */
};

/* In what follows `height` is a constant where it is called: the rows of a. */

/* 4 * quads adjacent k of RP_VW rows. Those of a row are loaded one after another: rows may lie at
 * a distance that puts them all into one set of a cache. */
RP_VEC_FN void add_quads(const struct strip *s, int64_t k, int v, int quads,
                         rp_vf acc[RP_GEMM_FEW_ROWS][VECTORS], int height)
{
    rp_vf lanes[QUADS][4];
    for (int j = 0; j < 4; j++)
        for (int q = 0; q < quads; q++) lanes[q][j] = load_lanes(s->row + v * RP_VW + j, k + 4 * q);
    for (int q = 0; q < quads; q++) {
        rp_vf column[4];
        transpose_lanes(lanes[q], column);
        for (int c = 0; c < 4; c++)
            for (int i = 0; i < height; i++)
                acc[i][v] = rp_vfma(rp_vset(s->a[i][k + 4 * q + c]), column[c], acc[i][v]);
    }
}

/* What is read after this panel: so many lines of as many rows. It is asked for in the order in
 * which it lies in memory, for a processor cannot follow the rows of a strip side by side. */
struct ahead {
    const float *row;
    ptrdiff_t stride;
    int64_t line, lines;
    int rows;
};

RP_VEC_FN void fetch(struct ahead *next)
{
    int64_t left = STRIP;
    while (left > 0 && next->rows > 0) {
        const float *at = next->row + next->line * LINE;
        int64_t n = next->lines - next->line < left ? next->lines - next->line : left;
#pragma GCC unroll 8
        for (int64_t i = 0; i < n; i++) __builtin_prefetch(at + i * LINE, 0, 2);
        left -= n;
        next->line += n;
        if (next->line < next->lines) continue;
        next->line = 0;
        next->row += next->stride;
        next->rows--;
    }
}

/* The chains of one panel, k in [begin, end). */
RP_VEC_FN void run_panel(const struct strip *s, int64_t begin, int64_t end, struct ahead *next,
                         rp_vf acc[RP_GEMM_FEW_ROWS][VECTORS], int height)
{
    int64_t k = begin;
    for (int i = 0; i < height; i++)
        for (int v = 0; v < VECTORS; v++) acc[i][v] = rp_vzero();
    for (; k + LINE <= end; k += LINE) {
        fetch(next);
        for (int v = 0; v < VECTORS; v++)
            for (int at = 0; at < LINE; at += 4 * QUADS)
                add_quads(s, k + at, v, QUADS, acc, height);
    }
    for (; k + 4 <= end; k += 4)
        for (int v = 0; v < VECTORS; v++) add_quads(s, k, v, 1, acc, height);
    for (; k < end; k++) {
        for (int v = 0; v < VECTORS; v++) {
            rp_vf column = load_column(s->row + v * RP_VW, k);
            for (int i = 0; i < height; i++)
                acc[i][v] = rp_vfma(rp_vset(s->a[i][k]), column, acc[i][v]);
        }
    }
}

/* The panel from k on of rows [n, n + STRIP); when there is none, the first of the next strip. */
static struct ahead panel_after(const struct rp_gemm *g, int64_t n, int64_t k)
{
    struct ahead next = {.stride = g->b_n.s2};
    if (k >= g->sum.count) n += STRIP, k = 0;
    int64_t terms = g->sum.count - k < RP_GEMM_PANEL ? g->sum.count - k : RP_GEMM_PANEL;
    int64_t rows = g->n - n < STRIP ? g->n - n : STRIP;
    next.rows = rows > 0 ? (int)rows : 0;
    next.lines = (terms + LINE - 1) / LINE;
    if (next.rows) next.row = g->b + n * g->b_n.s2 + k;
    return next;
}

RP_VEC_FN void run_strip(const struct rp_gemm *g, int64_t n, int height)
{
    struct strip s;
    rp_vf sum[RP_GEMM_FEW_ROWS][VECTORS], chain[RP_GEMM_FEW_ROWS][VECTORS];
    int64_t terms = g->sum.count, left = g->n - n;
    for (int j = 0; j < STRIP; j++) s.row[j] = g->b + (n + (j < left ? j : left - 1)) * g->b_n.s2;
    for (int i = 0; i < height; i++) s.a[i] = g->a + rp_gemm_offset(&g->a_m, i);
    for (int64_t k = 0; k == 0 || k < terms; k += RP_GEMM_PANEL) {
        int64_t end = terms - k < RP_GEMM_PANEL ? terms : k + RP_GEMM_PANEL;
        struct ahead next = panel_after(g, n, end);
        run_panel(&s, k, end, &next, chain, height);
        for (int i = 0; i < height; i++)
            for (int v = 0; v < VECTORS; v++) sum[i][v] = k ? sum[i][v] + chain[i][v] : chain[i][v];
    }
    for (int i = 0; i < height; i++) {
        float *c = g->c + rp_gemm_offset(&g->c_m, i) + n;
        for (int v = 0; v < VECTORS && v * RP_VW < left; v++) {
            int64_t lanes = left - v * RP_VW < RP_VW ? left - v * RP_VW : RP_VW;
            rp_vf y = sum[i][v];
            if (g->bias) y = y + rp_vload_lanes(g->bias + n + v * RP_VW, lanes);
            rp_vstore_lanes(c + v * RP_VW, y, lanes);
        }
    }
}

static void run_1(const struct rp_gemm *g, int64_t n)
{
    run_strip(g, n, 1);
}
static void run_2(const struct rp_gemm *g, int64_t n)
{
    run_strip(g, n, 2);
}
static void run_3(const struct rp_gemm *g, int64_t n)
{
    run_strip(g, n, 3);
}
static void run_4(const struct rp_gemm *g, int64_t n)
{
    run_strip(g, n, 4);
}

struct job {
    const struct rp_gemm *gemm;
    int n_threads;
};

static void run_part(void *arg, int thread)
{
    static void (*const run[])(const struct rp_gemm *, int64_t) = {run_1, run_2, run_3, run_4};
    const struct job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->gemm->n, STRIP, thread, job->n_threads, &begin, &end);
    for (int64_t n = begin; n < end; n += STRIP) run[job->gemm->m - 1](job->gemm, n);
}

/* One sum from its first term to its last, and rows that lie dense in memory. */
static bool is_fit(const struct rp_gemm *g)
{
    const struct rp_gemm_sum *sum = &g->sum;
    int64_t n = sum->count;
    bool whole = sum->shards == 1 && sum->first == 0 && sum->count == sum->rows && !g->chain;
    bool dense = g->a_k.s2 == 1 && g->a_k.n2 >= n && g->b_k.s2 == 1 && g->b_k.n2 >= n;
    return g->m <= RP_GEMM_FEW_ROWS && whole && dense && g->b_n.n2 >= g->n && g->c_n.s2 == 1 &&
           g->c_n.n2 >= g->n;
}

bool RP_ISA_NAME(rp_gemm_few)(struct rp_cpu *cpu, const struct rp_gemm *gemm)
{
    struct job job = {.gemm = gemm, .n_threads = rp_pool_threads(cpu->pool)};
    if (!is_fit(gemm)) return false;
    rp_pool_run(cpu->pool, job.n_threads, run_part, &job);
    return true;
}

#else

bool RP_ISA_NAME(rp_gemm_few)(struct rp_cpu *cpu, const struct rp_gemm *gemm)
{
    (void)cpu, (void)gemm;
    return false;
}

#endif
