/* embedding_dw.c - the gradient of a table of embeddings on the CPU. README.md chapter 6.
 *
 * The rows of the pass are sorted by token, stable, as numbers in scratch. Then every id has its
 * rows in a list, and its sum is walked through alone: no two threads meet. Most ids of a large
 * vocabulary have none, and cost the writing of their -0. */
#include "cpu/parallel.h"
#include "cpu/vec.h"
#include "numerics.h"
#include "row.h"

enum {
    TILE = 64,      /* columns of one walk */
    MAX_NODES = 33, /* of the tree over shards that wait for their other half */
    ROW_COST = 2    /* of a row that is added, beside a row that is written */
};

struct dw_job {
    const float *dy; /* (rows, C) */
    float *sum, *open;
    const int32_t *start, *row; /* the rows of id v: row[start[v]] to row[start[v + 1] - 1] */
    int64_t n_ids, n_cols;
    int64_t rows;      /* of each shard in this pass */
    int64_t first_row; /* of the pass, counted from its shard's first */
    bool part;         /* the pass holds a part of a shard */
    bool onto;         /* see rp_embedding_params */
    bool finds_sum, finds_chain, leaves_sum, leaves_chain;
    int64_t last_panel; /* of the part, in panels of its shard */
    bool by_columns;    /* threads cut columns, else ids */
    int n_threads;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void fill(float *x, int64_t n, float value)
{
    int64_t i = 0;
    for (; i + RP_VW <= n; i += RP_VW) rp_vstore(x + i, rp_vset(value));
    for (; i < n; i++) x[i] = value;
}

static void add(float *to, const float *from, int64_t n)
{
    int64_t i = 0;
    for (; i + RP_VW <= n; i += RP_VW) rp_vstore(to + i, rp_vload(to + i) + rp_vload(from + i));
    for (; i < n; i++) to[i] += from[i];
}

/* Goes on with the chains of `width` <= TILE columns over n rows of the list. */
static void chain_rows(const struct dw_job *job, const int32_t *row, int64_t n, int64_t col,
                       int64_t width, float *chain)
{
    int64_t c = 0;
    for (; c + 4 * RP_VW <= width; c += 4 * RP_VW) {
        rp_vf a0 = rp_vload(chain + c), a1 = rp_vload(chain + c + RP_VW);
        rp_vf a2 = rp_vload(chain + c + 2 * RP_VW), a3 = rp_vload(chain + c + 3 * RP_VW);
        for (int64_t i = 0; i < n; i++) {
            const float *dy = job->dy + row[i] * job->n_cols + col + c;
            a0 += rp_vload(dy);
            a1 += rp_vload(dy + RP_VW);
            a2 += rp_vload(dy + 2 * RP_VW);
            a3 += rp_vload(dy + 3 * RP_VW);
        }
        rp_vstore(chain + c, a0);
        rp_vstore(chain + c + RP_VW, a1);
        rp_vstore(chain + c + 2 * RP_VW, a2);
        rp_vstore(chain + c + 3 * RP_VW, a3);
    }
    for (; c < width; c += RP_VW) {
        int64_t lanes = least(RP_VW, width - c);
        rp_vf a = rp_vload_first(chain + c, lanes);
        for (int64_t i = 0; i < n; i++)
            a += rp_vload_first(job->dy + row[i] * job->n_cols + col + c, lanes);
        rp_vstore_first(chain + c, a, lanes);
    }
}

/* The rows of the list that lie in panel `panel` of the shard that starts at row `shard_at` of the
 * pass; the list is ascending. */
static int64_t rows_until(const int32_t *row, int64_t n, int64_t end)
{
    int64_t i = 0;
    while (i < n && row[i] < end) i++;
    return i;
}

/* Adds the rows of one shard to `total` and its open chain, panel after panel; returns how many
 * rows it took. `panel` is the panel that `chain` belongs to. */
static int64_t shard_rows(const struct dw_job *job, int64_t shard, const int32_t *row, int64_t n,
                          int64_t col, int64_t width, int64_t *panel, float *chain, float *total)
{
    int64_t at = shard * job->rows - job->first_row, taken = 0; /* row of the pass: row + at */
    int64_t mine = rows_until(row, n, (shard + 1) * job->rows);
    while (taken < mine) {
        int64_t now = (row[taken] - at) / RP_PANEL;
        if (now != *panel) {
            add(total, chain, width);
            fill(chain, width, -0.0f);
            *panel = now;
        }
        int64_t count = rows_until(row + taken, mine - taken, (now + 1) * RP_PANEL + at);
        chain_rows(job, row + taken, count, col, width, chain);
        taken += count;
    }
    return mine;
}

/* ---- whole shards ---------------------------------------------------------------------------- */

/* Nodes of the tree that wait for what comes right of them. `height`: of the node that joins this
 * one with the one before. */
struct nodes {
    float sum[MAX_NODES][TILE];
    int height[MAX_NODES];
    int n;
};

static void join_below(struct nodes *nodes, int height, int64_t width)
{
    for (; nodes->n > 1 && nodes->height[nodes->n - 1] < height; nodes->n--)
        add(nodes->sum[nodes->n - 2], nodes->sum[nodes->n - 1], width);
}

/* The height of the lowest node above both shards. */
static int height_above(int64_t a, int64_t b)
{
    int height = 0;
    for (int64_t differ = a ^ b; differ; differ /= 2) height++;
    return height;
}

static void id_of_shards(const struct dw_job *job, int64_t id, int64_t col, int64_t width)
{
    const int32_t *row = job->row + job->start[id];
    int64_t n = job->start[id + 1] - job->start[id], before = -1;
    struct nodes nodes;
    for (nodes.n = 0; n > 0;) {
        int64_t shard = row[0] / job->rows, panel = 0;
        float chain[TILE];
        if (before >= 0) join_below(&nodes, height_above(before, shard), width);
        float *total = nodes.sum[nodes.n];
        nodes.height[nodes.n++] = before < 0 ? 0 : height_above(before, shard);
        fill(total, width, -0.0f);
        fill(chain, width, -0.0f);
        int64_t taken = shard_rows(job, shard, row, n, col, width, &panel, chain, total);
        add(total, chain, width);
        before = shard;
        row += taken, n -= taken;
    }
    join_below(&nodes, MAX_NODES, width);
    if (job->onto) add(nodes.sum[0], job->sum + id * job->n_cols + col, width);
    memcpy(job->sum + id * job->n_cols + col, nodes.sum[0], sizeof(float) * (size_t)width);
}

/* ---- a part of a shard ----------------------------------------------------------------------- */

static void id_of_part(const struct dw_job *job, int64_t id, int64_t col, int64_t width)
{
    float chain[TILE], total[TILE];
    float *sum = job->sum + id * job->n_cols + col;
    float *open = job->open ? job->open + id * job->n_cols + col : NULL;
    int64_t panel = job->first_row / RP_PANEL, n = job->start[id + 1] - job->start[id];
    fill(total, width, -0.0f);
    fill(chain, width, -0.0f);
    if (job->finds_sum) memcpy(total, sum, sizeof(float) * (size_t)width);
    if (job->finds_chain) memcpy(chain, open, sizeof(float) * (size_t)width);
    shard_rows(job, 0, job->row + job->start[id], n, col, width, &panel, chain, total);
    if (panel < job->last_panel || !job->leaves_chain) {
        add(total, chain, width);
        fill(chain, width, -0.0f);
    }
    if (job->leaves_sum) memcpy(sum, total, sizeof(float) * (size_t)width);
    if (job->leaves_chain) memcpy(open, chain, sizeof(float) * (size_t)width);
}

/* Of an id that the pass lacks: columns [col, end). */
static void absent_id(const struct dw_job *job, int64_t id, int64_t col, int64_t end)
{
    float *sum = job->sum + id * job->n_cols;
    float *open = job->open ? job->open + id * job->n_cols : NULL;
    bool same_panel = job->first_row / RP_PANEL == job->last_panel;
    bool closes = job->finds_chain && !(same_panel && job->leaves_chain);
    if (job->leaves_sum && !job->finds_sum) fill(sum + col, end - col, -0.0f);
    if (closes) add(sum + col, open + col, end - col);
    if (job->leaves_chain && !(job->finds_chain && same_panel)) fill(open + col, end - col, -0.0f);
}

/* ---- who does what --------------------------------------------------------------------------- */

static void id_columns(const struct dw_job *job, int64_t id, int64_t begin, int64_t end)
{
    if (job->start[id] == job->start[id + 1]) {
        if (!job->onto) absent_id(job, id, begin, end);
        return;
    }
    for (int64_t col = begin; col < end; col += TILE) {
        if (job->part)
            id_of_part(job, id, col, least(TILE, end - col));
        else
            id_of_shards(job, id, col, least(TILE, end - col));
    }
}

/* The first id that has `part` of all the work before it. */
static int64_t id_at(const struct dw_job *job, int part)
{
    int64_t all = job->n_ids + ROW_COST * job->start[job->n_ids];
    int64_t want = all * part / job->n_threads, low = 0, high = job->n_ids;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (middle + ROW_COST * job->start[middle] < want)
            low = middle + 1;
        else
            high = middle;
    }
    return part == job->n_threads ? job->n_ids : low;
}

