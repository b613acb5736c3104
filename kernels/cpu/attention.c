/* attention.c - causal attention and its gradient on the CPU. README.md chapter 14. */
#include "attention.h"
#include "cpu/parallel.h"
#include "cpu/rsum.h"
#include "numerics.h"

struct at_job {
    const float *qkv, *dy, *y, *stats_in;
    float *out, *stats, *scratch;
    int64_t samples, tokens, width;
    int d, heads, kv_heads;
    float scale, drop;
    uint32_t threshold, site;
    bool drops;
    uint64_t seed, position;
    int n_threads;
};

static float dot(const float *a, const float *b, int n)
{
    float acc = 0;
    for (int i = 0; i < n; i++) acc = rp_fma(a[i], b[i], acc);
    return acc;
}

static float drop(const struct at_job *job, int64_t n, int64_t h, int64_t i, int64_t j, float x)
{
    if (!job->drops) return x;
    uint64_t element = (uint64_t)((h * job->tokens + i) * job->tokens + j);
    struct rp_draw draw = rp_draw_block(job->seed, RP_PURPOSE_DROPOUT, job->site,
                                        job->position + (uint64_t)n, (uint32_t)(element / 4));
    return draw.u[element % 4] >= job->threshold ? x * job->drop : 0.0f;
}

static const float *row_of(const struct at_job *job, int64_t n, int64_t t, int64_t head)
{
    return job->qkv + (n * job->tokens + t) * job->width + head * job->d;
}

static int64_t key_head(const struct at_job *job, int64_t h)
{
    return job->heads + h / (job->heads / job->kv_heads);
}

static float score(const struct at_job *job, int64_t n, int64_t h, int64_t i, int64_t j)
{
    return dot(row_of(job, n, i, h), row_of(job, n, j, key_head(job, h)), job->d) * job->scale;
}

static void attend(const struct at_job *job, int64_t n, int64_t h, int64_t i, float *e)
{
    float m = rp_float_of_bits(0xff800000u);
    for (int64_t j = 0; j <= i; j++) {
        e[j] = score(job, n, h, i, j);
        if (e[j] > m) m = e[j];
    }
    for (int64_t j = 0; j <= i; j++) e[j] = rp_exp(e[j] - m);
    float inv = 1.0f / rp_rsum(i + 1, rp_rsum_plain_term, e);
    float *y = job->out + ((n * job->tokens + i) * job->heads + h) * job->d;
    for (int64_t j = 0; j <= i; j++) e[j] = drop(job, n, h, i, j, e[j]);
    for (int d = 0; d < job->d; d++) {
        float total = 0;
        for (int64_t p = 0; p <= i; p += 1024) {
            float chain = 0;
            for (int64_t j = p; j <= i && j < p + 1024; j++)
                chain = rp_fma(e[j], row_of(job, n, j, key_head(job, h) + job->kv_heads)[d], chain);
            total = p == 0 ? chain : total + chain;
        }
        y[d] = total * inv;
    }
    if (job->stats) {
        float *stats = job->stats + ((n * job->heads + h) * job->tokens + i) * 2;
        stats[0] = m, stats[1] = inv;
    }
}

static void attend_work(void *arg, int thread)
{
    const struct at_job *job = arg;
    int64_t at, end;
    rp_pool_cut(job->samples * job->heads, 1, thread, job->n_threads, &at, &end);
    for (; at < end; at++)
        for (int64_t i = 0; i < job->tokens; i++)
            attend(job, at / job->heads, at % job->heads, i, job->scratch + thread * job->tokens);
}

struct weights {
    float pw, ds;
};

static struct weights weights_of(const struct at_job *job, int64_t n, int64_t h, int64_t i,
                                 int64_t j)
{
    const float *stats = job->stats_in + ((n * job->heads + h) * job->tokens + i) * 2;
    int64_t row = ((n * job->tokens + i) * job->heads + h) * job->d;
    float p = rp_exp(score(job, n, h, i, j) - stats[0]) * stats[1];
    float dp = dot(job->dy + row, row_of(job, n, j, key_head(job, h) + job->kv_heads), job->d);
    struct rp_rows *unused = NULL;
    (void)unused;
    float prod[RP_ATTENTION_HEAD_MAX];
    (void)prod;
    float lane[32];
    for (int k = 0; k < 32; k++) lane[k] = -0.0f;
    for (int k = 0; k < job->d; k++)
        lane[k % 32] = rp_fma(job->dy[row + k], job->y[row + k], lane[k % 32]);
    for (int half = 16; half; half /= 2)
        for (int k = 0; k < half; k++) lane[k] += lane[k + half];
    return (struct weights){.pw = drop(job, n, h, i, j, p),
                            .ds = p * (drop(job, n, h, i, j, dp) - lane[0])};
}

