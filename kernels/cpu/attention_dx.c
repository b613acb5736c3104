/* attention_dx.c - the gradient of attention on the CPU. README.md chapter 14.
 *
 * A thread takes a head of k and v with its group of query heads. Blocks of queries follow each
 * other; each makes its weights again, finishes its rows of dq, and carries the chains of dk and
 * dv, which wait in scratch for the next block, through its queries. */
#include "cpu/attention_block.h"
#include "cpu/rsum.h"

enum { VECTORS = RP_AT_QUERIES / RP_VW };

/* ---- weights and their gradient -------------------------------------------------------------- */

struct query {
    const float *dy, *y;
};

RP_VEC_FN rp_vf product_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct query *query = arg;
    return rp_vfma(rp_vload_lanes(query->dy + i, lanes), rp_vload_lanes(query->y + i, lanes), acc);
}

/* What the weights of each query need: maximum, 1 / sum, and the sum over d of dy y. */
struct known {
    float maximum[RP_AT_QUERIES], inv[RP_AT_QUERIES], sum[RP_AT_QUERIES];
};

static void look_up(const struct rp_at_job *job, const struct rp_at_block *block,
                    struct known *known)
{
    const float *stats =
        job->stats + ((block->sample * job->heads + block->head) * job->tokens + block->first) * 2;
    memset(known, 0, sizeof *known);
    for (int q = 0; q < block->count; q++) {
        int64_t at = rp_at_y(job, block->sample, block->first + q, block->head);
        struct query query = {.dy = job->dy + at, .y = job->y + at};
        known->maximum[q] = stats[2 * q];
        known->inv[q] = stats[2 * q + 1];
        known->sum[q] = rp_rsum(job->d, product_term, &query);
    }
}

/* Scores become the weights of dv, products of dy and v become ds. */
RP_VEC_FN void make_gradients(const struct rp_at_job *job, const struct rp_at_block *block,
                              const struct known *known, const struct rp_at_memory *memory,
                              bool drops)
{
    float *s = memory->weights, *ds = memory->ds;
    for (int64_t j = 0; j < block->first + block->count; j++)
        for (int v = 0; v < VECTORS; v++, s += RP_VW, ds += RP_VW) {
            int q = v * RP_VW;
            rp_vf score = rp_vload(s) * rp_vset(job->scale), dp = rp_vload(ds);
            rp_vf p = rp_vexp(score - rp_vload(known->maximum + q)) * rp_vload(known->inv + q);
            rp_vf w = p;
            if (drops) {
                rp_vi kept = rp_at_kept(memory->keep, j, v);
                dp = (rp_vf)((rp_vi)(dp * rp_vset(job->drop)) & kept);
                w = (rp_vf)((rp_vi)(w * rp_vset(job->drop)) & kept);
            }
            rp_vstore(s, w);
            rp_vstore(ds, p * (dp - rp_vload(known->sum + q)));
        }
}

/* ---- rows of keys: dk and dv ----------------------------------------------------------------- */

/* `chain` is the panel of queries that is open, `total` those before; -0 where there is none, which
 * added to anything leaves it as it is. */

/* Tile of keys [j, j + rows) against one strip of queries. */
struct key_tile {
    const struct rp_at_job *job;
    const struct rp_at_block *block;
    int64_t j;
    int rows;
    const float *weights; /* of key j */
    const float *strip;   /* (RP_AT_QUERIES, TILE_N) */
    float *chain, *total; /* of key j: (TILE_M, TILE_N); total NULL: one panel holds all queries */
};

/* The chain of rows [0, rows) ends, and the next one begins. */
static void end_panel(const struct key_tile *tile, int row, int rows)
{
    for (int i = row * TILE_N; i < (row + rows) * TILE_N; i += RP_VW) {
        if (tile->total)
            rp_vstore(tile->total + i, rp_vload(tile->total + i) + rp_vload(tile->chain + i));
        rp_vstore(tile->chain + i, rp_vzero());
    }
}

/* The first queries of a row, [begin, end): its key is the first of them, or they precede those
 * that all rows of the tile have. */
static void begin_row(const struct key_tile *tile, int row, int64_t begin, int64_t end)
{
    float *chain = tile->chain + row * TILE_N;
    for (int64_t i = begin; i < end; i++) {
        int64_t q = i - tile->block->first;
        rp_vf w = rp_vset(tile->weights[row * RP_AT_QUERIES + q]);
        if (i % RP_PANEL == 0)
            end_panel(tile, row, 1);
        else if (i == tile->j + row)
            for (int v = 0; v < TILE_VECTORS; v++) rp_vstore(chain + v * RP_VW, rp_vzero());
        for (int v = 0; v < TILE_VECTORS; v++)
            rp_vstore(chain + v * RP_VW, rp_vfma(w, rp_vload(tile->strip + q * TILE_N + v * RP_VW),
                                                 rp_vload(chain + v * RP_VW)));
    }
}

