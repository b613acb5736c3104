/* attention.c - causal attention on the CPU, block of queries by block. README.md chapter 14. */
#include "cpu/attention_block.h"

enum { VECTORS = RP_AT_QUERIES / RP_VW };

/* ---- softmax: down the keys of all queries of a block ---------------------------------------- */

/* Lanes of vector v whose query sees key j. */
RP_VEC_FN rp_vi sees(const struct rp_at_block *block, int64_t j, int v)
{
    int64_t absent = j - block->first - v * RP_VW; /* queries before the key */
    return ~rp_vfirst(absent);
}

/* Rounding keeps order, so the greatest score is the greatest product times the scale. Of two zeros
 * neither is the greater: + 0 makes both +0. */
static void find_maxima(const struct rp_at_job *job, const struct rp_at_block *block,
                        const float *s, float maximum[RP_AT_QUERIES])
{
    rp_vf best[VECTORS];
    for (int v = 0; v < VECTORS; v++) best[v] = rp_vset(rp_float_of_bits(0xff800000u));
    for (int64_t j = 0; j < block->first + block->count; j++, s += RP_AT_QUERIES)
        for (int v = 0; v < VECTORS; v++) {
            rp_vf x = rp_vload(s + v * RP_VW);
            rp_vi greater = x > best[v];
            if (j > block->first) greater &= sees(block, j, v);
            best[v] = rp_vselect(greater, x, best[v]);
        }
    for (int v = 0; v < VECTORS; v++)
        rp_vstore(maximum + v * RP_VW, best[v] * rp_vset(job->scale) + rp_vzero());
}

/* Lane l += lane l + h for h = 16, 8, 4, 2, 1, of every query; then all lanes are empty. */
static void fold_lanes(float *lanes, float *sum)
{
    for (int64_t n = RP_ROW_LANES / 2 * RP_AT_QUERIES; n >= RP_AT_QUERIES; n /= 2)
        for (int64_t i = 0; i < n; i += RP_VW)
            rp_vstore(lanes + i, rp_vload(lanes + i) + rp_vload(lanes + n + i));
    memcpy(sum, lanes, RP_AT_QUERIES * sizeof *sum);
    for (int i = 0; i < RP_ROW_LANES * RP_AT_QUERIES; i++) lanes[i] = -0.0f;
}

/* e of key j, added to the lanes of its row sum. */
RP_VEC_FN void make_weight(const struct rp_at_job *job, const struct rp_at_block *block, int64_t j,
                           const float *maximum, const struct rp_at_memory *memory, bool masked,
                           bool drops)
{
    float *s = memory->weights + j * RP_AT_QUERIES;
    float *lane = memory->lanes + j % RP_ROW_LANES * RP_AT_QUERIES;
    for (int v = 0; v < VECTORS; v++, s += RP_VW, lane += RP_VW) {
        rp_vf e = rp_vexp(rp_vload(s) * rp_vset(job->scale) - rp_vload(maximum + v * RP_VW));
        rp_vf old = rp_vload(lane), sum = old + e;
        rp_vstore(lane, masked ? rp_vselect(sees(block, j, v), sum, old) : sum);
        if (drops) e = (rp_vf)((rp_vi)(e * rp_vset(job->drop)) & rp_at_kept(memory->keep, j, v));
        rp_vstore(s, e);
    }
}

/* Scores become weights; their sums, before dropout, go to `sum`. A query that has no key in a
 * block of 4096 adds -0 for it, which changes nothing. */
static void make_weights(const struct rp_at_job *job, const struct rp_at_block *block,
                         const float *maximum, const struct rp_at_memory *memory, float *sum)
{
    int64_t keys = block->first + block->count, n_blocks = 0;
    for (int i = 0; i < RP_ROW_LANES * RP_AT_QUERIES; i++) memory->lanes[i] = -0.0f;
    for (int64_t at = 0; at < keys; at += RP_ROW_BLOCK) {
        int64_t end = rp_at_least(at + RP_ROW_BLOCK, keys), j = at;
        int64_t common = rp_at_least(end, block->first + 1); /* keys that all queries see */
        for (; j < common && !job->drops; j++)
            make_weight(job, block, j, maximum, memory, false, false);
        for (; j < common; j++) make_weight(job, block, j, maximum, memory, false, true);
        for (; j < end; j++) make_weight(job, block, j, maximum, memory, true, job->drops);
        fold_lanes(memory->lanes, memory->blocks + n_blocks++ * RP_AT_QUERIES);
    }
    for (int64_t i = 0; i < n_blocks && n_blocks > 1; i++)
        for (int q = 0; q < RP_AT_QUERIES; q++)
            memory->lanes[i % RP_ROW_LANES * RP_AT_QUERIES + q] +=
                memory->blocks[i * RP_AT_QUERIES + q];
    if (n_blocks > 1)
        fold_lanes(memory->lanes, sum);
    else
        memcpy(sum, memory->blocks, RP_AT_QUERIES * sizeof *sum);
}

