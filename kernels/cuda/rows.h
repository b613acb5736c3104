/* rows.h - private to kernels/cuda: sums along rows, in the order of README.md chapter 2.
 *
 * The 32 lanes of a row sum are the lanes of a warp. A kernel over rows is written once, for teams
 * of several kinds:
 *
 *     rp_row_team<kind, inputs, sums> team(n);
 *     for (int64_t row = team.first(); row < rows; row = team.next(row)) {
 *         team.take(0, x + row * n);
 *         float sum[1];
 *         team.sum([=](auto batch, float *const *v, int e, float *acc) { ... }, sum);
 *         team.each([=](auto batch, float *const *v, int e) { ... });
 *     }
 *
 *   NARROW, WARP   a row is one warp's, all of it in registers
 *   RELAY          a warp for each 1024 elements, all in registers; a lane's chain goes through the
 *                  warps of a block of 4096 one after the other, everything else is done at once
 *   STREAM         longer rows: the blocks of 4096 go round the warps of a thread block, and each
 *                  walk reads the row again. So few rows are worked on that the caches have it.
 *
 * In registers a row is read once, with all its loads in flight, and no walk waits for memory; what
 * is computed is hidden behind the loads of the other rows of a processor. */
#ifndef RP_CUDA_ROWS_H
#define RP_CUDA_ROWS_H

#include "cuda/gpu.h"

enum rp_row_kind { RP_ROW_NARROW, RP_ROW_WARP, RP_ROW_RELAY, RP_ROW_STREAM };

enum {
    RP_WALK = 8,            /* elements of a lane that are worked on together */
    RP_STREAM_WALK = 16,    /* of a stream, which has nothing else in flight */
    RP_NARROW_LENGTH = 256, /* elements of a warp at most: narrow; else */
    RP_WARP_LENGTH = 1024,
    RP_BLOCK_PARTS = RP_ROW_BLOCK / RP_WARP_LENGTH,
    RP_RELAY_LENGTH = 2 * RP_ROW_BLOCK, /* of a row at most */
    RP_RELAY_BLOCKS = RP_RELAY_LENGTH / RP_ROW_BLOCK,
    RP_STREAM_WARPS = 14, /* of a thread block at most */
    RP_STREAM_FEW = 26    /* warps of a processor at least: two rows of GPT-2's vocabulary */
};

/* Threads of a block at most, and blocks of that size that a processor's registers must hold. */
static constexpr int rp_row_threads(int kind)
{
    return kind == RP_ROW_WARP ? 128 : kind == RP_ROW_STREAM ? 32 * RP_STREAM_WARPS : 256;
}
static constexpr int rp_row_resident(int kind, int inputs)
{
    int threads = inputs == 1 ? kind == RP_ROW_WARP ? 896 : 768 : 640;
    return kind == RP_ROW_STREAM ? 2 : threads / rp_row_threads(kind);
}

/* How a kernel over rows is launched. */
struct rp_row_plan {
    enum rp_row_kind kind;
    unsigned blocks, threads;
    size_t shared;
};

static inline struct rp_row_plan rp_row_plan(const struct rp_cuda *cuda, int64_t rows, int64_t n,
                                             int sums)
{
    struct rp_row_plan plan = {};
    int64_t blocks = rows;
    if (n <= RP_WARP_LENGTH) {
        plan.kind = n <= RP_NARROW_LENGTH ? RP_ROW_NARROW : RP_ROW_WARP;
        plan.threads = (unsigned)rp_row_threads(plan.kind);
        blocks = (rows + plan.threads / 32 - 1) / (plan.threads / 32);
    } else if (n <= RP_RELAY_LENGTH) {
        plan.kind = RP_ROW_RELAY;
        plan.threads = 32 * rp_blocks(n, RP_WARP_LENGTH);
    } else {
        unsigned n_blocks = rp_blocks(n, RP_ROW_BLOCK),
                 rounds = rp_blocks(n_blocks, RP_STREAM_WARPS);
        unsigned warps = rp_blocks(n_blocks, rounds);
        int64_t together = (int64_t)rp_blocks(RP_STREAM_FEW, warps) * cuda->n_processors;
        plan.kind = RP_ROW_STREAM;
        plan.threads = 32 * warps;
        plan.shared = n_blocks * (size_t)sums * sizeof(float);
        blocks = rows < together ? rows : together;
    }
    plan.blocks = (unsigned)(blocks < INT32_MAX ? blocks : INT32_MAX);
    return plan;
}

