/* kept.h - private to kernels/cuda: long rows, each kept in the shared memory of a thread block, in
 * the order of rows.h.
 *
 * A row comes by asynchronous copies while the row before it is worked on for the last time: a
 * lane copies each element to where it has just read its own, the same one of the row before. So
 * the memory is busy while there is something to compute, a row is read once, and no lane waits for
 * another one's copies. The lanes look at what has come RP_KEPT_LAG batches behind.
 *
 *     for (int q = 0; q < row.batches + RP_KEPT_LAG; q++) {
 *         row.visit(q, [&](auto batch, float *kept, int e) { the last use; rp_kept_fill(...); });
 *         rp_copy_async_commit();
 *         rp_copy_async_wait<RP_KEPT_LAG>();
 *         row.visit(q - RP_KEPT_LAG, [&](auto batch, float *kept, int e) { the first use });
 *     } */
#ifndef RP_CUDA_KEPT_H
#define RP_CUDA_KEPT_H

#include "cuda/rows.h"

enum {
    RP_KEPT_LAG = 4,
    RP_KEPT_BATCH = 32 * RP_STREAM_WALK,
    RP_KEPT_PARTS = RP_ROW_BLOCK / RP_KEPT_BATCH,
    RP_KEPT_WARPS = 16,       /* of a processor that may hold several rows */
    RP_KEPT_STATIC = 2 * 1024 /* bytes beside the row: the kernel's own and the driver's */
};

#define RP_KEPT_BOUNDS __launch_bounds__(32 * RP_STREAM_WARPS, 1)

/* False where a row does not fit, or is short: then rows.h has a way. */
static inline bool rp_kept_plan(const struct rp_cuda *cuda, int64_t rows, int64_t n, int sums,
                                struct rp_row_plan *plan)
{
    if (n <= RP_RELAY_LENGTH) return false;
    int64_t n_blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK;
    int64_t bytes = (n + 2 * sums * n_blocks) * (int64_t)sizeof(float);
    int64_t most = (int64_t)cuda->shared_most;
    if (bytes + RP_KEPT_STATIC > most) return false;
    int64_t rounds = (n_blocks + RP_STREAM_WARPS - 1) / RP_STREAM_WARPS;
    int64_t warps = (n_blocks + rounds - 1) / rounds;
    int64_t each = most / (bytes + RP_KEPT_STATIC), fewer = RP_KEPT_WARPS / warps;
    if (each > fewer) each = fewer > 1 ? fewer : 1;
    int64_t together = each * cuda->n_processors;
    plan->kind = RP_ROW_STREAM;
    plan->threads = (unsigned)(32 * warps);
    plan->blocks = (unsigned)(rows < together ? rows : together);
    plan->shared = (size_t)bytes;
    return true;
}

struct rp_kept_shared {
    float best[2][RP_STREAM_WARPS];
    int count[2][RP_STREAM_WARPS];
};

/* Eight of rp_copy_async4, each 32 elements after the one before: their addresses are two registers
 * and constants, where eight statements would make every address anew. */
static __device__ __forceinline__ void rp_kept_copy8(float *to, const float *from)
{
#if defined(__CUDACC__)
#define RP_KEPT_COPY(bytes) "cp.async.ca.shared.global [%0+" #bytes "], [%1+" #bytes "], 4;\n\t"
    asm volatile(RP_KEPT_COPY(0) RP_KEPT_COPY(128) RP_KEPT_COPY(256) RP_KEPT_COPY(384)
                     RP_KEPT_COPY(512) RP_KEPT_COPY(640) RP_KEPT_COPY(768)
                         RP_KEPT_COPY(896)::"r"((unsigned)__cvta_generic_to_shared(to)),
                 "l"(from)
                 : "memory");
#undef RP_KEPT_COPY
#else
    for (int i = 0; i < 8; i++) rp_copy_async4(to + 32 * i, from + 32 * i);
#endif
}

