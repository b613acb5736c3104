/* embedding_dw.cu - the gradient of a table of embeddings. README.md chapter 6.
 *
 * The rows of the pass are sorted by token, stable, as numbers in scratch: a row's place is the
 * rows of smaller ids, those of its id in earlier blocks of 1024 rows, and those of its id before
 * it in its own block. Nothing there depends on who comes first. Then each id has its rows in a
 * list, and a thread walks through it for four columns. Most ids of a large table are absent or
 * have one row, and what takes time is the way there: a warp looks at several ids together. The few
 * that fill much of the pass have warps of their own, which load many rows ahead. */
#include "cuda/divisor.h"
#include "cuda/quad.h"

enum {
    SORT_ROWS = 1024,  /* of a block of the sort, which knows no shards */
    SORT_PART = 256,   /* of those, what one block of threads looks at */
    SORT_IDS = 256,    /* of a group */
    DW_WARPS = 4,      /* of a block */
    DW_IDS = 4,        /* of a warp */
    DW_AHEAD = 4,      /* rows that are loaded together */
    DW_FREQUENT = 64,  /* rows of an id that has warps of its own */
    DW_FAR_AHEAD = 32, /* the rows that those load together: a place for each lane */
    FEW_LEVELS = 5,    /* of the tree over the shards: in registers */
    MAX_LEVELS = 31
};

/* ---- the lists of rows ----------------------------------------------------------------------- */

struct sort_job {
    const int32_t *token;
    int32_t *count;      /* (blocks, V): of each id in a block; then in the blocks before it */
    int32_t *n_frequent; /* right behind them: ids in the next list, in any order */
    int32_t *frequent;   /* (rows / DW_FREQUENT) */
    int32_t *start;      /* (V + 1): where the list of each id begins, counted from its group's */
    int32_t *group;      /* (groups): where the lists of SORT_IDS ids begin */
    int32_t *rank;       /* (rows): rows of the same id before it in its block */
    int32_t *row;        /* (rows): the lists */
    int64_t rows, blocks, n_ids;
};

static size_t sort_numbers(int64_t rows, int64_t n_ids)
{
    return (size_t)(rp_blocks(rows, SORT_ROWS) * n_ids + 1 + rows / DW_FREQUENT + n_ids + 1 +
                    rp_blocks(n_ids + 1, SORT_IDS) + 2 * rows);
}

static struct sort_job sort_begin(void *scratch, const void *token, int64_t rows, int64_t n_ids)
{
    struct sort_job job = {};
    job.token = (const int32_t *)token;
    job.rows = rows;
    job.n_ids = n_ids;
    job.blocks = rp_blocks(rows, SORT_ROWS);
    job.count = (int32_t *)scratch;
    job.n_frequent = job.count + job.blocks * n_ids;
    job.frequent = job.n_frequent + 1;
    job.start = job.frequent + rows / DW_FREQUENT;
    job.group = job.start + n_ids + 1;
    job.rank = job.group + rp_blocks(n_ids + 1, SORT_IDS);
    job.row = job.rank + rows;
    return job;
}

static __device__ __forceinline__ int32_t token_of(const struct sort_job &job, int64_t row)
{
    int32_t token = row < job.rows ? job.token[row] : -1;
    return token >= 0 && token < job.n_ids ? token : -1;
}

/* How many of these tokens are `token`. */
static __device__ __forceinline__ int count_same(const int32_t *tokens, int n, int32_t token)
{
    int same = 0;
    RP_NO_UNROLL
    for (int first = 0; first < n; first += 32) {
        RP_UNROLL
        for (int i = 0; i < 32; i++) same += tokens[first + i] == token;
    }
    return same;
}