/* Lane j = lane j + lane (j + h), h = 16 .. 1. Adding the other way round is the same sum, so every
 * lane ends with what lane 0 has. */
static __device__ __forceinline__ float rp_row_fold(float sum)
{
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, h);
    return sum;
}

static __device__ __forceinline__ float rp_row_fold_maximum(float best)
{
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, best, h);
        best = other > best ? other : best;
    }
    return best;
}

static __device__ __forceinline__ int rp_row_fold_count(int count)
{
    RP_UNROLL
    for (int h = 16; h > 0; h /= 2) count += __shfl_xor_sync(0xffffffffu, count, h);
    return count;
}

/* What a visit is for: elements e + 32 i with i below n; all of them, or those that has(i). */
template <int width> struct rp_batch {
    enum { n = width };
    __device__ __forceinline__ bool has(int) const { return true; }
};
template <int width> struct rp_batch_part {
    enum { n = width };
    int count;
    __device__ __forceinline__ bool has(int i) const { return i < count; }
};

/* What of `width` elements from e on lies before `end`. */
template <int width>
static __device__ __forceinline__ rp_batch_part<width> rp_batch_before(int e, int end)
{
    return {(end - e + 31) >> 5};
}

/* visit(batch, e) over e = begin + lane, + 32, ... below end. */
template <int width = RP_WALK, class Visit>
static __device__ __forceinline__ void rp_row_walk(int begin, int end, Visit visit)
{
    int e = begin + (int)threadIdx.x % 32;
    for (; e + 32 * (width - 1) < end; e += 32 * width) visit(rp_batch<width>(), e);
    if (e < end) visit(rp_batch_before<width>(e, end), e);
}

/* The same, from the end. */
template <int width, class Visit>
static __device__ __forceinline__ void rp_row_walk_back(int begin, int end, Visit visit)
{
    int first = begin + (int)threadIdx.x % 32;
    int e = first + (end - first) / (32 * width) * (32 * width);
    if (e < end) visit(rp_batch_before<width>(e, end), e);
    for (e -= 32 * width; e >= first; e -= 32 * width) visit(rp_batch<width>(), e);
}

template <class Batch>
static __device__ __forceinline__ void rp_batch_load(Batch batch, const float *x, int e,
                                                     float v[Batch::n])
{
    const float *from = x + e;
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) v[i] = batch.has(i) ? from[32 * i] : 0.0f;
}

template <class Batch>
static __device__ __forceinline__ void rp_batch_store(Batch batch, float *x, int e,
                                                      const float v[Batch::n])
{
    float *to = x + e;
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++)
        if (batch.has(i)) to[32 * i] = v[i];
}

/* What the warps of a row tell each other. */
struct rp_row_shared {
    float hand[2][2][RP_RELAY_BLOCKS][32]; /* [in turn][sum][block][lane] */
    float best[RP_STREAM_WARPS];
    int count[RP_STREAM_WARPS];
};

