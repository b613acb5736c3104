/* batch_norm_held.cuh - private to batch_norm.cu: batch norm where the rows of a shard fit into
 * shared memory, a few channels at a time.
 *
 * A block takes `width` channels of one shard, reads their rows once, makes the sums of chapter 6
 * (a thread for each panel and channel, then the panels), and writes the result from what it holds.
 * A second launch adds the shards. The order is that of columns.h.
 *
 * A thread's chain is a thousand additions of four cycles each, which nothing makes shorter: so the
 * first one runs while rows still come in, and nothing but additions is in its way. Eight channels
 * are a sector of 32 bytes, of which fewer would move the rest for nothing. */
#ifndef RP_CUDA_BATCH_NORM_HELD_CUH
#define RP_CUDA_BATCH_NORM_HELD_CUH

#include "cuda/columns.h"

enum {
    RP_HELD_THREADS = 256,
    RP_HELD_WIDTH = 32, /* channels of a block at most; and 16, 8 */
    RP_HELD_LEAST = 8,
    RP_HELD_RESIDENT = 2, /* blocks that a processor should have */
    RP_HELD_PANELS = 16,
    RP_HELD_STAGE = 128, /* rows of each panel that come together */
    RP_HELD_AHEAD = 4,   /* stages on the way */
    RP_HELD_BATCH = 16   /* rows of a chain that are loaded while as many are added */
};

struct rp_held_job {
    const float *in[2];        /* x; or dy and x: (rows, C) */
    const float *gamma, *beta; /* (C) */
    const float *means, *invs; /* (shards, C), of the gradient */
    float *mean, *inv;         /* (shards, C), made */
    float *out;                /* (rows, C) */
    float *partial;            /* (shards, 2, C): what is added over the shards */
    int64_t n_cols;
    int rows, panels, slices; /* of a shard; slices: blocks beside each other */
    float m, less_one, eps;
};

/* What all threads of a block know of a channel. */
struct rp_held_shared {
    float chain[2][RP_HELD_PANELS][RP_HELD_WIDTH];
    float of_column[5][RP_HELD_WIDTH];
};

/* Panels lie `width` further apart than their rows take, so that the lanes of a warp, which walk
 * down different panels and channels together, have a bank each. */
template <int width> static __device__ __forceinline__ int rp_held_at(int row)
{
    return (row + row / RP_PANEL) * width;
}
static inline size_t rp_held_floats(int64_t rows, int width)
{
    return (size_t)(rows + (rows - 1) / RP_PANEL) * (size_t)width;
}

static __device__ __forceinline__ int rp_held_stages(const struct rp_held_job &job)
{
    int longest = job.rows < RP_PANEL ? job.rows : (int)RP_PANEL;
    return (longest + RP_HELD_STAGE - 1) / RP_HELD_STAGE;
}

/* Begins to copy stage `stage` of the block's rows of each input; those of absent channels become
 * zeros. */
template <int width, int inputs>
static __device__ __forceinline__ void rp_held_read(const struct rp_held_job &job, int stage,
                                                    int64_t first_row, int64_t col, float *held)
{
    const int quads = width / 4, step = RP_HELD_THREADS / quads;
    int quad = (int)threadIdx.x % quads * 4, of_input = rp_held_at<width>(job.rows - 1) + width;
    int row = stage * RP_HELD_STAGE + (int)threadIdx.x / quads;
    bool inside = col + quad < job.n_cols;
    int64_t from = (first_row + row) * job.n_cols + (inside ? col + quad : 0);
    float *to = held + row * width + quad;
    if (stage * RP_HELD_STAGE >= RP_PANEL) return;
    RP_NO_UNROLL
    for (; row < job.rows; row += RP_PANEL) {
        RP_UNROLL
        for (int r = 0; r < RP_HELD_STAGE; r += step) {
            RP_UNROLL
            for (int i = 0; i < inputs; i++)
                if (row + r < job.rows)
                    rp_copy_async16_line(to + i * of_input + r * width,
                                         job.in[i] + from + r * job.n_cols, inside);
        }
        from += RP_PANEL * job.n_cols;
        to += (RP_PANEL + 1) * width;
    }
}

/* The chain of this thread: of one panel and channel, or of none. */
struct rp_held_chain {
    int at, col, panel; /* at: of its first row */
    int rows;           /* 0: none */
    float acc[2];
};

template <int width>
static __device__ __forceinline__ rp_held_chain rp_held_begin(const struct rp_held_job &job)
{
    rp_held_chain chain = {0, (int)threadIdx.x % width, (int)threadIdx.x / width, 0, {0, 0}};
    int row = chain.panel * RP_PANEL, left = job.rows - row;
    if (chain.panel >= job.panels) return chain;
    chain.rows = left < RP_PANEL ? left : (int)RP_PANEL;
    chain.at = rp_held_at<width>(row) + chain.col;
    return chain;
}

