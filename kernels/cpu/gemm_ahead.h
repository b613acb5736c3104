/* gemm_ahead.h - private to gemm.c: what is packed next is fetched into the L2 cache while tiles
 * compute. The prefetchers of processors follow too few rows at a time to do that: a strip is 32 of
 * them, or 256. */
#ifndef RP_CPU_GEMM_AHEAD_H
#define RP_CPU_GEMM_AHEAD_H

#include "cpu/gemm_tile.h"

enum { RP_AHEAD_LINE = 16 }; /* floats of a line of the caches */

/* Runs of floats that lie side by side, at from + run[i]. */
struct rp_gemm_ahead {
    const float *from;
    const ptrdiff_t *run;
    int lines_per_run, n_lines, line, at_once; /* n_lines of all runs; line: the next to fetch */
};

/* `n_runs` of `length` floats each, in n_parts. */
static inline void rp_gemm_plan_runs_ahead(struct rp_gemm_ahead *ahead, const float *from,
                                           const ptrdiff_t *run, int n_runs, int length,
                                           int n_parts)
{
    ahead->from = from;
    ahead->run = run;
    ahead->lines_per_run = (length + RP_AHEAD_LINE - 1) / RP_AHEAD_LINE;
    ahead->n_lines = n_runs * ahead->lines_per_run;
    ahead->at_once = (ahead->n_lines + n_parts - 1) / n_parts;
    ahead->line = 0;
}

/* The strip of `n_columns` and `n_k`, in as many parts as there are tiles. */
static inline void rp_gemm_plan_ahead(struct rp_gemm_ahead *ahead, const float *from,
                                      const ptrdiff_t *columns, int n_columns, const ptrdiff_t *k,
                                      int n_k, int n_parts)
{
    bool along_k = k[n_k - 1] - k[0] == n_k - 1;
    int length = along_k ? n_k : n_columns, runs = along_k ? n_columns : n_k;
    rp_gemm_plan_runs_ahead(ahead, from + (along_k ? k[0] : columns[0]), along_k ? columns : k,
                            runs, length, n_parts);
}

static inline void rp_gemm_fetch_ahead(struct rp_gemm_ahead *ahead)
{
    int end = ahead->line + ahead->at_once;
    if (end > ahead->n_lines) end = ahead->n_lines;
    if (ahead->line >= end) return;
    int run = ahead->line / ahead->lines_per_run, line = ahead->line % ahead->lines_per_run;
    for (int i = ahead->line; i < end; i++) {
        __builtin_prefetch(ahead->from + ahead->run[run] + line * RP_AHEAD_LINE, 0, 2);
        if (++line < ahead->lines_per_run) continue;
        line = 0;
        run++;
    }
    ahead->line = end;
}

#endif
