/* rope.cu - q and k heads turned by the place of their token. README.md chapter 14.
 *
 * A thread has one pair of every head of a token, and so one angle. */
#include "cuda/gpu.h"

enum { THREADS = 256 };

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
    for (int h = 0; h < job.heads; h++) {
        int64_t first = (int64_t)h * 2 * job.half + i, second = first + job.half;
        float a = x[first], b = x[second];
        y[first] = rp_fma(a, c, -(b * s));
        y[second] = rp_fma(b, c, a * s);
    }
    for (int64_t v = (int64_t)job.heads * 2 * job.half + i; v < job.width && !job.in_place;
         v += job.half)
        y[v] = x[v];
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
