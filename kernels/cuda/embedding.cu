/* embedding.cu - rows of a table by token, and the gradient of positions. README.md chapter 6. */
#include "cuda/divisor.h"
#include "cuda/quad.h"

enum { EMBED_THREADS = 256 };

struct embedding_job {
    const int32_t *token; /* (rows) */
    const float *w, *pos; /* (V, C); (P, C) or NULL */
    float *y;             /* (rows, C) */
    int64_t quads, n_cols, n_ids;
    struct rp_divisor by_row, by_sample; /* quads of a row, rows of a sample */
    const struct rp_pass *pass;
};

template <bool aligned>
__global__ void __launch_bounds__(EMBED_THREADS) embedding_quads(struct embedding_job job)
{
    int64_t i = (int64_t)blockIdx.x * EMBED_THREADS + threadIdx.x;
    if (i >= job.quads) return;
    int64_t row = rp_divide_wide(i, job.by_row), at = (i - row * job.by_row.by) * 4;
    int64_t token = job.token[row];
    float v[4], p[4];
    RP_UNROLL
    for (int k = 0; k < 4; k++) v[k] = rp_float_of_bits(0x7fc00000u);
    if (token >= 0 && token < job.n_ids)
        rp_quad_load<aligned>(job.w + token * job.n_cols, at, job.n_cols, v);
    if (job.pos) {
        int64_t sample = rp_divide_wide(row, job.by_sample);
        int64_t place = job.pass->first_token + row - sample * job.by_sample.by;
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
    job.by_row = rp_divisor_of((job.n_cols + 3) / 4);
    job.by_sample = rp_divisor_of(tokens->dims[1]);
    job.quads = rp_tensor_elements(tokens) * ((job.n_cols + 3) / 4);
    job.pass = rp_cuda_pass(cuda, pass);
    if (job.pos && pass->first_token + tokens->dims[1] > pos->dims[0])
        return rp_error_set(err, RP_STATUS_INTERNAL, "embedding: tokens past the last position");
    unsigned blocks = rp_blocks(job.quads, EMBED_THREADS);
    if (rp_quad_fits(job.w) && rp_quad_fits(job.pos) && rp_quad_fits(job.y) && job.n_cols % 4 == 0)
        RP_LAUNCH(cuda, (embedding_quads<true>), blocks, EMBED_THREADS, 0, job);
    else
        RP_LAUNCH(cuda, (embedding_quads<false>), blocks, EMBED_THREADS, 0, job);
    return RP_STATUS_OK;
}

/* ---- the gradient of positions ----------------------------------------------------------------
 * The columns are places and channels together, so many that each four have a thread that walks
 * over all samples; panels are of 1024 samples. */

enum { AHEAD = 8 /* samples that are loaded together */, FEW_LEVELS = 5, MAX_LEVELS = 32 };

struct position_job {
    const float *dy; /* (samples, n) */
    float *sum, *open;
    int64_t n;
    int64_t samples; /* of each shard in this pass */
    int64_t first, of_shard;
    int64_t n_shards;
};

/* The sums of four columns as samples come. A few levels of the tree are registers. */
template <int levels> struct position_sums {
    float node[levels][4], total[4], chain[4];
    int shard;
    int64_t place; /* samples of the shard so far */
    bool any;      /* there is a complete panel in total */

    template <bool aligned>
    __device__ __forceinline__ void begin(const struct position_job &job, int64_t col)
    {
        shard = 0, place = job.first;
        any = job.first >= RP_PANEL;
        RP_UNROLL
        for (int k = 0; k < 4; k++) total[k] = chain[k] = 0.0f;
        if (any) rp_quad_load<aligned>(job.sum, col, job.n, total);
        if (job.first % RP_PANEL != 0) rp_quad_load<aligned>(job.open, col, job.n, chain);
    }
    __device__ __forceinline__ void add(const struct position_job &job, const float dy[4])
    {
        RP_UNROLL
        for (int k = 0; k < 4; k++) chain[k] += dy[k];
        place++;
        if (place % RP_PANEL != 0 && place != job.of_shard) return;
        RP_UNROLL
        for (int k = 0; k < 4; k++) {
            total[k] = any ? total[k] + chain[k] : chain[k];
            chain[k] = 0.0f;
        }
        any = true;
        if (place == job.of_shard) end_shard();
    }
    __device__ __forceinline__ void end_shard()
    {
        bool up = true;
        RP_UNROLL
        for (int level = 0; level < levels; level++) {
            bool second = (shard >> level) & 1;
            RP_UNROLL
            for (int k = 0; k < 4; k++) {
                if (up && second) total[k] = node[level][k] + total[k];
                if (up && !second) node[level][k] = total[k];
            }
            up = up && second;
        }
        shard++, place = 0;
        any = false;
    }
};

template <bool aligned, int levels>
__global__ void __launch_bounds__(EMBED_THREADS) position_columns(struct position_job job)
{
    int64_t col = 4 * ((int64_t)blockIdx.x * EMBED_THREADS + threadIdx.x);
    int64_t end = job.first + job.samples, rows = job.n_shards * job.samples;
    if (col >= job.n) return;
    const float *dy = job.dy;
    struct position_sums<levels> sums;
    sums.template begin<aligned>(job, col);
    for (int64_t row = 0; row < rows; row += AHEAD, dy += AHEAD * job.n) {
        float v[AHEAD][4];
        RP_UNROLL
        for (int i = 0; i < AHEAD; i++)
            if (row + i < rows) rp_quad_load<aligned>(dy + i * job.n, col, job.n, v[i]);
        RP_UNROLL
        for (int i = 0; i < AHEAD; i++)
            if (row + i < rows) sums.add(job, v[i]);
    }
    if (end >= RP_PANEL || end == job.of_shard)
        rp_quad_store<aligned>(job.sum, col, job.n, sums.total);
    if (end % RP_PANEL != 0 && end != job.of_shard)
        rp_quad_store<aligned>(job.open, col, job.n, sums.chain);
}

template <int levels>
static enum rp_status launch_positions(struct rp_cuda *cuda, const struct position_job &job,
                                       struct rp_error *err)
{
    unsigned blocks = rp_blocks(job.n, 4 * EMBED_THREADS);
    bool aligned = rp_quad_fits(job.dy) && rp_quad_fits(job.sum) && rp_quad_fits(job.open);
    if (aligned && job.n % 4 == 0)
        RP_LAUNCH(cuda, (position_columns<true, levels>), blocks, EMBED_THREADS, 0, job);
    else
        RP_LAUNCH(cuda, (position_columns<false, levels>), blocks, EMBED_THREADS, 0, job);
    return RP_STATUS_OK;
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
    return job.n_shards < 1 << FEW_LEVELS ? launch_positions<FEW_LEVELS>(cuda, job, err)
                                          : launch_positions<MAX_LEVELS>(cuda, job, err);
}
