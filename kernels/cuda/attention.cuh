/* attention.cuh - private to attention*.cu: a tile of 64 queries against one of 64 keys.
 *
 * A block makes the scores of a tile, eight or four by four a thread, over all d; puts the
 * weights that come of them into shared memory; and adds their products with rows of values to
 * sums in registers. Threads share no sum. Scores are made again wherever they are needed, so that
 * nothing grows with the square of the tokens. */
#ifndef RP_CUDA_ATTENTION_CUH
#define RP_CUDA_ATTENTION_CUH

#include "cuda/gpu.h"

enum {
    RP_AT_TILE = 64,
    RP_AT_PAD = RP_AT_TILE + 4,
    RP_AT_DEPTH = 32, /* values of d that are in shared memory together */
};

/* How threads share a tile: each has four columns, and eight rows where the sums of that many fit
 * into its registers. `quads`: of 64 values of d. */
template <int quads> struct rp_at_shape {
    enum { rows = quads == 1 ? 8 : 4, threads = RP_AT_TILE * RP_AT_TILE / (4 * rows) };
    /* Blocks on one processor: as many as the registers hold. */
    static constexpr int resident(bool one_panel) { return quads > 1 ? 1 : one_panel ? 3 : 2; }
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
    bool vector; /* every row begins at a multiple of 16 bytes */
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
    job.vector = job.d % 4 == 0 && (uintptr_t)job.qkv % 16 == 0;
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
    bool vector;
};

static __device__ __forceinline__ struct rp_at_matrix rp_at_head(const struct rp_at_job &job,
                                                                 int sample, int head)
{
    struct rp_at_matrix m = {job.qkv + sample * job.tokens * job.width + (int64_t)head * job.d,
                             job.width, job.tokens, job.vector};
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
                             job.tokens, job.vector && (uintptr_t)y % 16 == 0};
    return m;
}

/* Row i of this thread in a tile, and the first of its four columns. Two warps lie side by side; of
 * 8 lanes neighbours share rows and lanes 2 apart columns, so that a read of 16 bytes a lane from
 * shared memory is two passes and not four. */
template <int rows> static __device__ __forceinline__ int rp_at_row(int i)
{
    int lane = (int)threadIdx.x % 32, of_lane = ((lane >> 1 & 1) + (lane >> 4) * 2) * 4;
    return (int)threadIdx.x / 64 * (4 * rows) + of_lane + i / 4 * 16 + i % 4;
}
static __device__ __forceinline__ int rp_at_column()
{
    int lane = (int)threadIdx.x % 32;
    return (int)threadIdx.x / 32 % 2 * 32 + ((lane & 1) + (lane >> 2 & 3) * 2) * 4;
}

typedef float rp_at_chunk[RP_AT_DEPTH][RP_AT_PAD];

/* Values of which 16 bytes are read at once: a warp takes 16 rows by 8 values, whole sectors of
 * memory, and each lane stores to another bank. */
template <int threads>
static __device__ __forceinline__ void rp_at_load_quads(const struct rp_at_matrix &m, int row0,
                                                        int d0, int n_d, rp_at_chunk &to)
{
    enum { warps = threads / 32, units = RP_AT_TILE / 16 * RP_AT_DEPTH / 8 };
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int r = warp % 4 * 16 + lane % 16, d = warp / 4 * 8 + lane / 16 * 4;
    const float *from = m.base + (row0 + r) * m.stride + d0;
    bool inside = row0 + r < m.rows;
    RP_UNROLL
    for (int u = 0; u < units / warps; u++, d += warps / 4 * 8) {
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside && d < n_d) v = *reinterpret_cast<const float4 *>(from + d);
        to[d][r] = v.x, to[d + 1][r] = v.y, to[d + 2][r] = v.z, to[d + 3][r] = v.w;
    }
}

/* to[d][r] = row row0 + r, value d0 + d; 0 outside. One by one a warp takes 4 rows by 8 values at a
 * time. */