template <int kind, int inputs, int n_sums = 1> struct rp_row_team {
    enum {
        streams = kind == RP_ROW_STREAM,
        alone = kind == RP_ROW_NARROW || kind == RP_ROW_WARP,
        each_lane = (kind == RP_ROW_NARROW ? RP_NARROW_LENGTH : RP_WARP_LENGTH) / 32,
        walk_width = inputs == 1 ? RP_STREAM_WALK : RP_WALK
    };
    int n, warp, n_warps, in_turn;
    float held[streams ? 1 : inputs]
              [streams ? 1 : each_lane]; /* element e: warp 1024 + lane + 32 i */
    const float *from[inputs];
    rp_row_shared *shared;
    float *of_blocks; /* of a stream: (sums, blocks of 4096) */

    __device__ __forceinline__ explicit rp_row_team(int length) : n(length), in_turn(0)
    {
        warp = (int)threadIdx.x / 32;
        n_warps = (int)blockDim.x / 32;
        if constexpr (!alone) {
            RP_SHARED(rp_row_shared, for_all, [1]);
            shared = for_all;
        }
        if constexpr (streams) {
            RP_SHARED_DYNAMIC(float, memory);
            of_blocks = memory;
        }
    }
    __device__ __forceinline__ int64_t first() const
    {
        return alone ? (int64_t)blockIdx.x * n_warps + warp : (int64_t)blockIdx.x;
    }
    __device__ __forceinline__ int64_t next(int64_t row) const
    {
        return row + (int64_t)gridDim.x * (alone ? n_warps : 1);
    }
    /* A warp that has what the whole row gave. */
    __device__ __forceinline__ bool warp_leads() const { return alone || warp == 0; }
    __device__ __forceinline__ bool leads() const { return threadIdx.x % 32 == 0 && warp_leads(); }

    /* Input number `input` of the row lies at `row`. */
    __device__ __forceinline__ void take(int input, const float *row)
    {
        from[input] = row;
        if constexpr (!streams)
            walk([=](auto batch, float *const *v, int e) {
                rp_batch_load(batch, row, e, v[input]);
            });
    }
    /* visit(batch, v, e) changes what is held in registers; a stream's visits of each walk must. */
    template <class Visit> __device__ __forceinline__ void change(Visit visit)
    {
        if constexpr (!streams) walk(visit);
    }
    /* What others hold changed in a sum; a stream has written it to `row`. */
    __device__ __forceinline__ void changed(int input, const float *row) { from[input] = row; }

    /* visit(batch, v, e) for every element that this lane owns, in any order; v[input][i] is
     * element e + 32 i of an input, where batch.has(i). */
    template <class Visit> __device__ __forceinline__ void each(Visit visit)
    {
        if constexpr (!streams) {
            walk(visit);
        } else { /* from the end, which is what the caches had last and will have next */
            int blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK;
            for (int block = warp; block < blocks; block += n_warps) {
                int begin = block * RP_ROW_BLOCK;
                int end = n - begin < RP_ROW_BLOCK ? n : begin + RP_ROW_BLOCK;
                rp_row_walk_back<walk_width>(
                    begin, end, [&](auto batch, int e) { read_and_visit(batch, e, visit); });
            }
        }
    }
    /* RSUMs of the row: add(batch, v, e, acc) takes elements into the sums of their lane. */
    template <int count, class Add>
    __device__ __forceinline__ void sum(Add add, float (&acc)[count])
    {
        static_assert(count <= n_sums && n_sums <= 2, "the team has room for them");
        RP_UNROLL
        for (int i = 0; i < count; i++) acc[i] = -0.0f;
        if constexpr (streams)
            sum_blocks(add, acc);
        else if constexpr (alone)
            walk([&](auto batch, float *const *v, int e) { add(batch, v, e, acc); });
        else
            relay(add, acc);
        if constexpr (alone) {
            RP_UNROLL
            for (int i = 0; i < count; i++) acc[i] = rp_row_fold(acc[i]);
        }
    }
    /* The greatest of what the lanes found, and the sum of their counts. */
    __device__ __forceinline__ void join(float *best, int *count)
    {
        *best = rp_row_fold_maximum(*best);
        *count = rp_row_fold_count(*count);
        if constexpr (!alone) {
            __syncthreads(); /* those before these have been read */
            if (threadIdx.x % 32 == 0) shared->best[warp] = *best, shared->count[warp] = *count;
            __syncthreads();
            *count = 0;
            for (int i = 0; i < n_warps; i++) {
                *best = shared->best[i] > *best ? shared->best[i] : *best;
                *count += shared->count[i];
            }
        }
    }

  private:
    /* The elements that this lane holds, in ascending order. */
    template <class Visit> __device__ __forceinline__ void walk(Visit visit)
    {
        int begin = alone ? 0 : warp * RP_WARP_LENGTH, lane = (int)threadIdx.x % 32;
        RP_UNROLL
        for (int c = 0; c < each_lane; c += RP_WALK) {
            int at = begin + 32 * c;
            float *v[inputs];
            RP_UNROLL
            for (int i = 0; i < inputs; i++) v[i] = &held[i][c];
            if (at + 32 * RP_WALK <= n)
                visit(rp_batch<RP_WALK>(), v, at + lane);
            else if (at < n)
                visit(rp_batch_before<RP_WALK>(at + lane, n), v, at + lane);
        }
    }
    template <class Batch, class Visit>
    __device__ __forceinline__ void read_and_visit(Batch batch, int e, Visit &visit) const
    {
        float read[inputs][Batch::n], *v[inputs];
        RP_UNROLL
        for (int i = 0; i < inputs; i++) {
            v[i] = read[i];
            rp_batch_load(batch, from[i], e, v[i]);
        }
        visit(batch, v, e);
    }
    template <int count, class Add>
    __device__ __forceinline__ void relay(Add add, float (&acc)[count])
    {
        int lane = (int)threadIdx.x % 32, block = warp / RP_BLOCK_PARTS;
        int turns = n_warps < RP_BLOCK_PARTS ? n_warps : (int)RP_BLOCK_PARTS;
        in_turn ^= 1; /* the sums before these may still be read */
        auto hand = shared->hand[in_turn];
        RP_NO_UNROLL
        for (int turn = 0; turn < turns; turn++) {
            if (turn == warp % RP_BLOCK_PARTS) {
                RP_UNROLL
                for (int i = 0; i < count && turn > 0; i++) acc[i] = hand[i][block][lane];
                walk([&](auto batch, float *const *v, int e) { add(batch, v, e, acc); });
                RP_UNROLL
                for (int i = 0; i < count; i++) hand[i][block][lane] = acc[i];
            }
            __syncthreads();
        }
        RP_UNROLL
        for (int i = 0; i < count; i++) {
            acc[i] = rp_row_fold(hand[i][0][lane]);
            if (n > RP_ROW_BLOCK) acc[i] += rp_row_fold(hand[i][1][lane]);
        }
    }
    template <int count, class Add>
    __device__ __forceinline__ void sum_blocks(Add add, float (&acc)[count])
    {
        int blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK, lane = (int)threadIdx.x % 32;
        __syncthreads(); /* the sums before these have been read */
        for (int block = warp; block < blocks; block += n_warps) {
            int begin = block * RP_ROW_BLOCK;
            int end = n - begin < RP_ROW_BLOCK ? n : begin + RP_ROW_BLOCK;
            RP_UNROLL
            for (int i = 0; i < count; i++) acc[i] = -0.0f;
            rp_row_walk<walk_width>(begin, end, [&](auto batch, int e) {
                auto visit = [&](auto part, float *const *v, int at) { add(part, v, at, acc); };
                read_and_visit(batch, e, visit);
            });
            RP_UNROLL
            for (int i = 0; i < count; i++) {
                acc[i] = rp_row_fold(acc[i]);
                if (lane == 0) of_blocks[i * blocks + block] = acc[i];
            }
        }
        __syncthreads();
        RP_UNROLL
        for (int i = 0; i < count; i++) {
            acc[i] = -0.0f;
            for (int block = lane; block < blocks; block += 32)
                acc[i] += of_blocks[i * blocks + block];
            acc[i] = rp_row_fold(acc[i]);
        }
    }
};

