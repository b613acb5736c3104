/* batch_norm.cu - batch normalisation: statistics of each logical shard, then one pass over the
 * rows; in one reading where a shard's rows of a few channels fit into shared memory. README.md
 * chapter 9. */
#include "cuda/batch_norm_held.cuh"
#include "cuda/quad.h"

/* ---- a pass over all rows ----------------------------------------------------------------------
 * A thread takes one channel, or four neighbouring ones, of several rows of one shard: what it
 * needs of the channel is read once. A block is `width` such groups of channels by some rows. */

enum { MAP_THREADS = 256, MAP_ROWS = 8 /* of a thread */, MAP_BATCH = 4 /* rows in flight */ };

struct bn_job {
    const float *x, *dy;          /* (rows, C) */
    const float *gamma, *beta;    /* (C) */
    const float *mean, *inv;      /* (shards, C) */
    const float *mean_g, *mean_b; /* (shards, C): dgamma / m and dbeta / m of each shard */
    const float *var;             /* (C), in place of inv in evaluation */
    float *out;                   /* (rows, C) */
    int64_t n_cols, shard_rows;
    int64_t row_blocks; /* of a shard */
    int width;          /* groups of channels that a block has side by side */
    bool from_end;      /* the last rows first, which the sums have left in the cache */
    float eps;
};

/* y = fma(x - mean, scale, beta) */
struct normalize_map {
    enum { inputs = 1 };
    float mean, scale, beta;
    __device__ void prepare(const struct bn_job &job, int64_t of_shard, int64_t col)
    {
        mean = job.mean[of_shard + col];
        scale = job.inv[of_shard + col] * job.gamma[col];
        beta = job.beta[col];
    }
    __device__ float operator()(float x, float) const { return rp_fma(x - mean, scale, beta); }
};

struct eval_map : normalize_map {
    __device__ void prepare(const struct bn_job &job, int64_t, int64_t col)
    {
        float inv = 1.0f / rp_sqrt(job.var[col] + job.eps);
        mean = job.mean[col];
        scale = inv * job.gamma[col];
        beta = job.beta[col];
    }
};

struct gradient_map {
    enum { inputs = 2 };
    float mean, inv, scale, b, g;
    __device__ void prepare(const struct bn_job &job, int64_t of_shard, int64_t col)
    {
        mean = job.mean[of_shard + col];
        inv = job.inv[of_shard + col];
        scale = inv * job.gamma[col];
        b = job.mean_b[of_shard + col];
        g = job.mean_g[of_shard + col];
    }
    __device__ float operator()(float x, float dy) const
    {
        float h = (x - mean) * inv;
        return scale * rp_fma(-h, g, dy - b);
    }
};

template <class Map, int lanes>
static __device__ __forceinline__ void map_rows(const struct bn_job &job, const Map map[lanes],
                                                int64_t row, int64_t end, int64_t step, int64_t col)
{
    for (; row < end; row += MAP_BATCH * step) {
        float x[MAP_BATCH][4], dy[MAP_BATCH][4];
        RP_UNROLL
        for (int i = 0; i < MAP_BATCH; i++) {
            int64_t at = (row + i * step) * job.n_cols + col;
            int64_t stop = row + i * step < end ? at + lanes : at;
            rp_quad_load<lanes == 4>(job.x, at, stop, x[i]);
            if (Map::inputs == 2) rp_quad_load<lanes == 4>(job.dy, at, stop, dy[i]);
        }
        RP_UNROLL
        for (int i = 0; i < MAP_BATCH; i++) {
            int64_t at = (row + i * step) * job.n_cols + col;
            int64_t stop = row + i * step < end ? at + lanes : at;
            RP_UNROLL
            for (int k = 0; k < lanes; k++)
                x[i][k] = map[k](x[i][k], Map::inputs == 2 ? dy[i][k] : 0.0f);
            rp_quad_store<lanes == 4>(job.out, at, stop, x[i]);
        }
    }
}

