/* attention.cuh - private to attention*.cu: a tile of 64 queries against one of 64 keys.
 *
 * A block of 256 threads makes the scores of a tile, four by four a thread, over all d; puts the
 * weights that come of them into shared memory; and adds their products with rows of values to
 * sums in registers. Threads share no sum. Scores are made again wherever they are needed, so that
 * nothing grows with the square of the tokens. */
#ifndef RP_CUDA_ATTENTION_CUH
#define RP_CUDA_ATTENTION_CUH

#include "cuda/gpu.h"

enum {
    RP_AT_THREADS = 256,
    RP_AT_TILE = 64,
    RP_AT_PAD = RP_AT_TILE + 4,
    RP_AT_DEPTH = 32, /* values of d that are in shared memory together */
};

struct rp_at_job {
    const float *qkv; /* (N, T, width) */
    const float *dy;  /* (N, T, heads d), like y */
    const float *y_in;
    float *y;
    float *stats; /* (N, heads, T, 2): read by the gradient */
    float *sums;  /* (N, heads, T): of dy y, for the gradient */
    float *dqkv;
    int64_t width;
    int samples, tokens, tiles, d, heads, kv_heads, group;
    float scale, drop;
    bool drops;
    uint32_t threshold, site;
    const struct rp_pass *pass;
};

static inline struct rp_at_job rp_at_begin(struct rp_cuda *cuda, const struct rp_op_call *call,
                                           const struct rp_tensor *qkv, const struct rp_pass *pass)
{
    const struct rp_attention_params *p = &call->params.attention;
    struct rp_at_job job = {};
    job.qkv = (const float *)qkv->data;
    job.samples = (int)qkv->dims[0];
    job.tokens = (int)qkv->dims[1];
    job.tiles = (int)rp_blocks(qkv->dims[1], RP_AT_TILE);
    job.width = qkv->dims[2];
    job.d = p->head_dim;
    job.heads = p->heads;
    job.kv_heads = p->kv_heads;
    job.group = p->heads / p->kv_heads;
    job.scale = (float)(1.0 / rp_sqrt64((double)p->head_dim));
    job.drop = 1.0f / (1.0f - p->p);
    job.drops = p->p > 0.0f;
    job.threshold = rp_threshold(p->p);
    job.site = p->site;
    job.pass = rp_cuda_pass(cuda, pass);
    return job;
}

/* Rows of d values. */
struct rp_at_matrix {
    const float *base;
    int64_t stride;
    int rows;
};

static __device__ __forceinline__ struct rp_at_matrix rp_at_head(const struct rp_at_job &job,
                                                                 int sample, int head)
{
    struct rp_at_matrix m = {job.qkv + sample * job.tokens * job.width + (int64_t)head * job.d,
                             job.width, job.tokens};
    return m;
}
static __device__ __forceinline__ int rp_at_key_head(const struct rp_at_job &job, int head)
{
    return job.heads + head / job.group;
}
/* dy, or y. */
static __device__ __forceinline__ struct rp_at_matrix
rp_at_out_head(const struct rp_at_job &job, const float *y, int sample, int head)
{
    int64_t stride = (int64_t)job.heads * job.d;
    struct rp_at_matrix m = {y + sample * job.tokens * stride + (int64_t)head * job.d, stride,
                             job.tokens};
    return m;
}

/* This thread's first row and column of a tile: four of each. */
static __device__ __forceinline__ int rp_at_row()
{
    return (int)threadIdx.x / 16 * 4;
}
static __device__ __forceinline__ int rp_at_column()
{
    return (int)threadIdx.x % 16 * 4;
}

typedef float rp_at_chunk[RP_AT_DEPTH][RP_AT_PAD];

/* to[d][r] = row row0 + r, value d0 + d; 0 outside. A warp takes 4 rows by 8 values at a time:
 * whole sectors of memory, and each lane another bank. */
static __device__ __forceinline__ void rp_at_load(const struct rp_at_matrix &m, int row0, int d0,
                                                  int n_d, rp_at_chunk &to)
{
    int lane = (int)threadIdx.x % 32, r = (int)threadIdx.x / 32 * 8 + lane / 8, d = lane % 8;
    const float *from = m.base + (row0 + r) * m.stride + d0 + d;
    RP_UNROLL
    for (int i = 0; i < 2; i++, r += 4, from += 4 * m.stride) {
        bool inside = row0 + r < m.rows;
        RP_UNROLL
        for (int k = 0; k < RP_AT_DEPTH; k += 8)
            to[d + k][r] = inside && d + k < n_d ? from[k] : 0.0f;
    }
}

