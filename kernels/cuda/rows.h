/* rows.h - private to kernels/cuda: sums along rows, in the order of README.md chapter 2.
 *
 * The 32 lanes of a row sum are the lanes of a warp. A row of at most 4096 elements belongs to one
 * warp; of a longer one the blocks of 4096 go round the warps of a thread block. So an element is
 * only ever touched by one lane: it copies its elements into its own places of shared memory (the
 * cache), and needs no barrier to use them. In the last walk over a row a lane begins to copy what
 * it owns of the next row of its team, so that memory is busy while it computes.
 *
 *     rp_row_team<is_long, cached, inputs> team(n);
 *     for (int64_t row = team.first(); row < rows; row = team.next(row)) ...
 *
 * Without `cached` (rows too long for shared memory) every walk reads the row from memory again. */
#ifndef RP_CUDA_ROWS_H
#define RP_CUDA_ROWS_H

#include "cuda/gpu.h"

enum {
    RP_SHORT_WARPS = 4,
    RP_LONG_WARPS = 16,         /* at most, of a thread block */
    RP_WALK = 8,                /* elements of a lane that are worked on together */
    RP_ROW_SHORT = 47 * 1024,   /* for a block of short rows; with its sums at most 48 KiB */
    RP_ROW_SHARED = 160 * 1024, /* for the rows of all blocks on a processor, if more than one */
    RP_SUMS_CACHED = 64,        /* blocks of a cached row, at most */
    RP_SUMS_MOST = RP_ROW_BLOCK
};

/* How a kernel over rows is launched. */
struct rp_row_plan {
    bool is_long, cached;
    unsigned blocks, threads;
    size_t shared;
};

/* `inputs` rows of n floats are kept in shared memory for each row that is worked on. */
static inline struct rp_row_plan rp_row_plan(const struct rp_cuda *cuda, int64_t rows, int64_t n,
                                             int inputs)
{
    struct rp_row_plan plan = {};
    size_t row = (size_t)n * (size_t)inputs * sizeof(float);
    plan.is_long = n > RP_ROW_BLOCK;
    plan.cached = !plan.is_long || row + 2 * RP_SUMS_CACHED * sizeof(float) <= cuda->shared_most;
    unsigned warps = RP_SHORT_WARPS, teams = 1;
    if (plan.is_long) {
        unsigned n_blocks = rp_blocks(n, RP_ROW_BLOCK), rounds = rp_blocks(n_blocks, RP_LONG_WARPS);
        warps = rp_blocks(n_blocks, rounds);
    } else {
        while (warps > 1 && warps * row > RP_ROW_SHORT) warps /= 2;
        teams = warps;
    }
    plan.threads = 32 * warps;
    plan.shared = plan.cached ? teams * row : 0;
    /* As many blocks as run at once, each with about as many rows. What they leave of the memory of
     * a processor is its first cache, which the parameters of a norm come from. */
    size_t most = 2048 / plan.threads < 32 ? 2048 / plan.threads : 32;
    while (most > 1 && plan.cached && most * (plan.shared + 1280) > (size_t)RP_ROW_SHARED) most--;
    int64_t blocks = (rows + teams - 1) / teams;
    int64_t together = (int64_t)most * cuda->n_processors;
    int64_t rounds = (blocks + together - 1) / together;
    plan.blocks = (unsigned)((blocks + rounds - 1) / rounds);
    return plan;
}

/* Asks for memory into the second cache long before it is read; the bits do not depend on it. */
static __device__ __forceinline__ void rp_prefetch(const void *at)
{
#if defined(__CUDACC__)
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#else
    (void)at;
#endif
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

/* How many elements a visit is for: e, e + 32, ... */
template <int count> struct rp_batch {
    enum { n = count };
};

/* visit(batch, e) over e = begin + lane, + 32, ... below end. */
template <class Visit>
static __device__ __forceinline__ void rp_row_walk(int begin, int end, Visit visit)
{
    int e = begin + (int)threadIdx.x % 32;
    for (; e + 32 * (RP_WALK - 1) < end; e += 32 * RP_WALK) visit(rp_batch<RP_WALK>(), e);
    RP_NO_UNROLL
    for (; e < end; e += 32) visit(rp_batch<1>(), e);
}

template <class Batch>
static __device__ __forceinline__ void rp_batch_load(Batch, const float *x, int e,
                                                     float v[Batch::n])
{
    const float *from = x + e;
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) v[i] = from[32 * i];
}

template <class Batch>
static __device__ __forceinline__ void rp_batch_store(Batch, float *x, int e,
                                                      const float v[Batch::n])
{
    float *to = x + e;
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) to[32 * i] = v[i];
}

