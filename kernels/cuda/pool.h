/* pool.h - private to kernels/cuda: the windows of the poolings. A thread makes one output position
 * of one channel, or of four neighbouring ones where C and the addresses allow it. */
#ifndef RP_CUDA_POOL_H
#define RP_CUDA_POOL_H

#include "cuda/divisor.h"
#include "cuda/quad.h"

enum { RP_POOL_THREADS = 256 };

struct rp_pool_job {
    const float *in;
    float *out;
    const uint8_t *tap_in;
    uint8_t *tap_out;
    int64_t total; /* threads that have something to do */
    int64_t most;  /* elements of the larger tensor */
    int h, w, oh, ow, channels;
    struct rp_pool2d_params window;
    struct rp_divisor by_groups, by_w, by_h; /* of a place: groups of channels, positions */
    struct rp_divisor by_stride_h, by_stride_w;
    float taps, inverse; /* of a window; 1 / taps where that is exact, else 0 */
};

struct rp_pool_place {
    int64_t n;
    int h, w, c; /* position, and first channel */
};

/* Thread number i in (n, h, w, groups of `lanes` channels). Index is 32 bits wide where that does.
 */
template <class Index, int lanes>
static __device__ __forceinline__ struct rp_pool_place rp_pool_place(const struct rp_pool_job &job,
                                                                     Index i)
{
    struct rp_pool_place place;
    if constexpr (sizeof(Index) == 8) {
        Index groups = job.by_groups.by, w = job.by_w.by, h = job.by_h.by, rest = i / groups;
        place.c = (int)(i % groups) * lanes;
        place.w = (int)(rest % w), rest /= w;
        place.h = (int)(rest % h), place.n = (int64_t)(rest / h);
    } else {
        uint32_t rest = rp_divide(i, job.by_groups), row = rp_divide(rest, job.by_w);
        uint32_t image = rp_divide(row, job.by_h);
        place.c = (int)(i - rest * job.by_groups.by) * lanes;
        place.w = (int)(rest - row * job.by_w.by);
        place.h = (int)(row - image * job.by_h.by), place.n = (int64_t)image;
    }
    return place;
}

/* Of the `kernel` taps of the window at output `at`, those inside the image: [*begin, *end). */
static __device__ __forceinline__ void rp_pool_taps(int at, int size, int kernel, int stride,
                                                    int pad, int *begin, int *end)
{
    int first = at * stride - pad;
    *begin = first < 0 ? -first : 0;
    *end = first + kernel > size ? size - first : kernel;
}

/* visit(from, tap) for each tap of the window at a place of the smaller tensor. */
template <class Index, class Visit>
static __device__ __forceinline__ void rp_pool_window(const struct rp_pool_job &job,
                                                      const struct rp_pool_place &at, Visit visit)
{
    const struct rp_pool2d_params &win = job.window;
    int h0, h1, w0, w1;
    rp_pool_taps(at.h, job.h, win.kernel_h, win.stride_h, win.pad_h, &h0, &h1);
    rp_pool_taps(at.w, job.w, win.kernel_w, win.stride_w, win.pad_w, &w0, &w1);
    for (int h = h0; h < h1; h++) {
        Index row = (Index)at.n * (Index)job.h + (Index)(at.h * win.stride_h - win.pad_h + h);
        for (int w = w0; w < w1; w++) {
            Index column = (Index)(at.w * win.stride_w - win.pad_w + w);
            visit((row * (Index)job.w + column) * (Index)job.channels + (Index)at.c,
                  h * win.kernel_w + w);
        }
    }
}

/* The outputs whose window covers image position `at`: [*begin, *end); the tap of output i is
 * at + pad - i stride. */
static __device__ __forceinline__ void rp_pool_outputs(int at, int outputs, int kernel,
                                                       const struct rp_divisor &stride, int pad,
                                                       int *begin, int *end)
{
    int first = at + pad - kernel + (int)stride.by; /* from here up, rounded up */
    int last = (int)rp_divide((uint32_t)(at + pad), stride) + 1;
    *begin = first >= (int)stride.by ? (int)rp_divide((uint32_t)first, stride) : 0;
    *end = last > outputs ? outputs : last;
}

/* visit(from, tap) for each window that covers a place of the image: `from` is its element in the
 * smaller tensor. Where windows are no larger than their stride there is at most one. */