template <int threads>
static __device__ __forceinline__ void rp_at_load(const struct rp_at_matrix &m, int row0, int d0,
                                                  int n_d, rp_at_chunk &to)
{
    enum { each = RP_AT_TILE / (threads / 32) }; /* rows of a warp */
    if (m.vector) {
        rp_at_load_quads<threads>(m, row0, d0, n_d, to);
        return;
    }
    int lane = (int)threadIdx.x % 32, r = (int)threadIdx.x / 32 * each + lane / 8, d = lane % 8;
    const float *from = m.base + (row0 + r) * m.stride + d0 + d;
    RP_NO_UNROLL
    for (int i = 0; i < each / 4; i++, r += 4, from += 4 * m.stride) {
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

/* The `rows` numbers of this thread's rows that lie side by side in one line of a tile. */
template <int rows>
static __device__ __forceinline__ void rp_at_read_rows(const float *line, float (&x)[rows])
{
    RP_UNROLL
    for (int q = 0; q < rows; q += 4) {
        float4 v = *reinterpret_cast<const float4 *>(line + rp_at_row<rows>(q));
        x[q] = v.x, x[q + 1] = v.y, x[q + 2] = v.z, x[q + 3] = v.w;
    }
}

template <int rows>
static __device__ __forceinline__ void rp_at_add_term(float (&acc)[rows][4], const float *a,
                                                      const float *b)
{
    float x[rows];
    rp_at_read_rows(a, x);
    float4 y = *reinterpret_cast<const float4 *>(b + rp_at_column());
    RP_UNROLL
    for (int i = 0; i < rows; i++) rp_at_add(acc[i], x[i], y);
}

/* acc = products of rows of a and rows of b, over all d. Begins with a barrier. */
template <int rows>
static __device__ __forceinline__ void rp_at_scores(const struct rp_at_matrix &a, int a0,
                                                    const struct rp_at_matrix &b, int b0, int n_d,
                                                    rp_at_chunk (&buffer)[2], float (&acc)[rows][4])
{
    enum { threads = RP_AT_TILE * RP_AT_TILE / (4 * rows) };
    RP_UNROLL
    for (int i = 0; i < rows; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    RP_NO_UNROLL
    for (int d = 0; d < n_d; d += RP_AT_DEPTH) {
        int n = n_d - d < RP_AT_DEPTH ? n_d - d : (int)RP_AT_DEPTH;
        __syncthreads();
        rp_at_load<threads>(a, a0, d, n, buffer[0]);
        rp_at_load<threads>(b, b0, d, n, buffer[1]);
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

/* The same of tiles of at most 64 values that are in shared memory whole. */
template <int rows>
static __device__ __forceinline__ void rp_at_scores_of_tiles(const rp_at_chunk (&of_a)[2],
                                                             const rp_at_chunk (&of_b)[2], int n_d,
                                                             float (&acc)[rows][4])
{
    const float(*a)[RP_AT_PAD] = of_a[0], (*b)[RP_AT_PAD] = of_b[0];
    int k = 0;
    RP_UNROLL
    for (int i = 0; i < rows; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) acc[i][j] = 0.0f;
    RP_NO_UNROLL
    for (; k + 8 <= n_d; k += 8) RP_UNROLL
    for (int i = k; i < k + 8; i++) rp_at_add_term(acc, a[i], b[i]);
    RP_NO_UNROLL
    for (; k < n_d; k++) rp_at_add_term(acc, a[k], b[k]);
}

/* All values of a tile of rows, at most 64. */
template <int threads>
static __device__ __forceinline__ void rp_at_load_tile(const struct rp_at_matrix &m, int row0,
                                                       int n_d, rp_at_chunk (&to)[2])
{
    rp_at_load<threads>(m, row0, 0, n_d, to[0]);
    if (n_d > RP_AT_DEPTH) rp_at_load<threads>(m, row0, RP_AT_DEPTH, n_d - RP_AT_DEPTH, to[1]);
}

/* A tile of rows of a matrix. A block that comes back to it keeps it in shared memory, where heads
 * are narrow enough. */
struct rp_at_operand {
    struct rp_at_matrix m;
    int row0;
    rp_at_chunk (*kept)[2]; /* or NULL */
};

template <int quads>
static __device__ __forceinline__ struct rp_at_operand
rp_at_keep(const struct rp_at_matrix &m, int row0, int n_d, rp_at_chunk (&to)[2])
{
    struct rp_at_operand kept = {m, row0, &to};
    if (quads == 1) rp_at_load_tile<rp_at_shape<quads>::threads>(m, row0, n_d, to);
    return kept;
}
static __device__ __forceinline__ struct rp_at_operand rp_at_read(const struct rp_at_matrix &m,
                                                                  int row0)
{
    struct rp_at_operand read = {m, row0, NULL};
    return read;
}

/* acc = products of rows of a and b, of which `a_kept` says which is kept. Begins with a barrier.
 */
template <int quads, bool a_kept, int rows>
static __device__ __forceinline__ void
rp_at_make_scores(const struct rp_at_operand &a, const struct rp_at_operand &b, int n_d,
                  rp_at_chunk (&buffer)[2], float (&acc)[rows][4])
{
    if constexpr (quads == 1) {
        const struct rp_at_operand &comes = a_kept ? b : a;
        __syncthreads();
        rp_at_load_tile<rp_at_shape<quads>::threads>(comes.m, comes.row0, n_d, buffer);
        __syncthreads();
        if constexpr (a_kept)
            rp_at_scores_of_tiles(*a.kept, buffer, n_d, acc);
        else
            rp_at_scores_of_tiles(buffer, *b.kept, n_d, acc);
    } else {
        rp_at_scores(a.m, a.row0, b.m, b.row0, n_d, buffer, acc);
    }
}

/* Which of this thread's weights dropout keeps: bit 4 i + j. */
template <int rows>
static __device__ __forceinline__ unsigned rp_at_kept(const struct rp_at_job &job, int sample,
                                                      int head, int query0, int key0)
{
    unsigned kept = 0;
    if (!job.drops) return 0xffffffffu;
    uint64_t seed = job.pass->seed, position = job.pass->position + (uint64_t)sample;
    RP_NO_UNROLL
    for (int i = 0; i < rows; i++) {
        uint64_t row =
            (uint64_t)head * (uint64_t)job.tokens + (uint64_t)(query0 + rp_at_row<rows>(i));
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

/* This thread's rows, and four columns of every 64 of the 64 quads. `chain` is the open panel,
 * `total` those before, from -0, which changes nothing that is added to it; where there is one
 * panel at most it takes no registers. */
template <int quads, bool one_panel> struct rp_at_rows {
    enum { n = rp_at_shape<quads>::rows };
    float chain[n][4 * quads], total[one_panel ? 1 : n][one_panel ? 1 : 4 * quads];

    __device__ __forceinline__ void begin()
    {
        RP_UNROLL
        for (int i = 0; i < n; i++) RP_UNROLL
        for (int j = 0; j < 4 * quads; j++) {
            chain[i][j] = 0.0f;
            if constexpr (!one_panel) total[i][j] = -0.0f;
        }
    }
    __device__ __forceinline__ void end_panel()
    {
        if constexpr (!one_panel) {
            RP_UNROLL
            for (int i = 0; i < n; i++) RP_UNROLL
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
        for (int i = 0; i < n; i++) RP_UNROLL
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

/* to[column][row] of what this thread holds. */
template <int rows>
static __device__ __forceinline__ void rp_at_put_columns(const float (&w)[rows][4],
                                                         rp_at_weights &to)
{
    RP_UNROLL
    for (int q = 0; q < rows; q += 4) RP_UNROLL
    for (int j = 0; j < 4; j++)
        *reinterpret_cast<float4 *>(to[rp_at_column() + j] + rp_at_row<rows>(q)) =
            make_float4(w[q][j], w[q + 1][j], w[q + 2][j], w[q + 3][j]);
}

/* Term k: weights of this thread's rows times values. */
template <enum rp_at_order order, int quads, bool one_panel>
static __device__ __forceinline__ void rp_at_add_row(struct rp_at_rows<quads, one_panel> &rows,
                                                     const float *weights, int k,
                                                     const float (&values)[RP_AT_TILE * quads])
{
    enum { n = rp_at_shape<quads>::rows };
    float x[n];
    float4 y[quads];
    rp_at_read_rows(weights, x);
    RP_UNROLL
    for (int q = 0; q < quads; q++)
        y[q] = *reinterpret_cast<const float4 *>(values + rp_at_column() + q * RP_AT_TILE);
    RP_UNROLL
    for (int i = 0; i < n; i++) {
        int own = rp_at_row<n>(i);
        if (order == RP_AT_UP_TO && k > own) continue;
        if (order == RP_AT_FROM && k < own) continue;
        RP_UNROLL
        for (int q = 0; q < quads; q++) rp_at_add(rows.chain[i] + 4 * q, x[i], y[q]);
    }
}

/* The first n of the values that are in shared memory, which are k and so on. */
template <enum rp_at_order order, int quads, bool one_panel>
static __device__ __forceinline__ void rp_at_add_rows(struct rp_at_rows<quads, one_panel> &rows,
                                                      const rp_at_weights &weights, int k, int n,
                                                      const float (*values)[RP_AT_TILE * quads])
{
    enum { together = order == RP_AT_ALL ? 8 / quads : 1 };
    int r = 0;
    RP_NO_UNROLL
    for (; r + together <= n; r += together) RP_UNROLL
    for (int i = 0; i < together; i++)
        rp_at_add_row<order>(rows, weights[k + r + i], k + r + i, values[r + i]);
    RP_NO_UNROLL
    for (; r < n; r++) rp_at_add_row<order>(rows, weights[k + r], k + r, values[r]);
}

/* values[r] = row row0 + r of m, r below n; 0 outside. */
template <int threads, int width, int n>
static __device__ __forceinline__ void rp_at_load_rows(const struct rp_at_matrix &m, int row0,
                                                       int n_rows, int n_d, float (*values)[width])
{
    if (m.vector) {
        enum { quads = width / 4, step = threads / quads };
        int r = (int)threadIdx.x / quads, d = (int)threadIdx.x % quads * 4;
        const float *from = m.base + (row0 + r) * m.stride + d;
        RP_UNROLL
        for (int i = 0; i < n / step; i++, r += step, from += step * m.stride) {
            float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
            if (r < n_rows && d < n_d) v = *reinterpret_cast<const float4 *>(from);
            *reinterpret_cast<float4 *>(&values[r][d]) = v;
        }
        return;
    }
    RP_NO_UNROLL
    for (int i = (int)threadIdx.x; i < n * width; i += threads) {
        int r = i / width, d = i % width;
        bool inside = r < n_rows && d < n_d;
        values[r][d] = inside ? m.base[(row0 + r) * m.stride + d] : 0.0f;
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
    enum { width = RP_AT_TILE * quads, at_once = 4096 / width };
    float(*values)[width] = reinterpret_cast<float(*)[width]>(&buffer[0][0][0]);
    RP_NO_UNROLL
    for (int k = 0; k < n_k; k += at_once) {
        int n = n_k - k < at_once ? n_k - k : (int)at_once;
        __syncthreads();
        rp_at_load_rows<rp_at_shape<quads>::threads, width, at_once>(m, k0 + k, n, n_d, values);
        __syncthreads();
        if (diagonal)
            rp_at_add_rows<order>(rows, weights, k, n, values);
        else
            rp_at_add_rows<RP_AT_ALL>(rows, weights, k, n, values);
    }
}

/* The shared memory of a block. What is kept comes last: where heads are wide there is none. */
template <int n_kept> struct rp_at_shared {
    rp_at_chunk buffer[2];
    rp_at_weights weights;
    rp_at_chunk kept[n_kept][2];
};

/* A statement like RP_LAUNCH, of kernel<columns / 64, ...>(job), which keeps so many tiles. */
#define RP_AT_LAUNCH_OF(cuda, kernel, quads, n_kept, blocks, job, ...)                             \
    do {                                                                                           \
        size_t bytes_ = sizeof(rp_at_shared<n_kept>);                                              \
        if ((quads) > 1) bytes_ -= (n_kept) * sizeof(rp_at_chunk[2]);                              \
        RP_ALLOW_SHARED((kernel<quads, ##__VA_ARGS__>), bytes_);                                   \
        RP_LAUNCH(cuda, (kernel<quads, ##__VA_ARGS__>), (blocks), rp_at_shape<quads>::threads,     \
                  bytes_, (job));                                                                  \
    } while (0)
#define RP_AT_LAUNCH(cuda, kernel, n_kept, blocks, job, ...)                                       \
    do {                                                                                           \
        if ((job).d <= 64)                                                                         \
            RP_AT_LAUNCH_OF(cuda, kernel, 1, n_kept, blocks, job, ##__VA_ARGS__);                  \
        else if ((job).d <= 128)                                                                   \
            RP_AT_LAUNCH_OF(cuda, kernel, 2, n_kept, blocks, job, ##__VA_ARGS__);                  \
        else                                                                                       \
            RP_AT_LAUNCH_OF(cuda, kernel, 4, n_kept, blocks, job, ##__VA_ARGS__);                  \
    } while (0)

#endif