static __device__ __forceinline__ void rp_at_add(float acc[4], float x, const float4 &y)
{
    acc[0] = rp_fma(x, y.x, acc[0]);
    acc[1] = rp_fma(x, y.y, acc[1]);
    acc[2] = rp_fma(x, y.z, acc[2]);
    acc[3] = rp_fma(x, y.w, acc[3]);
}

static __device__ __forceinline__ void rp_at_add_term(float acc[4][4], const float *a,
                                                      const float *b)
{
    float4 x = *reinterpret_cast<const float4 *>(a + rp_at_row());
    float4 y = *reinterpret_cast<const float4 *>(b + rp_at_column());
    rp_at_add(acc[0], x.x, y);
    rp_at_add(acc[1], x.y, y);
    rp_at_add(acc[2], x.z, y);
    rp_at_add(acc[3], x.w, y);
}

/* acc = products of rows of a and rows of b, over all d. Begins with a barrier. */
static __device__ __forceinline__ void rp_at_scores(const struct rp_at_matrix &a, int a0,
                                                    const struct rp_at_matrix &b, int b0, int n_d,
                                                    rp_at_chunk (&buffer)[2], float acc[4][4])
{
    RP_UNROLL
    for (int i = 0; i < 4; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    RP_NO_UNROLL
    for (int d = 0; d < n_d; d += RP_AT_DEPTH) {
        int n = n_d - d < RP_AT_DEPTH ? n_d - d : (int)RP_AT_DEPTH;
        __syncthreads();
        rp_at_load(a, a0, d, n, buffer[0]);
        rp_at_load(b, b0, d, n, buffer[1]);
        __syncthreads();
        if (n == RP_AT_DEPTH) {
            RP_NO_UNROLL
            for (int k = 0; k < RP_AT_DEPTH; k += 8) RP_UNROLL
            for (int i = k; i < k + 8; i++) rp_at_add_term(acc, buffer[0][i], buffer[1][i]);
        } else {
            RP_NO_UNROLL
            for (int k = 0; k < n; k++) rp_at_add_term(acc, buffer[0][k], buffer[1][k]);
        }
    }
}

/* Which of this thread's four times four weights dropout keeps: bit 4 i + j. */
static __device__ __forceinline__ unsigned rp_at_kept(const struct rp_at_job &job, int sample,
                                                      int head, int query0, int key0)
{
    unsigned kept = 0;
    if (!job.drops) return 0xffffu;
    uint64_t seed = job.pass->seed, position = job.pass->position + (uint64_t)sample;
    RP_NO_UNROLL
    for (int i = 0; i < 4; i++) {
        uint64_t row = (uint64_t)head * (uint64_t)job.tokens + (uint64_t)(query0 + rp_at_row() + i);
        uint64_t element = row * (uint64_t)job.tokens + (uint64_t)(key0 + rp_at_column());
        uint32_t block = (uint32_t)(element / 4), skip = (uint32_t)(element % 4);
        struct rp_draw now = rp_draw_block(seed, RP_PURPOSE_DROPOUT, job.site, position, block);
        unsigned four = 0;
        RP_UNROLL
        for (int k = 0; k < 4; k++) four |= (unsigned)(now.u[k] >= job.threshold) << k;
        if (skip != 0) {
            now = rp_draw_block(seed, RP_PURPOSE_DROPOUT, job.site, position, block + 1);
            RP_UNROLL
            for (int k = 0; k < 4; k++) four |= (unsigned)(now.u[k] >= job.threshold) << (4 + k);
        }
        kept |= (four >> skip & 15u) << (4 * i);
    }
    return kept;
}

/* ---- sums of weighted rows ------------------------------------------------------------------- */

/* This thread's four rows, and four columns of every 64 of the 64 quads. `chain` is the open panel,
 * `total` those before, from -0, which changes nothing that is added to it; where there is one
 * panel at most it takes no registers. */
template <int quads, bool one_panel = false> struct rp_at_rows {
    float chain[4][4 * quads], total[one_panel ? 1 : 4][one_panel ? 1 : 4 * quads];

    __device__ __forceinline__ void begin()
    {
        RP_UNROLL
        for (int i = 0; i < 4; i++) RP_UNROLL
        for (int j = 0; j < 4 * quads; j++) {
            chain[i][j] = 0.0f;
            if constexpr (!one_panel) total[i][j] = -0.0f;
        }
    }
    __device__ __forceinline__ void end_panel()
    {
        if constexpr (!one_panel) {
            RP_UNROLL
            for (int i = 0; i < 4; i++) RP_UNROLL
            for (int j = 0; j < 4 * quads; j++) {
                total[i][j] = total[i][j] + chain[i][j];
                chain[i][j] = 0.0f;
            }
        }
    }
    /* store(i, column, sum) for every output of this thread below n_d. */
    template <class Store> __device__ __forceinline__ void end(int n_d, Store store)
    {
        end_panel();
        RP_UNROLL
        for (int i = 0; i < 4; i++) RP_UNROLL
        for (int j = 0; j < 4 * quads; j++) {
            int column = rp_at_column() + j / 4 * RP_AT_TILE + j % 4;
            if constexpr (one_panel) {
                if (column < n_d) store(i, column, chain[i][j]);
            } else {
                if (column < n_d) store(i, column, total[i][j]);
            }
        }
    }
};

/* Which k a row has of a tile: all, those up to its own number, those from it on. */
enum rp_at_order { RP_AT_ALL, RP_AT_UP_TO, RP_AT_FROM };

typedef float rp_at_weights[RP_AT_TILE][RP_AT_PAD];

/* The first n of the values that are in shared memory, which are k and so on. */
template <enum rp_at_order order, int quads, bool one_panel>
static __device__ __forceinline__ void rp_at_add_rows(struct rp_at_rows<quads, one_panel> &rows,
                                                      const rp_at_weights &weights, int k, int n,
                                                      const float (*values)[RP_AT_TILE * quads])
{
    RP_NO_UNROLL
    for (int r = 0; r < n; r++) {
        float4 w = *reinterpret_cast<const float4 *>(weights[k + r] + rp_at_row());
        float x[4] = {w.x, w.y, w.z, w.w};
        RP_UNROLL
        for (int i = 0; i < 4; i++) {
            int own = rp_at_row() + i;
            if (order == RP_AT_UP_TO && k + r > own) continue;
            if (order == RP_AT_FROM && k + r < own) continue;
            RP_UNROLL
            for (int q = 0; q < quads; q++)
                rp_at_add(
                    rows.chain[i] + 4 * q, x[i],
                    *reinterpret_cast<const float4 *>(values[r] + rp_at_column() + q * RP_AT_TILE));
        }
    }
}

/* rows[r] += weights[k][r] times row k0 + k of m, k below n_k; on the diagonal (`order`) only the k
 * of a row. Begins with a barrier. */
template <enum rp_at_order order, int quads, bool one_panel>
static __device__ __forceinline__ void rp_at_mix(struct rp_at_rows<quads, one_panel> &rows,
                                                 const rp_at_weights &weights,
                                                 const struct rp_at_matrix &m, int k0, int n_k,
                                                 int n_d, bool diagonal, rp_at_chunk (&buffer)[2])
{
    enum { width = RP_AT_TILE * quads, step = RP_AT_THREADS / width };
    enum { at_once = 4096 / width < 32 ? 4096 / width : 32 };
    float(*values)[width] = reinterpret_cast<float(*)[width]>(&buffer[0][0][0]);
    RP_NO_UNROLL
    for (int k = 0; k < n_k; k += at_once) {
        int n = n_k - k < at_once ? n_k - k : (int)at_once;
        __syncthreads();
        int r = (int)threadIdx.x / width, d = (int)threadIdx.x % width;
        const float *from = m.base + (k0 + k + r) * m.stride + d;
        RP_UNROLL
        for (int i = 0; i < at_once / step; i++, r += step, from += step * m.stride)
            values[r][d] = r < n && d < n_d ? *from : 0.0f;
        __syncthreads();
        if (diagonal)
            rp_at_add_rows<order>(rows, weights, k, n, values);
        else
            rp_at_add_rows<RP_AT_ALL>(rows, weights, k, n, values);
    }
}

/* Blocks on one processor: with heads of 64 two blocks' registers fit. */
#define RP_AT_RESIDENT(quads) ((quads) == 1 ? 2 : 1)

/* A statement like RP_LAUNCH, of kernel<columns / 64, ...>(job). */
#define RP_AT_LAUNCH(cuda, kernel, blocks, job, ...)                                               \
    do {                                                                                           \
        if ((job).d <= 64)                                                                         \
            RP_LAUNCH(cuda, (kernel<1, ##__VA_ARGS__>), (blocks), RP_AT_THREADS, 0, (job));        \
        else if ((job).d <= 128)                                                                   \
            RP_LAUNCH(cuda, (kernel<2, ##__VA_ARGS__>), (blocks), RP_AT_THREADS, 0, (job));        \
        else                                                                                       \
            RP_LAUNCH(cuda, (kernel<4, ##__VA_ARGS__>), (blocks), RP_AT_THREADS, 0, (job));        \
    } while (0)

#endif
