/* head_norm.cu - each q and k head normalised by itself. README.md chapter 14.
 *
 * A warp takes a head: its lanes are the lanes of the row sum. */
#include "cuda/columns.h"
#include "cuda/rows.h"

enum { WARPS = 8, OF_LANE = RP_ATTENTION_HEAD_MAX / 32 };

struct hn_job {
    const float *x, *dy; /* (tokens, heads of q, k and v, d) */
    const float *gq, *gk;
    const float *of_inv;
    float *inv, *out;               /* inv: (tokens, heads of q and k) */
    int64_t all;                    /* heads of all tokens */
    int d, heads, normed, of_token; /* heads of q; of q and k; of q, k and v */
    float eps;
};

static struct hn_job begin(const struct rp_op_call *call)
{
    const struct rp_attention_params *p = &call->params.attention;
    struct hn_job job = {};
    job.d = p->head_dim;
    job.heads = p->heads;
    job.normed = p->heads + p->kv_heads;
    job.of_token = p->heads + 2 * p->kv_heads;
    job.all = rp_tensor_rows(&call->in[0]) * job.of_token;
    job.eps = p->eps;
    return job;
}

/* The elements of a row that this lane owns. */
static __device__ __forceinline__ void load_lane(const float *x, int n, float v[OF_LANE])
{
    RP_UNROLL
    for (int i = 0; i < OF_LANE; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        v[i] = e < n ? x[e] : 0.0f;
    }
}

static __device__ __forceinline__ void store_lane(float *x, int n, const float v[OF_LANE])
{
    RP_UNROLL
    for (int i = 0; i < OF_LANE; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        if (e < n) x[e] = v[i];
    }
}

/* RSUM of a b. */
static __device__ __forceinline__ float sum_products(const float a[OF_LANE], const float b[OF_LANE],
                                                     int n)
{
    float acc = -0.0f;
    RP_UNROLL
    for (int i = 0; i < OF_LANE; i++)
        if ((int)threadIdx.x % 32 + 32 * i < n) acc = rp_fma(a[i], b[i], acc);
    return rp_row_fold(acc);
}

static __global__ void __launch_bounds__(32 * WARPS) normalize_heads(struct hn_job job)
{
    int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (at >= job.all) return;
    int head = (int)(at % job.of_token);
    float x[OF_LANE], gamma[OF_LANE];
    load_lane(job.x + at * job.d, job.d, x);
    if (head < job.normed) {
        float inv = 1.0f / rp_sqrt(sum_products(x, x, job.d) / (float)job.d + job.eps);
        load_lane(head < job.heads ? job.gq : job.gk, job.d, gamma);
        RP_UNROLL
        for (int i = 0; i < OF_LANE; i++) x[i] = (x[i] * inv) * gamma[i];
        if (threadIdx.x % 32 == 0) job.inv[at / job.of_token * job.normed + head] = inv;
    }
    store_lane(job.out + at * job.d, job.d, x);
}

RP_CUDA_KERNEL(head_norm)
{
    (void)pass;
    struct hn_job job = begin(call);
    job.x = (const float *)call->in[0].data;
    job.gq = (const float *)call->in[1].data;
    job.gk = (const float *)call->in[2].data;
    job.out = (float *)call->out[0].data;
    job.inv = (float *)call->out[1].data;
    RP_LAUNCH(cuda, normalize_heads, rp_blocks(job.all, WARPS), 32 * WARPS, 0, job);
    return RP_STATUS_OK;
}

/* ---- gradient of the heads ------------------------------------------------------------------- */

static __global__ void __launch_bounds__(32 * WARPS) head_gradients(struct hn_job job)
{
    int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (at >= job.all) return;
    int head = (int)(at % job.of_token);
    float g[OF_LANE], h[OF_LANE], gamma[OF_LANE];
    load_lane(job.dy + at * job.d, job.d, g);
    if (head < job.normed) {
        float inv = job.of_inv[at / job.of_token * job.normed + head];
        load_lane(job.x + at * job.d, job.d, h);
        load_lane(head < job.heads ? job.gq : job.gk, job.d, gamma);
        RP_UNROLL
        for (int i = 0; i < OF_LANE; i++) h[i] = h[i] * inv, g[i] = g[i] * gamma[i];
        float b = sum_products(g, h, job.d) / (float)job.d;
        RP_UNROLL
        for (int i = 0; i < OF_LANE; i++) g[i] = inv * rp_fma(-h[i], b, g[i]);
    }
    store_lane(job.out + at * job.d, job.d, g);
}

