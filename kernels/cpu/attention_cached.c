/* attention_cached.c - attention of new tokens over cached keys and values, on the CPU. README.md
 * chapter 14.
 *
 * One query reads the cache of its group once: keys of one d lie side by side, values of one key.
 */
#include "attention.h"
#include "cpu/parallel.h"
#include "cpu/rsum.h"
#include "numerics.h"

enum { VECTORS = 4 /* chains side by side */ };

struct ac_job {
    const float *qkv; /* (N, T, width) */
    float *y;         /* (N, T, heads head_dim) */
    float *kcache;    /* (N, kv_heads, head_dim, places) */
    float *vcache;    /* (N, kv_heads, places, head_dim) */
    float *weights;   /* (threads, places) */
    int64_t samples, tokens, first, places, width;
    int heads, kv_heads, head_dim;
    float scale;
    int n_threads;
};

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* k and v of the new tokens go to their places. */
static void write_cache(const struct ac_job *job, int64_t n, int64_t kv)
{
    int64_t d = job->head_dim, unit = n * job->kv_heads + kv;
    for (int64_t t = 0; t < job->tokens; t++) {
        const float *k = job->qkv + (n * job->tokens + t) * job->width + (job->heads + kv) * d;
        float *to = job->kcache + unit * d * job->places + job->first + t;
        for (int64_t i = 0; i < d; i++) to[i * job->places] = k[i];
        memcpy(job->vcache + (unit * job->places + job->first + t) * d, k + job->kv_heads * d,
               (size_t)d * sizeof *k);
    }
}

/* Scores of keys [j, j + n_vectors RP_VW) or, where lanes are fewer, of the first `lanes`. */
RP_VEC_FN void score_keys(const struct ac_job *job, const float *q, const float *k, int n_vectors,
                          int64_t lanes, float *s)
{
    rp_vf acc[VECTORS];
    for (int v = 0; v < n_vectors; v++) acc[v] = rp_vzero();
    for (int i = 0; i < job->head_dim; i++, k += job->places) {
        rp_vf x = rp_vset(q[i]);
        for (int v = 0; v < n_vectors; v++)
            acc[v] = rp_vfma(x, rp_vload_lanes(k + v * RP_VW, lanes), acc[v]);
    }
    for (int v = 0; v < n_vectors; v++)
        rp_vstore_lanes(s + v * RP_VW, acc[v] * rp_vset(job->scale), lanes);
}

/* Scores of keys [0, n), and their maximum. */
static float scores(const struct ac_job *job, const float *q, const float *k, int64_t n, float *s)
{
    int64_t j = 0;
    rp_vf best = rp_vset(rp_float_of_bits(0xff800000u));
    float lane[RP_VW];
    for (; j + VECTORS * RP_VW <= n; j += VECTORS * RP_VW)
        score_keys(job, q, k + j, VECTORS, RP_VW, s + j);
    for (; j < n; j += RP_VW) score_keys(job, q, k + j, 1, least(RP_VW, n - j), s + j);
    for (j = 0; j < n; j += RP_VW) {
        rp_vf x = rp_vload_lanes(s + j, least(RP_VW, n - j));
        best = rp_vselect((x > best) & rp_vfirst(n - j), x, best);
    }
    rp_vstore(lane, best);
    for (int i = 1; i < RP_VW; i++) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
    return lane[0];
}

struct ac_row {
    float *s;
    float maximum;
};

RP_VEC_FN rp_vf exp_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct ac_row *row = arg;
    rp_vf e = rp_vexp(rp_vload_lanes(row->s + i, lanes) - rp_vset(row->maximum));
    rp_vstore_lanes(row->s + i, e, lanes);
    return acc + e;
}

