/* rope.cu - q and k heads turned by the place of their token. README.md chapter 14.
 *
 * A thread has one pair of every head of a token, and so one angle. */
#include "cuda/gpu.h"

enum { THREADS = 256, BATCH = 4 /* heads whose loads are in flight together */ };

struct rope_job {
    const float *x;
    float *y;
    int64_t pairs; /* of all tokens */
    int64_t width;
    int tokens, half, heads; /* heads: of q and k together */
    float base;
    bool back, in_place;
    const struct rp_pass *pass;
};

/* Pair i of heads h to h + BATCH, as far as there are any. */
static __device__ __forceinline__ void turn_heads(const struct rope_job &job, const float *x,
                                                  float *y, int h, int i, float c, float s)
{
    float a[BATCH], b[BATCH];
    int64_t first = (int64_t)h * 2 * job.half + i, step = 2 * (int64_t)job.half;
    RP_UNROLL
    for (int k = 0; k < BATCH; k++) {
        bool there = h + k < job.heads;
        a[k] = there ? x[first + k * step] : 0.0f;
        b[k] = there ? x[first + k * step + job.half] : 0.0f;
    }
    RP_UNROLL
    for (int k = 0; k < BATCH; k++) {
        if (h + k >= job.heads) continue;
        y[first + k * step] = rp_fma(a[k], c, -(b[k] * s));
        y[first + k * step + job.half] = rp_fma(b[k], c, a[k] * s);
    }
}

/* Elements at, at + step, ... below end, which pass through. */
static __device__ __forceinline__ void copy_values(const float *x, float *y, int64_t at,
                                                   int64_t end, int step)
{
    for (; at < end; at += (int64_t)2 * BATCH * step) {
        float v[2 * BATCH];
        RP_UNROLL
        for (int k = 0; k < 2 * BATCH; k++) v[k] = at + k * step < end ? x[at + k * step] : 0.0f;
        RP_UNROLL
        for (int k = 0; k < 2 * BATCH; k++)
            if (at + k * step < end) y[at + k * step] = v[k];
    }
}

static __global__ void __launch_bounds__(THREADS) turn(struct rope_job job)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= job.pairs) return;
    int64_t row = at / job.half;
    int i = (int)(at % job.half);
    int64_t place = job.pass->first_token + row % job.tokens;
    double angle = rp_rope_angle(job.base, 2 * job.half, i, place);
    float c = (float)rp_cos64(angle), s = (float)rp_sin64(angle);
    const float *x = job.x + row * job.width;
    float *y = job.y + row * job.width;
    if (job.back) s = -s;
    for (int h = 0; h < job.heads; h += BATCH) turn_heads(job, x, y, h, i, c, s);
    if (!job.in_place)
        copy_values(x, y, (int64_t)job.heads * 2 * job.half + i, job.width, job.half);
}

static enum rp_status turn_run(struct rp_cuda *cuda, const struct rp_op_call *call,
                               const struct rp_pass *pass, bool back, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    const struct rp_attention_params *p = &call->params.attention;
    struct rope_job job = {};
    job.x = (const float *)x->data;
    job.y = (float *)call->out[0].data;
    job.half = p->head_dim / 2;
    job.pairs = rp_tensor_rows(x) * job.half;
    job.width = x->dims[2];
    job.tokens = (int)x->dims[1];
    job.heads = p->heads + p->kv_heads;
    job.base = p->rope_base;
    job.back = back;
    job.in_place = call->in[0].data == call->out[0].data;
    job.pass = rp_cuda_pass(cuda, pass);
    RP_LAUNCH(cuda, turn, rp_blocks(job.pairs, THREADS), THREADS, 0, job);
    return RP_STATUS_OK;
}

RP_CUDA_KERNEL(rope)
{
    return turn_run(cuda, call, pass, false, err);
}

RP_CUDA_KERNEL(rope_dx)
{
    return turn_run(cuda, call, pass, true, err);
}