template <class Map, int lanes>
__global__ void __launch_bounds__(MAP_THREADS) bn_map(struct bn_job job)
{
    unsigned number = job.from_end ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    unsigned row_blocks = (unsigned)job.row_blocks;
    int64_t shard = number / row_blocks, block = number % row_blocks;
    int64_t step = MAP_THREADS / job.width; /* rows side by side */
    int64_t group = (int64_t)blockIdx.y * job.width + threadIdx.x % (unsigned)job.width;
    int64_t row = block * step * MAP_ROWS, end = row + step * MAP_ROWS;
    int64_t of_shard = shard * job.n_cols, col = group * lanes;
    Map map[lanes];
    if (end > job.shard_rows) end = job.shard_rows;
    row += threadIdx.x / (unsigned)job.width;
    if (col >= job.n_cols) return;
    RP_UNROLL
    for (int k = 0; k < lanes; k++) map[k].prepare(job, of_shard, col + k);
    map_rows<Map, lanes>(job, map, shard * job.shard_rows + row, shard * job.shard_rows + end, step,
                         col);
}

template <class Map>
static enum rp_status bn_map_run(struct rp_cuda *cuda, struct bn_job job, int64_t shards,
                                 struct rp_error *err)
{
    bool quads =
        job.n_cols % 4 == 0 && rp_quad_fits(job.x) && rp_quad_fits(job.dy) && rp_quad_fits(job.out);
    int64_t groups = quads ? job.n_cols / 4 : job.n_cols;
    for (job.width = 1; job.width < groups && job.width < 64;) job.width *= 2;
    job.row_blocks = rp_blocks(job.shard_rows, MAP_THREADS / job.width * MAP_ROWS);
    dim3 grid((unsigned)(shards * job.row_blocks), rp_blocks(groups, job.width));
    if (quads)
        RP_LAUNCH(cuda, (bn_map<Map, 4>), grid, MAP_THREADS, 0, job);
    else
        RP_LAUNCH(cuda, (bn_map<Map, 1>), grid, MAP_THREADS, 0, job);
    return RP_STATUS_OK;
}

/* ---- statistics ------------------------------------------------------------------------------ */

struct x_term : rp_column_term {
    enum { inputs = 1, sums = 1 };
    const float *in[1];
    __device__ void add(const float *x, const float *, float *acc) const { acc[0] += x[0]; }
};

struct variance_term : rp_column_term {
    enum { inputs = 1, sums = 1 };
    const float *in[1];
    const float *means; /* (shards, C) */
    float mean;
    __device__ void prepare(int64_t shard, int64_t col, int64_t n_cols)
    {
        mean = col < n_cols ? means[shard * n_cols + col] : 0.0f;
    }
    __device__ void add(const float *x, const float *, float *acc) const
    {
        float d = x[0] - mean;
        acc[0] = rp_fma(d, d, acc[0]);
    }
};

struct mean_of_shard {
    float *mean; /* (shards, C) */
    int64_t n_cols;
    float m;
    __device__ float operator()(int, int64_t shard, int64_t col, float sum) const
    {
        return mean[shard * n_cols + col] = sum / m;
    }
};

struct inv_of_shard {
    float *inv; /* (shards, C) */
    int64_t n_cols;
    float m, less_one, eps;
    __device__ float operator()(int, int64_t shard, int64_t col, float sum) const
    {
        inv[shard * n_cols + col] = 1.0f / rp_sqrt(sum / m + eps);
        return sum / less_one;
    }
};

/* Batch norm needs a shard's statistics before the shard's first output. */
static enum rp_status check_whole(const struct rp_columns &job, struct rp_error *err)
{
    if (!job.part) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_INTERNAL,
                        "batch_norm: a pass holds a part of a shard; plan must not cut one");
}

static enum rp_status make_mean(struct rp_cuda *cuda, const struct rp_columns &sums,
                                const struct rp_op_call *call, struct rp_error *err)
{
    struct rp_columns_out to = {};
    to.out[0] = (float *)call->out[3].data;
    x_term term = {};
    term.in[0] = (const float *)call->in[0].data;
    mean_of_shard keep = {(float *)call->out[1].data, sums.n_cols, (float)sums.shard_rows};
    return rp_columns_sum(cuda, sums, term, to, keep, err);
}

