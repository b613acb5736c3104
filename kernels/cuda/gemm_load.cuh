/* gemm_load.cuh - private to gemm*: brings a tile of an operand from global memory into shared
 * memory, where it lies as [k][i] whichever way it came.
 *
 * fetch() starts the loads, put() writes to shared memory what came into registers; the
 * multiplication of the tile before lies between, and hides the way. Rows past the end are read
 * from the last row, and never stored; terms of k past the end of a segment are not read, and never
 * multiplied. */
#ifndef RP_CUDA_GEMM_LOAD_CUH
#define RP_CUDA_GEMM_LOAD_CUH

#include "cuda/gemm_source.cuh"

enum {
    RP_GEMM_PAD = 4
}; /* floats after each k: stores across k meet other banks, rows stay aligned */

template <int width> static __device__ __forceinline__ void rp_gemm_clear(float (&value)[width])
{
    RP_UNROLL
    for (int i = 0; i < width; i++) value[i] = 0.0f;
}

template <class source, int width>
static __device__ __forceinline__ void
rp_gemm_read(const source &from, const typename source::outer &outer,
             const typename source::inner &inner, float (&to)[width])
{
    bool inside = from.inside(outer, inner);
    const float *at = from.find(outer, inner);
    if (width == 4) {
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside) v = *reinterpret_cast<const float4 *>(at);
        to[0] = v.x, to[1 % width] = v.y, to[2 % width] = v.z, to[3 % width] = v.w;
    } else {
        to[0] = inside ? *at : 0.0f;
    }
}

/* The same to shared memory. */
template <class source, int width>
static __device__ __forceinline__ void rp_gemm_copy(const source &from,
                                                    const typename source::outer &outer,
                                                    const typename source::inner &inner, float *to)
{
    bool inside = from.inside(outer, inner);
    const float *at = from.find(outer, inner);
    if (width == 4)
        rp_copy_async16(to, at, inside);
    else
        rp_copy_async4(to, at, inside);
}

/* k runs with stride 1: a unit is `width` terms of one row, and each goes to another k of the tile.
 * A warp takes 16 rows of two neighbouring units, 32 bytes of each row: no two of its stores share
 * a bank. */
template <class source, int rows, int depth, int threads, int width> struct rp_load_along_k {
    enum {
        PER_ROW = depth / width,
        UNITS = rows * PER_ROW / threads,
        PAIRS = PER_ROW / 2,
        DIRECT = 0
    };
    static_assert(rows * PER_ROW % threads == 0, "every thread loads as much");
    static_assert(threads % (16 * PER_ROW) == 0, "a thread keeps its k");

    typename source::outer outer[UNITS];
    float value[UNITS][width];
    int k_of;

    static __device__ __forceinline__ int unit_k(int u)
    {
        return width == 1 ? u % depth : (u % 2 + u / 32 % PAIRS * 2) * width;
    }
    static __device__ __forceinline__ int unit_row(int u)
    {
        return width == 1 ? u / depth : u / 2 % 16 + u / 32 / PAIRS * 16;
    }
    __device__ __forceinline__ void begin(const source &from, int64_t i0, int64_t limit, int group)
    {
        k_of = unit_k((int)threadIdx.x);
        RP_UNROLL
        for (int u = 0; u < UNITS; u++) {
            int64_t i = i0 + unit_row((int)threadIdx.x + u * threads);
            outer[u] = from.outer_of(i < limit ? i : limit - 1, group);
            rp_gemm_clear(value[u]);
        }
    }
    __device__ __forceinline__ void fetch(const source &from, int k, int n_k,
                                          float (*)[rows + RP_GEMM_PAD])
    {
        if (k_of >= n_k) return;
        typename source::inner inner = from.inner_of(k + k_of);
        RP_UNROLL
        for (int u = 0; u < UNITS; u++) rp_gemm_read(from, outer[u], inner, value[u]);
    }
    __device__ __forceinline__ void put(float (*tile)[rows + RP_GEMM_PAD]) const
    {
        RP_UNROLL
        for (int u = 0; u < UNITS; u++) {
            int row = unit_row((int)threadIdx.x + u * threads);
            RP_UNROLL
            for (int i = 0; i < width; i++) tile[k_of + i][row] = value[u][i];
        }
    }
};

/* i runs with stride 1: a unit is `width` rows of one k, as they lie in the tile. If `direct`, they
 * are copied there without a way through registers. */
template <class source, int rows, int depth, int threads, int width, bool direct>
struct rp_load_across_k {
    enum {
        PER_K = rows / width,
        UNITS = (depth * PER_K + threads - 1) / threads,
        AT_ONCE = threads / PER_K, /* k; in a thin tile more than there are */
        DIRECT = direct
    };
    static_assert(depth % AT_ONCE == 0 || UNITS == 1, "every thread loads as much");
    static_assert(threads % PER_K == 0, "a thread keeps its rows");

    typename source::outer outer;
    float value[direct ? 1 : UNITS][width];
    int row, k_of;

    __device__ __forceinline__ void begin(const source &from, int64_t i0, int64_t limit, int group)
    {
        row = (int)threadIdx.x % PER_K * width;
        k_of = (int)threadIdx.x / PER_K;
        int64_t i = i0 + row;
        outer = from.outer_of(i < limit ? i : limit - width, group);
        if constexpr (!direct) {
            RP_UNROLL
            for (int u = 0; u < UNITS; u++) rp_gemm_clear(value[u]);
        }
    }
    __device__ __forceinline__ void fetch(const source &from, int k, int n_k,
                                          float (*tile)[rows + RP_GEMM_PAD])
    {
        RP_UNROLL
        for (int u = 0; u < UNITS; u++) {
            int at = k_of + u * AT_ONCE;
            if (at >= n_k || (AT_ONCE > depth && at >= depth)) continue;
            typename source::inner inner = from.inner_of(k + at);
            if constexpr (direct)
                rp_gemm_copy<source, width>(from, outer, inner, &tile[at][row]);
            else
                rp_gemm_read(from, outer, inner, value[u]);
        }
    }
    __device__ __forceinline__ void put(float (*tile)[rows + RP_GEMM_PAD]) const
    {
        if constexpr (!direct) {
            RP_UNROLL
            for (int u = 0; u < UNITS; u++) {
                if (AT_ONCE > depth && k_of >= depth) return;
                float *to = &tile[k_of + u * AT_ONCE][row];
                if (width == 4)
                    *reinterpret_cast<float4 *>(to) = make_float4(
                        value[u][0], value[u][1 % width], value[u][2 % width], value[u][3 % width]);
                else
                    to[0] = value[u][0];
            }
        }
    }
};

#endif
