/* attention.cu - causal attention. README.md chapter 14.
 *
 * A block takes 64 queries of a head and walks over their keys twice: for the maxima, then for the
 * weights, their row sums and their products with v. */
#include "cuda/attention.cuh"
#include "cuda/rows.h"

enum { ROWS_OF_WARP = RP_AT_TILE / (RP_AT_THREADS / 32) };

/* Row sums of the weights of a tile's queries: a warp has eight rows, a lane is the lane. */
struct row_sums {
    float lane[ROWS_OF_WARP];  /* of the block of 4096 keys that is open */
    float block[ROWS_OF_WARP]; /* of those before: block b is an element of lane b mod 32 */

    __device__ __forceinline__ void begin()
    {
        RP_UNROLL
        for (int i = 0; i < ROWS_OF_WARP; i++) lane[i] = block[i] = -0.0f;
    }
    /* Keys of a tile at `key0`; those after the query are absent. */
    __device__ __forceinline__ void add(const rp_at_weights &weights, int query0, int key0)
    {
        RP_UNROLL
        for (int i = 0; i < ROWS_OF_WARP; i++) {
            int row = (int)threadIdx.x / 32 * ROWS_OF_WARP + i;
            RP_UNROLL
            for (int j = 0; j < RP_AT_TILE; j += 32) {
                int key = j + (int)threadIdx.x % 32;
                if (key0 + key <= query0 + row) lane[i] += weights[key][row];
            }
        }
    }
    /* Block number `number` of 4096 keys is complete. A row that has none of them adds -0. */
    __device__ __forceinline__ void end_block(int number)
    {
        RP_UNROLL
        for (int i = 0; i < ROWS_OF_WARP; i++) {
            float sum = rp_row_fold(lane[i]);
            if ((int)threadIdx.x % 32 == number % 32) block[i] += sum;
            lane[i] = -0.0f;
        }
    }
};

struct attend_place {
    int sample, head, query0;
};

/* Heads of all samples beside each other, the longest rows first. */
static __device__ __forceinline__ struct attend_place place_of(const struct rp_at_job &job)
{
    int heads = job.samples * job.heads, head = (int)(blockIdx.x % heads);
    struct attend_place place = {head / job.heads, head % job.heads,
                                 (job.tiles - 1 - (int)(blockIdx.x / heads)) * RP_AT_TILE};
    return place;
}

/* The greatest product of each of this thread's rows; times the scale, which keeps order. Of two
 * zeros none is the greater: + 0 makes both +0. */
static __device__ __forceinline__ void find_maxima(const struct rp_at_job &job,
                                                   const struct attend_place &at,
                                                   rp_at_chunk (&buffer)[2], float best[4])
{
    struct rp_at_matrix q = rp_at_head(job, at.sample, at.head);
    struct rp_at_matrix k = rp_at_head(job, at.sample, rp_at_key_head(job, at.head));
    RP_UNROLL
    for (int i = 0; i < 4; i++) best[i] = rp_float_of_bits(0xff800000u);
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= at.query0; key0 += RP_AT_TILE) {
        float s[4][4];
        rp_at_scores(q, at.query0, k, key0, job.d, buffer, s);
        RP_UNROLL
        for (int i = 0; i < 4; i++) RP_UNROLL
        for (int j = 0; j < 4; j++) {
            bool seen = key0 + rp_at_column() + j <= at.query0 + rp_at_row() + i;
            if (seen && s[i][j] > best[i]) best[i] = s[i][j];
        }
    }
    RP_UNROLL
    for (int i = 0; i < 4; i++) {
        RP_UNROLL
        for (int h = 8; h > 0; h /= 2) {
            float other = __shfl_xor_sync(0xffffffffu, best[i], h);
            if (other > best[i]) best[i] = other;
        }
        best[i] = best[i] * job.scale + 0.0f;
    }
}

/* Scores become weights, before and after dropout: to[key][query]. */
static __device__ __forceinline__ void make_weights(const struct rp_at_job &job, float s[4][4],
                                                    const float best[4])
{
    RP_UNROLL
    for (int i = 0; i < 4; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) s[i][j] = rp_exp(s[i][j] * job.scale - best[i]);
}