static void query_gradient(const struct at_job *job, int64_t n, int64_t h, int64_t i, float *ds)
{
    float *dq = job->out + (n * job->tokens + i) * job->width + h * job->d;
    for (int64_t j = 0; j <= i; j++) ds[j] = weights_of(job, n, h, i, j).ds;
    for (int d = 0; d < job->d; d++) {
        float total = 0;
        for (int64_t p = 0; p <= i; p += 1024) {
            float chain = 0;
            for (int64_t j = p; j <= i && j < p + 1024; j++)
                chain = rp_fma(ds[j], row_of(job, n, j, key_head(job, h))[d], chain);
            total = p == 0 ? chain : total + chain;
        }
        dq[d] = total * job->scale;
    }
}

static void key_gradient(const struct at_job *job, int64_t n, int64_t kv, int64_t j,
                         struct weights *w)
{
    int group = job->heads / job->kv_heads;
    float *dk = job->out + (n * job->tokens + j) * job->width + (job->heads + kv) * job->d;
    float *dv = dk + job->kv_heads * job->d;
    for (int g = 0; g < group; g++) {
        int64_t h = kv * group + g;
        for (int64_t i = j; i < job->tokens; i++) w[i] = weights_of(job, n, h, i, j);
        for (int d = 0; d < job->d; d++) {
            float k_total = -0.0f, v_total = -0.0f;
            for (int64_t p = j / 1024 * 1024; p < job->tokens; p += 1024) {
                float k_chain = 0, v_chain = 0;
                for (int64_t i = p > j ? p : j; i < job->tokens && i < p + 1024; i++) {
                    k_chain = rp_fma(w[i].ds, row_of(job, n, i, h)[d], k_chain);
                    v_chain = rp_fma(w[i].pw,
                                     job->dy[((n * job->tokens + i) * job->heads + h) * job->d + d],
                                     v_chain);
                }
                k_total += k_chain, v_total += v_chain;
            }
            dk[d] = g == 0 ? k_total : dk[d] + k_total;
            dv[d] = g == 0 ? v_total : dv[d] + v_total;
        }
    }
    for (int d = 0; d < job->d; d++) dk[d] *= job->scale;
}

static void gradient_work(void *arg, int thread)
{
    const struct at_job *job = arg;
    int64_t at, end, group = job->heads / job->kv_heads;
    float *scratch = job->scratch + thread * 2 * job->tokens;
    rp_pool_cut(job->samples * job->kv_heads, 1, thread, job->n_threads, &at, &end);
    for (; at < end; at++)
        for (int64_t i = 0; i < job->tokens; i++) {
            int64_t n = at / job->kv_heads, kv = at % job->kv_heads;
            for (int64_t g = 0; g < group; g++) query_gradient(job, n, kv * group + g, i, scratch);
            key_gradient(job, n, kv, i, (struct weights *)scratch);
        }
}

static struct at_job begin(struct rp_cpu *cpu, const struct rp_op_call *call,
                           const struct rp_pass *pass, const struct rp_tensor *qkv)
{
    const struct rp_attention_params *p = &call->params.attention;
    return (struct at_job){.qkv = qkv->data,
                           .out = call->out[0].data,
                           .scratch = (float *)cpu->scratch,
                           .samples = qkv->dims[0],
                           .tokens = qkv->dims[1],
                           .width = qkv->dims[2],
                           .d = p->head_dim,
                           .heads = p->heads,
                           .kv_heads = p->kv_heads,
                           .scale = (float)(1.0 / rp_sqrt64((double)p->head_dim)),
                           .drops = p->p > 0.0f,
                           .drop = 1.0f / (1.0f - p->p),
                           .threshold = rp_threshold(p->p),
                           .site = p->site,
                           .seed = pass->seed,
                           .position = pass->position,
                           .n_threads = rp_pool_threads(cpu->pool)};
}

size_t RP_ISA_NAME(rp_cpu_scratch_attention)(const struct rp_op_call *call, int n_threads)
{
    return (size_t)(call->in[0].dims[1] * n_threads) * sizeof(float);
}

RP_CPU_KERNEL(attention)
{
    (void)err;
    struct at_job job = begin(cpu, call, pass, &call->in[0]);
    job.stats = call->out[1].data;
    rp_threads_run(cpu, job.n_threads, attend_work, &job);
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_attention_dx)(const struct rp_op_call *call, int n_threads)
{
    return 2 * (size_t)(call->in[1].dims[1] * n_threads) * sizeof(float);
}

RP_CPU_KERNEL(attention_dx)
{
    (void)err;
    struct at_job job = begin(cpu, call, pass, &call->in[1]);
    job.dy = call->in[0].data;
    job.y = call->in[2].data;
    job.stats_in = call->in[3].data;
    rp_threads_run(cpu, job.n_threads, gradient_work, &job);
    return RP_STATUS_OK;
}
