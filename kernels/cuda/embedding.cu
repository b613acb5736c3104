/* embedding.cu - rows of a table by token, and the gradient of positions. README.md chapter 6. */
#include "cuda/quad.h"

enum { EMBED_THREADS = 256, MAX_LEVELS = 32 };

struct embedding_job {
    const int32_t *token; /* (rows) */
    const float *w, *pos; /* (V, C); (P, C) or NULL */
    float *y;             /* (rows, C) */
    int64_t quads, n_cols, n_ids, per_sample;
    const struct rp_pass *pass;
};

template <bool aligned>
__global__ void __launch_bounds__(EMBED_THREADS) embedding_quads(struct embedding_job job)
{
    int64_t i = (int64_t)blockIdx.x * EMBED_THREADS + threadIdx.x, a_row = (job.n_cols + 3) / 4;
    if (i >= job.quads) return;
    int64_t row = i / a_row, at = i % a_row * 4, token = job.token[row];
    float v[4], p[4];
    RP_UNROLL
    for (int k = 0; k < 4; k++) v[k] = rp_float_of_bits(0x7fc00000u);
    if (token >= 0 && token < job.n_ids)
        rp_quad_load<aligned>(job.w + token * job.n_cols, at, job.n_cols, v);
    if (job.pos) {
        int64_t place = job.pass->first_token + row % job.per_sample;
        rp_quad_load<aligned>(job.pos + place * job.n_cols, at, job.n_cols, p);
        RP_UNROLL
        for (int k = 0; k < 4; k++) v[k] += p[k];
    }
    rp_quad_store<aligned>(job.y + row * job.n_cols, at, job.n_cols, v);
}

RP_CUDA_KERNEL(embedding)
{
    const struct rp_tensor *tokens = &call->in[0], *w = &call->in[1], *pos = &call->in[2];
    struct embedding_job job = {};
    job.token = (const int32_t *)tokens->data;
    job.w = (const float *)w->data;
    job.pos = (const float *)pos->data;
    job.y = (float *)call->out[0].data;
    job.n_ids = w->dims[0];
    job.n_cols = w->dims[1];
    job.per_sample = tokens->dims[1];
    job.quads = rp_tensor_elements(tokens) * ((job.n_cols + 3) / 4);
    job.pass = rp_cuda_pass(cuda, pass);
    if (job.pos && pass->first_token + job.per_sample > pos->dims[0])
        return rp_error_set(err, RP_STATUS_INTERNAL, "embedding: tokens past the last position");
    unsigned blocks = rp_blocks(job.quads, EMBED_THREADS);
    if (rp_quad_fits(job.w) && rp_quad_fits(job.pos) && rp_quad_fits(job.y) && job.n_cols % 4 == 0)
        RP_LAUNCH(cuda, (embedding_quads<true>), blocks, EMBED_THREADS, 0, job);
    else
        RP_LAUNCH(cuda, (embedding_quads<false>), blocks, EMBED_THREADS, 0, job);
    return RP_STATUS_OK;
}

/* ---- the gradient of positions ----------------------------------------------------------------
 * The columns are places and channels together, so many that each has a thread that walks over all
 * samples; panels are of 1024 samples. */

enum { PANEL = 1024 };

struct position_job {
    const float *dy; /* (samples, n) */
    float *sum, *open;
    int64_t n;
    int64_t samples; /* of each shard in this pass */
    int64_t first, of_shard;
    int64_t n_shards;
};

/* The complete panels of a shard; what is left of the last one stays in *chain. */
static __device__ __forceinline__ float position_shard(const struct position_job &job,
                                                       const float *dy, float *chain)
{
    float total = job.first >= PANEL && job.n_shards == 1 ? *job.sum : 0.0f;
    bool any = job.first >= PANEL;
    for (int64_t i = 0; i < job.samples; i++) {
        int64_t place = job.first + i + 1;
        *chain += dy[i * job.n];
        if (place % PANEL != 0 && place != job.of_shard) continue;
        total = any ? total + *chain : *chain;
        any = true;
        *chain = 0.0f;
    }
    return total;
}

static __global__ void __launch_bounds__(EMBED_THREADS) position_columns(struct position_job job)
{
    int64_t col = (int64_t)blockIdx.x * EMBED_THREADS + threadIdx.x, end = job.first + job.samples;
    if (col >= job.n) return;
    job.sum += col;
    float node[MAX_LEVELS], total = 0.0f, chain = 0.0f;
    if (job.first % PANEL != 0) chain = job.open[col];
    for (int64_t s = 0; s < job.n_shards; s++) {
        total = position_shard(job, job.dy + s * job.samples * job.n + col, &chain);
        int level = 0;
        for (; (s >> level) & 1; level++) total = node[level] + total;
        node[level] = total;
    }
    if (end >= PANEL || end == job.of_shard) *job.sum = total;
    if (end % PANEL != 0 && end != job.of_shard) job.open[col] = chain;
}

RP_CUDA_KERNEL(position_dw)
{
    const struct rp_tensor *dy = &call->in[0];
    const struct rp_rows *cut = &pass->rows;
    struct position_job job = {};
    job.dy = (const float *)dy->data;
    job.sum = (float *)call->out[0].data;
    job.open = (float *)call->out[1].data;
    job.n = dy->dims[1] * dy->dims[2];
    job.samples = cut->n_samples / cut->n_shards;
    job.first = cut->first_sample;
    job.of_shard = cut->samples_per_shard;
    job.n_shards = cut->n_shards;
    RP_LAUNCH(cuda, position_columns, rp_blocks(job.n, EMBED_THREADS), EMBED_THREADS, 0, job);
    return RP_STATUS_OK;
}