static enum rp_status make_inv(struct rp_cuda *cuda, struct rp_columns sums,
                               const struct rp_op_call *call, struct rp_error *err)
{
    sums.from_end = true; /* where the mean ended */
    int64_t m = sums.shard_rows;
    struct rp_columns_out to = {};
    to.out[0] = (float *)call->out[4].data;
    variance_term term = {};
    term.in[0] = (const float *)call->in[0].data;
    term.means = (const float *)call->out[1].data;
    inv_of_shard keep = {(float *)call->out[2].data, sums.n_cols, (float)m,
                         (float)(m > 1 ? m - 1 : 1), call->params.norm.eps};
    return rp_columns_sum(cuda, sums, term, to, keep, err);
}

size_t rp_cuda_scratch_batch_norm(const struct rp_op_call *call)
{
    return rp_columns_scratch(&call->in[0], 2);
}

/* Of both ops; `in` begins with the rows. */
static struct rp_held_job begin_held(const struct rp_columns &sums, const struct rp_op_call *call)
{
    struct rp_held_job job = {};
    job.out = (float *)call->out[0].data;
    job.partial = sums.partial;
    job.n_cols = sums.n_cols;
    job.rows = (int)sums.shard_rows;
    job.panels = (int)sums.panels;
    job.m = (float)sums.shard_rows;
    return job;
}

/* Does it all, where `*done`. */
static enum rp_status normalize_held(struct rp_cuda *cuda, const struct rp_columns &sums,
                                     const struct rp_op_call *call, bool *done,
                                     struct rp_error *err)
{
    struct rp_held_job job = begin_held(sums, call);
    int64_t m = sums.shard_rows;
    job.in[0] = (const float *)call->in[0].data;
    job.gamma = (const float *)call->in[1].data;
    job.beta = (const float *)call->in[2].data;
    job.mean = (float *)call->out[1].data;
    job.inv = (float *)call->out[2].data;
    job.less_one = (float)(m > 1 ? m - 1 : 1);
    job.eps = call->params.norm.eps;
    int width = rp_held_width(cuda, sums, job, 1);
    *done = width > 0;
    if (!*done) return RP_STATUS_OK;
    struct rp_columns_out to = {};
    for (int i = 0; i < 2; i++) to.out[i] = (float *)call->out[3 + i].data;
    RP_HELD_LAUNCH(cuda, rp_held_normalize, width, sums.n_shards, 1, job);
    return rp_held_close(cuda, sums, to, err);
}

RP_CUDA_KERNEL(batch_norm)
{
    struct rp_columns sums = rp_columns_begin(cuda->scratch, &pass->rows, &call->in[0]);
    bool done = false;
    RP_TRY(check_whole(sums, err));
    RP_TRY(normalize_held(cuda, sums, call, &done, err));
    if (done) return RP_STATUS_OK;
    RP_TRY(make_mean(cuda, sums, call, err));
    RP_TRY(make_inv(cuda, sums, call, err));
    struct bn_job job = {};
    job.x = (const float *)call->in[0].data;
    job.gamma = (const float *)call->in[1].data;
    job.beta = (const float *)call->in[2].data;
    job.mean = (const float *)call->out[1].data;
    job.inv = (const float *)call->out[2].data;
    job.out = (float *)call->out[0].data;
    job.n_cols = sums.n_cols;
    job.shard_rows = sums.shard_rows;
    return bn_map_run<normalize_map>(cuda, job, sums.n_shards, err);
}

/* ---- gradient -------------------------------------------------------------------------------- */

struct gradient_term : rp_column_term {
    enum { inputs = 2, sums = 2 };
    const float *in[2];        /* dy, x */
    const float *means, *invs; /* (shards, C) */
    float mean, inv;
    __device__ void prepare(int64_t shard, int64_t col, int64_t n_cols)
    {
        mean = col < n_cols ? means[shard * n_cols + col] : 0.0f;
        inv = col < n_cols ? invs[shard * n_cols + col] : 0.0f;
    }
    __device__ void add(const float *v, const float *, float *acc) const
    {
        float h = (v[1] - mean) * inv;
        acc[0] = rp_fma(v[0], h, acc[0]);
        acc[1] += v[0];
    }
};