/* Begins to copy elements of a row to their places; every copy is its lane's own. */
template <int width>
static __device__ __forceinline__ void rp_kept_fill(rp_batch<width>, float *kept, const float *row,
                                                    int e)
{
    RP_UNROLL
    for (int i = 0; i < width; i += 8) rp_kept_copy8(kept + 32 * i, row + e + 32 * i);
}
template <int width>
static __device__ __forceinline__ void rp_kept_fill(rp_batch_part<width> batch, float *kept,
                                                    const float *row, int e)
{
    RP_NO_UNROLL
    for (int i = 0; i < batch.count; i++) rp_copy_async4(kept + 32 * i, row + e + 32 * i);
}

template <int n_sums> struct rp_kept_row {
    int n, warp, n_warps, lane, n_blocks;
    int batches; /* of this warp's blocks of 4096, which go round the warps */
    int turn;
    float *kept, *of_blocks; /* (2, sums, blocks) */
    rp_kept_shared *shared;

    __device__ __forceinline__ explicit rp_kept_row(int length) : n(length), turn(0)
    {
        RP_SHARED(rp_kept_shared, for_all, [1]);
        RP_SHARED_DYNAMIC(float, memory);
        shared = for_all;
        kept = memory;
        of_blocks = memory + n;
        warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        n_warps = (int)blockDim.x / 32;
        n_blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK;
        int mine = (n_blocks - warp + n_warps - 1) / n_warps, last = warp + (mine - 1) * n_warps;
        int left = n - last * RP_ROW_BLOCK;
        batches = mine * RP_KEPT_PARTS;
        if (left < RP_ROW_BLOCK)
            batches += (left + RP_KEPT_BATCH - 1) / RP_KEPT_BATCH - RP_KEPT_PARTS;
    }
    __device__ __forceinline__ int block_of(int q) const
    {
        return q / RP_KEPT_PARTS * n_warps + warp;
    }
    /* visit(batch, kept, e) of the elements e + 32 i of batch q of this warp. */
    template <class Visit> __device__ __forceinline__ void visit(int q, Visit visit) const
    {
        int begin = block_of(q) * RP_ROW_BLOCK + q % RP_KEPT_PARTS * RP_KEPT_BATCH;
        int e = begin + lane;
        if (begin + RP_KEPT_BATCH <= n)
            visit(rp_batch<RP_STREAM_WALK>(), kept + e, e);
        else
            visit(rp_batch_before<RP_STREAM_WALK>(e, n), kept + e, e);
    }
    /* Sum number `sum` of the row: around what batch q adds to a lane's chain. */
    __device__ __forceinline__ void begin_batch(int q, float *chain) const
    {
        if (q % RP_KEPT_PARTS == 0) *chain = -0.0f;
    }
    __device__ __forceinline__ void end_batch(int q, int sum, float chain) const
    {
        if (q % RP_KEPT_PARTS != RP_KEPT_PARTS - 1 && q != batches - 1) return;
        chain = rp_row_fold(chain);
        if (lane == 0) of_blocks[(turn * n_sums + sum) * n_blocks + block_of(q)] = chain;
    }
    __device__ __forceinline__ void tell(float best, int count) const
    {
        best = rp_row_fold_maximum(best);
        count = rp_row_fold_count(count);
        if (lane == 0) shared->best[turn][warp] = best, shared->count[turn][warp] = count;
    }
    /* What was told, and the sums. The next turn writes elsewhere: one barrier is enough. */
    __device__ __forceinline__ int meet()
    {
        __syncthreads();
        int past = turn;
        turn ^= 1;
        return past;
    }
    __device__ __forceinline__ void told(int past, float *best, int *count) const
    {
        *best = shared->best[past][0], *count = shared->count[past][0];
        for (int i = 1; i < n_warps; i++) {
            *best = shared->best[past][i] > *best ? shared->best[past][i] : *best;
            *count += shared->count[past][i];
        }
    }
    __device__ __forceinline__ float sum(int past, int number) const
    {
        float acc = -0.0f;
        for (int block = lane; block < n_blocks; block += 32)
            acc += of_blocks[(past * n_sums + number) * n_blocks + block];
        return rp_row_fold(acc);
    }
};

#endif
