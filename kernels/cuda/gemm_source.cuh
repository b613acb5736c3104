/* gemm_source.cuh - private to gemm*: where element (i, k) of an operand lies.
 *
 * A source splits the address into what i alone decides (outer) and what k alone decides (inner),
 * so that a thread, which keeps either the same i or the same k, computes half of it once. find()
 * joins them, where inside() is true; a position outside the image reads as +0. */
#ifndef RP_CUDA_GEMM_SOURCE_CUH
#define RP_CUDA_GEMM_SOURCE_CUH

#include "cuda/gemm.h"

/* A matrix whose rows are i and whose columns are k, or the other way round. */
template <bool along_k> struct rp_source_matrix {
    const float *base;
    int stride; /* from one row to the next */
    int64_t group_stride;

    struct outer {
        const float *at;
    };
    struct inner {
        int k;
    };
    __device__ __forceinline__ outer outer_of(int64_t i, int group) const
    {
        return {base + group * group_stride + (along_k ? i * stride : i)};
    }
    __device__ __forceinline__ inner inner_of(int k) const { return {k}; }
    __device__ __forceinline__ bool inside(const outer &, const inner &) const { return true; }
    __device__ __forceinline__ const float *find(const outer &o, const inner &n) const
    {
        return o.at + (along_k ? (uint64_t)n.k : (uint64_t)(uint32_t)n.k * (uint32_t)stride);
    }
};

/* Three digits of an index: (image, y, x) of a pixel, or (kh, kw, channel) of a tap. */
struct rp_digits {
    struct rp_divisor per_0, per_1; /* of digit 0: n1 n2; of digit 1: n2 */
    int64_t stride_0, stride_1, stride_2;
};

struct rp_digits_split {
    int d0, d1, d2;
    int64_t offset;
};

static inline struct rp_digits rp_digits_of(int64_t n1, int64_t n2, int64_t stride_0,
                                            int64_t stride_1, int64_t stride_2)
{
    struct rp_digits digits = {rp_divisor_of(n1 * n2), rp_divisor_of(n2), stride_0, stride_1,
                               stride_2};
    return digits;
}

static __device__ __forceinline__ struct rp_digits_split
rp_digits_split_of(const struct rp_digits &digits, int64_t i)
{
    uint32_t whole = (uint32_t)i, d0 = rp_divide(whole, digits.per_0);
    uint32_t rest = whole - d0 * digits.per_0.by, d1 = rp_divide(rest, digits.per_1);
    uint32_t d2 = rest - d1 * digits.per_1.by;
    return {(int)d0, (int)d1, (int)d2,
            d0 * digits.stride_0 + d1 * digits.stride_1 + d2 * digits.stride_2};
}

/* Images seen through a window: pixel (image, y, x) and tap (kh, kw, channel) meet at the position
 * (y step_y + kh tap_y - top, x step_x + kw tap_x - left) of an image of (height, width). */
struct rp_window_map {
    const float *base; /* where pixel 0 and tap 0 meet: may lie before the images */
    struct rp_digits pixel, tap;
    int step_y, step_x, tap_y, tap_x, top, left, height, width;
    int64_t group_stride;
};

struct rp_window_pixel {
    int64_t offset;
    int y, x;
};
struct rp_window_tap {
    int64_t offset;
    int y, x;
};

static __device__ __forceinline__ struct rp_window_pixel
rp_window_pixel_of(const struct rp_window_map &map, int64_t i)
{
    struct rp_digits_split p = rp_digits_split_of(map.pixel, i);
    return {p.offset, p.d1 * map.step_y - map.top, p.d2 * map.step_x - map.left};
}

static __device__ __forceinline__ struct rp_window_tap
rp_window_tap_of(const struct rp_window_map &map, int64_t i)
{
    struct rp_digits_split t = rp_digits_split_of(map.tap, i);
    return {t.offset, t.d0 * map.tap_y, t.d1 * map.tap_x};
}

static __device__ __forceinline__ bool rp_window_inside(const struct rp_window_map &map, int y,
                                                        int x)
{
    return (unsigned)y < (unsigned)map.height && (unsigned)x < (unsigned)map.width;
}

/* Rows are pixels, k runs over taps: conv2d, conv2d_dx. */
struct rp_source_pixels {
    struct rp_window_map map;

    struct outer {
        const float *at;
        int y, x;
    };
    using inner = rp_window_tap;

    __device__ __forceinline__ outer outer_of(int64_t i, int group) const
    {
        struct rp_window_pixel p = rp_window_pixel_of(map, i);
        return {map.base + group * map.group_stride + p.offset, p.y, p.x};
    }
    __device__ __forceinline__ inner inner_of(int k) const { return rp_window_tap_of(map, k); }
    __device__ __forceinline__ bool inside(const outer &o, const inner &n) const
    {
        return rp_window_inside(map, o.y + n.y, o.x + n.x);
    }
    __device__ __forceinline__ const float *find(const outer &o, const inner &n) const
    {
        return o.at + n.offset;
    }
};

/* Columns are taps, k runs over pixels: conv2d_dw. */
struct rp_source_taps {
    struct rp_window_map map;

    struct outer {
        const float *at;
        int y, x;
    };
    using inner = rp_window_pixel;

    __device__ __forceinline__ outer outer_of(int64_t i, int group) const
    {
        struct rp_window_tap t = rp_window_tap_of(map, i);
        return {map.base + group * map.group_stride + t.offset, t.y, t.x};
    }
    __device__ __forceinline__ inner inner_of(int k) const { return rp_window_pixel_of(map, k); }
    __device__ __forceinline__ bool inside(const outer &o, const inner &n) const
    {
        return rp_window_inside(map, o.y + n.y, o.x + n.x);
    }
    __device__ __forceinline__ const float *find(const outer &o, const inner &n) const
    {
        return o.at + n.offset;
    }
};

/* Weights by (kh, kw, output) as k: conv2d_dx. */
struct rp_source_weights {
    const float *base;
    struct rp_digits k_digits;
    int64_t group_stride;

    struct outer {
        const float *at;
    };
    struct inner {
        int64_t offset;
    };
    __device__ __forceinline__ outer outer_of(int64_t i, int group) const
    {
        return {base + group * group_stride + i};
    }
    __device__ __forceinline__ inner inner_of(int k) const
    {
        return {rp_digits_split_of(k_digits, k).offset};
    }
    __device__ __forceinline__ bool inside(const outer &, const inner &) const { return true; }
    __device__ __forceinline__ const float *find(const outer &o, const inner &n) const
    {
        return o.at + n.offset;
    }
};

#endif
