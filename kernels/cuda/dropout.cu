/* dropout.cu - dropout and its gradient, which is the same function. README.md chapters 4 and 8.
 *
 * A thread draws whole Philox blocks: four elements of one sample each. */
#include "cuda/quad.h"

enum { THREADS = 256, DRAWS = 2 /* of a thread */ };

struct dropout_job {
    const float *x;
    float *y;
    int64_t samples, per_sample;
    uint32_t site, threshold;
    float scale;
    const struct rp_pass *pass;
};

/* Index counts Philox blocks over all samples. Where `aligned`, the four elements of each lie at a
 * multiple of 16 bytes. */
template <class Index, bool aligned>
__global__ void __launch_bounds__(THREADS) drop(struct dropout_job job)
{
    Index per_sample = (Index)((job.per_sample + 3) / 4), n = (Index)job.samples * per_sample;
    uint64_t seed = job.pass->seed, position = job.pass->position;
    Index first = (Index)blockIdx.x * (THREADS * DRAWS) + threadIdx.x;
    int64_t at[DRAWS], end[DRAWS];
    float v[DRAWS][4];
    RP_UNROLL
    for (int i = 0; i < DRAWS; i++) {
        Index block = first + i * THREADS;
        int64_t sample = (int64_t)(block / per_sample);
        at[i] = sample * job.per_sample + 4 * (int64_t)(block % per_sample);
        end[i] = block < n ? (sample + 1) * job.per_sample : 0;
        rp_quad_load<aligned>(job.x, at[i], end[i], v[i]);
    }
    RP_UNROLL
    for (int i = 0; i < DRAWS; i++) {
        Index block = first + i * THREADS;
        struct rp_draw draw = rp_draw_block(seed, RP_PURPOSE_DROPOUT, job.site,
                                            position + (uint64_t)(block / per_sample),
                                            (uint32_t)(block % per_sample));
        RP_UNROLL
        for (int k = 0; k < 4; k++)
            v[i][k] = draw.u[k] >= job.threshold ? v[i][k] * job.scale : 0.0f;
        rp_quad_store<aligned>(job.y, at[i], end[i], v[i]);
    }
}

static enum rp_status drop_run(struct rp_cuda *cuda, const struct rp_op_call *call,
                               const struct rp_pass *pass, struct rp_error *err)
{
    float p = call->params.dropout.p;
    int64_t samples = pass->rows.n_samples, n = rp_tensor_elements(&call->in[0]);
    struct dropout_job job = {.x = (const float *)call->in[0].data,
                              .y = (float *)call->out[0].data,
                              .samples = samples,
                              .per_sample = n / samples,
                              .site = call->params.dropout.site,
                              .threshold = rp_threshold(p),
                              .scale = 1.0f / (1.0f - p),
                              .pass = rp_cuda_pass(cuda, pass)};
    int64_t draws = samples * ((job.per_sample + 3) / 4);
    unsigned blocks = rp_blocks(draws, THREADS * DRAWS);
    bool aligned = rp_quad_fits(job.x) && rp_quad_fits(job.y) && job.per_sample % 4 == 0;
    if (draws > INT32_MAX)
        RP_LAUNCH(cuda, (drop<uint64_t, false>), blocks, THREADS, 0, job);
    else if (aligned)
        RP_LAUNCH(cuda, (drop<uint32_t, true>), blocks, THREADS, 0, job);
    else
        RP_LAUNCH(cuda, (drop<uint32_t, false>), blocks, THREADS, 0, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(dropout)
{
    return drop_run(cuda, call, pass, err);
}

RP_CUDA_KERNEL(dropout_dx)
{
    return drop_run(cuda, call, pass, err);
}