static __global__ void __launch_bounds__(SORT_PART) count_rows(struct sort_job job)
{
    RP_SHARED(int32_t, tokens, [SORT_ROWS]);
    int64_t first = (int64_t)blockIdx.x * SORT_ROWS;
    RP_UNROLL
    for (int at = (int)threadIdx.x; at < SORT_ROWS; at += SORT_PART)
        tokens[at] = token_of(job, first + at);
    __syncthreads();
    int me = (int)blockIdx.y * SORT_PART + (int)threadIdx.x, warp = me / 32 * 32;
    int64_t row = first + me;
    int32_t token = tokens[me];
    if (token < 0) return;
    int before = count_same(tokens, warp, token);
    int after = count_same(tokens + warp + 32, SORT_ROWS - 32 - warp, token);
    RP_UNROLL
    for (int i = 0; i < 32; i++) {
        int same = tokens[warp + i] == token;
        before += warp + i < me ? same : 0;
        after += warp + i > me ? same : 0;
    }
    job.rank[row] = before;
    if (after == 0) job.count[blockIdx.x * job.n_ids + token] = before + 1;
}

/* Of the threads of a block: what those before this one have. */
template <int threads>
static __device__ __forceinline__ int32_t sum_before(int32_t mine, int32_t *all)
{
    RP_SHARED(int32_t, of_warp, [threads / 32]);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    int32_t sum = mine, before = 0;
    RP_UNROLL
    for (int step = 1; step < 32; step *= 2) {
        int32_t left = __shfl_up_sync(0xffffffffu, sum, step);
        sum += lane >= step ? left : 0;
    }
    __syncthreads(); /* the numbers before these have been read */
    if (lane == 31) of_warp[warp] = sum;
    __syncthreads();
    *all = 0;
    RP_UNROLL
    for (int i = 0; i < threads / 32; i++) {
        if (i < warp) before += of_warp[i];
        *all += of_warp[i];
    }
    return before + sum - mine;
}

/* Down the blocks; the ids of a group one after the other. */
static __global__ void __launch_bounds__(SORT_IDS) sum_blocks(struct sort_job job)
{
    const int ahead = 32; /* blocks that are read together */
    int64_t id = (int64_t)blockIdx.x * SORT_IDS + threadIdx.x;
    int32_t sum = 0, all;
    if (id < job.n_ids) {
        int32_t *count = job.count + id;
        for (int64_t block = 0; block < job.blocks; block += ahead) {
            int32_t of_block[ahead];
            RP_UNROLL
            for (int i = 0; i < ahead; i++)
                of_block[i] = block + i < job.blocks ? count[(block + i) * job.n_ids] : 0;
            RP_UNROLL
            for (int i = 0; i < ahead; i++) {
                if (block + i < job.blocks) count[(block + i) * job.n_ids] = sum;
                sum += of_block[i];
            }
        }
    }
    if (sum >= DW_FREQUENT) job.frequent[atomicAdd(job.n_frequent, 1)] = (int32_t)id;
    int32_t before = sum_before<SORT_IDS>(sum, &all);
    if (id <= job.n_ids) job.start[id] = before;
    if (threadIdx.x == 0) job.group[blockIdx.x] = all;
}

/* One block. */
static __global__ void __launch_bounds__(1024) sum_groups(struct sort_job job)
{
    int64_t groups = (job.n_ids + SORT_IDS) / SORT_IDS;
    int32_t past = 0;
    for (int64_t first = 0; first < groups; first += 1024) {
        int64_t at = first + threadIdx.x;
        int32_t all, before = sum_before<1024>(at < groups ? job.group[at] : 0, &all);
        if (at < groups) job.group[at] = past + before;
        past += all;
    }
}

static __device__ __forceinline__ int32_t start_of(const int32_t *start, const int32_t *group,
                                                   int64_t id)
{
    return start[id] + group[id / SORT_IDS];
}

static __global__ void __launch_bounds__(256) place_rows(struct sort_job job)
{
    int64_t row = (int64_t)blockIdx.x * 256 + threadIdx.x;
    int32_t token = token_of(job, row);
    if (token < 0) return;
    int32_t earlier = job.count[row / SORT_ROWS * job.n_ids + token];
    job.row[start_of(job.start, job.group, token) + earlier + job.rank[row]] = (int32_t)row;
}

