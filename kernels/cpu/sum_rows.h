/* sum_rows.h - private to kernels/cpu: sums down the columns of a (rows, C) view under the row cut.
 *
 * README.md chapter 6 defines the order: within a logical shard one chain per panel of 1024 rows,
 * from +0; panels added in ascending order, the first one assigned; then the binary tree over the
 * shards. Each panel is an item of work that writes its own row of scratch, so threads share no
 * sum.
 *
 *   struct rp_sum_job job;
 *   rp_sum_rows_begin(&job, cpu, &pass->rows, rows, C, n_sums);
 *   rp_sum_rows_run(&job, chain, arg);           each panel; then the panels of each shard
 *   float *total = rp_sum_rows_shard(&job, shard, sum);      (C), kept until rp_sum_rows_node
 *   rp_sum_rows_node(&job, sum, out, open);      the tree, or the part of a shard so far
 *
 * `chain` is a function made of rp_sum_rows_chain and a term; rp_sum_rows_plain adds x as it is.
 * The scratch of a call is rp_sum_rows_scratch(x, n_sums). The op sum_rows, one sum of x itself,
 * has a shorter way, in sum_rows.c. */
#ifndef RP_SUM_ROWS_H
#define RP_SUM_ROWS_H

#include "cpu/parallel.h"
#include "cpu/vec.h"
#include "row.h"

enum { RP_SUM_BLOCK = 8 };

struct rp_sum_job;
/* Adds rows [begin, end) of the pass, columns [col, col_end), to the sums at `chain` (n_sums, C).
 */
typedef void (*rp_sum_chain)(const struct rp_sum_job *job, int shard, int64_t begin, int64_t end,
                             int64_t col, int64_t col_end, float *chain);

struct rp_sum_job {
    struct rp_cpu *cpu;
    int64_t rows, n_cols;
    int n_sums, n_shards;
    int64_t rows_per_shard; /* of a whole shard */
    int64_t first_row;      /* of the pass, counted from its shard's first; 0 for whole shards */
    int64_t panels;         /* that the pass touches in each of its shards */
    float *partial;         /* (n_shards, panels, n_sums, C) */
    rp_sum_chain chain;
    const void *arg;
    int n_threads;
    int64_t tiles; /* columns are cut into this many parts */
};

/* Bytes for any row cut of an x (samples, .., C): a panel has at least one sample's row. */
static inline size_t rp_sum_rows_scratch(const struct rp_tensor *x, int n_sums)
{
    int64_t rows = rp_tensor_rows(x), n_cols = x->dims[x->n_dims - 1];
    int64_t panels = x->dims[0] + rows / RP_PANEL + 2;
    return (size_t)(panels * n_sums * n_cols) * sizeof(float);
}

static inline int64_t rp_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline void rp_sum_rows_begin(struct rp_sum_job *job, struct rp_cpu *cpu,
                                     const struct rp_rows *cut, int64_t rows, int64_t n_cols,
                                     int n_sums)
{
    int64_t rows_per_sample = rows / cut->n_samples;
    *job = (struct rp_sum_job){.cpu = cpu,
                               .rows = rows,
                               .n_cols = n_cols,
                               .n_sums = n_sums,
                               .n_shards = cut->n_shards,
                               .rows_per_shard = cut->samples_per_shard * rows_per_sample,
                               .first_row = cut->first_sample * rows_per_sample,
                               .partial = (float *)cpu->scratch};
    int64_t last = job->first_row + rows / job->n_shards - 1;
    job->panels = last / RP_PANEL - job->first_row / RP_PANEL + 1;
    job->n_threads = rp_threads_for(cpu, rows * n_cols);
    /* Enough items for the threads, but never narrower than 64 columns. */
    int64_t want =
        (4 * job->n_threads + job->n_shards * job->panels - 1) / (job->n_shards * job->panels);
    job->tiles = rp_min(want, n_cols / 64 < 1 ? 1 : n_cols / 64);
}

static inline float *rp_sum_rows_panel(const struct rp_sum_job *job, int shard, int64_t panel)
{
    return job->partial + (shard * job->panels + panel) * job->n_sums * job->n_cols;
}