static void dw_work(void *arg, int thread)
{
    const struct dw_job *job = arg;
    int64_t id = 0, last = job->n_ids, begin = 0, end = job->n_cols;
    if (job->by_columns)
        rp_pool_cut(job->n_cols, 16, thread, job->n_threads, &begin, &end);
    else
        id = id_at(job, thread), last = id_at(job, thread + 1);
    for (; id < last && begin < end; id++) id_columns(job, id, begin, end);
}

/* ---- the lists of rows ----------------------------------------------------------------------- */

/* Fills start (V + 1) and row: a count, its running sum, and each row to its place, in order. */
static void sort_rows(const int32_t *token, int64_t rows, int64_t n_ids, int32_t *start,
                      int32_t *row)
{
    memset(start, 0, sizeof(*start) * (size_t)(n_ids + 1));
    for (int64_t r = 0; r < rows; r++)
        if (token[r] >= 0 && token[r] < n_ids) start[token[r]]++;
    int32_t sum = 0;
    for (int64_t id = 0; id <= n_ids; id++) {
        int32_t count = start[id];
        start[id] = sum;
        sum += count;
    }
    for (int64_t r = 0; r < rows; r++)
        if (token[r] >= 0 && token[r] < n_ids) row[start[token[r]]++] = (int32_t)r;
    for (int64_t id = n_ids; id > 0; id--)
        start[id] = start[id - 1]; /* back to where lists begin */
    start[0] = 0;
}