/* __launch_bounds__ of a kernel over rows. */
#define RP_ROW_BOUNDS(kind, inputs)                                                                \
    __launch_bounds__(rp_row_threads(kind), rp_row_resident(kind, inputs))

/* The sum of a row: of the team's first input as it is. */
template <class Team> static __device__ __forceinline__ float rp_row_plain_sum(Team &team)
{
    float sum[1];
    team.sum(
        [](auto batch, float *const *v, int, float *acc) {
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                if (batch.has(i)) acc[0] += v[0][i];
        },
        sum);
    return sum[0];
}

/* A statement like RP_LAUNCH, of kernel<kind>(arguments). */
#define RP_ROW_LAUNCH(cuda, plan, kernel, ...)                                                     \
    do {                                                                                           \
        switch ((plan).kind) {                                                                     \
        case RP_ROW_NARROW:                                                                        \
            RP_LAUNCH(cuda, kernel<RP_ROW_NARROW>, (plan).blocks, (plan).threads, 0, __VA_ARGS__); \
            break;                                                                                 \
        case RP_ROW_WARP:                                                                          \
            RP_LAUNCH(cuda, kernel<RP_ROW_WARP>, (plan).blocks, (plan).threads, 0, __VA_ARGS__);   \
            break;                                                                                 \
        case RP_ROW_RELAY:                                                                         \
            RP_LAUNCH(cuda, kernel<RP_ROW_RELAY>, (plan).blocks, (plan).threads, 0, __VA_ARGS__);  \
            break;                                                                                 \
        case RP_ROW_STREAM:                                                                        \
            RP_LAUNCH(cuda, kernel<RP_ROW_STREAM>, (plan).blocks, (plan).threads, (plan).shared,   \
                      __VA_ARGS__);                                                                \
        }                                                                                          \
    } while (0)

#endif