static __device__ __forceinline__ void put_weights(const float e[4][4], rp_at_weights &to)
{
    RP_UNROLL
    for (int j = 0; j < 4; j++)
        *reinterpret_cast<float4 *>(to[rp_at_column() + j] + rp_at_row()) =
            make_float4(e[0][j], e[1][j], e[2][j], e[3][j]);
}

template <int quads>
__global__ void __launch_bounds__(RP_AT_THREADS, RP_AT_RESIDENT(quads)) attend(struct rp_at_job job)
{
    RP_SHARED(rp_at_chunk, buffer, [2]);
    RP_SHARED(rp_at_weights, weights, [1]);
    RP_SHARED(float, inv, [RP_AT_TILE]);
    struct attend_place at = place_of(job);
    struct rp_at_matrix q = rp_at_head(job, at.sample, at.head);
    struct rp_at_matrix k = rp_at_head(job, at.sample, rp_at_key_head(job, at.head));
    struct rp_at_matrix v = rp_at_head(job, at.sample, rp_at_key_head(job, at.head) + job.kv_heads);
    struct rp_at_rows<quads> rows;
    struct row_sums sums;
    float best[4], e[4][4];
    find_maxima(job, at, buffer, best);
    rows.begin();
    sums.begin();
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= at.query0; key0 += RP_AT_TILE) {
        int n_keys = job.tokens - key0 < RP_AT_TILE ? job.tokens - key0 : (int)RP_AT_TILE;
        if (key0 % RP_PANEL == 0 && key0 > 0) rows.end_panel();
        if (key0 % RP_ROW_BLOCK == 0 && key0 > 0) sums.end_block(key0 / RP_ROW_BLOCK - 1);
        rp_at_scores(q, at.query0, k, key0, job.d, buffer, e);
        make_weights(job, e, best);
        put_weights(e, weights[0]); /* all have read what was there: barriers of the scores */
        __syncthreads();
        sums.add(weights[0], at.query0, key0);
        if (job.drops) {
            unsigned kept = rp_at_kept(job, at.sample, at.head, at.query0, key0);
            RP_UNROLL
            for (int i = 0; i < 16; i++)
                e[i / 4][i % 4] = kept >> i & 1u ? e[i / 4][i % 4] * job.drop : 0.0f;
            __syncthreads(); /* the sums are done with it */
            put_weights(e, weights[0]);
        }
        rp_at_mix<RP_AT_UP_TO>(rows, weights[0], v, key0, n_keys, job.d, key0 == at.query0, buffer);
    }
    sums.end_block(at.query0 / RP_ROW_BLOCK);
    RP_UNROLL
    for (int i = 0; i < ROWS_OF_WARP; i++) {
        float sum = rp_row_fold(sums.block[i]);
        if (threadIdx.x % 32 == 0) inv[(int)threadIdx.x / 32 * ROWS_OF_WARP + i] = 1.0f / sum;
    }
    __syncthreads();
    int64_t head = (int64_t)at.sample * job.heads + at.head;
    int row0 = at.query0 + rp_at_row();
    RP_UNROLL
    for (int i = 0; i < 4; i++)
        if (rp_at_column() == 0 && row0 + i < job.tokens && job.stats) {
            float *stats = job.stats + (head * job.tokens + row0 + i) * 2;
            stats[0] = best[i];
            stats[1] = inv[rp_at_row() + i];
        }
    struct rp_at_matrix y = rp_at_out_head(job, job.y, at.sample, at.head);
    rows.end(job.d, [&](int i, int column, float sum) {
        if (row0 + i < job.tokens)
            job.y[y.base - job.y + (row0 + i) * y.stride + column] = sum * inv[rp_at_row() + i];
    });
}

RP_CUDA_KERNEL(attention)
{
    struct rp_at_job job = rp_at_begin(cuda, call, &call->in[0], pass);
    job.y = (float *)call->out[0].data;
    job.stats = (float *)call->out[1].data;
    int64_t blocks = (int64_t)job.samples * job.heads * job.tiles;
    if (blocks > INT32_MAX)
        return rp_error_set(err, RP_STATUS_INTERNAL, "attention: too many heads in one pass");
    RP_AT_LAUNCH(cuda, attend, (unsigned)blocks, job);
    return RP_STATUS_OK;
}
