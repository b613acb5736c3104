/* columns.h - private to kernels/cuda: sums down the columns of a (rows, C) view under the row cut.
 *
 * README.md chapter 6 defines the order: within a logical shard one chain per panel of 1024 rows,
 * panels added in ascending order, then the binary tree over the shards. Here
 *   rp_columns_chains   a warp per panel and 32 or 128 columns, each lane the chains of its own;
 *   rp_columns_close    the panels of each shard, then the tree; or
 *   rp_columns_go_on    what a part of a shard leaves in `out` and in its open chain;
 *   rp_columns_at_once  both steps, where there are few rows.
 * rp_columns_sum() is all that an op calls, or rp_columns_sum_pair() for two sums beside each
 * other. A term is a function object: prepare() runs once in each lane, add() takes one row into
 * the sums of one column. */
#ifndef RP_CUDA_COLUMNS_H
#define RP_CUDA_COLUMNS_H

#include "cuda/gpu.h"

enum { RP_STAGE_ROWS = 32, RP_CLOSE_BATCH = 16, RP_TREE_SHARDS = 32 };

struct rp_columns {
    int64_t n_cols;
    int64_t rows;       /* of each shard in this pass */
    int64_t shard_rows; /* of a whole shard */
    int64_t first_row;  /* of the pass, counted from its shard's first */
    int64_t panels;     /* that the pass touches in each of its shards */
    int64_t n_shards;
    bool part;      /* the pass holds a part of a shard */
    bool from_end;  /* the last rows first: those that an earlier walk has left in the cache */
    float *partial; /* (shards, panels, sums, C): the chains */
};

/* Where the sums go (`out` NULL is not wanted), and the open chains of a part of a shard. */
struct rp_columns_out {
    float *out[2], *open[2];
};

/* Bytes for any row cut of an x (samples, .., C): a panel has at least one sample's row. */
static inline size_t rp_columns_scratch(const struct rp_tensor *x, int sums)
{
    int64_t panels = x->dims[0] + rp_tensor_rows(x) / RP_PANEL + 2;
    return (size_t)(panels * sums * x->dims[x->n_dims - 1]) * sizeof(float);
}

static inline struct rp_columns rp_columns_begin(void *scratch, const struct rp_rows *cut,
                                                 const struct rp_tensor *x)
{
    int64_t rows = rp_tensor_rows(x), rows_per_sample = rows / cut->n_samples;
    struct rp_columns job = {};
    job.n_cols = x->dims[x->n_dims - 1];
    job.rows = rows / cut->n_shards;
    job.shard_rows = cut->samples_per_shard * rows_per_sample;
    job.first_row = cut->first_sample * rows_per_sample;
    job.panels = (job.first_row + job.rows - 1) / RP_PANEL - job.first_row / RP_PANEL + 1;
    job.n_shards = cut->n_shards;
    job.part = cut->n_samples != cut->samples_per_shard * cut->n_shards;
    job.partial = (float *)scratch;
    return job;
}

/* ---- chains ------------------------------------------------------------------------------------
 * A lane copies the rows of its column, or of four neighbouring ones, into its own places of a
 * ring, several stages ahead of the sum, so that a few warps keep the memory busy and no barrier is
 * needed. A row of four columns a lane is 512 bytes in one place, and a quarter of the copies. */

/* Where the rows of a (rows, C) view lie, one after the other. */
struct rp_dense_rows {
    int64_t at;
    int n_cols;
    __device__ __forceinline__ rp_dense_rows(int64_t row, int64_t n) : at(row * n), n_cols((int)n)
    {
    }
    __device__ __forceinline__ void next() { at += n_cols; }
};

