/* sum_rows.c - sums over samples of each column. README.md chapter 6.
 *
 * Each column is one chain over the rows of a panel, so columns go side by side in vectors. Where
 * there are too few columns to feed the threads, the chains of the panels, which do not depend on
 * each other, are made first, by all threads, into scratch. */
#include "cpu/parallel.h"
#include "cpu/vec.h"
#include "row.h"

enum {
    TILE = 64,            /* columns that one call of chain_tile holds in registers */
    MAX_LEVELS = 32,      /* of the tree over shards */
    COLUMNS_A_THREAD = 32 /* below this a cut by columns leaves threads idle */
};

struct sum_rows_job {
    const float *x; /* (rows, columns) */
    float *sum, *open;
    int64_t columns, shard_rows; /* rows of a whole shard */
    int64_t row0, rows;          /* of each shard: first row in this pass, and how many */
    int n_shards, n_threads;
    int64_t panels_a_shard;
    float *panels; /* scratch: chains of all panels (n_shards * panels_a_shard, columns), or NULL */
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Panel p of shard s within this pass: rows [*begin, *end) of the shard. */
static void panel_rows(const struct sum_rows_job *job, int64_t p, int64_t *begin, int64_t *end)
{
    int64_t first = job->row0 / RP_PANEL + p;
    *begin = p == 0 ? job->row0 : first * RP_PANEL;
    *end = least((first + 1) * RP_PANEL, job->row0 + job->rows);
}

/* Goes on with the chains of `width` <= TILE columns over `rows` rows. */
static void chain_tile(const float *x, int64_t stride, int64_t rows, int64_t width, float *chain)
{
    int64_t c = 0;
    for (; c + 4 * RP_VW <= width; c += 4 * RP_VW) {
        rp_vf a0 = rp_vload(chain + c), a1 = rp_vload(chain + c + RP_VW);
        rp_vf a2 = rp_vload(chain + c + 2 * RP_VW), a3 = rp_vload(chain + c + 3 * RP_VW);
        const float *row = x + c;
        for (int64_t r = 0; r < rows; r++, row += stride) {
            a0 += rp_vload(row);
            a1 += rp_vload(row + RP_VW);
            a2 += rp_vload(row + 2 * RP_VW);
            a3 += rp_vload(row + 3 * RP_VW);
        }
        rp_vstore(chain + c, a0);
        rp_vstore(chain + c + RP_VW, a1);
        rp_vstore(chain + c + 2 * RP_VW, a2);
        rp_vstore(chain + c + 3 * RP_VW, a3);
    }
    for (; c < width; c += RP_VW) {
        int64_t n = least(RP_VW, width - c);
        rp_vf a = rp_vload_first(chain + c, n);
        const float *row = x + c;
        for (int64_t r = 0; r < rows; r++, row += stride) a += rp_vload_first(row, n);
        rp_vstore_first(chain + c, a, n);
    }
}

/* The chains of panel p of shard s, columns [c, c + width), into `chain`. */
static void panel_tile(const struct sum_rows_job *job, int64_t s, int64_t p, int64_t c,
                       int64_t width, float *chain)
{
    int64_t begin, end;
    panel_rows(job, p, &begin, &end);
    bool goes_on = begin % RP_PANEL != 0; /* of the chain that an earlier pass left open */
    for (int64_t i = 0; i < width; i++) chain[i] = goes_on ? job->open[c + i] : 0;
    const float *x = job->x + (s * job->rows + begin - job->row0) * job->columns + c;
    chain_tile(x, job->columns, end - begin, width, chain);
}

/* The panels of shard s in turn. A pass that ends inside a panel leaves its chain open. */
static void shard_tile(const struct sum_rows_job *job, int64_t s, int64_t c, int64_t width,
                       float *total)
{
    float chain[TILE];
    for (int64_t i = 0; i < width; i++) total[i] = job->row0 > 0 ? job->sum[c + i] : 0;
    for (int64_t p = 0; p < job->panels_a_shard; p++) {
        int64_t begin, end;
        const float *made = chain;
        panel_rows(job, p, &begin, &end);
        if (job->panels)
            made = job->panels + (s * job->panels_a_shard + p) * job->columns + c;
        else
            panel_tile(job, s, p, c, width, chain);
        bool closed = end % RP_PANEL == 0 || end == job->shard_rows;
        for (int64_t i = 0; i < width; i++) {
            if (closed)
                total[i] += made[i];
            else
                job->open[c + i] = made[i];
        }
    }
}

/* The tree over shards as a binary counter: level l holds the node of 2^l finished shards. */
static void tree_tile(const struct sum_rows_job *job, int64_t c, int64_t width)
{
    float node[MAX_LEVELS][TILE], total[TILE];
    for (int64_t s = 0; s < job->n_shards; s++) {
        shard_tile(job, s, c, width, total);
        int level = 0;
        for (; (s >> level) & 1; level++)
            for (int64_t i = 0; i < width; i++) total[i] = node[level][i] + total[i];
        memcpy(node[level], total, sizeof(float) * (size_t)width);
    }
    memcpy(job->sum + c, total, sizeof(float) * (size_t)width);
}

static void columns_work(void *arg, int thread)
{
    const struct sum_rows_job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->columns, 16, thread, job->n_threads, &begin, &end);
    for (int64_t c = begin; c < end; c += TILE) tree_tile(job, c, least(TILE, end - c));
}

