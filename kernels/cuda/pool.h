/* pool.h - private to kernels/cuda: the windows of the poolings. A thread makes one output position
 * of one channel, or of four neighbouring ones where C and the addresses allow it. */
#ifndef RP_CUDA_POOL_H
#define RP_CUDA_POOL_H

#include "cuda/quad.h"

enum { RP_POOL_THREADS = 256 };

struct rp_pool_job {
    const float *in;
    float *out;
    const uint8_t *tap_in;
    uint8_t *tap_out;
    int64_t total; /* threads that have something to do */
    int h, w, oh, ow, channels;
    struct rp_pool2d_params window;
};

struct rp_pool_place {
    int64_t n;
    int h, w, c; /* position, and first channel */
};

/* Thread number i in (n, h, w, groups of `lanes` channels). Index is 32 bits wide where that does.
 */
template <class Index, int lanes>
static __device__ __forceinline__ struct rp_pool_place rp_pool_place(Index i, int h, int w,
                                                                     int channels)
{
    struct rp_pool_place place;
    Index groups = (Index)(channels / lanes), rest = i / groups;
    place.c = (int)(i % groups) * lanes;
    place.w = (int)(rest % (Index)w);
    rest /= (Index)w;
    place.h = (int)(rest % (Index)h);
    place.n = (int64_t)(rest / (Index)h);
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

/* The outputs whose window covers image position `at`: [*begin, *end); the tap of output i is
 * at + pad - i stride. */
static __device__ __forceinline__ void rp_pool_outputs(int at, int outputs, int kernel, int stride,
                                                       int pad, int *begin, int *end)
{
    int first = at + pad - kernel + 1, last = (at + pad) / stride + 1;
    *begin = first > 0 ? (first + stride - 1) / stride : 0;
    *end = last > outputs ? outputs : last;
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
    struct rp_pool_job job = {};
    job.in = (const float *)call->in[0].data;
    job.out = (float *)call->out[0].data;
    job.h = (int)image->dims[1], job.w = (int)image->dims[2];
    job.oh = (int)small->dims[1], job.ow = (int)small->dims[2];
    job.channels = (int)image->dims[3];
    job.window = call->params.pool2d;
    job.total = rp_tensor_elements(&call->out[0]);
    return job;
}

static inline bool rp_pool_fits(const struct rp_pool_job &job)
{
    return job.channels % 4 == 0 && rp_quad_fits(job.in) && rp_quad_fits(job.out) &&
           (uintptr_t)job.tap_in % 4 == 0 && (uintptr_t)job.tap_out % 4 == 0;
}

/* A statement like RP_LAUNCH, of kernel<Index, lanes>(job); one thread for each output. */
#define RP_POOL_LAUNCH(cuda, kernel, job)                                                          \
    do {                                                                                           \
        if ((job).total > INT32_MAX) {                                                             \
            RP_LAUNCH(cuda, (kernel<uint64_t, 1>), rp_blocks((job).total, RP_POOL_THREADS),        \
                      RP_POOL_THREADS, 0, job);                                                    \
        } else if (rp_pool_fits(job)) {                                                            \
            (job).total /= 4;                                                                      \
            RP_LAUNCH(cuda, (kernel<uint32_t, 4>), rp_blocks((job).total, RP_POOL_THREADS),        \
                      RP_POOL_THREADS, 0, job);                                                    \
        } else {                                                                                   \
            RP_LAUNCH(cuda, (kernel<uint32_t, 1>), rp_blocks((job).total, RP_POOL_THREADS),        \
                      RP_POOL_THREADS, 0, job);                                                    \
        }                                                                                          \
    } while (0)

#endif
