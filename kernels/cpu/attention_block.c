/* attention_block.c - what attention and its gradient do with a block of queries. */
#include "cpu/attention_block.h"

#include <string.h>

#include "cpu/draw.h"
#include "cpu/transpose.h"

/* ---- the job and its memory ------------------------------------------------------------------ */

struct rp_at_job RP_ISA_NAME(rp_at_begin)(struct rp_cpu *cpu, const struct rp_op_call *call,
                                          const struct rp_pass *pass)
{
    const struct rp_attention_params *p = &call->params.attention;
    bool backward = call->op == RP_OP_attention_dx;
    const struct rp_tensor *qkv = &call->in[backward ? 1 : 0];
    struct rp_at_job job = {.qkv = qkv->data,
                            .samples = qkv->dims[0],
                            .tokens = qkv->dims[1],
                            .width = qkv->dims[2],
                            .d = p->head_dim,
                            .heads = p->heads,
                            .kv_heads = p->kv_heads,
                            .group = p->heads / p->kv_heads,
                            .scale = (float)(1.0 / rp_sqrt64((double)p->head_dim)),
                            .drop = 1.0f / (1.0f - p->p),
                            .drops = p->p > 0.0f,
                            .threshold = rp_threshold(p->p),
                            .site = p->site,
                            .backward = backward};
    job.scratch_bytes = RP_ISA_NAME(rp_at_lay_out)(&job, NULL, NULL);
    if (!cpu) return job;
    job.seed = pass->seed;
    job.position = pass->position;
    job.scratch = cpu->scratch;
    job.n_threads = rp_threads_for(cpu, job.samples * job.tokens * job.tokens * p->heads * job.d);
    return job;
}

static float *take(unsigned char *scratch, size_t *used, int64_t floats)
{
    unsigned char *at = scratch ? scratch + *used : NULL;
    *used += ((size_t)floats * sizeof(float) + 255) / 256 * 256;
    return (float *)at;
}

