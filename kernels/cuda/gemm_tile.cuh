/* gemm_tile.cuh - private to gemm*: the kernel. A block holds a tile of outputs in registers and
 * walks over k; two buffers in shared memory, one barrier for each tile of k. */
#ifndef RP_CUDA_GEMM_TILE_CUH
#define RP_CUDA_GEMM_TILE_CUH

#include "cuda/gemm_load.cuh"
#include "cuda/gemm_sum.cuh"

/* Tile of warps_m x warps_n warps, a warp of lanes_m x lanes_n lanes, a lane of (4 quads_m) x
 * (4 quads_n) outputs. */
template <int warps_m_, int warps_n_, int quads_m_, int quads_n_, int depth_, int resident_,
          int lanes_n_ = 8>
struct rp_tile {
    enum {
        quads_m = quads_m_,
        quads_n = quads_n_,
        lanes_n = lanes_n_,
        step_m = 4 * 32 / lanes_n, /* from a lane's four rows to its next four */
        step_n = 4 * lanes_n,
        warp_m = step_m * quads_m,
        warp_n = step_n * quads_n,
        warps_n = warps_n_,
        bm = warps_m_ * warp_m,
        bn = warps_n_ * warp_n,
        depth = depth_,
        threads = 32 * warps_m_ * warps_n_,
        resident = resident_ /* blocks on one processor */
    };
};

/* Which four rows and four columns of a warp's tile a lane holds first. Of 8 lanes side by side,
 * neighbouring lanes share rows, lanes 2 apart columns: then a read of 16 bytes a lane from shared
 * memory is two passes and not four. */
template <class tile> static __device__ __forceinline__ int rp_lane_row(int lane)
{
    return tile::lanes_n == 1 ? 4 * lane : ((lane >> 1 & 1) + (lane >> 4) * 2) * 4;
}
template <class tile> static __device__ __forceinline__ int rp_lane_column(int lane)
{
    return tile::lanes_n == 1 ? 0 : ((lane & 1) + (lane >> 2 & 3) * 2) * 4;
}

template <class tile> struct rp_accumulators {
    float at[4 * tile::quads_m][4 * tile::quads_n];
    int row, column; /* of the first in the block's tile */

    __device__ __forceinline__ void begin()
    {
        int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
        row = warp / tile::warps_n * tile::warp_m + rp_lane_row<tile>(lane);
        column = warp % tile::warps_n * tile::warp_n + rp_lane_column<tile>(lane);
        clear();
    }
    __device__ __forceinline__ void clear()
    {
        RP_UNROLL
        for (int i = 0; i < 4 * tile::quads_m; i++) RP_UNROLL
        for (int j = 0; j < 4 * tile::quads_n; j++) at[i][j] = 0.0f;
    }
    /* One term of k for every output. */
    __device__ __forceinline__ void add_term(const float *a, const float *b)
    {
        float4 x[tile::quads_m], y[tile::quads_n];
        RP_UNROLL
        for (int q = 0; q < tile::quads_m; q++)
            x[q] = *reinterpret_cast<const float4 *>(a + row + q * tile::step_m);
        RP_UNROLL
        for (int q = 0; q < tile::quads_n; q++)
            y[q] = *reinterpret_cast<const float4 *>(b + column + q * tile::step_n);
        RP_UNROLL
        for (int p = 0; p < tile::quads_m; p++) RP_UNROLL
        for (int q = 0; q < tile::quads_n; q++) add_quad(p * 4, q * 4, x[p], y[q]);
    }
    __device__ __forceinline__ void add_quad(int i, int j, const float4 &x, const float4 &y)
    {
        add_row(at[i] + j, x.x, y);
        add_row(at[i + 1] + j, x.y, y);
        add_row(at[i + 2] + j, x.z, y);
        add_row(at[i + 3] + j, x.w, y);
    }
    static __device__ __forceinline__ void add_row(float *acc, float x, const float4 &y)
    {
        acc[0] = rp_fma(x, y.x, acc[0]);
        acc[1] = rp_fma(x, y.y, acc[1]);
        acc[2] = rp_fma(x, y.z, acc[2]);
        acc[3] = rp_fma(x, y.w, acc[3]);
    }
    /* Rows from m0, columns from n0 of `view`. */
    __device__ __forceinline__ void visit(const struct rp_gemm_view &view, int64_t m0, int64_t n0,
                                          enum rp_gemm_visit what)
    {
        bool whole = view.out.vector && !view.out.images && m0 + tile::bm <= view.m &&
                     n0 + tile::bn <= view.n;
        if (whole)
            visit_whole(view.out.base + (m0 + row) * view.out.stride + n0 + column, view.out.stride,
                        what);
        else
            visit_part(view, m0, n0, what);
    }
    /* All outputs are there: no branch keeps a load from beginning before the one before it ends.
     */
    __device__ __forceinline__ void visit_whole(float *at_first, int64_t stride,
                                                enum rp_gemm_visit what)
    {
        if (what == RP_GEMM_STORE)
            visit_vectors<RP_GEMM_STORE>(at_first, stride);
        else if (what == RP_GEMM_ADD)
            visit_vectors<RP_GEMM_ADD>(at_first, stride);
        else
            visit_vectors<RP_GEMM_TAKE>(at_first, stride);
    }
    template <enum rp_gemm_visit what>
    __device__ __forceinline__ void visit_vectors(float *at_first, int64_t stride)
    {
        RP_UNROLL
        for (int i = 0; i < 4 * tile::quads_m; i++) RP_UNROLL
        for (int q = 0; q < tile::quads_n; q++)
            rp_gemm_visit_vector(
                &at[i][q * 4],
                at_first + (i / 4 * tile::step_m + i % 4) * stride + q * tile::step_n, what);
    }
    __device__ __forceinline__ void visit_part(const struct rp_gemm_view &view, int64_t m0,
                                               int64_t n0, enum rp_gemm_visit what)
    {
        RP_UNROLL
        for (int i = 0; i < 4 * tile::quads_m; i++) {
            int64_t m = m0 + row + i / 4 * tile::step_m + i % 4, n = n0 + column;
            if (m >= view.m) continue;
            float *line = rp_gemm_out_row(view.out, m) + n;
            RP_UNROLL
            for (int q = 0; q < tile::quads_n; q++) {
                int64_t left = view.n - n - q * tile::step_n;
                if (view.out.vector) {
                    if (left > 0)
                        rp_gemm_visit_vector(&at[i][q * 4], line + q * tile::step_n, what);
                } else {
                    RP_UNROLL
                    for (int j = 0; j < 4; j++)
                        if (j < left)
                            rp_gemm_visit_one(at[i][q * 4 + j], line + q * tile::step_n + j, what);
                }
            }
        }
    }
    __device__ __forceinline__ void add_bias(const float *bias, int64_t n0, int64_t n)
    {
        RP_UNROLL
        for (int j = 0; j < 4 * tile::quads_n; j++) {
            int64_t at_n = n0 + column + j / 4 * tile::step_n + j % 4;
            float b = at_n < n ? bias[at_n] : 0.0f;
            RP_UNROLL
            for (int i = 0; i < 4 * tile::quads_m; i++) at[i][j] = at[i][j] + b;
        }
    }
};