RP_CUDA_KERNEL(head_norm_dx)
{
    (void)pass;
    struct hn_job job = begin(call);
    job.dy = (const float *)call->in[0].data;
    job.x = (const float *)call->in[1].data;
    job.gq = (const float *)call->in[2].data;
    job.gk = (const float *)call->in[3].data;
    job.of_inv = (const float *)call->in[4].data;
    job.out = (float *)call->out[0].data;
    RP_LAUNCH(cuda, head_gradients, rp_blocks(job.all, WARPS), 32 * WARPS, 0, job);
    return RP_STATUS_OK;
}

/* ---- gradients of gq and gk ------------------------------------------------------------------ */

enum { BATCH = 8 /* rows that are on their way together */ };

/* Row i of a sum is head first + i mod count of token i div count. */
struct dg_rows {
    int first, count;
};

/* The factors of one row and column: dy, and x inv. */
static __device__ __forceinline__ void load_row(const struct hn_job &job, const struct dg_rows &of,
                                                int64_t row, int64_t col, float *dy, float *h)
{
    int64_t token = row / of.count, head = of.first + row % of.count;
    int64_t at = (token * job.of_token + head) * job.d + col;
    *dy = job.dy[at];
    *h = job.x[at] * job.of_inv[token * job.normed + head];
}

/* As rp_columns_chains of columns.h, whose rows would have to be dense: a warp per panel and 32
 * columns. */
static __global__ void __launch_bounds__(32)
    head_chains(struct hn_job job, struct dg_rows of, struct rp_columns sums, const float *open)
{
    unsigned tiles = (unsigned)((sums.n_cols + 31) / 32), panels = (unsigned)sums.panels;
    int64_t item = blockIdx.x / tiles, shard = item / panels, panel = item % panels;
    int64_t col = (int64_t)(blockIdx.x % tiles) * 32 + threadIdx.x;
    int64_t begin = (sums.first_row / RP_PANEL + panel) * RP_PANEL, end = begin + RP_PANEL;
    if (col >= sums.n_cols) return;
    if (begin < sums.first_row) begin = sums.first_row;
    if (end > sums.first_row + sums.rows) end = sums.first_row + sums.rows;
    float acc = begin % RP_PANEL != 0 && open ? open[col] : 0.0f;
    int64_t row = shard * sums.rows + begin - sums.first_row, left = end - begin;
    for (; left > 0; left -= BATCH, row += BATCH) {
        float dy[BATCH] = {}, h[BATCH] = {};
        RP_UNROLL
        for (int i = 0; i < BATCH; i++)
            if (i < left) load_row(job, of, row + i, col, &dy[i], &h[i]);
        RP_UNROLL
        for (int i = 0; i < BATCH; i++)
            if (i < left) acc = rp_fma(dy[i], h[i], acc);
    }
    sums.partial[item * sums.n_cols + col] = acc;
}

/* The heads of q as rows of d values; those of k are no more. */
static struct rp_tensor rows_of(const struct rp_op_call *call, int heads)
{
    struct rp_tensor rows = call->in[0];
    rows.dims[1] *= heads;
    rows.dims[2] = call->params.attention.head_dim;
    return rows;
}

size_t rp_cuda_scratch_head_norm_dg(const struct rp_op_call *call)
{
    struct rp_tensor rows = rows_of(call, call->params.attention.heads);
    return rp_columns_scratch(&rows, 1);
}

RP_CUDA_KERNEL(head_norm_dg)
{
    struct hn_job job = begin(call);
    job.dy = (const float *)call->in[0].data;
    job.x = (const float *)call->in[1].data;
    job.of_inv = (const float *)call->in[2].data;
    for (int i = 0; i < 2; i++) {
        struct dg_rows of = {i == 0 ? 0 : job.heads, i == 0 ? job.heads : job.normed - job.heads};
        struct rp_tensor rows = rows_of(call, of.count);
        struct rp_columns sums = rp_columns_begin(cuda->scratch, &pass->rows, &rows);
        struct rp_columns_out to = {};
        to.out[0] = (float *)call->out[i].data;
        to.open[0] = (float *)call->out[2 + i].data;
        if (!to.out[0]) continue;
        unsigned tiles = rp_blocks(sums.n_cols, 32);
        unsigned shards = sums.n_shards < 32 ? (unsigned)sums.n_shards : 32;
        int64_t chains = tiles * sums.panels * sums.n_shards;
        if (chains > INT32_MAX)
            return rp_error_set(err, RP_STATUS_INTERNAL, "head_norm_dg: a sum of too many rows");
        RP_LAUNCH(cuda, head_chains, (unsigned)chains, 32, 0, job, of, sums, to.open[0]);
        if (sums.part)
            RP_LAUNCH(cuda, rp_columns_go_on, dim3(tiles, 1), 32, 0, sums, to);
        else
            RP_LAUNCH(cuda, (rp_columns_close<struct rp_columns_keep>), dim3(tiles, 1),
                      dim3(32, shards), 0, sums, to, rp_columns_keep());
    }
    return RP_STATUS_OK;
}