template <bool is_long, bool cached, int inputs> struct rp_row_team {
    int n, warp, n_warps;
    int of_block; /* rows that a thread block works on side by side */
    float *cache; /* of this team: (inputs, n) */
    float *sums;  /* of the row's blocks of 4096 */
    float *other; /* one more such place for each warp */

    __device__ __forceinline__ explicit rp_row_team(int length) : n(length), cache(NULL)
    {
        RP_SHARED(float, of_blocks, [is_long && !cached ? RP_SUMS_MOST : RP_SUMS_CACHED]);
        RP_SHARED(float, of_warps, [2 * RP_LONG_WARPS]);
        warp = (int)threadIdx.x / 32;
        n_warps = (int)blockDim.x / 32;
        of_block = is_long ? 1 : n_warps;
        sums = of_blocks;
        other = of_warps;
        if constexpr (cached && inputs > 0) {
            RP_SHARED_DYNAMIC(float, memory);
            cache = memory + (is_long ? 0 : warp * inputs * n);
        }
    }
    __device__ __forceinline__ int64_t first() const
    {
        return (int64_t)blockIdx.x * of_block + (is_long ? 0 : warp);
    }
    __device__ __forceinline__ int64_t next(int64_t row) const
    {
        return row + (int64_t)gridDim.x * of_block;
    }
    __device__ __forceinline__ bool leads() const
    {
        return threadIdx.x % 32 == 0 && (!is_long || warp == 0);
    }

    /* visit(batch, e) for every element that this lane owns. */
    template <class Visit> __device__ __forceinline__ void each(Visit visit) const
    {
        if constexpr (!is_long)
            rp_row_walk(0, n, visit);
        else
            for (int begin = warp * RP_ROW_BLOCK; begin < n; begin += n_warps * RP_ROW_BLOCK)
                rp_row_walk(begin, n - begin < RP_ROW_BLOCK ? n : begin + RP_ROW_BLOCK, visit);
    }
    /* Begins to copy elements of a row that have been read for the last time; NULL: there is none.
     */
    template <class Batch>
    __device__ __forceinline__ void copy(Batch, int e, int input, const float *row) const
    {
        if constexpr (cached) {
            float *to = cache + input * n + e;
            const float *from = row + e;
            if (!row) return;
            RP_UNROLL
            for (int i = 0; i < Batch::n; i++) rp_copy_async4(to + 32 * i, from + 32 * i);
        }
    }
    /* The same of all that this lane owns; copies_wait() before they are used. */
    __device__ __forceinline__ void copy_row(int input, const float *row) const
    {
        each([=](auto batch, int e) { copy(batch, e, input, row); });
    }
    __device__ __forceinline__ void copies_wait() const
    {
        rp_copy_async_commit();
        rp_copy_async_wait<0>();
    }
    /* Input number `input` of the row, whose elements lie at `row` too. */
    __device__ __forceinline__ const float *input(int input, const float *row) const
    {
        return cached ? cache + input * n : row;
    }
    __device__ __forceinline__ void prefetch(const float *row) const
    {
        if constexpr (is_long)
            for (int e = 32 * (int)threadIdx.x; row && e < n; e += 32 * (int)blockDim.x)
                rp_prefetch(row + e);
    }

    /* RSUM of the row: add(batch, e, acc) takes elements into the sum of their lane. */
    template <class Add> __device__ __forceinline__ float sum(Add add) const
    {
        float acc = -0.0f;
        if constexpr (!is_long) {
            rp_row_walk(0, n, [&](auto batch, int e) { acc = add(batch, e, acc); });
            return rp_row_fold(acc);
        }
        int n_blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK;
        __syncthreads(); /* the sums before these have been read */
        for (int block = warp; block < n_blocks; block += n_warps) {
            int begin = block * RP_ROW_BLOCK;
            acc = -0.0f;
            rp_row_walk(begin, n - begin < RP_ROW_BLOCK ? n : begin + RP_ROW_BLOCK,
                        [&](auto batch, int e) { acc = add(batch, e, acc); });
            acc = rp_row_fold(acc);
            if (threadIdx.x % 32 == 0) sums[block] = acc;
        }
        __syncthreads();
        acc = -0.0f;
        for (int block = (int)threadIdx.x % 32; block < n_blocks; block += 32) acc += sums[block];
        return rp_row_fold(acc);
    }
    __device__ __forceinline__ float sum_of(const float *x) const
    {
        return sum([=](auto batch, int e, float acc) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc += v[i];
            return acc;
        });
    }
    /* The greatest of what the lanes found, and the sum of their counts. */
    __device__ __forceinline__ void join(float *best, int *count) const
    {
        *best = rp_row_fold_maximum(*best);
        *count = rp_row_fold_count(*count);
        if (!is_long) return;
        __syncthreads();
        if (threadIdx.x % 32 == 0) {
            other[2 * warp] = *best;
            other[2 * warp + 1] = rp_float_of_bits((uint32_t)*count);
        }
        __syncthreads();
        *count = 0;
        for (int i = 0; i < n_warps; i++) {
            *best = other[2 * i] > *best ? other[2 * i] : *best;
            *count += (int)rp_float_bits(other[2 * i + 1]);
        }
    }
};

/* A statement like RP_LAUNCH, of kernel<is_long, cached>(arguments). */
#define RP_ROW_LAUNCH(cuda, plan, kernel, ...)                                                     \
    do {                                                                                           \
        if (!(plan).is_long) {                                                                     \
            RP_LAUNCH(cuda, (kernel<false, true>), (plan).blocks, (plan).threads, (plan).shared,   \
                      __VA_ARGS__);                                                                \
        } else if ((plan).cached) {                                                                \
            RP_ALLOW_SHARED((kernel<true, true>), (plan).shared);                                  \
            RP_LAUNCH(cuda, (kernel<true, true>), (plan).blocks, (plan).threads, (plan).shared,    \
                      __VA_ARGS__);                                                                \
        } else {                                                                                   \
            RP_LAUNCH(cuda, (kernel<true, false>), (plan).blocks, (plan).threads, 0, __VA_ARGS__); \
        }                                                                                          \
    } while (0)

/* __launch_bounds__ of such a kernel. */
#define RP_ROW_THREADS(is_long) ((is_long) ? 32 * RP_LONG_WARPS : 32 * RP_SHORT_WARPS)

#endif