/* Adds `count` rows from `at` on: load(place, v), add(v, acc). A batch is loaded while the one
 * before is added; all places are known beforehand, so that no more than that is done. */
template <int width, int count, class Load, class Add>
static __device__ __forceinline__ void rp_held_add(int at, float (&acc)[2], Load load, Add add)
{
    const int batch = count < RP_HELD_BATCH ? count : (int)RP_HELD_BATCH;
    float v[2][batch][2];
    RP_UNROLL
    for (int i = 0; i < batch; i++) load(at + i * width, v[0][i]);
    RP_UNROLL
    for (int k = 0; k < count / batch; k++) {
        RP_UNROLL
        for (int i = 0; i < batch; i++)
            if ((k + 1) * batch < count)
                load(at + ((k + 1) * batch + i) * width, v[(k + 1) % 2][i]);
        RP_UNROLL
        for (int i = 0; i < batch; i++) add(v[k % 2][i], acc);
    }
}

/* The rows of one stage into this thread's chain. */
template <int width, class Load, class Add>
static __device__ __forceinline__ void rp_held_go_on(rp_held_chain &chain, int stage, Load load,
                                                     Add add)
{
    int done = stage * RP_HELD_STAGE, at = chain.at + done * width, left = chain.rows - done;
    if (left >= RP_HELD_STAGE) {
        rp_held_add<width, RP_HELD_STAGE>(at, chain.acc, load, add);
        return;
    }
    RP_NO_UNROLL
    for (; left >= RP_HELD_BATCH; left -= RP_HELD_BATCH, at += RP_HELD_BATCH * width)
        rp_held_add<width, RP_HELD_BATCH>(at, chain.acc, load, add);
    RP_NO_UNROLL
    for (; left > 0; left--, at += width) rp_held_add<width, 1>(at, chain.acc, load, add);
}

template <int sums>
static __device__ __forceinline__ void rp_held_leave(const rp_held_chain &chain,
                                                     rp_held_shared &shared)
{
    RP_UNROLL
    for (int i = 0; i < sums; i++)
        if (chain.rows > 0) shared.chain[i][chain.panel][chain.col] = chain.acc[i];
}

/* Reads all rows and makes the first sums of them, as they come. */
template <int width, int inputs, class Load, class Add>
static __device__ __forceinline__ void rp_held_first(const struct rp_held_job &job,
                                                     rp_held_shared &shared, int64_t first_row,
                                                     int64_t col, float *held, Load load, Add add)
{
    rp_held_chain chain = rp_held_begin<width>(job);
    int stages = rp_held_stages(job);
    for (int s = 0; s < RP_HELD_AHEAD; s++) {
        rp_held_read<width, inputs>(job, s, first_row, col, held);
        rp_copy_async_commit();
    }
    RP_NO_UNROLL
    for (int s = 0; s < stages; s++) {
        rp_held_read<width, inputs>(job, s + RP_HELD_AHEAD, first_row, col, held);
        rp_copy_async_commit();
        rp_copy_async_wait<RP_HELD_AHEAD>();
        __syncthreads();
        rp_held_go_on<width>(chain, s, load, add);
    }
    rp_held_leave<inputs>(chain, shared);
    __syncthreads();
}

/* The chain of the first panel, then + the chain of each next one. */
static __device__ __forceinline__ float
rp_held_sum(const struct rp_held_job &job, const rp_held_shared &shared, int which, int col)
{
    float sum = shared.chain[which][0][col];
    RP_NO_UNROLL
    for (int p = 1; p < job.panels; p++) sum += shared.chain[which][p][col];
    return sum;
}

static __device__ __forceinline__ void rp_held_quad(const float *from, float v[4])
{
    float4 quad = *reinterpret_cast<const float4 *>(from);
    v[0] = quad.x, v[1] = quad.y, v[2] = quad.z, v[3] = quad.w;
}

/* make(place, y) of four neighbouring channels of each row, written; the channels from
 * rp_held_own() on. */
template <int width> static __device__ __forceinline__ int rp_held_own()
{
    return (int)threadIdx.x % (width / 4) * 4;
}
template <int width, class Make>
static __device__ __forceinline__ void rp_held_write(const struct rp_held_job &job,
                                                     int64_t first_row, int64_t col, Make make)
{
    const int step = RP_HELD_THREADS / (width / 4);
    int quad = rp_held_own<width>(), row = (int)threadIdx.x / (width / 4);
    if (col + quad >= job.n_cols) return;
    float *to = job.out + (first_row + row) * job.n_cols + col + quad;
    RP_UNROLL_4
    for (; row < job.rows; row += step, to += step * job.n_cols) {
        float y[4];
        make(rp_held_at<width>(row) + quad, y);
        *reinterpret_cast<float4 *>(to) = make_float4(y[0], y[1], y[2], y[3]);
    }
}