static inline void rp_sum_rows_work(void *arg, int thread)
{
    const struct rp_sum_job *job = arg;
    int64_t items = job->n_shards * job->panels * job->tiles, item, last;
    rp_pool_cut(items, 1, thread, job->n_threads, &item, &last);
    for (; item < last; item++) {
        int64_t tile = item % job->tiles, panel = item / job->tiles % job->panels;
        int shard = (int)(item / job->tiles / job->panels);
        /* The panel in rows of its shard, then in rows of the pass. */
        int64_t shard_end = job->first_row + job->rows / job->n_shards;
        int64_t begin = (job->first_row / RP_PANEL + panel) * RP_PANEL;
        int64_t end = rp_min(begin + RP_PANEL, shard_end);
        if (begin < job->first_row) begin = job->first_row;
        int64_t offset = shard * (job->rows / job->n_shards) - job->first_row;
        int64_t col, col_end;
        rp_pool_cut(job->n_cols, 16, (int)tile, (int)job->tiles, &col, &col_end);
        job->chain(job, shard, begin + offset, end + offset, col, col_end,
                   rp_sum_rows_panel(job, shard, panel));
    }
}

static inline void rp_sum_rows_add(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + RP_VW <= n; i += RP_VW) rp_vstore(to + i, rp_vload(to + i) + rp_vload(from + i));
    for (; i < n; i++) to[i] += from[i];
}

/* Whether the pass is a part of one shard, whose sums are continued and left open. */
static inline bool rp_sum_rows_is_part(const struct rp_sum_job *job)
{
    return job->n_shards == 1 && job->rows < job->rows_per_shard;
}

/* Runs the chains of all panels. `open` is (n_sums) pointers to the open chains of a part of a
 * shard, or NULL. For whole shards the panels of each are then added up. */
static inline void rp_sum_rows_run(struct rp_sum_job *job, rp_sum_chain chain, const void *arg,
                                   float *const *open)
{
    size_t bytes = (size_t)job->n_cols * sizeof(float);
    int64_t width = job->n_sums * job->n_cols;
    job->chain = chain;
    job->arg = arg;
    memset(job->partial, 0, (size_t)(job->n_shards * job->panels) * (size_t)job->n_sums * bytes);
    if (job->first_row % RP_PANEL != 0)
        for (int i = 0; i < job->n_sums; i++)
            if (open[i]) memcpy(job->partial + i * job->n_cols, open[i], bytes);
    rp_pool_run(job->cpu->pool, job->n_threads, rp_sum_rows_work, job);
    if (rp_sum_rows_is_part(job)) return;
    for (int shard = 0; shard < job->n_shards; shard++)
        for (int64_t panel = 1; panel < job->panels; panel++)
            rp_sum_rows_add(rp_sum_rows_panel(job, shard, 0), rp_sum_rows_panel(job, shard, panel),
                            width);
}

/* The sum over one whole shard (C). */
static inline float *rp_sum_rows_shard(const struct rp_sum_job *job, int shard, int sum)
{
    return rp_sum_rows_panel(job, shard, 0) + sum * job->n_cols;
}

/* The binary tree over (n, C) rows that are `stride` floats apart; the result is in the first. */
static inline void rp_sum_rows_tree(float *rows, int n, int64_t stride, int64_t n_cols)
{
    for (int step = 1; step < n; step *= 2)
        for (int i = 0; i + step < n; i += 2 * step)
            rp_sum_rows_add(rows + i * stride, rows + (i + step) * stride, n_cols);
}

/* Closed panels of a part of a shard go into `out`, an unfinished last one into `open`. */
static inline void rp_sum_rows_continue(const struct rp_sum_job *job, int sum, float *out,
                                        float *open)
{
    size_t bytes = (size_t)job->n_cols * sizeof(float);
    int64_t end = job->first_row + job->rows, first = job->first_row / RP_PANEL;
    for (int64_t panel = 0; panel < job->panels; panel++) {
        const float *chain = rp_sum_rows_panel(job, 0, panel) + sum * job->n_cols;
        bool closed = (first + panel + 1) * RP_PANEL <= end || end == job->rows_per_shard;
        if (closed && first + panel == 0)
            memcpy(out, chain, bytes);
        else if (closed)
            rp_sum_rows_add(out, chain, job->n_cols);
        else if (open)
            memcpy(open, chain, bytes);
    }
}