struct rp_column_term {
    enum { row_stats = 0 }; /* 1: add() gets two numbers of the row, stat[0] and stat[1] */
    enum { dense = 1 };     /* else the term says where its rows and their numbers lie */
    const float *stat[2];
    __device__ void prepare(int64_t, int64_t, int64_t) {}
    __device__ __forceinline__ rp_dense_rows rows_from(int64_t row, int64_t n_cols) const
    {
        return rp_dense_rows(row, n_cols);
    }
    __device__ __forceinline__ int64_t stat_of(int64_t row) const { return row; }
};

template <class Term, int lanes> struct rp_column_ring {
    enum { stages = 8 / Term::inputs, rows = RP_STAGE_ROWS / lanes };
    float x[stages][Term::inputs][rows][32 * lanes];
    float stat[Term::row_stats ? stages : 1][2][rows];
};

template <int lanes>
static __device__ __forceinline__ void rp_column_copy(float *to, const float *from)
{
    if constexpr (lanes == 4)
        rp_copy_async16(to, from);
    else
        rp_copy_async4(to, from);
}

/* Begins to copy rows [row, row + count) of the view, of which it takes at most those of a stage;
 * `col` is this lane's first, if `inside`. */
template <class Term, int lanes>
static __device__ __forceinline__ void
rp_column_fill(const Term &term, rp_column_ring<Term, lanes> &ring, int slot, int64_t row,
               int64_t count, int64_t n_cols, int64_t col, bool inside)
{
    const int most = rp_column_ring<Term, lanes>::rows;
    int lane = (int)threadIdx.x, n = count < most ? (int)count : most;
    auto place = term.rows_from(row, n_cols);
    if (n == most && inside) {
        RP_UNROLL
        for (int r = 0; r < most; r++, place.next()) {
            RP_UNROLL
            for (int i = 0; i < Term::inputs; i++)
                rp_column_copy<lanes>(&ring.x[slot][i][r][lane * lanes],
                                      term.in[i] + place.at + col);
        }
    } else if (inside) {
        RP_NO_UNROLL
        for (int r = 0; r < n; r++, place.next()) {
            RP_UNROLL
            for (int i = 0; i < Term::inputs; i++)
                rp_column_copy<lanes>(&ring.x[slot][i][r][lane * lanes],
                                      term.in[i] + place.at + col);
        }
    }
    if (Term::row_stats && lane < n) {
        int64_t of_row = term.stat_of(row + lane);
        rp_copy_async4(&ring.stat[slot][0][lane], term.stat[0] + of_row);
        rp_copy_async4(&ring.stat[slot][1][lane], term.stat[1] + of_row);
    }
}

template <class Term, int lanes>
static __device__ __forceinline__ void rp_column_row(const Term (&term)[lanes],
                                                     const rp_column_ring<Term, lanes> &ring,
                                                     int slot, int r, float (&acc)[lanes][2])
{
    float x[Term::inputs][lanes], stat[2] = {0, 0};
    RP_UNROLL
    for (int i = 0; i < Term::inputs; i++) {
        const float *from = &ring.x[slot][i][r][threadIdx.x * lanes];
        if constexpr (lanes == 4) {
            float4 quad = *reinterpret_cast<const float4 *>(from);
            x[i][0] = quad.x, x[i][1] = quad.y, x[i][2] = quad.z, x[i][3] = quad.w;
        } else {
            x[i][0] = *from;
        }
    }
    if (Term::row_stats) stat[0] = ring.stat[slot][0][r], stat[1] = ring.stat[slot][1][r];
    RP_UNROLL
    for (int k = 0; k < lanes; k++) {
        float v[Term::inputs];
        RP_UNROLL
        for (int i = 0; i < Term::inputs; i++) v[i] = x[i][k];
        term[k].add(v, stat, acc[k]);
    }
}