/* A second walk down what is held, of one sum. */
template <int width, class Load, class Add>
static __device__ __forceinline__ void rp_held_again(const struct rp_held_job &job,
                                                     rp_held_shared &shared, Load load, Add add)
{
    rp_held_chain chain = rp_held_begin<width>(job);
    int stages = rp_held_stages(job);
    RP_NO_UNROLL
    for (int s = 0; s < stages; s++) rp_held_go_on<width>(chain, s, load, add);
    rp_held_leave<1>(chain, shared);
    __syncthreads();
}

template <int width>
__global__ void __launch_bounds__(RP_HELD_THREADS, 2) rp_held_normalize(struct rp_held_job job)
{
    RP_SHARED_DYNAMIC(float, held);
    RP_SHARED(rp_held_shared, all, [1]);
    rp_held_shared &shared = all[0];
    int shard = (int)blockIdx.x / job.slices, thread = (int)threadIdx.x;
    int64_t col = (int64_t)(blockIdx.x % (unsigned)job.slices) * width;
    int64_t first_row = (int64_t)shard * job.rows, of_shard = shard * job.n_cols + col;
    bool owns = thread < width && col + thread < job.n_cols; /* a channel's statistics */
    auto load = [=](int at, float *v) { v[0] = held[at]; };
    rp_held_first<width, 1>(job, shared, first_row, col, held, load,
                            [](const float *v, float *acc) { acc[0] += v[0]; });
    if (thread < width) {
        float mean = rp_held_sum(job, shared, 0, thread) / job.m;
        shared.of_column[0][thread] = mean;
        if (owns) {
            job.mean[of_shard + thread] = mean;
            job.partial[2 * shard * job.n_cols + col + thread] = mean;
        }
    }
    __syncthreads();
    float of_chain = shared.of_column[0][thread % width];
    rp_held_again<width>(job, shared, load, [=](const float *v, float *acc) {
        float d = v[0] - of_chain;
        acc[0] = rp_fma(d, d, acc[0]);
    });
    if (owns) {
        float sum = rp_held_sum(job, shared, 0, thread);
        float inv = 1.0f / rp_sqrt(sum / job.m + job.eps);
        job.inv[of_shard + thread] = inv;
        job.partial[(2 * shard + 1) * job.n_cols + col + thread] = sum / job.less_one;
        shared.of_column[1][thread] = inv * job.gamma[col + thread];
        shared.of_column[2][thread] = job.beta[col + thread];
    }
    __syncthreads();
    float mean[4], scale[4], beta[4];
    rp_held_quad(shared.of_column[0] + rp_held_own<width>(), mean);
    rp_held_quad(shared.of_column[1] + rp_held_own<width>(), scale);
    rp_held_quad(shared.of_column[2] + rp_held_own<width>(), beta);
    rp_held_write<width>(job, first_row, col, [&](int at, float y[4]) {
        float x[4];
        rp_held_quad(held + at, x);
        RP_UNROLL
        for (int k = 0; k < 4; k++) y[k] = rp_fma(x[k] - mean[k], scale[k], beta[k]);
    });
}

template <int width>
__global__ void __launch_bounds__(RP_HELD_THREADS, 2) rp_held_gradient(struct rp_held_job job)
{
    RP_SHARED_DYNAMIC(float, held);
    RP_SHARED(rp_held_shared, all, [1]);
    rp_held_shared &shared = all[0];
    int shard = (int)blockIdx.x / job.slices, thread = (int)threadIdx.x;
    int64_t col = (int64_t)(blockIdx.x % (unsigned)job.slices) * width;
    int64_t first_row = (int64_t)shard * job.rows, of_shard = shard * job.n_cols + col;
    bool owns = thread < width && col + thread < job.n_cols;
    float *held_x = held + rp_held_at<width>(job.rows - 1) + width;
    if (thread < width) {
        shared.of_column[0][thread] = owns ? job.means[of_shard + thread] : 0.0f;
        shared.of_column[1][thread] = owns ? job.invs[of_shard + thread] : 0.0f;
        shared.of_column[4][thread] = /* inv gamma */
            owns ? job.invs[of_shard + thread] * job.gamma[col + thread] : 0.0f;
    }
    __syncthreads();
    float of_chain[2] = {shared.of_column[0][thread % width], shared.of_column[1][thread % width]};
    rp_held_first<width, 2>(
        job, shared, first_row, col, held,
        [=](int at, float *v) { v[0] = held[at], v[1] = held_x[at]; },
        [=](const float *v, float *acc) {
            float h = (v[1] - of_chain[0]) * of_chain[1];
            acc[0] = rp_fma(v[0], h, acc[0]);
            acc[1] += v[0];
        });
    if (owns) {
        RP_UNROLL
        for (int i = 0; i < 2; i++) {
            float sum = rp_held_sum(job, shared, i, thread);
            job.partial[(2 * shard + i) * job.n_cols + col + thread] = sum;
            shared.of_column[2 + i][thread] = sum / job.m;
        }
    }
    __syncthreads();
    float mean[4], inv[4], g[4], b[4], scale[4];
    rp_held_quad(shared.of_column[0] + rp_held_own<width>(), mean);
    rp_held_quad(shared.of_column[1] + rp_held_own<width>(), inv);
    rp_held_quad(shared.of_column[2] + rp_held_own<width>(), g);
    rp_held_quad(shared.of_column[3] + rp_held_own<width>(), b);
    rp_held_quad(shared.of_column[4] + rp_held_own<width>(), scale);
    rp_held_write<width>(job, first_row, col, [&](int at, float dx[4]) {
        float dy[4], x[4];
        rp_held_quad(held + at, dy);
        rp_held_quad(held_x + at, x);
        RP_UNROLL
        for (int k = 0; k < 4; k++) {
            float h = (x[k] - mean[k]) * inv[k];
            dx[k] = scale[k] * rp_fma(-h, g[k], dy[k] - b[k]);
        }
    });
}