static void panels_work(void *arg, int thread)
{
    const struct sum_rows_job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->n_shards * job->panels_a_shard, 1, thread, job->n_threads, &begin, &end);
    for (int64_t at = begin; at < end; at++) {
        int64_t s = at / job->panels_a_shard, p = at % job->panels_a_shard;
        for (int64_t c = 0; c < job->columns; c += TILE)
            panel_tile(job, s, p, c, least(TILE, job->columns - c),
                       job->panels + at * job->columns + c);
    }
}

/* Panels that fit into scratch; a pass of so many shards that they are more takes the cut by
 * columns. */
static int64_t scratch_panels(const struct rp_op_call *call, int n_threads)
{
    const struct rp_tensor *x = &call->in[0];
    int64_t columns = x->dims[x->n_dims - 1], rows = rp_tensor_rows(x);
    if (n_threads == 1 || columns >= COLUMNS_A_THREAD * n_threads || rows < 2 * RP_PANEL) return 0;
    return rows / RP_PANEL + 64;
}

size_t RP_ISA_NAME(rp_cpu_scratch_sum_rows)(const struct rp_op_call *call, int n_threads)
{
    const struct rp_tensor *x = &call->in[0];
    return (size_t)(scratch_panels(call, n_threads) * x->dims[x->n_dims - 1]) * sizeof(float);
}

RP_CPU_KERNEL(sum_rows)
{
    (void)err;
    const struct rp_tensor *x = &call->in[0];
    const struct rp_rows *cut = &pass->rows;
    int64_t rows = rp_tensor_rows(x), rows_a_sample = rows / cut->n_samples;
    struct sum_rows_job job = {
        .x = x->data,
        .sum = call->out[0].data,
        .open = call->out[1].data,
        .columns = x->dims[x->n_dims - 1],
        .shard_rows = cut->samples_per_shard * rows_a_sample,
        .row0 = cut->first_sample * rows_a_sample,
        .rows = rows / cut->n_shards,
        .n_shards = cut->n_shards,
        .n_threads = rp_threads_for(cpu, rows * x->dims[x->n_dims - 1]),
    };
    int64_t last = (job.row0 + job.rows + RP_PANEL - 1) / RP_PANEL;
    job.panels_a_shard = last - job.row0 / RP_PANEL;
    int64_t n_panels = job.n_shards * job.panels_a_shard;
    if (job.n_threads > 1 && n_panels <= scratch_panels(call, job.n_threads)) {
        job.panels = (float *)cpu->scratch;
        rp_pool_run(cpu->pool, job.n_threads, panels_work, &job);
    }
    if (job.panels) job.n_threads = 1; /* what is left is small */
    rp_pool_run(cpu->pool, job.n_threads, columns_work, &job);
    return RP_STATUS_OK;
}