/* Rows [row, row + count) of the view into the sums of this lane's columns. */
template <class Term, int lanes>
static __device__ __forceinline__ void rp_column_chain(const Term (&term)[lanes], int64_t row,
                                                       int64_t count, int64_t n_cols, int64_t col,
                                                       float (&acc)[lanes][2])
{
    typedef rp_column_ring<Term, lanes> ring_type;
    RP_SHARED(ring_type, rings, [1]);
    ring_type &ring = rings[0];
    const int ahead = ring_type::stages - 1, rows = ring_type::rows;
    bool inside = col < n_cols;
    for (int stage = 0; stage < ahead; stage++) {
        int64_t at = (int64_t)stage * rows;
        rp_column_fill(term[0], ring, stage, row + at, count - at, n_cols, col, inside);
        rp_copy_async_commit();
    }
    int slot = 0, free_slot = ahead;
    for (int64_t at = 0; at < count; at += rows) {
        int64_t next = at + ahead * rows, left = count - at;
        if (Term::row_stats) __syncwarp(); /* all lanes are done with the free slot */
        rp_column_fill(term[0], ring, free_slot, row + next, count - next, n_cols, col, inside);
        rp_copy_async_commit();
        rp_copy_async_wait<ring_type::stages - 1>();
        if (Term::row_stats) __syncwarp();
        if (left >= rows) {
            RP_UNROLL
            for (int r = 0; r < rows; r++) rp_column_row(term, ring, slot, r, acc);
        } else {
            for (int r = 0; r < left; r++) rp_column_row(term, ring, slot, r, acc);
        }
        free_slot = slot;
        slot = slot == ahead ? 0 : slot + 1;
    }
    rp_copy_async_wait<0>();
}

/* The chains of one block. `side` panels share a warp where few columns would leave its lanes idle.
 */
template <class Term, int lanes, int side>
static __device__ __forceinline__ void
rp_columns_chains_of(const struct rp_columns &job, const Term &of_column,
                     const struct rp_columns_out &to, unsigned blocks)
{
    static_assert(side == 1 || !Term::row_stats, "a stage has the numbers of one panel's rows");
    const int across = 32 / side, width = across * lanes;
    unsigned tiles = (unsigned)((job.n_cols + width - 1) / width), panels = (unsigned)job.panels;
    unsigned number = job.from_end ? blocks - 1 - blockIdx.x : blockIdx.x;
    int64_t item = number / tiles, lane = threadIdx.x;
    if (side > 1) item = item * side + lane / across, lane = lane % across;
    int64_t shard = item / panels, panel = item % panels;
    int64_t col = (int64_t)(number % tiles) * width + lane * lanes;
    if (side > 1 && shard >= job.n_shards) return;
    /* The panel in rows of its shard. */
    int64_t begin = (job.first_row / RP_PANEL + panel) * RP_PANEL, end = begin + RP_PANEL;
    if (begin < job.first_row) begin = job.first_row;
    if (end > job.first_row + job.rows) end = job.first_row + job.rows;
    bool goes_on = begin % RP_PANEL != 0;
    float acc[lanes][2];
    Term term[lanes];
    RP_UNROLL
    for (int k = 0; k < lanes; k++) {
        bool inside = col + k < job.n_cols;
        RP_UNROLL
        for (int i = 0; i < 2; i++)
            acc[k][i] = goes_on && inside && to.open[i] ? to.open[i][col + k] : 0.0f;
        term[k] = of_column;
        term[k].prepare(shard, col + k, job.n_cols);
    }
    rp_column_chain(term, shard * job.rows + begin - job.first_row, end - begin, job.n_cols, col,
                    acc);
    RP_UNROLL
    for (int k = 0; k < lanes; k++) {
        RP_UNROLL
        for (int i = 0; i < Term::sums; i++)
            if (col + k < job.n_cols)
                job.partial[(item * Term::sums + i) * job.n_cols + col + k] = acc[k][i];
    }
}

template <class Term, int lanes, int side>
__global__ void __launch_bounds__(32)
    rp_columns_chains(struct rp_columns job, Term of_column, struct rp_columns_out to)
{
    rp_columns_chains_of<Term, lanes, side>(job, of_column, to, gridDim.x);
}