/* Channels of a block: as many as leave blocks for all processors and room for two on each, so that
 * one reads while another adds; 16 also where one block has all the room, as pieces of 8 channels
 * cost the L2 cache as many requests as pieces of 32; or the fewest. 0: those do not fit either. */
static inline int rp_held_width(const struct rp_cuda *cuda, const struct rp_columns &sums,
                                const struct rp_held_job &job, int inputs)
{
    bool fits = sums.n_cols % 4 == 0 && !sums.part && (uintptr_t)job.out % 16 == 0;
    for (int i = 0; i < inputs; i++) fits = fits && (uintptr_t)job.in[i] % 16 == 0;
    if (!fits || sums.shard_rows > RP_HELD_PANELS * RP_PANEL) return 0;
    for (int width = RP_HELD_WIDTH; width >= RP_HELD_LEAST; width /= 2) {
        int64_t blocks = sums.n_shards * ((sums.n_cols + width - 1) / width);
        size_t bytes = (size_t)inputs * rp_held_floats(sums.shard_rows, width) * sizeof(float) +
                       sizeof(struct rp_held_shared);
        if (blocks > INT32_MAX || bytes > cuda->shared_most) continue;
        bool many = blocks >= (int64_t)RP_HELD_RESIDENT * cuda->n_processors;
        bool room = RP_HELD_RESIDENT * (bytes + 1024) <= cuda->shared_most + 1024;
        if ((many && (room || width == 2 * RP_HELD_LEAST)) || width == RP_HELD_LEAST) return width;
    }
    return 0;
}

/* Shards in front of the tree: what the blocks left in `partial`. */
static inline enum rp_status rp_held_close(struct rp_cuda *cuda, struct rp_columns sums,
                                           const struct rp_columns_out &to, struct rp_error *err)
{
    sums.panels = 1;
    RP_LAUNCH(cuda, (rp_columns_close<rp_columns_keep>), dim3(rp_blocks(sums.n_cols, 32), 2),
              dim3(32, rp_columns_threads(sums)), 0, sums, to, rp_columns_keep());
    return RP_STATUS_OK;
}

/* A statement like RP_LAUNCH, of kernel<width>(job). */
#define RP_HELD_LAUNCH_OF(cuda, kernel, width, blocks, bytes, job)                                 \
    do {                                                                                           \
        RP_ALLOW_SHARED((kernel<width>), (cuda)->shared_most - sizeof(struct rp_held_shared));     \
        RP_LAUNCH(cuda, (kernel<width>), blocks, RP_HELD_THREADS, bytes, job);                     \
    } while (0)
#define RP_HELD_LAUNCH(cuda, kernel, width, shards, inputs, job)                                   \
    do {                                                                                           \
        (job).slices = (int)rp_blocks((job).n_cols, width);                                        \
        unsigned blocks_ = (unsigned)((shards) * (job).slices);                                    \
        size_t bytes_ = (size_t)(inputs)*rp_held_floats((job).rows, width) * sizeof(float);        \
        switch (width) {                                                                           \
        case 8:                                                                                    \
            RP_HELD_LAUNCH_OF(cuda, kernel, 8, blocks_, bytes_, job);                              \
            break;                                                                                 \
        case 16:                                                                                   \
            RP_HELD_LAUNCH_OF(cuda, kernel, 16, blocks_, bytes_, job);                             \
            break;                                                                                 \
        default:                                                                                   \
            RP_HELD_LAUNCH_OF(cuda, kernel, 32, blocks_, bytes_, job);                             \
        }                                                                                          \
    } while (0)

#endif
