/* attention_cached.cu - attention of new tokens over cached keys and values. README.md chapter 14.
 *
 * A block takes one query and head after another: its threads have a key each for the scores, whose
 * values of one d lie side by side; then a value each for y, and panels of 1024 keys beside each
 * other. */
#include "cuda/gpu.h"
#include "cuda/rows.h"

enum {
    THREADS = 256,
    BATCH = 8, /* loads on their way together */
    MOST_BLOCKS = 2048,
    MOST_SUMS = RP_ATTENTION_PLACES_MAX / RP_ROW_BLOCK
};

struct ac_job {
    const float *qkv;       /* (N, T, width) */
    float *y;               /* (N, T, heads d) */
    float *kcache, *vcache; /* (N, kv_heads, d, places), (N, kv_heads, places, d) */
    float *weights;         /* (blocks, places) */
    float *panels;          /* (blocks, panels, d) */
    int64_t items, width, places;
    int tokens, d, heads, kv_heads, group, n_panels;
    float scale;
    const struct rp_pass *pass;
};

/* Places that are written; past the end of the cache (which the entry refuses) there is none. */
static __device__ __forceinline__ int64_t first_of(const struct ac_job &job)
{
    int64_t first = job.pass->first_token;
    return first >= 0 && first + job.tokens <= job.places ? first : -1;
}

static __global__ void __launch_bounds__(THREADS) write_cache(struct ac_job job, int64_t n)
{
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; /* of (N, T, kv_heads, d) */
    int64_t first = first_of(job);
    if (at >= n || first < 0) return;
    int64_t i = at % job.d, kv = at / job.d % job.kv_heads, token = at / job.d / job.kv_heads;
    int64_t unit = token / job.tokens * job.kv_heads + kv, place = first + token % job.tokens;
    const float *k = job.qkv + token * job.width + (job.heads + kv) * job.d + i;
    job.kcache[(unit * job.d + i) * job.places + place] = k[0];
    job.vcache[(unit * job.places + place) * job.d + i] = k[(int64_t)job.kv_heads * job.d];
}

/* The greatest of all threads, to all of them. Of two zeros none is the greater. */
static __device__ __forceinline__ float block_maximum(float best, float (&of_warp)[THREADS / 32])
{
    best = rp_row_fold_maximum(best);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = best;
    __syncthreads();
    best = of_warp[0];
    RP_UNROLL
    for (int i = 1; i < THREADS / 32; i++) best = of_warp[i] > best ? of_warp[i] : best;
    return best + 0.0f;
}

/* Scores of keys [0, n) to s; returns the greatest of this thread's. */
static __device__ __forceinline__ float make_scores(const struct ac_job &job, const float *q,
                                                    const float *k, int n, float *s)
{
    float best = rp_float_of_bits(0xff800000u);
    for (int j = (int)threadIdx.x; j < n; j += THREADS) {
        float acc = 0.0f;
        for (int d = 0; d < job.d; d += BATCH) {
            float x[BATCH] = {};
            RP_UNROLL
            for (int i = 0; i < BATCH; i++)
                if (d + i < job.d) x[i] = k[(d + i) * job.places + j];
            RP_UNROLL
            for (int i = 0; i < BATCH; i++)
                if (d + i < job.d) acc = rp_fma(q[d + i], x[i], acc);
        }
        acc = acc * job.scale;
        s[j] = acc;
        if (acc > best) best = acc;
    }
    return best;
}

/* RSUM of e[0 .. n): a warp per block of 4096, then one over these. */
static __device__ __forceinline__ float sum_weights(const float *e, int n, float (&sums)[MOST_SUMS])
{
    int n_blocks = (n + RP_ROW_BLOCK - 1) / RP_ROW_BLOCK, lane = (int)threadIdx.x % 32;
    for (int block = (int)threadIdx.x / 32; block < n_blocks; block += THREADS / 32) {
        int begin = block * RP_ROW_BLOCK, end = n - begin < RP_ROW_BLOCK ? n : begin + RP_ROW_BLOCK;
        float acc = -0.0f;
        rp_row_walk(begin, end, [&](auto batch, int at) {
            float v[batch.n];
            rp_batch_load(batch, e, at, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                if (batch.has(i)) acc += v[i];
        });
        acc = rp_row_fold(acc);
        if (lane == 0) sums[block] = acc;
    }
    __syncthreads();
    float acc = -0.0f;
    for (int block = lane; block < n_blocks; block += 32) acc += sums[block];
    return rp_row_fold(acc);
}

/* The chain of one panel and one value of d. */
static __device__ __forceinline__ float panel_chain(const struct ac_job &job, const float *w,
                                                    const float *v, int begin, int end)
{
    float acc = 0.0f;
    int j = begin;
    for (; j + BATCH <= end; j += BATCH) {
        float x[BATCH];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) x[i] = v[(int64_t)(j + i) * job.d];
        RP_UNROLL
        for (int i = 0; i < BATCH; i++) acc = rp_fma(w[j + i], x[i], acc);
    }
    for (; j < end; j++) acc = rp_fma(w[j], v[(int64_t)j * job.d], acc);
    return acc;
}