size_t RP_ISA_NAME(rp_at_lay_out)(const struct rp_at_job *job, unsigned char *scratch,
                                  struct rp_at_memory *memory)
{
    struct rp_at_memory m = {0};
    size_t used = 0;
    int64_t keys = rp_at_up(job->tokens, TILE_M), d = job->d, wide = rp_at_up(d, TILE_N);
    m.k_tiles = take(scratch, &used, keys * d + RP_VW);
    m.strips = take(scratch, &used, job->tokens * wide);
    m.q_columns = take(scratch, &used, RP_AT_QUERIES * d);
    m.weights = take(scratch, &used, keys * RP_AT_QUERIES);
    m.lanes = take(scratch, &used, RP_ROW_LANES * RP_AT_QUERIES);
    m.blocks = take(scratch, &used, (keys / RP_ROW_BLOCK + 1) * RP_AT_QUERIES);
    m.keep = (uint32_t *)take(scratch, &used, (keys / 32 + 3) * RP_AT_QUERIES);
    if (job->backward) {
        m.v_tiles = take(scratch, &used, keys * d + RP_VW);
        m.dy_columns = take(scratch, &used, RP_AT_QUERIES * d);
        m.q_strips = take(scratch, &used, RP_AT_QUERIES * wide);
        m.dy_strips = take(scratch, &used, RP_AT_QUERIES * wide);
        m.ds = take(scratch, &used, keys * RP_AT_QUERIES);
        for (int i = 0; i < 2; i++) m.chain[i] = take(scratch, &used, keys * wide);
        for (int i = 0; i < 2 && job->tokens > RP_PANEL; i++)
            m.total[i] = take(scratch, &used, keys * wide);
    }
    if (memory) *memory = m;
    return used;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Rows [row, row + RP_VW) of d values become columns: value i of them goes to to[i step], RP_VW
 * floats, of which all after the first `lanes` may be written again. Rows past the last repeat it.
 */
RP_VEC_FN void turn_rows(const float *from, int64_t stride, int64_t row, int64_t rows, int d,
                         float *to, int step, int lanes)
{
    for (int at = 0; at < d; at += RP_VW) {
        int n = d - at < RP_VW ? d - at : RP_VW;
        rp_vf x[RP_VW];
        for (int r = 0; r < RP_VW; r++)
            x[r] = rp_vload_lanes(from + rp_at_least(row + r, rows - 1) * stride + at, n);
        rp_vtranspose(x);
        for (int i = 0; i < n; i++, to += step) rp_vstore_lanes(to, x[i], lanes);
    }
}

/* Where a tile is one vector, its stores run into the values behind it, which come later; the last
 * ones of all into the room that rp_at_lay_out leaves. */
void RP_ISA_NAME(rp_at_pack_tiles)(const float *from, int64_t stride, int64_t rows, int d,
                                   float *to)
{
    for (int64_t r = 0; r < rows; r += TILE_M, to += TILE_M * (ptrdiff_t)d)
        for (int v = 0; v < TILE_M; v += RP_VW) {
            int lanes = TILE_M > RP_VW && TILE_M - v < RP_VW ? TILE_M - v : RP_VW;
            turn_rows(from, stride, r + v, rows, d, to + v, TILE_M, lanes);
        }
}

void RP_ISA_NAME(rp_at_pack_columns)(const float *from, int64_t stride, int64_t rows, int d,
                                     float *to)
{
    for (int64_t r = 0; r < rows; r += TILE_N, to += TILE_N * (ptrdiff_t)d)
        for (int v = 0; v < TILE_N; v += RP_VW)
            turn_rows(from, stride, r + v, rows, d, to + v, TILE_N, RP_VW);
}

/* Values past d are 0; they are computed with and not stored. */
void RP_ISA_NAME(rp_at_pack_strips)(const float *from, int64_t stride, int64_t rows, int d,
                                    int64_t strip_rows, float *to)
{
    for (int at = 0; at < d; at += TILE_N, to += strip_rows * TILE_N)
        for (int v = 0; v < TILE_VECTORS; v++) {
            int column = at + v * RP_VW, lanes = d - column < RP_VW ? d - column : RP_VW;
            float *row = to + v * RP_VW;
            for (int64_t r = 0; r < rows; r++, row += TILE_N)
                rp_vstore(row, lanes > 0 ? rp_vload_lanes(from + r * stride + column, lanes)
                                         : rp_vzero());
        }
}

/* ---- scores ---------------------------------------------------------------------------------- */

void RP_ISA_NAME(rp_at_scores)(const struct rp_at_job *job, const struct rp_at_block *block,
                               const float *tiles, const float *columns, float *to)
{
    int64_t keys = block->first + block->count;
    for (int64_t j = 0; j < keys; j += TILE_M, tiles += TILE_M * (ptrdiff_t)job->d)
        for (int q = 0; q < block->count; q += TILE_N) {
            rp_vf acc[TILE_M][TILE_VECTORS];
            if (j >= block->first + q + TILE_N) continue; /* after every query of the strip */
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vzero();
            rp_at_product(tiles, 1, TILE_M, columns + q * (ptrdiff_t)job->d, job->d, acc, TILE_M);
            for (int i = 0; i < TILE_M; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    rp_vstore(to + (j + i) * RP_AT_QUERIES + q + v * RP_VW, acc[i][v]);
        }
}

/* ---- dropout --------------------------------------------------------------------------------- */

enum { DRAWS = 16 /* blocks of four words: 64 bits */ };

/* Bit i: whether the weight of word i of the 64 from `block` on stays. */
static uint64_t draw_bits(const struct rp_draw_stream *stream, uint32_t block, uint32_t threshold)
{
    int32_t four[DRAWS];
    uint64_t bits = 0;
    for (uint32_t at = 0; at < DRAWS; at += RP_VW) {
        rp_vu word[4];
        rp_draw_lanes(stream, block + at, word);
        rp_vi kept = rp_vset_i(0);
        for (int i = 0; i < 4; i++)
            kept |= (rp_vi)(word[i] >= rp_vset_u(threshold)) & rp_vset_i(1 << i);
        rp_vstore_i(four + at, kept);
    }
    for (int i = 0; i < DRAWS; i++) bits |= (uint64_t)(uint32_t)four[i] << (4 * i);
    return bits;
}

/* The words of a query are those of its row of (heads, T, T), which begins anywhere in a block. */
static void draw_query(const struct rp_at_job *job, const struct rp_draw_stream *stream,
                       uint64_t element, int64_t keys, uint32_t *keep)
{
    uint32_t block = (uint32_t)(element / 4), skip = element % 4;
    uint64_t now = draw_bits(stream, block, job->threshold);
    for (int64_t j = 0; j < keys; j += 64, keep += 2 * RP_AT_QUERIES) {
        uint64_t next = 0;
        block += DRAWS;
        if (j + 64 < keys + skip) next = draw_bits(stream, block, job->threshold);
        uint64_t bits = now >> skip | next << 1 << (63 - skip);
        keep[0] = (uint32_t)bits;
        keep[RP_AT_QUERIES] = (uint32_t)(bits >> 32);
        now = next;
    }
}

void RP_ISA_NAME(rp_at_draw)(const struct rp_at_job *job, const struct rp_at_block *block,
                             uint32_t *keep)
{
    struct rp_draw_stream stream = {
        .seed = job->seed, .p = job->position + (uint64_t)block->sample, .site = job->site};
    for (int q = 0; q < block->count; q++) {
        int64_t i = block->first + q;
        uint64_t row = (uint64_t)(block->head * job->tokens + i);
        draw_query(job, &stream, row * (uint64_t)job->tokens, i + 1, keep + q);
    }
}

/* ---- rows of queries ------------------------------------------------------------------------- */

/* What is known of a tile: `chain` of the panel that is open, `total` of those before, each from -0
 * where there is none: -0 added to anything leaves it as it is. */
struct sums {
    float chain[TILE_SIZE], total[TILE_SIZE];
};

/* Keys [0, keys), which all rows of the tile see. */
RP_VEC_FN void add_common_keys(const float *weights, const float *strip, int64_t keys,
                               struct sums *sums, int height)
{
    rp_vf acc[TILE_M][TILE_VECTORS];
    for (int i = 0; i < height * TILE_N; i++) sums->total[i] = sums->chain[i] = -0.0f;
    for (int64_t at = 0; at < keys; at += RP_PANEL) {
        int64_t n = rp_at_least(RP_PANEL, keys - at);
        for (int i = 0; i < height; i++)
            for (int v = 0; v < TILE_VECTORS; v++) acc[i][v] = rp_vzero();
        rp_at_product(weights + at * RP_AT_QUERIES, 1, RP_AT_QUERIES, strip + at * TILE_N, n, acc,
                      height);
        for (int i = 0; i < height; i++)
            for (int v = 0; v < TILE_VECTORS; v++) {
                int place = i * TILE_N + v * RP_VW;
                if (n < RP_PANEL)
                    rp_vstore(sums->chain + place, acc[i][v]);
                else
                    rp_vstore(sums->total + place, rp_vload(sums->total + place) + acc[i][v]);
            }
    }
}

/* The keys that row i of the tile sees beyond the common ones, and the end of its sum. */
RP_VEC_FN rp_vf end_row(const float *weights, const float *strip, int64_t keys, int i,
                        const struct sums *sums, int v)
{
    rp_vf chain = rp_vload(sums->chain + i * TILE_N + v * RP_VW);
    rp_vf total = rp_vload(sums->total + i * TILE_N + v * RP_VW);
    for (int64_t j = keys; j < keys + i; j++) {
        if (j % RP_PANEL == 0) {
            total += chain;
            chain = rp_vzero();
        }
        chain = rp_vfma(rp_vset(weights[j * RP_AT_QUERIES + i]),
                        rp_vload(strip + j * TILE_N + v * RP_VW), chain);
    }
    return total + chain;
}

/* `height` rows from query `i0` of the sample on. */
RP_VEC_FN void run_query_tile(const struct rp_at_job *job, int64_t i0, const float *weights,
                              const float *strips, const float *factor, float *out, int64_t stride,
                              int rows, int height)
{
    for (int d = 0; d < job->d; d += TILE_N, strips += job->tokens * TILE_N) {
        struct sums sums;
        add_common_keys(weights, strips, i0 + 1, &sums, height);
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < TILE_VECTORS; v++) {
                int at = d + v * RP_VW, lanes = job->d - at < RP_VW ? job->d - at : RP_VW;
                rp_vf sum = end_row(weights, strips, i0 + 1, i, &sums, v);
                if (lanes > 0)
                    rp_vstore_lanes(out + i * stride + at, sum * rp_vset(factor[i]), lanes);
            }
    }
}

void RP_ISA_NAME(rp_at_query_rows)(const struct rp_at_job *job, const struct rp_at_block *block,
                                   const float *weights, const float *strips, const float *factor,
                                   float *out, int64_t stride)
{
    enum { REST = RP_AT_QUERIES % TILE_M };
    for (int q = 0; q < block->count; q += TILE_M) {
        int rows = block->count - q < TILE_M ? block->count - q : TILE_M;
        if (rows > REST)
            run_query_tile(job, block->first + q, weights + q, strips, factor + q, out + q * stride,
                           stride, rows, TILE_M);
        else
            run_query_tile(job, block->first + q, weights + q, strips, factor + q, out + q * stride,
                           stride, rows, REST ? REST : 1);
    }
}