/* Both sums of each shard over m, which the rows need. */
struct means_of_shard {
    float *mean[2]; /* (shards, C) */
    int64_t n_cols;
    float m;
    __device__ float operator()(int which, int64_t shard, int64_t col, float sum) const
    {
        float *to = which ? mean[1] : mean[0];
        to[shard * n_cols + col] = sum / m;
        return sum;
    }
};

size_t rp_cuda_scratch_batch_norm_dx(const struct rp_op_call *call)
{
    return rp_columns_scratch(&call->in[0], 2) + 2 * rp_tensor_bytes(&call->in[3]);
}

static enum rp_status gradient_held(struct rp_cuda *cuda, const struct rp_columns &sums,
                                    const struct rp_op_call *call, bool *done, struct rp_error *err)
{
    struct rp_held_job job = begin_held(sums, call);
    for (int i = 0; i < 2; i++) job.in[i] = (const float *)call->in[i].data;
    job.gamma = (const float *)call->in[2].data;
    job.means = (const float *)call->in[3].data;
    job.invs = (const float *)call->in[4].data;
    int width = job.out ? rp_held_width(cuda, sums, job, 2) : 0;
    *done = width > 0;
    if (!*done) return RP_STATUS_OK;
    struct rp_columns_out to = {};
    for (int i = 0; i < 2; i++) to.out[i] = (float *)call->out[1 + i].data;
    RP_HELD_LAUNCH(cuda, rp_held_gradient, width, sums.n_shards, 2, job);
    if (!to.out[0] && !to.out[1]) return RP_STATUS_OK;
    return rp_held_close(cuda, sums, to, err);
}

RP_CUDA_KERNEL(batch_norm_dx)
{
    struct rp_columns sums = rp_columns_begin(cuda->scratch, &pass->rows, &call->in[0]);
    bool done = false;
    float *means = (float *)((unsigned char *)cuda->scratch + rp_columns_scratch(&call->in[0], 2));
    int64_t of_shards = sums.n_shards * sums.n_cols;
    RP_TRY(check_whole(sums, err));
    RP_TRY(gradient_held(cuda, sums, call, &done, err));
    if (done) return RP_STATUS_OK;
    gradient_term term = {};
    term.in[0] = (const float *)call->in[0].data;
    term.in[1] = (const float *)call->in[1].data;
    term.means = (const float *)call->in[3].data;
    term.invs = (const float *)call->in[4].data;
    struct rp_columns_out to = {};
    for (int i = 0; i < 2; i++) to.out[i] = (float *)call->out[1 + i].data;
    means_of_shard keep = {{means, means + of_shards}, sums.n_cols, (float)sums.shard_rows};
    RP_TRY(rp_columns_sum(cuda, sums, term, to, keep, err));
    if (!call->out[0].data) return RP_STATUS_OK;
    struct bn_job job = {};
    job.dy = term.in[0], job.x = term.in[1];
    job.gamma = (const float *)call->in[2].data;
    job.mean = term.means, job.inv = term.invs;
    job.mean_g = means, job.mean_b = means + of_shards;
    job.from_end = true;
    job.out = (float *)call->out[0].data;
    job.n_cols = sums.n_cols;
    job.shard_rows = sums.shard_rows;
    return bn_map_run<gradient_map>(cuda, job, sums.n_shards, err);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

RP_CUDA_KERNEL(batch_norm_eval)
{
    (void)pass;
    const struct rp_tensor *x = &call->in[0];
    struct bn_job job = {};
    job.x = (const float *)x->data;
    job.gamma = (const float *)call->in[1].data;
    job.beta = (const float *)call->in[2].data;
    job.mean = (const float *)call->in[3].data;
    job.var = (const float *)call->in[4].data;
    job.out = (float *)call->out[0].data;
    job.n_cols = x->dims[x->n_dims - 1];
    job.shard_rows = rp_tensor_rows(x);
    job.eps = call->params.norm.eps;
    return bn_map_run<eval_map>(cuda, job, 1, err);
}
