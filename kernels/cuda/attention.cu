/* attention.cu - causal attention. README.md chapter 14.
 *
 * A block takes 64 queries of a head and walks over their keys twice: for the maxima, then for the
 * weights, their row sums and their products with v. */
#include "cuda/attention.cuh"
#include "cuda/elementary.h"
#include "cuda/rows.h"

/* Row sums of the weights of a tile's queries: a warp has several rows, a lane is the lane. */
template <int rows, bool one_block> struct row_sums {
    float lane[rows];                  /* of the block of 4096 keys that is open */
    float block[one_block ? 1 : rows]; /* of those before: block b is an element of lane b mod 32 */

    __device__ __forceinline__ void begin()
    {
        RP_UNROLL
        for (int i = 0; i < rows; i++) {
            lane[i] = -0.0f;
            if constexpr (!one_block) block[i] = -0.0f;
        }
    }
    static __device__ __forceinline__ int row(int i) { return (int)threadIdx.x / 32 * rows + i; }
    /* Keys of a tile at `key0`; those after the query are absent. */
    __device__ __forceinline__ void add(const rp_at_weights &weights, int query0, int key0)
    {
        RP_UNROLL
        for (int i = 0; i < rows; i += 4) RP_UNROLL
        for (int j = 0; j < RP_AT_TILE; j += 32) {
            int key = j + (int)threadIdx.x % 32, seen = key0 + key - query0 - row(i);
            float4 w = *reinterpret_cast<const float4 *>(&weights[key][row(i)]);
            if (seen <= 0) lane[i] += w.x;
            if (seen <= 1) lane[i + 1] += w.y;
            if (seen <= 2) lane[i + 2] += w.z;
            if (seen <= 3) lane[i + 3] += w.w;
        }
    }
    /* Block number `number` of 4096 keys is complete. A row that has none of them adds -0. */
    __device__ __forceinline__ void end_block(int number)
    {
        if constexpr (!one_block) {
            RP_UNROLL
            for (int i = 0; i < rows; i++) {
                float sum = rp_row_fold(lane[i]);
                if ((int)threadIdx.x % 32 == number % 32) block[i] += sum;
                lane[i] = -0.0f;
            }
        }
    }
    __device__ __forceinline__ float sum(int i) const
    {
        if constexpr (one_block)
            return rp_row_fold(lane[i]);
        else
            return rp_row_fold(block[i]);
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
template <int quads, int rows>
static __device__ __forceinline__ void
find_maxima(const struct rp_at_job &job, const struct attend_place &at,
            const struct rp_at_operand &q, const struct rp_at_matrix &k, rp_at_chunk (&buffer)[2],
            float (&halves)[2][RP_AT_TILE], float (&best)[rows])
{
    RP_UNROLL
    for (int i = 0; i < rows; i++) best[i] = rp_float_of_bits(0xff800000u);
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= at.query0; key0 += RP_AT_TILE) {
        float s[rows][4];
        rp_at_make_scores<quads, true>(q, rp_at_read(k, key0), job.d, buffer, s);
        int seen = key0 == at.query0 ? 0 : (int)RP_AT_TILE; /* of a row's later keys */
        RP_UNROLL
        for (int i = 0; i < rows; i++) RP_UNROLL
        for (int j = 0; j < 4; j++) {
            bool sees = rp_at_column() + j <= rp_at_row<rows>(i) + seen;
            if (sees && s[i][j] > best[i]) best[i] = s[i][j];
        }
    }
    int half = rp_at_column() / 32;
    RP_UNROLL
    for (int i = 0; i < rows; i++) {
        RP_UNROLL
        for (int h = 8; h > 0; h /= 2) {
            if (h == 2) continue; /* of a lane with other rows */
            float other = __shfl_xor_sync(0xffffffffu, best[i], h);
            if (other > best[i]) best[i] = other;
        }
        if (rp_at_column() % 32 == 0) halves[half][rp_at_row<rows>(i)] = best[i];
    }
    __syncthreads();
    RP_UNROLL
    for (int i = 0; i < rows; i++) {
        float other = halves[1 - half][rp_at_row<rows>(i)];
        if (other > best[i]) best[i] = other;
        best[i] = best[i] * job.scale + 0.0f;
    }
}

/* Scores become weights; those of keys after the query, which may lie above the maximum, anything.
 */
template <int rows>
static __device__ __forceinline__ void make_weights(const struct rp_at_job &job,
                                                    float (&s)[rows][4], const float (&best)[rows])
{
    RP_UNROLL
    for (int i = 0; i < rows; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) s[i][j] = rp_exp_below(s[i][j] * job.scale - best[i]);
}

template <int quads, bool one_panel>
__global__ void __launch_bounds__(rp_at_shape<quads>::threads,
                                  rp_at_shape<quads>::resident(one_panel))
    attend(struct rp_at_job job)
{
    enum { n = rp_at_shape<quads>::rows, of_warp = 2 * n };
    RP_SHARED_DYNAMIC(rp_at_shared<1>, shared);
    rp_at_chunk(&buffer)[2] = shared->buffer;
    rp_at_weights &weights = shared->weights;
    RP_SHARED(float, halves, [2][RP_AT_TILE]);
    float(&inv)[RP_AT_TILE] = halves[0];
    struct attend_place at = place_of(job);
    struct rp_at_operand q =
        rp_at_keep<quads>(rp_at_head(job, at.sample, at.head), at.query0, job.d, shared->kept[0]);
    struct rp_at_matrix k = rp_at_head(job, at.sample, rp_at_key_head(job, at.head));
    struct rp_at_matrix v = rp_at_head(job, at.sample, rp_at_key_head(job, at.head) + job.kv_heads);
    struct rp_at_rows<quads, one_panel> rows;
    struct row_sums<of_warp, one_panel> sums;
    float best[n], e[n][4];
    find_maxima<quads>(job, at, q, k, buffer, halves, best);
    rows.begin();
    sums.begin();
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= at.query0; key0 += RP_AT_TILE) {
        int n_keys = job.tokens - key0 < RP_AT_TILE ? job.tokens - key0 : (int)RP_AT_TILE;
        if (!one_panel && key0 % RP_PANEL == 0 && key0 > 0) rows.end_panel();
        if (!one_panel && key0 % RP_ROW_BLOCK == 0 && key0 > 0)
            sums.end_block(key0 / RP_ROW_BLOCK - 1);
        rp_at_make_scores<quads, true>(q, rp_at_read(k, key0), job.d, buffer, e);
        make_weights(job, e, best);
        rp_at_put_columns(e, weights); /* all have read what was there: barriers of the scores */
        __syncthreads();
        sums.add(weights, at.query0, key0);
        if (job.drops) {
            unsigned kept = rp_at_kept<n>(job, at.sample, at.head, at.query0, key0);
            RP_UNROLL
            for (int i = 0; i < 4 * n; i++)
                e[i / 4][i % 4] = kept >> i & 1u ? e[i / 4][i % 4] * job.drop : 0.0f;
            __syncthreads(); /* the sums are done with it */
            rp_at_put_columns(e, weights);
        }
        rp_at_mix<RP_AT_UP_TO>(rows, weights, v, key0, n_keys, job.d, key0 == at.query0, buffer);
    }
    sums.end_block(at.query0 / RP_ROW_BLOCK);
    RP_UNROLL
    for (int i = 0; i < of_warp; i++) {
        float sum = sums.sum(i);
        if (threadIdx.x % 32 == 0) inv[sums.row(i)] = 1.0f / sum;
    }
    __syncthreads();
    int64_t head = (int64_t)at.sample * job.heads + at.head;
    RP_UNROLL
    for (int i = 0; i < n; i++) {
        int row = at.query0 + rp_at_row<n>(i);
        if (rp_at_column() == 0 && row < job.tokens && job.stats) {
            float *stats = job.stats + (head * job.tokens + row) * 2;
            stats[0] = best[i];
            stats[1] = inv[rp_at_row<n>(i)];
        }
    }
    struct rp_at_matrix y = rp_at_out_head(job, job.y, at.sample, at.head);
    rows.end(job.d, [&](int i, int column, float sum) {
        int row = at.query0 + rp_at_row<n>(i);
        if (row < job.tokens)
            job.y[y.base - job.y + row * y.stride + column] = sum * inv[rp_at_row<n>(i)];
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
    if (job.tokens <= RP_PANEL)
        RP_AT_LAUNCH(cuda, attend, 1, (unsigned)blocks, job, true);
    else
        RP_AT_LAUNCH(cuda, attend, 1, (unsigned)blocks, job, false);
    return RP_STATUS_OK;
}
