/* dropout.c - dropout and its gradient, which is the same function, on the CPU. README.md chapters
 * 4 and 8. */
#include "cpu/draw.h"
#include "cpu/parallel.h"

/* Blocks of Philox are drawn side by side, one a lane, four elements each. */
enum { BLOCKS = 16, WORDS = 4 * BLOCKS };

struct dropout_job {
    const float *x;
    float *y;
    int64_t elements, per_sample;
    int n_threads;
    uint64_t seed, position;
    uint32_t site, threshold;
    float scale;
};

/* The words of elements 4 * block .. 4 * block + WORDS - 1 of the sample at position p. */
static void draw_words(const struct dropout_job *job, uint64_t p, uint32_t block,
                       uint32_t words[WORDS])
{
    const struct rp_draw_stream stream = {.seed = job->seed, .p = p, .site = job->site};
    uint32_t made[4][BLOCKS];
    for (uint32_t first = 0; first < BLOCKS; first += RP_VW) {
        rp_vu word[4];
        rp_draw_lanes(&stream, block + first, word);
        for (int i = 0; i < 4; i++) rp_vstore_i((int32_t *)made[i] + first, (rp_vi)word[i]);
    }
    for (int i = 0; i < BLOCKS; i++)
        for (int j = 0; j < 4; j++) words[4 * i + j] = made[j][i];
}

static void drop_run(const struct dropout_job *job, const float *x, float *y, int64_t n,
                     const uint32_t *words)
{
    rp_vu threshold = rp_vset_u(job->threshold);
    rp_vf scale = rp_vset(job->scale);
    int64_t i = 0;
    for (; i + RP_VW <= n; i += RP_VW) {
        rp_vu u = (rp_vu)rp_vload_i((const int32_t *)words + i);
        rp_vstore(y + i, rp_vselect(u >= threshold, rp_vload(x + i) * scale, rp_vzero()));
    }
    for (; i < n; i++) y[i] = words[i] >= job->threshold ? x[i] * job->scale : 0.0f;
}

/* Elements [begin, end) of one sample. */
static void drop_sample(const struct dropout_job *job, int64_t sample, int64_t begin, int64_t end)
{
    const float *x = job->x + sample * job->per_sample;
    float *y = job->y + sample * job->per_sample;
    for (int64_t at = begin; at < end;) {
        uint32_t words[WORDS];
        int64_t first = at - at % 4;
        int64_t stop = first + WORDS < end ? first + WORDS : end;
        draw_words(job, job->position + (uint64_t)sample, (uint32_t)(first / 4), words);
        drop_run(job, x + at, y + at, stop - at, words + (at - first));
        at = stop;
    }
}

static void drop_work(void *arg, int thread)
{
    const struct dropout_job *job = arg;
    int64_t at, end;
    rp_pool_cut(job->elements, WORDS, thread, job->n_threads, &at, &end);
    while (at < end) {
        int64_t sample = at / job->per_sample, begin = at - sample * job->per_sample;
        int64_t left = end - sample * job->per_sample;
        drop_sample(job, sample, begin, left < job->per_sample ? left : job->per_sample);
        at = (sample + 1) * job->per_sample;
    }
}

static void drop(struct rp_cpu *cpu, const struct rp_op_call *call, const struct rp_pass *pass)
{
    int64_t n = rp_tensor_elements(&call->in[0]);
    float p = call->params.dropout.p;
    struct dropout_job job = {.x = call->in[0].data,
                              .y = call->out[0].data,
                              .elements = n,
                              .per_sample = n / pass->rows.n_samples,
                              .n_threads = rp_threads_for(cpu, 8 * n),
                              .seed = pass->seed,
                              .position = pass->position,
                              .site = call->params.dropout.site,
                              .threshold = rp_threshold(p),
                              .scale = 1.0f / (1.0f - p)};
    rp_pool_run(cpu->pool, job.n_threads, drop_work, &job);
}

RP_CPU_KERNEL(dropout)
{
    (void)err;
    drop(cpu, call, pass);
    return RP_STATUS_OK;
}

RP_CPU_KERNEL(dropout_dx)
{
    (void)err;
    drop(cpu, call, pass);
    return RP_STATUS_OK;
}