/* One piece of work: which outputs, of which item. */
struct rp_gemm_piece {
    int64_t m0, n0;
    int item, group;
};

template <class tile>
static __device__ __forceinline__ struct rp_gemm_piece
rp_gemm_piece_of(const struct rp_gemm_job &job, int64_t number)
{
    struct rp_gemm_piece piece;
    piece.n0 = number % job.tiles_n * tile::bn;
    number /= job.tiles_n;
    piece.m0 = number % job.tiles_m * tile::bm;
    number /= job.tiles_m;
    piece.group = (int)(number % job.groups);
    piece.item = (int)(number / job.groups);
    return piece;
}

/* The node of level `level` that this block keeps: a tile of its own. */
template <class tile>
static __device__ __forceinline__ struct rp_gemm_view rp_gemm_node_of(const struct rp_gemm_job &job,
                                                                      int level)
{
    struct rp_gemm_view view = {{}, tile::bm, tile::bn};
    view.out.base = job.nodes + ((int64_t)blockIdx.x * job.levels + level) * (tile::bm * tile::bn);
    view.out.stride = tile::bn;
    view.out.vector = true;
    return view;
}

/* Adds the chain in `acc` to what waits for it, and stores the result. */
template <class tile>
static __device__ __forceinline__ void
rp_gemm_end_segment(const struct rp_gemm_job &job, const struct rp_gemm_piece &piece,
                    const struct rp_gemm_segment &s, struct rp_accumulators<tile> &acc)
{
    struct rp_gemm_end end = rp_gemm_end_of(job, s);
    struct rp_gemm_out out = job.c;
    out.base += piece.item * job.item_stride;
    int steps = end.nodes + 1;
    RP_NO_UNROLL
    for (int step = end.adds_sum ? -1 : 0; step < steps; step++) {
        bool is_last = step == steps - 1;
        bool is_node = is_last ? end.store == rp_gemm_end::NODE : step >= 0;
        bool is_open = is_last && end.store == rp_gemm_end::OPEN;
        struct rp_gemm_view view =
            is_node ? rp_gemm_node_of<tile>(job, step)
                    : rp_gemm_view_of(job, is_open ? job.open : out, piece.group);
        if (is_last && job.bias && end.store == rp_gemm_end::OUTPUT)
            acc.add_bias(job.bias + piece.group * job.n, piece.n0, job.n);
        acc.visit(view, is_node ? 0 : piece.m0, is_node ? 0 : piece.n0,
                  is_last ? RP_GEMM_STORE : RP_GEMM_ADD);
    }
}

