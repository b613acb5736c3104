/* embedding_dw.cu - the gradient of a table of embeddings. README.md chapter 6.
 *
 * The rows of the pass are sorted by token, stable, as numbers in scratch: a row's place is the
 * rows of smaller ids, those of its id in earlier blocks of 1024 rows, and those of its id before
 * it in its own block. Nothing there depends on who comes first. Then each id has its rows in a
 * list, and a thread walks through it for four columns. */
#include "cuda/quad.h"

enum {
    SORT_ROWS = 1024, /* of a block of the sort, which knows no shards */
    DW_IDS = 4,       /* warps of a block, an id each */
    DW_AHEAD = 4,     /* rows that are loaded together */
    MAX_NODES = 33
};

/* ---- the lists of rows ----------------------------------------------------------------------- */

struct sort_job {
    const int32_t *token;
    int32_t *count; /* (blocks, V): of each id in a block; then in the blocks before it */
    int32_t *start; /* (V + 1): where the list of each id begins */
    int32_t *rank;  /* (rows): rows of the same id before it in its block */
    int32_t *row;   /* (rows): the lists */
    int64_t rows, blocks, n_ids;
};

static size_t sort_numbers(int64_t rows, int64_t n_ids)
{
    return (size_t)(rp_blocks(rows, SORT_ROWS) * n_ids + n_ids + 1 + 2 * rows);
}

static struct sort_job sort_begin(void *scratch, const void *token, int64_t rows, int64_t n_ids)
{
    struct sort_job job = {};
    job.token = (const int32_t *)token;
    job.rows = rows;
    job.n_ids = n_ids;
    job.blocks = rp_blocks(rows, SORT_ROWS);
    job.count = (int32_t *)scratch;
    job.start = job.count + job.blocks * n_ids;
    job.rank = job.start + n_ids + 1;
    job.row = job.rank + rows;
    return job;
}

static __device__ __forceinline__ int32_t token_of(const struct sort_job &job, int64_t row)
{
    int32_t token = row < job.rows ? job.token[row] : -1;
    return token >= 0 && token < job.n_ids ? token : -1;
}

static __global__ void __launch_bounds__(256) clear_counts(struct sort_job job)
{
    int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (i < job.blocks * job.n_ids) job.count[i] = 0;
}

static __global__ void __launch_bounds__(SORT_ROWS) count_rows(struct sort_job job)
{
    RP_SHARED(int32_t, tokens, [SORT_ROWS]);
    int me = (int)threadIdx.x, before = 0, all = 0;
    int64_t row = (int64_t)blockIdx.x * SORT_ROWS + me;
    int32_t token = token_of(job, row);
    tokens[me] = token;
    __syncthreads();
    if (token < 0) return;
    RP_NO_UNROLL
    for (int first = 0; first < SORT_ROWS; first += 16) {
        RP_UNROLL
        for (int i = first; i < first + 16; i++) {
            int same = tokens[i] == token;
            all += same;
            before += i < me ? same : 0;
        }
    }
    job.rank[row] = before;
    if (before == all - 1) job.count[blockIdx.x * job.n_ids + token] = all;
}

/* Down the blocks; start becomes the rows of each id. */
static __global__ void __launch_bounds__(256) sum_blocks(struct sort_job job)
{
    int64_t id = (int64_t)blockIdx.x * 256 + threadIdx.x;
    if (id >= job.n_ids) return;
    int32_t sum = 0;
    for (int64_t block = 0; block < job.blocks; block++) {
        int32_t count = job.count[block * job.n_ids + id];
        job.count[block * job.n_ids + id] = sum;
        sum += count;
    }
    job.start[id] = sum;
}

/* One block: every thread a run of ids, then what the runs before it hold. */
static __global__ void __launch_bounds__(1024) sum_ids(struct sort_job job)
{
    RP_SHARED(int32_t, of_run, [1024]);
    int me = (int)threadIdx.x;
    int64_t run = (job.n_ids + 1023) / 1024, begin = me * run, end = begin + run;
    if (end > job.n_ids) end = job.n_ids;
    int32_t sum = 0;
    for (int64_t id = begin; id < end; id++) sum += job.start[id];
    of_run[me] = sum;
    for (int step = 1; step < 1024; step *= 2) {
        __syncthreads();
        int32_t left = me >= step ? of_run[me - step] : 0;
        __syncthreads();
        of_run[me] += left;
    }
    int32_t at = of_run[me] - sum;
    for (int64_t id = begin; id < end; id++) {
        int32_t count = job.start[id];
        job.start[id] = at;
        at += count;
    }
    if (me == 1023) job.start[job.n_ids] = of_run[me];
}

