/* batch_norm_held.cuh - private to batch_norm.cu: batch norm where the rows of a shard fit into
 * shared memory, a few channels at a time.
 *
 * A block takes `width` channels of one shard, reads their rows once, makes the sums of chapter 6
 * (a thread for each panel and channel, then the panels), and writes the result from what it holds.
 * A second launch adds the shards. The order is that of columns.h. */
#ifndef RP_CUDA_BATCH_NORM_HELD_CUH
#define RP_CUDA_BATCH_NORM_HELD_CUH

#include "cuda/columns.h"

enum {
    RP_HELD_THREADS = 256,
    RP_HELD_WIDTH = 32, /* channels of a block at most; and 16, 8, 4 */
    RP_HELD_PANELS = 16,
    RP_HELD_BATCH = 8 /* rows of a chain that are loaded while as many are added */
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

/* Copies the block's rows of one input; those of absent channels become zeros. */
template <int width>
static __device__ __forceinline__ void rp_held_read(const struct rp_held_job &job, int input,
                                                    int64_t first_row, int64_t col, float *held)
{
    const int quads = width / 4, step = RP_HELD_THREADS / quads;
    int quad = (int)threadIdx.x % quads * 4, row = (int)threadIdx.x / quads;
    bool inside = col + quad < job.n_cols;
    const float *from = job.in[input] + (first_row + row) * job.n_cols + (inside ? col + quad : 0);
    for (; row < job.rows; row += step, from += step * job.n_cols)
        rp_copy_async16(held + rp_held_at<width>(row) + quad, from, inside);
}

/* A thread walks down one panel of one channel: load(place, v) of several rows, while those before
 * are added: add(channel, v, acc). Few threads have a chain, so each must go as fast as additions
 * can follow each other. The chains go to shared memory. */
template <int width, int sums, class Load, class Add>
static __device__ __forceinline__ void rp_held_chains(const struct rp_held_job &job,
                                                      rp_held_shared &shared, Load load, Add add)
{
    const int batch = RP_HELD_BATCH;
    for (int t = (int)threadIdx.x; t < job.panels * width; t += RP_HELD_THREADS) {
        int panel = t / width, col = t % width, row = panel * RP_PANEL;
        int count = job.rows - row < RP_PANEL ? job.rows - row : (int)RP_PANEL;
        int at = rp_held_at<width>(row) + col, batches = count / batch;
        float acc[2] = {0, 0}, v[2][batch][2];
        auto load_batch = [&](int number, float(&to)[batch][2]) {
            if (number >= batches) return;
            RP_UNROLL
            for (int i = 0; i < batch; i++) load(at + (number * batch + i) * width, to[i]);
        };
        auto add_batch = [&](int number, const float(&from)[batch][2]) {
            if (number >= batches) return;
            RP_UNROLL
            for (int i = 0; i < batch; i++) add(col, from[i], acc);
        };
        load_batch(0, v[0]);
        RP_NO_UNROLL
        for (int k = 0; k < batches; k += 2) {
            load_batch(k + 1, v[1]);
            add_batch(k, v[0]);
            load_batch(k + 2, v[0]);
            add_batch(k + 1, v[1]);
        }
        RP_NO_UNROLL
        for (int i = batches * batch; i < count; i++) {
            load(at + i * width, v[0][0]);
            add(col, v[0][0], acc);
        }
        RP_UNROLL
        for (int i = 0; i < sums; i++) shared.chain[i][panel][col] = acc[i];
    }
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

/* make(at, first channel, y) of four neighbouring channels of each row, written. */
template <int width, class Make>
static __device__ __forceinline__ void rp_held_write(const struct rp_held_job &job,
                                                     int64_t first_row, int64_t col, Make make)
{
    const int quads = width / 4, step = RP_HELD_THREADS / quads;
    int quad = (int)threadIdx.x % quads * 4, row = (int)threadIdx.x / quads;
    if (col + quad >= job.n_cols) return;
    float *to = job.out + (first_row + row) * job.n_cols + col + quad;
    RP_NO_UNROLL
    for (; row < job.rows; row += step, to += step * job.n_cols) {
        float y[4];
        make(rp_held_at<width>(row) + quad, quad, y);
        *reinterpret_cast<float4 *>(to) = make_float4(y[0], y[1], y[2], y[3]);
    }
}

static __device__ __forceinline__ void rp_held_quad(const float *from, float v[4])
{
    float4 quad = *reinterpret_cast<const float4 *>(from);
    v[0] = quad.x, v[1] = quad.y, v[2] = quad.z, v[3] = quad.w;
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
    rp_held_read<width>(job, 0, first_row, col, held);
    rp_copy_async_commit();
    rp_copy_async_wait<0>();
    __syncthreads();
    rp_held_chains<width, 1>(job, shared, load,
                             [](int, const float *v, float *acc) { acc[0] += v[0]; });
    __syncthreads();
    if (thread < width) {
        float mean = rp_held_sum(job, shared, 0, thread) / job.m;
        shared.of_column[0][thread] = mean;
        if (owns) {
            job.mean[of_shard + thread] = mean;
            job.partial[2 * shard * job.n_cols + col + thread] = mean;
        }
    }
    __syncthreads();
    rp_held_chains<width, 1>(job, shared, load, [&](int c, const float *v, float *acc) {
        float d = v[0] - shared.of_column[0][c];
        acc[0] = rp_fma(d, d, acc[0]);
    });
    __syncthreads();
    if (owns) {
        float sum = rp_held_sum(job, shared, 0, thread);
        float inv = 1.0f / rp_sqrt(sum / job.m + job.eps);
        job.inv[of_shard + thread] = inv;
        job.partial[(2 * shard + 1) * job.n_cols + col + thread] = sum / job.less_one;
        shared.of_column[1][thread] = inv * job.gamma[col + thread];
        shared.of_column[2][thread] = job.beta[col + thread];
    }
    __syncthreads();
    rp_held_write<width>(job, first_row, col, [&](int at, int c, float y[4]) {
        float x[4], mean[4], scale[4], beta[4];
        rp_held_quad(held + at, x);
        rp_held_quad(shared.of_column[0] + c, mean);
        rp_held_quad(shared.of_column[1] + c, scale);
        rp_held_quad(shared.of_column[2] + c, beta);
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
    float *held_x = held + (job.rows + (job.rows - 1) / RP_PANEL) * width;
    rp_held_read<width>(job, 0, first_row, col, held);
    rp_held_read<width>(job, 1, first_row, col, held_x);
    rp_copy_async_commit();
    if (thread < width) {
        shared.of_column[0][thread] = owns ? job.means[of_shard + thread] : 0.0f;
        shared.of_column[1][thread] = owns ? job.invs[of_shard + thread] : 0.0f;
        shared.of_column[4][thread] = /* inv gamma */
            owns ? job.invs[of_shard + thread] * job.gamma[col + thread] : 0.0f;
    }
    rp_copy_async_wait<0>();
    __syncthreads();
    rp_held_chains<width, 2>(
        job, shared, [=](int at, float *v) { v[0] = held[at], v[1] = held_x[at]; },
        [&](int c, const float *v, float *acc) {
            float h = (v[1] - shared.of_column[0][c]) * shared.of_column[1][c];
            acc[0] = rp_fma(v[0], h, acc[0]);
            acc[1] += v[0];
        });
    __syncthreads();
    if (owns) {
        RP_UNROLL
        for (int i = 0; i < 2; i++) {
            float sum = rp_held_sum(job, shared, i, thread);
            job.partial[(2 * shard + i) * job.n_cols + col + thread] = sum;
            shared.of_column[2 + i][thread] = sum / job.m;
        }
    }
    __syncthreads();
    rp_held_write<width>(job, first_row, col, [&](int at, int c, float dx[4]) {
        float dy[4], x[4], mean[4], inv[4], g[4], b[4], scale[4];
        rp_held_quad(held + at, dy);
        rp_held_quad(held_x + at, x);
        rp_held_quad(shared.of_column[0] + c, mean);
        rp_held_quad(shared.of_column[1] + c, inv);
        rp_held_quad(shared.of_column[2] + c, g);
        rp_held_quad(shared.of_column[3] + c, b);
        rp_held_quad(shared.of_column[4] + c, scale);
        RP_UNROLL
        for (int k = 0; k < 4; k++) {
            float h = (x[k] - mean[k]) * inv[k];
            dx[k] = scale[k] * rp_fma(-h, g[k], dy[k] - b[k]);
        }
    });
}

/* Channels of a block: as many as leave room for two blocks on a processor and, twice over, a block
 * for each. 0: not even four fit, or they are not four by four. */
static inline int rp_held_width(const struct rp_cuda *cuda, const struct rp_columns &sums,
                                const struct rp_held_job &job, int inputs)
{
    size_t room = cuda->shared_most / 2 - sizeof(struct rp_held_shared) - 1024;
    bool fits = sums.n_cols % 4 == 0 && !sums.part && (uintptr_t)job.out % 16 == 0;
    for (int i = 0; i < inputs; i++) fits = fits && (uintptr_t)job.in[i] % 16 == 0;
    if (!fits || sums.shard_rows > RP_HELD_PANELS * RP_PANEL) return 0;
    for (int width = RP_HELD_WIDTH; width >= 4; width /= 2) {
        int64_t blocks = sums.n_shards * ((sums.n_cols + width - 1) / width);
        size_t bytes = (size_t)inputs * rp_held_floats(sums.shard_rows, width) * sizeof(float);
        if (bytes > room || blocks > INT32_MAX) continue;
        if (width == 4 || blocks >= 2 * cuda->n_processors) return width;
    }
    return 0;
}

/* Shards in front of the tree: what the blocks left in `partial`. */
static inline enum rp_status rp_held_close(struct rp_cuda *cuda, struct rp_columns sums,
                                           const struct rp_columns_out &to, struct rp_error *err)
{
    unsigned shards = sums.n_shards < 32 ? (unsigned)sums.n_shards : 32;
    sums.panels = 1;
    RP_LAUNCH(cuda, (rp_columns_close<rp_columns_keep>), dim3(rp_blocks(sums.n_cols, 32), 2),
              dim3(32, shards), 0, sums, to, rp_columns_keep());
    return RP_STATUS_OK;
}

/* A statement like RP_LAUNCH, of kernel<width>(job). */
#define RP_HELD_LAUNCH_OF(cuda, kernel, width, blocks, bytes, job)                                 \
    do {                                                                                           \
        RP_ALLOW_SHARED((kernel<width>), bytes);                                                   \
        RP_LAUNCH(cuda, (kernel<width>), blocks, RP_HELD_THREADS, bytes, job);                     \
    } while (0)
#define RP_HELD_LAUNCH(cuda, kernel, width, shards, inputs, job)                                   \
    do {                                                                                           \
        (job).slices = (int)rp_blocks((job).n_cols, width);                                        \
        unsigned blocks_ = (unsigned)((shards) * (job).slices);                                    \
        size_t bytes_ = (size_t)(inputs)*rp_held_floats((job).rows, width) * sizeof(float);        \
        switch (width) {                                                                           \
        case 4:                                                                                    \
            RP_HELD_LAUNCH_OF(cuda, kernel, 4, blocks_, bytes_, job);                              \
            break;                                                                                 \
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