/* ---- blocks, and who takes which ------------------------------------------------------------- */

static void write_stats(const struct rp_at_job *job, const struct rp_at_block *block,
                        const float *maximum, const float *inv)
{
    float *to =
        job->stats + ((block->sample * job->heads + block->head) * job->tokens + block->first) * 2;
    for (int q = 0; q < block->count; q++) to[2 * q] = maximum[q], to[2 * q + 1] = inv[q];
}

static void run_block(const struct rp_at_job *job, const struct rp_at_block *block,
                      const struct rp_at_memory *memory)
{
    float maximum[RP_AT_QUERIES], inv[RP_AT_QUERIES];
    int64_t q = rp_at_qkv(job, block->sample, block->first, block->head);
    RP_ISA_NAME(rp_at_pack_columns)
    (job->qkv + q, job->width, block->count, job->d, memory->q_columns);
    RP_ISA_NAME(rp_at_scores)(job, block, memory->k_tiles, memory->q_columns, memory->weights);
    if (job->drops) RP_ISA_NAME(rp_at_draw)(job, block, memory->keep);
    find_maxima(job, block, memory->weights, maximum);
    make_weights(job, block, maximum, memory, inv);
    for (int i = 0; i < block->count; i++) inv[i] = 1.0f / inv[i];
    if (job->stats) write_stats(job, block, maximum, inv);
    RP_ISA_NAME(rp_at_query_rows)
    (job, block, memory->weights, memory->strips, inv,
     job->y + rp_at_y(job, block->sample, block->first, block->head), (int64_t)job->heads * job->d);
}

static void pack_keys(const struct rp_at_job *job, const struct rp_at_block *block,
                      const struct rp_at_memory *memory)
{
    const float *k = job->qkv + rp_at_qkv(job, block->sample, 0, rp_at_key_head(job, block->head));
    RP_ISA_NAME(rp_at_pack_tiles)(k, job->width, job->tokens, job->d, memory->k_tiles);
    RP_ISA_NAME(rp_at_pack_strips)
    (k + (ptrdiff_t)job->kv_heads * job->d, job->width, job->tokens, job->d, job->tokens,
     memory->strips);
}

/* The blocks of all heads in turn, weighed by their keys: each thread takes a stretch of about the
 * same weight. */
static void attend_work(void *arg, int thread)
{
    const struct rp_at_job *job = arg;
    struct rp_at_memory memory;
    int64_t blocks = rp_at_up(job->tokens, RP_AT_QUERIES) / RP_AT_QUERIES, packed = -1, weight = 0;
    int64_t all = job->samples * job->heads * (blocks * (blocks + 1) / 2);
    RP_ISA_NAME(rp_at_lay_out)(job, job->scratch + job->scratch_bytes * (size_t)thread, &memory);
    for (int64_t at = 0; at < job->samples * job->heads * blocks; at++) {
        int64_t keys = at % blocks + 1, taker = weight * job->n_threads / all;
        weight += keys;
        if (taker < thread) continue;
        if (taker > thread) break;
        int64_t head = at / blocks, first = (keys - 1) * RP_AT_QUERIES;
        struct rp_at_block block = {
            .sample = head / job->heads,
            .head = head % job->heads,
            .first = first,
            .count = (int)rp_at_least(RP_AT_QUERIES, job->tokens - first),
        };
        if (head / job->group != packed) pack_keys(job, &block, &memory);
        packed = head / job->group;
        run_block(job, &block, &memory);
    }
}

size_t RP_ISA_NAME(rp_cpu_scratch_attention)(const struct rp_op_call *call, int n_threads)
{
    return RP_ISA_NAME(rp_at_begin)(NULL, call, NULL).scratch_bytes * (size_t)n_threads;
}

RP_CPU_KERNEL(attention)
{
    (void)err;
    struct rp_at_job job = RP_ISA_NAME(rp_at_begin)(cpu, call, pass);
    job.y = call->out[0].data;
    job.stats = call->out[1].data;
    rp_pool_run(cpu->pool, job.n_threads, attend_work, &job);
    return RP_STATUS_OK;
}