static __global__ void __launch_bounds__(256) place_rows(struct sort_job job)
{
    int64_t row = (int64_t)blockIdx.x * 256 + threadIdx.x;
    int32_t token = token_of(job, row);
    if (token < 0) return;
    int32_t earlier = job.count[row / SORT_ROWS * job.n_ids + token];
    job.row[job.start[token] + earlier + job.rank[row]] = (int32_t)row;
}

static enum rp_status sort_rows(struct rp_cuda *cuda, const struct sort_job &job,
                                struct rp_error *err)
{
    RP_LAUNCH(cuda, clear_counts, rp_blocks(job.blocks * job.n_ids, 256), 256, 0, job);
    RP_LAUNCH(cuda, count_rows, (unsigned)job.blocks, SORT_ROWS, 0, job);
    RP_LAUNCH(cuda, sum_blocks, rp_blocks(job.n_ids, 256), 256, 0, job);
    RP_LAUNCH(cuda, sum_ids, 1, 1024, 0, job);
    RP_LAUNCH(cuda, place_rows, rp_blocks(job.rows, 256), 256, 0, job);
    return RP_STATUS_OK;
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct dw_job {
    const float *dy; /* (rows, C) */
    const int32_t *start, *row;
    float *sum, *open;
    int64_t n_ids, n_cols;
    int64_t rows;      /* of each shard in this pass */
    int64_t first_row; /* of the pass, counted from its shard's first */
    bool finds_sum, finds_chain, leaves_sum, leaves_chain;
    int64_t last_panel; /* of a part of a shard */
    bool onto;          /* see rp_embedding_params */
};

static __device__ __forceinline__ void quad_set(float v[4], float value)
{
    RP_UNROLL
    for (int k = 0; k < 4; k++) v[k] = value;
}

static __device__ __forceinline__ void quad_add(float v[4], const float w[4])
{
    RP_UNROLL
    for (int k = 0; k < 4; k++) v[k] += w[k];
}

/* Four columns of one id. A node waits for what comes right of it; its height is that of the node
 * that will join them. */
struct dw_walk {
    float chain[4], total[4], node[MAX_NODES][4];
    int height[MAX_NODES], n;
    int64_t shard, panel;