/* Queries [begin, end), of one panel, which all rows have. */
static void add_queries(const struct key_tile *tile, int64_t begin, int64_t end)
{
    rp_vf acc[TILE_M][TILE_VECTORS];
    int64_t q = begin - tile->block->first;
    for (int i = 0; i < TILE_M; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            acc[i][v] = rp_vload(tile->chain + i * TILE_N + v * RP_VW);
    rp_at_product(tile->weights + q, RP_AT_QUERIES, 1, tile->strip + q * TILE_N, end - begin, acc,
                  TILE_M);
    for (int i = 0; i < TILE_M; i++)
        for (int v = 0; v < TILE_VECTORS; v++)
            rp_vstore(tile->chain + i * TILE_N + v * RP_VW, acc[i][v]);
}

static void run_key_tile(const struct key_tile *tile)
{
    int64_t first = tile->block->first, end = first + tile->block->count;
    int64_t common = rp_at_least(tile->j + tile->rows, end); /* from here on all rows have it */
    if (common < first) common = first;
    for (int r = 0; r < tile->rows; r++)
        begin_row(tile, r, tile->j + r > first ? tile->j + r : first, common);
    for (int64_t at = common; at < end;) {
        int64_t stop = rp_at_least(end, (at / RP_PANEL + 1) * RP_PANEL);
        if (at % RP_PANEL == 0) end_panel(tile, 0, tile->rows);
        add_queries(tile, at, stop);
        at = stop;
    }
}

/* One block of queries added to dk (which = 0) or dv (1). */
static void add_block(const struct rp_at_job *job, const struct rp_at_block *block,
                      const struct rp_at_memory *memory, int which)
{
    const float *weights = which == 0 ? memory->ds : memory->weights;
    const float *strip = which == 0 ? memory->q_strips : memory->dy_strips;
    int64_t keys = block->first + block->count, tile_rows = rp_at_up(job->tokens, TILE_M);
    for (int64_t j = 0; j < keys; j += TILE_M)
        for (int d = 0; d < job->d; d += TILE_N) {
            int64_t at = d * tile_rows + j * TILE_N;
            struct key_tile tile = {.job = job,
                                    .block = block,
                                    .j = j,
                                    .rows = (int)rp_at_least(TILE_M, job->tokens - j),
                                    .weights = weights + j * RP_AT_QUERIES,
                                    .strip = strip + d * RP_AT_QUERIES,
                                    .chain = memory->chain[which] + at,
                                    .total =
                                        memory->total[which] ? memory->total[which] + at : NULL};
            run_key_tile(&tile);
        }
}

static void begin_sums(const struct rp_at_job *job, const struct rp_at_memory *memory)
{
    int64_t n = rp_at_up(job->tokens, TILE_M) * rp_at_up(job->d, TILE_N);
    for (int which = 0; which < 2; which++)
        for (int64_t i = 0; i < n; i++) {
            memory->chain[which][i] = -0.0f;
            if (memory->total[which]) memory->total[which][i] = -0.0f;
        }
}

/* The sums of one query head are complete: they are added to those of the heads before. */
static void end_sums(const struct rp_at_job *job, const struct rp_at_memory *memory, int64_t sample,
                     int64_t head, int which)
{
    bool begins = head % job->group == 0, ends = head % job->group == job->group - 1;
    int64_t tile_rows = rp_at_up(job->tokens, TILE_M);
    float *out = job->dqkv + rp_at_qkv(job, sample, 0, rp_at_key_head(job, head)) +
                 (ptrdiff_t)which * job->kv_heads * job->d;
    for (int64_t j = 0; j < job->tokens; j++, out += job->width)
        for (int d = 0; d < job->d; d += RP_VW) {
            int64_t at = d / TILE_N * tile_rows * TILE_N + j * TILE_N + d % TILE_N;
            int lanes = job->d - d < RP_VW ? job->d - d : RP_VW;
            rp_vf sum = rp_vload(memory->chain[which] + at);
            if (memory->total[which]) sum = rp_vload(memory->total[which] + at) + sum;
            if (!begins) sum = rp_vload_lanes(out + d, lanes) + sum;
            if (ends && which == 0) sum *= rp_vset(job->scale);
            rp_vstore_lanes(out + d, sum, lanes);
        }
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static void pack_queries(const struct rp_at_job *job, const struct rp_at_block *block,
                         const struct rp_at_memory *memory)
{
    const float *q = job->qkv + rp_at_qkv(job, block->sample, block->first, block->head);
    const float *dy = job->dy + rp_at_y(job, block->sample, block->first, block->head);
    int64_t dy_stride = (int64_t)job->heads * job->d;
    int d = job->d;
    RP_ISA_NAME(rp_at_pack_columns)(q, job->width, block->count, d, memory->q_columns);
    RP_ISA_NAME(rp_at_pack_columns)(dy, dy_stride, block->count, d, memory->dy_columns);
    RP_ISA_NAME(rp_at_pack_strips)
    (q, job->width, block->count, d, RP_AT_QUERIES, memory->q_strips);
    RP_ISA_NAME(rp_at_pack_strips)
    (dy, dy_stride, block->count, d, RP_AT_QUERIES, memory->dy_strips);
}

static void run_block(const struct rp_at_job *job, const struct rp_at_block *block,
                      const struct rp_at_memory *memory)
{
    struct known known;
    float scale[RP_AT_QUERIES];
    pack_queries(job, block, memory);
    look_up(job, block, &known);
    RP_ISA_NAME(rp_at_scores)(job, block, memory->k_tiles, memory->q_columns, memory->weights);
    RP_ISA_NAME(rp_at_scores)(job, block, memory->v_tiles, memory->dy_columns, memory->ds);
    if (job->drops) {
        RP_ISA_NAME(rp_at_draw)(job, block, memory->keep);
        make_gradients(job, block, &known, memory, true);
    } else {
        make_gradients(job, block, &known, memory, false);
    }
    for (int i = 0; i < RP_AT_QUERIES; i++) scale[i] = job->scale;
    RP_ISA_NAME(rp_at_query_rows)
    (job, block, memory->ds, memory->strips, scale,
     job->dqkv + rp_at_qkv(job, block->sample, block->first, block->head), job->width);
    for (int which = 0; which < 2; which++) add_block(job, block, memory, which);
}

static void run_head(const struct rp_at_job *job, int64_t sample, int64_t head,
                     const struct rp_at_memory *memory)
{
    begin_sums(job, memory);
    for (int64_t first = 0; first < job->tokens; first += RP_AT_QUERIES) {
        struct rp_at_block block = {
            .sample = sample,
            .head = head,
            .first = first,
            .count = (int)rp_at_least(RP_AT_QUERIES, job->tokens - first),
        };
        run_block(job, &block, memory);
    }
    for (int which = 0; which < 2; which++) end_sums(job, memory, sample, head, which);
}

static void gradient_work(void *arg, int thread)
{
    const struct rp_at_job *job = arg;
    struct rp_at_memory memory;
    int64_t at, end;
    RP_ISA_NAME(rp_at_lay_out)(job, job->scratch + job->scratch_bytes * (size_t)thread, &memory);
    rp_pool_cut(job->samples * job->kv_heads, 1, thread, job->n_threads, &at, &end);
    for (; at < end; at++) {
        int64_t sample = at / job->kv_heads, kv = at % job->kv_heads;
        const float *k = job->qkv + rp_at_qkv(job, sample, 0, job->heads + kv);
        const float *v = k + (ptrdiff_t)job->kv_heads * job->d;
        RP_ISA_NAME(rp_at_pack_tiles)(k, job->width, job->tokens, job->d, memory.k_tiles);
        RP_ISA_NAME(rp_at_pack_tiles)(v, job->width, job->tokens, job->d, memory.v_tiles);
        RP_ISA_NAME(rp_at_pack_strips)
        (k, job->width, job->tokens, job->d, job->tokens, memory.strips);
        for (int g = 0; g < job->group; g++) run_head(job, sample, kv * job->group + g, &memory);
    }
}

size_t RP_ISA_NAME(rp_cpu_scratch_attention_dx)(const struct rp_op_call *call, int n_threads)
{
    return RP_ISA_NAME(rp_at_begin)(NULL, call, NULL).scratch_bytes * (size_t)n_threads;
}

RP_CPU_KERNEL(attention_dx)
{
    (void)err;
    struct rp_at_job job = RP_ISA_NAME(rp_at_begin)(cpu, call, pass);
    job.dy = call->in[0].data;
    job.y = call->in[2].data;
    job.stats = call->in[3].data;
    job.dqkv = call->out[0].data;
    rp_pool_run(cpu->pool, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}