static inline int64_t rp_columns_blocks(const struct rp_columns &job, int lanes, int side)
{
    int width = 32 / side * lanes;
    return (job.n_cols + width - 1) / width * ((job.panels * job.n_shards + side - 1) / side);
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* The chain of the first panel, then + the chain of each next one, `stride` apart. They are loaded
 * many at a time: nothing else hides how far away they are. */
static __device__ __forceinline__ float rp_columns_panels(const float *chain, int panels,
                                                          int64_t stride)
{
    float sum = 0;
    for (int p = 0; p < panels; p += RP_CLOSE_BATCH) {
        float v[RP_CLOSE_BATCH];
        RP_UNROLL
        for (int i = 0; i < RP_CLOSE_BATCH; i++, chain += stride)
            if (p + i < panels) v[i] = *chain;
        RP_UNROLL
        for (int i = 0; i < RP_CLOSE_BATCH; i++)
            if (p + i < panels) sum = p + i == 0 ? v[i] : sum + v[i];
    }
    return sum;
}

/* The tree over at most RP_TREE_SHARDS shards: `own` is that of shard threadIdx.y, of this lane's
 * column; the first shard gets the roots. */
template <int sums>
static __device__ __forceinline__ void rp_columns_tree(float own[sums], unsigned n_shards)
{
    RP_SHARED(float, node, [sums][RP_TREE_SHARDS][32]);
    unsigned shard = threadIdx.y, lane = threadIdx.x;
    RP_UNROLL
    for (int i = 0; i < sums; i++) node[i][shard][lane] = own[i];
    for (unsigned h = 1; h < n_shards; h *= 2) {
        __syncthreads();
        if (shard % (2 * h) != 0 || shard + h >= n_shards) continue;
        RP_UNROLL
        for (int i = 0; i < sums; i++) {
            own[i] += node[i][shard + h][lane];
            node[i][shard][lane] = own[i];
        }
    }
}

/* Threads of a block along the shards: one for each, as rp_columns_tree wants it, or the most. */
static inline unsigned rp_columns_threads(const struct rp_columns &job)
{
    return job.n_shards < RP_TREE_SHARDS ? (unsigned)job.n_shards : (unsigned)RP_TREE_SHARDS;
}

/* `per_shard(which, shard, col, sum)` gives what enters the tree for sum number `which` of a shard,
 * and may keep it elsewhere. Block: 32 columns by several shards; where no tree follows, other
 * blocks may take other shards: from `first` on, each `step`-th. */
template <class PerShard>
static __device__ __forceinline__ void rp_columns_close_of(const struct rp_columns &job, float *out,
                                                           const PerShard &per_shard, int which,
                                                           int sums, int64_t first, int64_t step)
{
    int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x, stride = sums * job.n_cols;
    bool inside = col < job.n_cols, few = job.n_shards <= RP_TREE_SHARDS;
    float *node = job.partial + which * job.n_cols + col, sum = 0;
    int64_t of_shard = job.panels * stride;
    for (int64_t s = first; s < job.n_shards && inside; s += step) {
        sum = rp_columns_panels(node + s * of_shard, (int)job.panels, stride);
        sum = per_shard(which, s, col, sum);
        if (!few) node[s * of_shard] = sum;
    }
    if (!out) return;
    if (few) rp_columns_tree<1>(&sum, (unsigned)job.n_shards);
    for (int64_t h = 1; h < job.n_shards && !few; h *= 2) {
        __syncthreads();
        for (int64_t s = 2 * h * threadIdx.y; s < job.n_shards && inside; s += 2 * h * blockDim.y)
            node[s * of_shard] += node[(s + h) * of_shard];
    }
    if (threadIdx.y == 0 && inside) out[col] = few ? sum : node[0];
}

/* Grid: columns, sums, and shards where no sum has a tree. */
template <class PerShard>
__global__ void __launch_bounds__(1024)
    rp_columns_close(struct rp_columns job, struct rp_columns_out to, PerShard per_shard)
{
    rp_columns_close_of(job, blockIdx.y ? to.out[1] : to.out[0], per_shard, (int)blockIdx.y,
                        (int)gridDim.y, (int64_t)blockIdx.z * blockDim.y + threadIdx.y,
                        (int64_t)blockDim.y * gridDim.z);
}

/* Closed panels of a part of a shard go into `out`, an unfinished last one into `open`. */
static __device__ __forceinline__ void rp_columns_go_on_of(const struct rp_columns &job,
                                                           const struct rp_columns_out &to,
                                                           int which, int sums)
{
    int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x;
    float *out = which ? to.out[1] : to.out[0], *open = which ? to.open[1] : to.open[0];
    int64_t first = job.first_row / RP_PANEL, end = job.first_row + job.rows;
    if (col >= job.n_cols || !out) return;
    for (int64_t p = 0; p < job.panels; p++) {
        float chain = job.partial[(p * sums + which) * job.n_cols + col];
        bool closed = (first + p + 1) * RP_PANEL <= end || end == job.shard_rows;
        if (closed)
            out[col] = first + p == 0 ? chain : out[col] + chain;
        else if (open)
            open[col] = chain;
    }
}

static __global__ void __launch_bounds__(32)
    rp_columns_go_on(struct rp_columns job, struct rp_columns_out to)
{
    rp_columns_go_on_of(job, to, (int)blockIdx.y, (int)gridDim.y);
}

struct rp_columns_keep {
    __device__ float operator()(int, int64_t, int64_t, float sum) const { return sum; }
};

/* ---- few rows ----------------------------------------------------------------------------------
 * Where a shard has one short panel the chains and the tree are one launch: a thread is one column
 * of one shard. */

enum { RP_AT_ONCE_ROWS = 128, RP_AT_ONCE_BATCH = 8 };

static inline bool rp_columns_are_few(const struct rp_columns &job)
{
    return !job.part && job.rows <= RP_AT_ONCE_ROWS && job.n_shards <= RP_TREE_SHARDS;
}

/* Rows [row, end) of one column, loaded several at a time. */
template <class Term>
static __device__ __forceinline__ void rp_columns_short(const Term &term, int64_t row, int64_t end,
                                                        int64_t n_cols, int64_t col, float *acc)
{
    while (row < end) {
        float v[RP_AT_ONCE_BATCH][Term::inputs], stat[RP_AT_ONCE_BATCH][2] = {};
        int n = end - row < RP_AT_ONCE_BATCH ? (int)(end - row) : (int)RP_AT_ONCE_BATCH;
        RP_UNROLL
        for (int r = 0; r < RP_AT_ONCE_BATCH; r++) {
            RP_UNROLL
            for (int i = 0; i < Term::inputs; i++)
                v[r][i] = r < n ? term.in[i][(row + r) * n_cols + col] : 0.0f;
            RP_UNROLL
            for (int i = 0; i < 2 && Term::row_stats; i++)
                stat[r][i] = r < n ? term.stat[i][row + r] : 0.0f;
        }
        RP_UNROLL
        for (int r = 0; r < RP_AT_ONCE_BATCH; r++)
            if (r < n) term.add(v[r], stat[r], acc);
        row += n;
    }
}

template <class Term, class PerShard>
__global__ void __launch_bounds__(32 * RP_TREE_SHARDS)
    rp_columns_at_once(struct rp_columns job, Term term, struct rp_columns_out to,
                       PerShard per_shard)
{
    unsigned shard = threadIdx.y;
    int64_t col = (int64_t)blockIdx.x * 32 + threadIdx.x, row = shard * job.rows;
    bool inside = col < job.n_cols;
    float acc[2] = {0, 0};
    if (inside) {
        term.prepare(shard, col, job.n_cols);
        rp_columns_short(term, row, row + job.rows, job.n_cols, col, acc);
    }
    RP_UNROLL
    for (int i = 0; i < Term::sums && inside; i++) acc[i] = per_shard(i, shard, col, acc[i]);
    rp_columns_tree<Term::sums>(acc, (unsigned)job.n_shards);
    RP_UNROLL
    for (int i = 0; i < Term::sums; i++)
        if (shard == 0 && inside && to.out[i]) to.out[i][col] = acc[i];
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* Four columns a lane: where that leaves a warp for each processor. */
template <class Term>
static bool rp_columns_in_quads(const struct rp_cuda *cuda, const struct rp_columns &job,
                                const Term &term)
{
    int64_t chains = (job.n_cols + 127) / 128 * job.panels * job.n_shards;
    bool fits = job.n_cols % 4 == 0 && chains >= cuda->n_processors;
    for (int i = 0; i < Term::inputs; i++) fits = fits && (uintptr_t)term.in[i] % 16 == 0;
    return fits;
}

/* So few columns that a warp has room for two panels, and panels for all processors. */
template <class Term>
static bool rp_columns_side_by_side(const struct rp_cuda *cuda, const struct rp_columns &job)
{
    return !Term::row_stats && job.n_cols <= 64 &&
           job.panels * job.n_shards >= 4 * cuda->n_processors;
}

static inline enum rp_status rp_columns_check(const struct rp_columns &job, struct rp_error *err)
{
    if (job.n_cols <= INT32_MAX && rp_columns_blocks(job, 1, 1) <= INT32_MAX) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_INTERNAL, "a sum over rows of too many columns");
}

template <class Term>
static enum rp_status rp_columns_run_chains(struct rp_cuda *cuda, const struct rp_columns &job,
                                            const Term &term, const struct rp_columns_out &to,
                                            struct rp_error *err)
{
    const int pairs = Term::row_stats ? 1 : 2;
    if (!rp_columns_in_quads(cuda, job, term))
        RP_LAUNCH(cuda, (rp_columns_chains<Term, 1, 1>), (unsigned)rp_columns_blocks(job, 1, 1), 32,
                  0, job, term, to);
    else if (rp_columns_side_by_side<Term>(cuda, job))
        RP_LAUNCH(cuda, (rp_columns_chains<Term, 4, pairs>),
                  (unsigned)rp_columns_blocks(job, 4, pairs), 32, 0, job, term, to);
    else
        RP_LAUNCH(cuda, (rp_columns_chains<Term, 4, 1>), (unsigned)rp_columns_blocks(job, 4, 1), 32,
                  0, job, term, to);
    return RP_STATUS_OK;
}

template <class Term, class PerShard>
static enum rp_status rp_columns_sum(struct rp_cuda *cuda, const struct rp_columns &job,
                                     const Term &term, const struct rp_columns_out &to,
                                     const PerShard &per_shard, struct rp_error *err)
{
    dim3 grid(rp_blocks(job.n_cols, 32), (unsigned)Term::sums);
    unsigned shards = rp_columns_threads(job);
    RP_TRY(rp_columns_check(job, err));
    if constexpr (Term::dense)
        if (rp_columns_are_few(job)) {
            RP_LAUNCH(cuda, (rp_columns_at_once<Term, PerShard>), grid.x, dim3(32, shards), 0, job,
                      term, to, per_shard);
            return RP_STATUS_OK;
        }
    RP_TRY(rp_columns_run_chains(cuda, job, term, to, err));
    if (job.part) {
        RP_LAUNCH(cuda, rp_columns_go_on, grid, 32, 0, job, to);
        return RP_STATUS_OK;
    }
    if (!to.out[0] && !to.out[1]) { /* no tree: any block may have any shard */
        shards = shards < 8 ? shards : 8;
        grid.z = rp_blocks(job.n_shards, shards);
        if (grid.z > 65535) grid.z = 65535;
    }
    RP_LAUNCH(cuda, (rp_columns_close<PerShard>), grid, dim3(32, shards), 0, job, to, per_shard);
    return RP_STATUS_OK;
}

/* ---- two sums beside each other ----------------------------------------------------------------
 * Of like terms and equal shards, each of which alone would leave processors idle. */

template <class Term> struct rp_columns_part_of_pair {
    struct rp_columns job;
    Term term;
    struct rp_columns_out to;
};
template <class Term> struct rp_columns_pair {
    struct rp_columns_part_of_pair<Term> first, second;
};

template <class Term, int lanes>
__global__ void __launch_bounds__(32)
    rp_columns_chains_pair(const struct rp_columns_pair<Term> pair)
{
    struct rp_columns_part_of_pair<Term> own = blockIdx.y ? pair.second : pair.first;
    const int width = 32 * lanes;
    unsigned tiles = (unsigned)((own.job.n_cols + width - 1) / width);
    unsigned blocks = tiles * (unsigned)(own.job.panels * own.job.n_shards);
    if (blockIdx.x < blocks)
        rp_columns_chains_of<Term, lanes, 1>(own.job, own.term, own.to, blocks);
}

template <class Term>
__global__ void __launch_bounds__(1024)
    rp_columns_close_pair(const struct rp_columns_pair<Term> pair)
{
    struct rp_columns_part_of_pair<Term> own = blockIdx.y ? pair.second : pair.first;
    rp_columns_close_of(own.job, own.to.out[0], rp_columns_keep(), 0, 1, threadIdx.y, blockDim.y);
}

template <class Term>
__global__ void __launch_bounds__(32) rp_columns_go_on_pair(const struct rp_columns_pair<Term> pair)
{
    struct rp_columns_part_of_pair<Term> own = blockIdx.y ? pair.second : pair.first;
    rp_columns_go_on_of(own.job, own.to, 0, 1);
}

template <class Term, int lanes>
static enum rp_status rp_columns_run_pair(struct rp_cuda *cuda,
                                          const struct rp_columns_pair<Term> &pair,
                                          struct rp_error *err)
{
    int64_t blocks = rp_columns_blocks(pair.first.job, lanes, 1);
    int64_t others = rp_columns_blocks(pair.second.job, lanes, 1);
    dim3 grid((unsigned)(blocks > others ? blocks : others), 2);
    RP_LAUNCH(cuda, (rp_columns_chains_pair<Term, lanes>), grid, 32, 0, pair);
    return RP_STATUS_OK;
}

/* Both have the same columns and shards, one sum each, and scratch of their own. */
template <class Term>
static enum rp_status rp_columns_sum_pair(struct rp_cuda *cuda,
                                          const struct rp_columns_pair<Term> &pair,
                                          struct rp_error *err)
{
    static_assert(Term::sums == 1 && !Term::dense, "what pairs there are");
    const struct rp_columns &job = pair.first.job;
    dim3 grid(rp_blocks(job.n_cols, 32), 2);
    RP_TRY(rp_columns_check(job, err));
    RP_TRY(rp_columns_check(pair.second.job, err));
    if (job.n_cols % 128 == 0 && rp_columns_in_quads(cuda, job, pair.first.term) &&
        rp_columns_in_quads(cuda, pair.second.job, pair.second.term))
        RP_TRY((rp_columns_run_pair<Term, 4>(cuda, pair, err)));
    else
        RP_TRY((rp_columns_run_pair<Term, 1>(cuda, pair, err)));
    if (job.part)
        RP_LAUNCH(cuda, (rp_columns_go_on_pair<Term>), grid, 32, 0, pair);
    else
        RP_LAUNCH(cuda, (rp_columns_close_pair<Term>), grid, dim3(32, rp_columns_threads(job)), 0,
                  pair);
    return RP_STATUS_OK;
}

#endif