size_t RP_ISA_NAME(rp_cpu_scratch_embedding_dw)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return sizeof(int32_t) * (size_t)(call->out[0].dims[0] + 1 + rp_tensor_elements(&call->in[1]));
}

RP_CPU_KERNEL(embedding_dw)
{
    (void)err;
    const struct rp_tensor *dy = &call->in[0], *dw = &call->out[0];
    const struct rp_rows *cut = &pass->rows;
    int64_t rows = rp_tensor_rows(dy), per_sample = rows / cut->n_samples;
    int64_t shard_rows_all = cut->samples_per_shard * per_sample;
    int32_t *start = (int32_t *)cpu->scratch, *row = start + dw->dims[0] + 1;
    sort_rows(call->in[1].data, rows, dw->dims[0], start, row);
    struct dw_job job = {.dy = dy->data,
                         .sum = dw->data,
                         .open = call->out[1].data,
                         .start = start,
                         .row = row,
                         .n_ids = dw->dims[0],
                         .n_cols = dw->dims[1],
                         .rows = rows / cut->n_shards,
                         .first_row = cut->first_sample * per_sample,
                         .onto = call->params.embedding.onto,
                         .part = cut->n_samples != cut->samples_per_shard * cut->n_shards};
    int64_t end = job.first_row + job.rows;
    job.last_panel = (end - 1) / RP_PANEL;
    job.finds_sum = job.first_row >= RP_PANEL;
    job.finds_chain = job.first_row % RP_PANEL != 0;
    job.leaves_chain = end % RP_PANEL != 0 && end != shard_rows_all;
    job.leaves_sum = end >= RP_PANEL || end == shard_rows_all;
    job.by_columns = job.n_ids < rows && job.n_cols >= 16 * rp_pool_threads(cpu->pool);
    job.n_threads = rp_threads_for(cpu, (job.n_ids + rows) * job.n_cols);
    rp_pool_run(cpu->pool, job.n_threads, dw_work, &job);
    return RP_STATUS_OK;
}