static enum rp_status sort_rows(struct rp_cuda *cuda, const struct sort_job &job,
                                struct rp_error *err)
{
    size_t counts = (size_t)(job.blocks * job.n_ids + 1); /* with n_frequent */
    RP_CUDA_TRY(cudaMemsetAsync(job.count, 0, counts * sizeof(int32_t), cuda->stream));
    RP_LAUNCH(cuda, count_rows, dim3((unsigned)job.blocks, SORT_ROWS / SORT_PART), SORT_PART, 0,
              job);
    RP_LAUNCH(cuda, sum_blocks, rp_blocks(job.n_ids + 1, SORT_IDS), SORT_IDS, 0, job);
    RP_LAUNCH(cuda, sum_groups, 1, 1024, 0, job);
    RP_LAUNCH(cuda, place_rows, rp_blocks(job.rows, 256), 256, 0, job);
    return RP_STATUS_OK;
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct dw_job {
    const float *dy; /* (rows, C) */
    const int32_t *start, *group, *row, *n_frequent, *frequent;
    float *sum, *open;
    int64_t n_ids, n_cols;
    struct rp_divisor by_shard; /* rows of each in this pass */
    int64_t first_row;          /* of the pass, counted from its shard's first */
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

/* Four columns of one id. A node waits for what comes right of it, at the level of the node that
 * will join them. */
template <int levels> struct dw_walk {
    float chain[4], total[4], node[levels][4];
    unsigned waits; /* levels with a node */
    int shard;
    int64_t panel;

    __device__ __forceinline__ void begin(const struct dw_job &job, int32_t first)
    {
        waits = 0;
        panel = job.first_row / RP_PANEL;
        shard = first < 0 ? 0 : (int)rp_divide((uint32_t)first, job.by_shard);
        quad_set(chain, -0.0f);
        quad_set(total, -0.0f);
    }
    __device__ __forceinline__ void close_panel()
    {
        quad_add(total, chain);
        quad_set(chain, -0.0f);
    }
    /* Adds what waits below this level. Few levels are registers, and so are all looked at. */
    __device__ __forceinline__ void join(int below)
    {
        if constexpr (levels <= FEW_LEVELS) {
            RP_UNROLL
            for (int level = 0; level < levels; level++)
                if (level < below && (waits >> level & 1)) quad_add(total, node[level]);
        } else {
            RP_NO_UNROLL
            for (int level = 0; level < below; level++)
                if (waits >> level & 1) quad_add(total, node[level]);
        }
    }
    __device__ __forceinline__ void keep(int at)
    {
        if constexpr (levels <= FEW_LEVELS) {
            RP_UNROLL
            for (int level = 0; level < levels; level++) {
                RP_UNROLL
                for (int k = 0; k < 4; k++)
                    node[level][k] = level == at ? total[k] : node[level][k];
            }
        } else {
            RP_UNROLL
            for (int k = 0; k < 4; k++) node[at][k] = total[k];
        }
        waits = (waits >> at | 1) << at;
    }
    __device__ __forceinline__ void go_to_shard(int next)
    {
        int at = 31 - __clz(shard ^ next);
        close_panel();
        join(at);
        keep(at);
        quad_set(total, -0.0f);
        shard = next;
    }
    __device__ __forceinline__ void row(const struct dw_job &job, int32_t at, const float v[4])
    {
        int of_shard = (int)rp_divide((uint32_t)at, job.by_shard);
        int64_t of_panel = (at - of_shard * (int)job.by_shard.by + job.first_row) / RP_PANEL;
        if (of_shard != shard)
            go_to_shard(of_shard);
        else if (of_panel != panel)
            close_panel();
        panel = of_panel;
        quad_add(chain, v);
    }
};

/* `count` rows of a list, which begins at `rows`; for all lanes of a warp, those past the last
 * column too: each holds the place of a row to come. */
template <bool aligned, int ahead, int levels>
static __device__ __forceinline__ void walk_rows(const struct dw_job &job, const int32_t *rows,
                                                 int32_t count, int64_t col,
                                                 struct dw_walk<levels> &walk)
{
    int lane = (int)threadIdx.x;
    int32_t next = lane < count ? rows[lane] : -1;
    RP_NO_UNROLL
    for (int32_t i = 0; i < count; i += ahead) {
        float v[ahead][4];
        int32_t mine = next, at[ahead];
        next = lane < ahead && i + ahead + lane < count ? rows[i + ahead + lane] : -1;
        RP_UNROLL
        for (int a = 0; a < ahead; a++) {
            at[a] = __shfl_sync(0xffffffffu, mine, a);
            if (at[a] >= 0)
                rp_quad_load<aligned>(job.dy + (int64_t)at[a] * job.n_cols, col, job.n_cols, v[a]);
        }
        RP_UNROLL
        for (int a = 0; a < ahead; a++)
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

/* The sum of one id, whose first row is `first` (-1: it has none); add(walk) walks all rows. */
template <bool aligned, int levels, class Add>
static __device__ __forceinline__ void sum_of_id(const struct dw_job &job, int64_t id, int64_t col,
                                                 int32_t first, Add add)
{
    float *sum = job.sum + id * job.n_cols, *open = job.open ? job.open + id * job.n_cols : NULL;
    bool absent = first < 0;
    bool same_panel = job.first_row / RP_PANEL == job.last_panel;
    bool closes = job.finds_chain && !(same_panel && job.leaves_chain);
    /* What a part of a shard without the id leaves as it is. */
    bool writes_sum = job.leaves_sum && !(absent && (job.onto || (job.finds_sum && !closes)));
    bool writes_open = job.leaves_chain && !(absent && job.finds_chain && same_panel);
    if (!writes_sum && !writes_open) return;
    struct dw_walk<levels> walk;
    walk.begin(job, first);
    if (job.finds_sum) rp_quad_load<aligned>(sum, col, job.n_cols, walk.total);
    if (job.finds_chain) rp_quad_load<aligned>(open, col, job.n_cols, walk.chain);
    add(walk);
    if (walk.panel < job.last_panel || !job.leaves_chain) walk.close_panel();
    walk.join(levels);
    if (job.onto) add_found<aligned>(sum, col, job.n_cols, walk.total);
    if (writes_sum) rp_quad_store<aligned>(sum, col, job.n_cols, walk.total);
    if (writes_open) rp_quad_store<aligned>(open, col, job.n_cols, walk.chain);
}

/* A warp's ids. Where the pass has whole shards, those of one row or none come first: their rows
 * are loaded together, and nothing is added. */
template <bool aligned, int levels, bool whole>
__global__ void __launch_bounds__(32 * DW_WARPS, levels > FEW_LEVELS ? 2 : 5)
    sum_of_ids(struct dw_job job)
{
    int lane = (int)threadIdx.x;
    int64_t first_id = ((int64_t)blockIdx.x * DW_WARPS + threadIdx.y) * DW_IDS;
    int64_t col = (int64_t)blockIdx.y * 128 + 4 * lane, own = first_id + lane;
    if (first_id >= job.n_ids) return;
    if (own > job.n_ids) own = job.n_ids;
    int32_t start = lane <= DW_IDS ? start_of(job.start, job.group, own) : 0;
    int32_t n_rows = __shfl_down_sync(0xffffffffu, start, 1) - start;
    int32_t row = lane < DW_IDS && n_rows > 0 ? job.row[start] : -1;
    int n_ids = job.n_ids - first_id < DW_IDS ? (int)(job.n_ids - first_id) : (int)DW_IDS;
    if (whole) {
        float v[DW_IDS][4], *sum = job.sum + first_id * job.n_cols;
        RP_UNROLL
        for (int i = 0; i < DW_IDS; i++) {
            int32_t at = __shfl_sync(0xffffffffu, row, i);
            quad_set(v[i], -0.0f);
            if (at >= 0)
                rp_quad_load<aligned>(job.dy + (int64_t)at * job.n_cols, col, job.n_cols, v[i]);
        }
        RP_UNROLL
        for (int i = 0; i < DW_IDS; i++, sum += job.n_cols) {
            int32_t count = __shfl_sync(0xffffffffu, n_rows, i);
            if (i >= n_ids || count > 1 || (count == 0 && job.onto)) continue;
            if (job.onto) add_found<aligned>(sum, col, job.n_cols, v[i]);
            rp_quad_store<aligned>(sum, col, job.n_cols, v[i]);
        }
    }
    RP_NO_UNROLL
    for (int i = 0; i < n_ids; i++) {
        int32_t count = __shfl_sync(0xffffffffu, n_rows, i);
        int32_t begin = __shfl_sync(0xffffffffu, start, i);
        int32_t first = __shfl_sync(0xffffffffu, row, i);
        if ((whole && count <= 1) || count >= DW_FREQUENT) continue;
        sum_of_id<aligned, levels>(job, first_id + i, col, first, [&](auto &walk) {
            walk_rows<aligned, DW_AHEAD>(job, job.row + begin, count, col, walk);
        });
    }
}

template <bool aligned, int levels>
__global__ void __launch_bounds__(32) sum_of_frequent(struct dw_job job)
{
    int64_t col = (int64_t)blockIdx.y * 128 + 4 * threadIdx.x;
    if ((int32_t)blockIdx.x >= *job.n_frequent) return;
    int64_t id = job.frequent[blockIdx.x];
    int32_t begin = start_of(job.start, job.group, id);
    int32_t count = start_of(job.start, job.group, id + 1) - begin;
    sum_of_id<aligned, levels>(job, id, col, job.row[begin], [&](auto &walk) {
        walk_rows<aligned, DW_FAR_AHEAD>(job, job.row + begin, count, col, walk);
    });
}

template <bool aligned, int levels>
static enum rp_status launch_sums(struct rp_cuda *cuda, const struct dw_job &job, unsigned frequent,
                                  struct rp_error *err)
{
    dim3 grid(rp_blocks(job.n_ids, DW_WARPS * DW_IDS), rp_blocks(job.n_cols, 128));
    dim3 block(32, DW_WARPS);
    if (job.finds_sum || job.finds_chain || job.leaves_chain)
        RP_LAUNCH(cuda, (sum_of_ids<aligned, levels, false>), grid, block, 0, job);
    else
        RP_LAUNCH(cuda, (sum_of_ids<aligned, levels, true>), grid, block, 0, job);
    if (frequent > 0)
        RP_LAUNCH(cuda, (sum_of_frequent<aligned, levels>), dim3(frequent, grid.y), 32, 0, job);
    return RP_STATUS_OK;
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
    job.group = sort.group;
    job.row = sort.row;
    job.n_frequent = sort.n_frequent, job.frequent = sort.frequent;
    job.sum = (float *)dw->data;
    job.open = (float *)call->out[1].data;
    job.n_ids = dw->dims[0];
    job.n_cols = dw->dims[1];
    int64_t shard_rows = rows / cut->n_shards;
    job.by_shard = rp_divisor_of(shard_rows);
    job.first_row = cut->first_sample * per_sample;
    int64_t end = job.first_row + shard_rows, of_shard = cut->samples_per_shard * per_sample;
    job.last_panel = (end - 1) / RP_PANEL;
    job.finds_sum = job.first_row >= RP_PANEL;
    job.finds_chain = job.first_row % RP_PANEL != 0;
    job.leaves_chain = end % RP_PANEL != 0 && end != of_shard;
    job.leaves_sum = end >= RP_PANEL || end == of_shard;
    job.onto = call->params.embedding.onto;
    if (job.n_cols > INT64_C(128) * UINT16_MAX ||
        sort.blocks * job.n_ids > (int64_t)INT32_MAX * 256)
        return rp_error_set(err, RP_STATUS_INTERNAL, "embedding_dw: too large a table");
    RP_TRY(sort_rows(cuda, sort, err));
    unsigned frequent = (unsigned)(rows / DW_FREQUENT); /* of which there may be fewer */
    bool aligned = rp_quad_fits(job.dy) && rp_quad_fits(job.sum) && rp_quad_fits(job.open);
    bool few = cut->n_shards <= 1 << FEW_LEVELS;
    if (!aligned || job.n_cols % 4 != 0)
        return launch_sums<false, MAX_LEVELS>(cuda, job, frequent, err);
    return few ? launch_sums<true, FEW_LEVELS>(cuda, job, frequent, err)
               : launch_sums<true, MAX_LEVELS>(cuda, job, frequent, err);
}
