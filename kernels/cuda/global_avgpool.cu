/* global_avgpool.cu - the mean of each channel over the image, and the gradient. README.md
 * chapter 7. The positions of an image are the rows of a shard (columns.h); no tree follows. */
#include "cuda/columns.h"
#include "cuda/pool.h"

struct position_term : rp_column_term {
    enum { inputs = 1, sums = 1 };
    const float *in[1];
    __device__ void add(const float *x, const float *, float *acc) const { acc[0] += x[0]; }
};

struct image_mean {
    float *y; /* (N, C) */
    int64_t channels;
    float size;
    __device__ float operator()(int, int64_t image, int64_t channel, float sum) const
    {
        y[image * channels + channel] = sum / size;
        return sum;
    }
};

size_t rp_cuda_scratch_global_avgpool(const struct rp_op_call *call)
{
    const int64_t *dims = call->in[0].dims;
    int64_t panels = (dims[1] * dims[2] + RP_PANEL - 1) / RP_PANEL;
    return (size_t)(dims[0] * panels * dims[3]) * sizeof(float);
}

RP_CUDA_KERNEL(global_avgpool)
{
    (void)pass;
    const int64_t *dims = call->in[0].dims;
    struct rp_columns job = {};
    job.n_cols = dims[3];
    job.rows = job.shard_rows = dims[1] * dims[2];
    job.panels = (job.rows + RP_PANEL - 1) / RP_PANEL;
    job.n_shards = dims[0];
    job.partial = (float *)cuda->scratch;
    position_term term = {};
    term.in[0] = (const float *)call->in[0].data;
    image_mean mean = {(float *)call->out[0].data, job.n_cols, (float)job.rows};
    return rp_columns_sum(cuda, job, term, rp_columns_out(), mean, err);
}

template <class Index, int lanes>
__global__ void __launch_bounds__(RP_POOL_THREADS)
    global_avgpool_dx_positions(struct rp_pool_job job)
{
    Index i = (Index)blockIdx.x * RP_POOL_THREADS + threadIdx.x;
    if ((int64_t)i >= job.total) return;
    struct rp_pool_place at = rp_pool_place<Index, lanes>(job, i);
    float v[lanes], size = (float)((int64_t)job.h * job.w);
    rp_pool_load<lanes>(job.in, at.n * job.channels + at.c, v);
    RP_UNROLL
    for (int k = 0; k < lanes; k++) v[k] /= size;
    rp_pool_store<lanes>(job.out, (int64_t)i * lanes, v);
}

RP_CUDA_KERNEL(global_avgpool_dx)
{
    (void)pass;
    struct rp_pool_job job = rp_pool_begin(call, &call->out[0], &call->out[0]);
    RP_POOL_LAUNCH(cuda, job, global_avgpool_dx_positions);
    return RP_STATUS_OK;
}