    __device__ __forceinline__ void close_panel()
    {
        quad_add(total, chain);
        quad_set(chain, -0.0f);
    }
    __device__ __forceinline__ void go_to_shard(int64_t next)
    {
        int above = 0;
        for (int64_t differ = shard ^ next; differ; differ /= 2) above++;
        close_panel();
        for (; n > 0 && height[n - 1] < above; n--) quad_add(total, node[n - 1]);
        RP_UNROLL
        for (int k = 0; k < 4; k++) node[n][k] = total[k];
        height[n++] = above;
        quad_set(total, -0.0f);
        shard = next;
    }
    __device__ __forceinline__ void row(const struct dw_job &job, int64_t at, const float v[4])
    {
        int64_t of_shard = at / job.rows;
        int64_t of_panel = (at - of_shard * job.rows + job.first_row) / RP_PANEL;
        if (of_shard != shard)
            go_to_shard(of_shard);
        else if (of_panel != panel)
            close_panel();
        panel = of_panel;
        quad_add(chain, v);
    }
    __device__ __forceinline__ void join()
    {
        for (; n > 0; n--) quad_add(total, node[n - 1]);
    }
};

template <bool aligned>
static __device__ __forceinline__ void walk_rows(const struct dw_job &job, int64_t id, int64_t col,
                                                 struct dw_walk &walk)
{
    int64_t end = job.start[id + 1];
    for (int64_t i = job.start[id]; i < end; i += DW_AHEAD) {
        float v[DW_AHEAD][4];
        int64_t at[DW_AHEAD];
        RP_UNROLL
        for (int a = 0; a < DW_AHEAD; a++) {
            at[a] = i + a < end ? job.row[i + a] : -1;
            quad_set(v[a], -0.0f);
            if (at[a] >= 0)
                rp_quad_load<aligned>(job.dy + at[a] * job.n_cols, col, job.n_cols, v[a]);
        }
        RP_UNROLL
        for (int a = 0; a < DW_AHEAD; a++)
            if (at[a] >= 0) walk.row(job, at[a], v[a]);
    }
}

template <bool aligned>
static __device__ __forceinline__ void add_found(const float *sum, int64_t col, int64_t n_cols,
                                                 float total[4])
{
    float found[4];
    quad_set(found, -0.0f);
    rp_quad_load<aligned>(sum, col, n_cols, found);
    quad_add(total, found);
}

template <bool aligned> __global__ void __launch_bounds__(32 * DW_IDS) sum_of_ids(struct dw_job job)
{
    int64_t tiles = (job.n_cols + 127) / 128, id = blockIdx.x / tiles * DW_IDS + threadIdx.y;
    int64_t col = blockIdx.x % tiles * 128 + 4 * threadIdx.x;
    if (id >= job.n_ids || col >= job.n_cols) return;
    float *sum = job.sum + id * job.n_cols, *open = job.open ? job.open + id * job.n_cols : NULL;
    bool absent = job.start[id] == job.start[id + 1];
    bool same_panel = job.first_row / RP_PANEL == job.last_panel;
    bool closes = job.finds_chain && !(same_panel && job.leaves_chain);
    /* What a part of a shard without the id leaves as it is. */
    bool writes_sum = job.leaves_sum && !(absent && (job.onto || (job.finds_sum && !closes)));
    bool writes_open = job.leaves_chain && !(absent && job.finds_chain && same_panel);
    if (!writes_sum && !writes_open) return;
    struct dw_walk walk;
    walk.n = 0;
    walk.panel = job.first_row / RP_PANEL;
    walk.shard = absent ? 0 : job.row[job.start[id]] / job.rows;
    quad_set(walk.chain, -0.0f);
    quad_set(walk.total, -0.0f);
    if (job.finds_sum) rp_quad_load<aligned>(sum, col, job.n_cols, walk.total);
    if (job.finds_chain) rp_quad_load<aligned>(open, col, job.n_cols, walk.chain);
    if (!absent) walk_rows<aligned>(job, id, col, walk);
    if (walk.panel < job.last_panel || !job.leaves_chain) walk.close_panel();
    walk.join();
    if (job.onto) add_found<aligned>(sum, col, job.n_cols, walk.total);
    if (writes_sum) rp_quad_store<aligned>(sum, col, job.n_cols, walk.total);
    if (writes_open) rp_quad_store<aligned>(open, col, job.n_cols, walk.chain);
}

size_t rp_cuda_scratch_embedding_dw(const struct rp_op_call *call)
{
    return sizeof(int32_t) * sort_numbers(rp_tensor_rows(&call->in[0]), call->out[0].dims[0]);
}

RP_CUDA_KERNEL(embedding_dw)
{
    const struct rp_tensor *dy = &call->in[0], *dw = &call->out[0];
    const struct rp_rows *cut = &pass->rows;
    int64_t rows = rp_tensor_rows(dy), per_sample = rows / cut->n_samples;
    struct sort_job sort = sort_begin(cuda->scratch, call->in[1].data, rows, dw->dims[0]);
    struct dw_job job = {};
    job.dy = (const float *)dy->data;
    job.start = sort.start;
    job.row = sort.row;
    job.sum = (float *)dw->data;
    job.open = (float *)call->out[1].data;
    job.n_ids = dw->dims[0];
    job.n_cols = dw->dims[1];
    job.rows = rows / cut->n_shards;
    job.first_row = cut->first_sample * per_sample;
    int64_t end = job.first_row + job.rows, of_shard = cut->samples_per_shard * per_sample;
    job.last_panel = (end - 1) / RP_PANEL;
    job.finds_sum = job.first_row >= RP_PANEL;
    job.finds_chain = job.first_row % RP_PANEL != 0;
    job.leaves_chain = end % RP_PANEL != 0 && end != of_shard;
    job.leaves_sum = end >= RP_PANEL || end == of_shard;
    job.onto = call->params.embedding.onto;
    int64_t blocks = (job.n_ids + DW_IDS - 1) / DW_IDS * ((job.n_cols + 127) / 128);
    if (blocks > INT32_MAX || sort.blocks * job.n_ids > (int64_t)INT32_MAX * 256)
        return rp_error_set(err, RP_STATUS_INTERNAL, "embedding_dw: too large a table");
    RP_TRY(sort_rows(cuda, sort, err));
    dim3 block(32, DW_IDS);
    bool aligned = rp_quad_fits(job.dy) && rp_quad_fits(job.sum) && rp_quad_fits(job.open);
    if (aligned && job.n_cols % 4 == 0)
        RP_LAUNCH(cuda, (sum_of_ids<true>), (unsigned)blocks, block, 0, job);
    else
        RP_LAUNCH(cuda, (sum_of_ids<false>), (unsigned)blocks, block, 0, job);
    return RP_STATUS_OK;
}