template <class Index, bool overlap, class Visit>
static __device__ __forceinline__ void rp_pool_covers(const struct rp_pool_job &job,
                                                      const struct rp_pool_place &at, Visit visit)
{
    const struct rp_pool2d_params &win = job.window;
    int h = at.h + win.pad_h, w = at.w + win.pad_w;
    Index line = (Index)at.n * (Index)job.oh, channels = (Index)job.channels;
    if constexpr (!overlap) {
        int oh = (int)rp_divide((uint32_t)h, job.by_stride_h);
        int ow = (int)rp_divide((uint32_t)w, job.by_stride_w);
        h -= oh * win.stride_h, w -= ow * win.stride_w;
        if (oh < job.oh && ow < job.ow && h < win.kernel_h && w < win.kernel_w)
            visit(((line + (Index)oh) * (Index)job.ow + (Index)ow) * channels + (Index)at.c,
                  h * win.kernel_w + w);
    } else {
        int oh0, oh1, ow0, ow1;
        rp_pool_outputs(at.h, job.oh, win.kernel_h, job.by_stride_h, win.pad_h, &oh0, &oh1);
        rp_pool_outputs(at.w, job.ow, win.kernel_w, job.by_stride_w, win.pad_w, &ow0, &ow1);
        RP_NO_UNROLL
        for (int oh = oh0; oh < oh1; oh++) {
            Index row = (line + (Index)oh) * (Index)job.ow;
            RP_NO_UNROLL
            for (int ow = ow0; ow < ow1; ow++)
                visit((row + (Index)ow) * channels + (Index)at.c,
                      (h - oh * win.stride_h) * win.kernel_w + w - ow * win.stride_w);
        }
    }
}

/* A sum over a window's taps becomes their mean: a division, or the same number by a product. */
static __device__ __forceinline__ float rp_pool_mean(const struct rp_pool_job &job, float sum)
{
    return job.inverse != 0.0f ? sum * job.inverse : sum / job.taps;
}

template <int lanes>
static __device__ __forceinline__ void rp_pool_load(const float *x, int64_t at, float v[lanes])
{
    if constexpr (lanes == 4)
        rp_quad_load<true>(x, at, at + 4, v);
    else
        v[0] = x[at];
}

template <int lanes>
static __device__ __forceinline__ void rp_pool_store(float *x, int64_t at, const float v[lanes])
{
    if constexpr (lanes == 4)
        rp_quad_store<true>(x, at, at + 4, v);
    else
        x[at] = v[0];
}

/* `image` is the larger tensor (N, H, W, C), `small` has a position for each window. */
static inline struct rp_pool_job rp_pool_begin(const struct rp_op_call *call,
                                               const struct rp_tensor *image,
                                               const struct rp_tensor *small)
{
    const struct rp_tensor *out = &call->out[0];
    const struct rp_pool2d_params *window = &call->params.pool2d;
    int taps = window->kernel_h * window->kernel_w;
    struct rp_pool_job job = {};
    job.in = (const float *)call->in[0].data;
    job.out = (float *)call->out[0].data;
    job.h = (int)image->dims[1], job.w = (int)image->dims[2];
    job.oh = (int)small->dims[1], job.ow = (int)small->dims[2];
    job.channels = (int)image->dims[3];
    job.window = *window;
    job.total = rp_tensor_elements(out);
    job.most = rp_tensor_elements(image);
    if (rp_tensor_elements(small) > job.most) job.most = rp_tensor_elements(small);
    job.by_groups = rp_divisor_of(job.channels);
    job.by_h = rp_divisor_of(out->dims[1]), job.by_w = rp_divisor_of(out->dims[2]);
    job.by_stride_h = rp_divisor_of(window->stride_h > 0 ? window->stride_h : 1);
    job.by_stride_w = rp_divisor_of(window->stride_w > 0 ? window->stride_w : 1);
    job.taps = (float)taps;
    job.inverse = taps > 0 && (taps & (taps - 1)) == 0 ? 1.0f / job.taps : 0.0f;
    return job;
}

static inline bool rp_pool_fits(const struct rp_pool_job &job)
{
    return job.channels % 4 == 0 && rp_quad_fits(job.in) && rp_quad_fits(job.out) &&
           (uintptr_t)job.tap_in % 4 == 0 && (uintptr_t)job.tap_out % 4 == 0;
}

/* Windows meet each other: an image position may be under several. */
static inline bool rp_pool_overlaps(const struct rp_pool_job &job)
{
    return job.window.kernel_h > job.window.stride_h || job.window.kernel_w > job.window.stride_w;
}

/* A statement like RP_LAUNCH, of kernel<Index, lanes, ...>(job); one thread for each output. */
#define RP_POOL_LAUNCH(cuda, job, kernel, ...)                                                     \
    do {                                                                                           \
        if ((job).most > INT32_MAX) {                                                              \
            RP_LAUNCH(cuda, (kernel<uint64_t, 1, ##__VA_ARGS__>),                                  \
                      rp_blocks((job).total, RP_POOL_THREADS), RP_POOL_THREADS, 0, job);           \
        } else if (rp_pool_fits(job)) {                                                            \
            (job).total /= 4;                                                                      \
            (job).by_groups = rp_divisor_of((job).channels / 4);                                   \
            RP_LAUNCH(cuda, (kernel<uint32_t, 4, ##__VA_ARGS__>),                                  \
                      rp_blocks((job).total, RP_POOL_THREADS), RP_POOL_THREADS, 0, job);           \
        } else {                                                                                   \
            RP_LAUNCH(cuda, (kernel<uint32_t, 1, ##__VA_ARGS__>),                                  \
                      rp_blocks((job).total, RP_POOL_THREADS), RP_POOL_THREADS, 0, job);           \
        }                                                                                          \
    } while (0)

#endif