/* acc += the terms of a full tile, in ascending order. */
template <class tile>
static __device__ __forceinline__ void rp_gemm_add_tile(struct rp_accumulators<tile> &acc,
                                                        const float (*a)[tile::bm + RP_GEMM_PAD],
                                                        const float (*b)[tile::bn + RP_GEMM_PAD])
{
    RP_UNROLL
    for (int k = 0; k < tile::depth; k++) acc.add_term(a[k], b[k]);
}

/* acc += the first n_k terms. What a tile holds past them is no term: fma(0, 0, -0) is +0. */
template <class tile>
static __device__ __forceinline__ void
rp_gemm_add_terms(struct rp_accumulators<tile> &acc, const float (*a)[tile::bm + RP_GEMM_PAD],
                  const float (*b)[tile::bn + RP_GEMM_PAD], int n_k)
{
    if (n_k == tile::depth) {
        rp_gemm_add_tile<tile>(acc, a, b);
        return;
    }
    RP_NO_UNROLL
    for (int k = 0; k < n_k; k++) acc.add_term(a[k], b[k]);
}

/* The two operands on their way to one of two buffers in shared memory. */
template <class tile, class load_a, class load_b> struct rp_operand_tiles {
    static constexpr bool direct = load_a::DIRECT || load_b::DIRECT;
    float (*a)[tile::depth][tile::bm + RP_GEMM_PAD];
    float (*b)[tile::depth][tile::bn + RP_GEMM_PAD];
    load_a of_a;
    load_b of_b;
    int now; /* the buffer that is multiplied */

    template <class source_a, class source_b>
    __device__ __forceinline__ void fetch(const source_a &from_a, const source_b &from_b, int k,
                                          int n_k)
    {
        of_a.fetch(from_a, k, n_k, a[now ^ 1]);
        of_b.fetch(from_b, k, n_k, b[now ^ 1]);
        if constexpr (direct) rp_copy_async_commit();
    }
    /* What was fetched is there for everybody, in the other buffer, which becomes `now`. */
    __device__ __forceinline__ void turn()
    {
        now ^= 1;
        of_a.put(a[now]);
        of_b.put(b[now]);
        if constexpr (direct) rp_copy_async_wait<0>();
        __syncthreads();
    }
};

template <class tile, class load_a, class load_b, class source_a, class source_b>
static __device__ __forceinline__ void
rp_gemm_piece_run(const struct rp_gemm_job &job, const source_a &from_a, const source_b &from_b,
                  const struct rp_gemm_piece &piece,
                  struct rp_operand_tiles<tile, load_a, load_b> &tiles)
{
    struct rp_accumulators<tile> acc;
    int number = job.first_segment + piece.item * job.per_item, end = number + job.per_item;
    struct rp_gemm_segment s = rp_gemm_segment_of(job, number);
    acc.begin();
    tiles.of_a.begin(from_a, piece.m0, job.m, piece.group);
    tiles.of_b.begin(from_b, piece.n0, job.n, piece.group);
    tiles.fetch(from_a, from_b, s.k, s.end - s.begin);
    tiles.turn();
    RP_NO_UNROLL
    for (; number < end; number++) {
        int k = s.k, left = s.end - s.begin;
        struct rp_gemm_segment next = s;
        acc.clear();
        if (rp_gemm_segment_continues(s))
            acc.visit(rp_gemm_view_of(job, job.open, piece.group), piece.m0, piece.n0,
                      RP_GEMM_TAKE);
        RP_NO_UNROLL
        while (left > tile::depth) {
            k += tile::depth, left -= tile::depth;
            tiles.fetch(from_a, from_b, k, left);
            rp_gemm_add_tile<tile>(acc, tiles.a[tiles.now], tiles.b[tiles.now]);
            tiles.turn();
        }
        bool more = number + 1 < end;
        int last = tiles.now;
        if (more) {
            next = rp_gemm_segment_of(job, number + 1);
            tiles.fetch(from_a, from_b, next.k, next.end - next.begin);
        }
        rp_gemm_add_terms<tile>(acc, tiles.a[last], tiles.b[last], left);
        if (more) tiles.turn();
        rp_gemm_end_segment<tile>(job, piece, s, acc);
        s = next;
    }
}

template <class tile, class load_a, class load_b, class source_a, class source_b>
__global__ void __launch_bounds__(tile::threads, tile::resident)
    rp_gemm_kernel(const struct rp_gemm_job job, const source_a from_a, const source_b from_b)
{
    RP_SHARED(float, tile_a, [2][tile::depth][tile::bm + RP_GEMM_PAD]);
    RP_SHARED(float, tile_b, [2][tile::depth][tile::bn + RP_GEMM_PAD]);
    struct rp_operand_tiles<tile, load_a, load_b> tiles;
    tiles.a = tile_a, tiles.b = tile_b, tiles.now = 0;
    for (int64_t number = blockIdx.x; number < job.pieces; number += gridDim.x) {
        rp_gemm_piece_run(job, from_a, from_b, rp_gemm_piece_of<tile>(job, number), tiles);
        __syncthreads(); /* everybody has left the buffers */
    }
}

#endif