/* Writes sum number `sum` (C) to `out`: the node of the tree over the pass's shards, which uses up
 * the shards' sums; or what is known so far of a shard that the pass holds a part of. */
static inline void rp_sum_rows_node(const struct rp_sum_job *job, int sum, float *out, float *open)
{
    if (rp_sum_rows_is_part(job)) {
        rp_sum_rows_continue(job, sum, out, open);
        return;
    }
    float *first = rp_sum_rows_shard(job, 0, sum);
    rp_sum_rows_tree(first, job->n_shards, job->panels * job->n_sums * job->n_cols, job->n_cols);
    memcpy(out, first, (size_t)job->n_cols * sizeof(float));
}

/* ---- chains ---------------------------------------------------------------------------------- */

/* Adds rows [row, row + n_rows) of columns [col, col + lanes), in order, to acc (n_sums). */
typedef void (*rp_sum_term)(const struct rp_sum_job *job, int shard, int64_t row, int64_t n_rows,
                            int64_t col, int64_t lanes, rp_vf *acc);

RP_VEC_FN void rp_sum_rows_columns(const struct rp_sum_job *job, int shard, int64_t row,
                                   int64_t n_rows, int64_t col, int64_t lanes, float *chain,
                                   rp_sum_term term, int n_sums)
{
    rp_vf acc[2];
    for (int i = 0; i < n_sums; i++) acc[i] = rp_vload_lanes(chain + i * job->n_cols + col, lanes);
    term(job, shard, row, n_rows, col, lanes, acc);
    for (int i = 0; i < n_sums; i++) rp_vstore_lanes(chain + i * job->n_cols + col, acc[i], lanes);
}

/* The body of a chain, inlined with its term: eight rows at a time over all columns, so that memory
 * is read in its order and the sums stay in the first cache. */
RP_VEC_FN void rp_sum_rows_chain(const struct rp_sum_job *job, int shard, int64_t begin,
                                 int64_t end, int64_t col_begin, int64_t col_end, float *chain,
                                 rp_sum_term term, int n_sums)
{
    for (int64_t row = begin; row < end; row += RP_SUM_BLOCK) {
        int64_t n_rows = rp_min(RP_SUM_BLOCK, end - row), col = col_begin;
        for (; n_rows == RP_SUM_BLOCK && col + RP_VW <= col_end; col += RP_VW)
            rp_sum_rows_columns(job, shard, row, RP_SUM_BLOCK, col, RP_VW, chain, term, n_sums);
        for (; col + RP_VW <= col_end; col += RP_VW)
            rp_sum_rows_columns(job, shard, row, n_rows, col, RP_VW, chain, term, n_sums);
        if (col < col_end)
            rp_sum_rows_columns(job, shard, row, n_rows, col, col_end - col, chain, term, n_sums);
    }
}

RP_VEC_FN void rp_sum_rows_plain_term(const struct rp_sum_job *job, int shard, int64_t row,
                                      int64_t n_rows, int64_t col, int64_t lanes, rp_vf *acc)
{
    (void)shard;
    const float *x = (const float *)job->arg + row * job->n_cols + col;
    for (int64_t i = 0; i < n_rows; i++) acc[0] += rp_vload_lanes(x + i * job->n_cols, lanes);
}

/* The chain of sum x: `arg` is x. */
static inline void rp_sum_rows_plain(const struct rp_sum_job *job, int shard, int64_t begin,
                                     int64_t end, int64_t col, int64_t col_end, float *chain)
{
    rp_sum_rows_chain(job, shard, begin, end, col, col_end, chain, rp_sum_rows_plain_term, 1);
}

#endif
