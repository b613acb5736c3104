/* rope.c - q and k heads turned by the place of their token, on the CPU. README.md chapter 14. */
#include "attention.h"
#include "cpu/parallel.h"
#include "cpu/vec.h"
#include "numerics.h"

struct rope_job {
    const float *x;
    float *y;
    float *cosine, *sine; /* (T, D/2); of sine the negative, to turn back */
    int64_t rows, tokens, first, width;
    int head_dim, heads; /* heads: of q and k together */
    float base;
    bool back;
    int n_threads;
};

static void angles_work(void *arg, int thread)
{
    const struct rope_job *job = arg;
    int half = job->head_dim / 2;
    int64_t t, end;
    rp_pool_cut(job->tokens, 1, thread, job->n_threads, &t, &end);
    for (; t < end; t++)
        for (int i = 0; i < half; i++) {
            double angle = rp_rope_angle(job->base, job->head_dim, i, job->first + t);
            float sine = (float)rp_sin64(angle);
            job->cosine[t * half + i] = (float)rp_cos64(angle);
            job->sine[t * half + i] = job->back ? -sine : sine;
        }
}

static void turn_head(const float *x, float *y, const float *cosine, const float *sine, int half)
{
    for (int i = 0; i < half; i += RP_VW) {
        int lanes = half - i < RP_VW ? half - i : RP_VW;
        rp_vf a = rp_vload_lanes(x + i, lanes), b = rp_vload_lanes(x + half + i, lanes);
        rp_vf c = rp_vload_lanes(cosine + i, lanes), s = rp_vload_lanes(sine + i, lanes);
        rp_vstore_lanes(y + i, rp_vfma(a, c, -(b * s)), lanes);
        rp_vstore_lanes(y + half + i, rp_vfma(b, c, a * s), lanes);
    }
}

static void turn_work(void *arg, int thread)
{
    const struct rope_job *job = arg;
    int half = job->head_dim / 2;
    int64_t turned = (int64_t)job->heads * job->head_dim, row, end;
    rp_pool_cut(job->rows, 1, thread, job->n_threads, &row, &end);
    for (; row < end; row++) {
        const float *x = job->x + row * job->width;
        float *y = job->y + row * job->width;
        int64_t t = row % job->tokens;
        for (int h = 0; h < job->heads; h++)
            turn_head(x + h * job->head_dim, y + h * job->head_dim, job->cosine + t * half,
                      job->sine + t * half, half);
        if (x != y) memcpy(y + turned, x + turned, (size_t)(job->width - turned) * sizeof *y);
    }
}

static int64_t table_floats(const struct rp_op_call *call)
{
    return call->in[0].dims[1] * (call->params.attention.head_dim / 2);
}

static size_t scratch_bytes(const struct rp_op_call *call)
{
    return 2 * (size_t)table_floats(call) * sizeof(float);
}

size_t RP_ISA_NAME(rp_cpu_scratch_rope)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return scratch_bytes(call);
}

size_t RP_ISA_NAME(rp_cpu_scratch_rope_dx)(const struct rp_op_call *call, int n_threads)
{
    (void)n_threads;
    return scratch_bytes(call);
}

/* Turning back is turning by the negative angle, whose sine is the negative: fma(a, c, -(b (-s)))
 * is fma(a, c, b s), and so on. */
static void run(struct rp_cpu *cpu, const struct rp_op_call *call, const struct rp_pass *pass,
                bool back)
{
    const struct rp_tensor *x = &call->in[0];
    const struct rp_attention_params *p = &call->params.attention;
    struct rope_job job = {.x = x->data,
                           .y = call->out[0].data,
                           .cosine = (float *)cpu->scratch,
                           .sine = (float *)cpu->scratch + table_floats(call),
                           .rows = rp_tensor_rows(x),
                           .tokens = x->dims[1],
                           .first = pass->first_token,
                           .width = x->dims[2],
                           .head_dim = p->head_dim,
                           .heads = p->heads + p->kv_heads,
                           .base = p->rope_base,
                           .back = back};
    job.n_threads = rp_threads_for(cpu, 100 * table_floats(call));
    rp_pool_run(cpu->pool, job.n_threads, angles_work, &job);
    job.n_threads = rp_threads_for(cpu, 2 * rp_tensor_elements(x));
    rp_pool_run(cpu->pool, job.n_threads, turn_work, &job);
}

RP_CPU_KERNEL(rope)
{
    (void)err;
    run(cpu, call, pass, false);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(rope_dx)
{
    (void)err;
    run(cpu, call, pass, true);
    return RP_STATUS_OK;
}