static __global__ void __launch_bounds__(THREADS) attend_cached(struct ac_job job)
{
    RP_SHARED(float, q, [RP_ATTENTION_HEAD_MAX]);
    RP_SHARED(float, of_warp, [THREADS / 32]);
    RP_SHARED(float, sums, [MOST_SUMS]);
    float *w = job.weights + (int64_t)blockIdx.x * job.places;
    float *panels = job.panels + (int64_t)blockIdx.x * job.n_panels * job.d;
    int64_t first = first_of(job);
    if (first < 0) return;
    for (int64_t item = blockIdx.x; item < job.items; item += gridDim.x) {
        int64_t head = item % job.heads, token = item / job.heads; /* of (N, T, heads) */
        int64_t unit = token / job.tokens * job.kv_heads + head / job.group;
        int n = (int)(first + token % job.tokens) + 1, n_panels = (n + RP_PANEL - 1) / RP_PANEL;
        __syncthreads(); /* the query before is done with what is shared */
        for (int d = (int)threadIdx.x; d < job.d; d += THREADS)
            q[d] = job.qkv[token * job.width + head * job.d + d];
        __syncthreads();
        float best = make_scores(job, q, job.kcache + unit * job.d * job.places, n, w);
        best = block_maximum(best, of_warp);
        for (int j = (int)threadIdx.x; j < n; j += THREADS) w[j] = rp_exp(w[j] - best);
        __syncthreads();
        float inv = 1.0f / sum_weights(w, n, sums);
        for (int at = (int)threadIdx.x; at < n_panels * job.d; at += THREADS) {
            int begin = at / job.d * RP_PANEL, end = n - begin < RP_PANEL ? n : begin + RP_PANEL;
            panels[at] = panel_chain(job, w, job.vcache + unit * job.places * job.d + at % job.d,
                                     begin, end);
        }
        __syncthreads();
        for (int d = (int)threadIdx.x; d < job.d; d += THREADS) {
            float sum = panels[d];
            for (int p = 1; p < n_panels; p++) sum += panels[p * job.d + d];
            job.y[item * job.d + d] = sum * inv;
        }
    }
}

/* ---- entry ----------------------------------------------------------------------------------- */

static int64_t items_of(const struct rp_op_call *call)
{
    return rp_tensor_rows(&call->in[0]) * call->params.attention.heads;
}

/* Blocks, each with weights and panels of its own. */
static int64_t blocks_of(const struct rp_op_call *call)
{
    int64_t items = items_of(call);
    return items < MOST_BLOCKS ? items : (int64_t)MOST_BLOCKS;
}

size_t rp_cuda_scratch_attention_cached(const struct rp_op_call *call)
{
    int64_t places = call->in[2].dims[2], panels = (places + RP_PANEL - 1) / RP_PANEL;
    int64_t of_block = places + panels * call->params.attention.head_dim;
    return (size_t)(blocks_of(call) * of_block) * sizeof(float);
}

RP_CUDA_KERNEL(attention_cached)
{
    const struct rp_tensor *qkv = &call->in[0];
    const struct rp_attention_params *p = &call->params.attention;
    struct ac_job job = {};
    job.qkv = (const float *)qkv->data;
    job.y = (float *)call->out[0].data;
    job.kcache = (float *)call->out[1].data;
    job.vcache = (float *)call->out[2].data;
    job.items = items_of(call);
    job.width = qkv->dims[2];
    job.places = call->in[2].dims[2];
    job.tokens = (int)qkv->dims[1];
    job.d = p->head_dim;
    job.heads = p->heads;
    job.kv_heads = p->kv_heads;
    job.group = p->heads / p->kv_heads;
    job.n_panels = (int)rp_blocks(job.places, RP_PANEL);
    job.scale = (float)(1.0 / rp_sqrt64((double)p->head_dim));
    job.weights = (float *)cuda->scratch;
    job.panels = job.weights + blocks_of(call) * job.places;
    job.pass = rp_cuda_pass(cuda, pass);
    if (pass->first_token < 0 || pass->first_token + job.tokens > job.places)
        return rp_error_set(err, RP_STATUS_INTERNAL,
                            "attention_cached: places %" PRId64 " to %" PRId64 " of a cache of "
                            "%" PRId64,
                            pass->first_token, pass->first_token + job.tokens, job.places);
    int64_t n = rp_tensor_rows(qkv) * job.kv_heads * job.d;
    RP_LAUNCH(cuda, write_cache, rp_blocks(n, THREADS), THREADS, 0, job, n);
    RP_LAUNCH(cuda, attend_cached, (unsigned)blocks_of(call), THREADS, 0, job);
    return RP_STATUS_OK;
}