/* y of n_vectors RP_VW values of a head, or of the first `lanes`. */
RP_VEC_FN void mix_values(const float *w, const float *v, int64_t n, int64_t d, float inv,
                          int n_vectors, int64_t lanes, float *y)
{
    rp_vf total[VECTORS]; /* from -0, which leaves the first panel as it is */
    for (int i = 0; i < n_vectors; i++) total[i] = rp_vset(-0.0f);
    for (int64_t panel = 0; panel < n; panel += RP_PANEL) {
        rp_vf chain[VECTORS];
        for (int i = 0; i < n_vectors; i++) chain[i] = rp_vzero();
        for (int64_t j = panel; j < least(panel + RP_PANEL, n); j++)
            for (int i = 0; i < n_vectors; i++)
                chain[i] =
                    rp_vfma(rp_vset(w[j]), rp_vload_lanes(v + j * d + i * RP_VW, lanes), chain[i]);
        for (int i = 0; i < n_vectors; i++) total[i] += chain[i];
    }
    for (int i = 0; i < n_vectors; i++)
        rp_vstore_lanes(y + i * RP_VW, total[i] * rp_vset(inv), lanes);
}

static void attend(const struct ac_job *job, int64_t n, int64_t h, int64_t t, float *s)
{
    int64_t d = job->head_dim, keys = job->first + t + 1, i = 0;
    int64_t unit = n * job->kv_heads + h / (job->heads / job->kv_heads);
    const float *q = job->qkv + (n * job->tokens + t) * job->width + h * d;
    const float *v = job->vcache + unit * job->places * d;
    float *y = job->y + ((n * job->tokens + t) * job->heads + h) * d;
    struct ac_row row = {.s = s};
    row.maximum = scores(job, q, job->kcache + unit * d * job->places, keys, s);
    float inv = 1.0f / rp_rsum(keys, exp_term, &row);
    for (; i + VECTORS * RP_VW <= d; i += VECTORS * RP_VW)
        mix_values(s, v + i, keys, d, inv, VECTORS, RP_VW, y + i);
    for (; i < d; i += RP_VW) mix_values(s, v + i, keys, d, inv, 1, least(RP_VW, d - i), y + i);
}

static void cached_work(void *arg, int thread)
{
    const struct ac_job *job = arg;
    int64_t group = job->heads / job->kv_heads, at, end;
    rp_pool_cut(job->samples * job->kv_heads, 1, thread, job->n_threads, &at, &end);
    for (; at < end; at++) {
        int64_t n = at / job->kv_heads, kv = at % job->kv_heads;
        write_cache(job, n, kv);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++)
            for (int64_t t = 0; t < job->tokens; t++)
                attend(job, n, h, t, job->weights + thread * job->places);
    }
}

size_t RP_ISA_NAME(rp_cpu_scratch_attention_cached)(const struct rp_op_call *call, int n_threads)
{
    return (size_t)(call->in[2].dims[2] * n_threads) * sizeof(float);
}

RP_CPU_KERNEL(attention_cached)
{
    const struct rp_attention_params *p = &call->params.attention;
    const struct rp_tensor *qkv = &call->in[0];
    struct ac_job job = {.qkv = qkv->data,
                         .y = call->out[0].data,
                         .kcache = call->out[1].data,
                         .vcache = call->out[2].data,
                         .weights = (float *)cpu->scratch,
                         .samples = qkv->dims[0],
                         .tokens = qkv->dims[1],
                         .first = pass->first_token,
                         .places = call->in[2].dims[2],
                         .width = qkv->dims[2],
                         .heads = p->heads,
                         .kv_heads = p->kv_heads,
                         .head_dim = p->head_dim,
                         .scale = (float)(1.0 / rp_sqrt64((double)p->head_dim))};
    if (job.first < 0 || job.first + job.tokens > job.places)
        return rp_error_set(err, RP_STATUS_INTERNAL,
                            "attention_cached: places %" PRId64 " to %" PRId64 " of a cache of "
                            "%" PRId64,
                            job.first, job.first + job.tokens, job.places);
    job.n_threads =
        rp_threads_for(cpu, job.samples * job.tokens * p->heads * (job.first + 1) * p->head_dim);
    rp_pool_run(cpu->pool, job.n_threads, cached_work, &job);
    return RP_STATUS_OK;
}
