/* head_norm.cu - each q and k head normalised by itself. README.md chapter 14.
 *
 * A warp takes a few heads: its lanes are the lanes of the row sum, and the loads of all its heads
 * are in flight together. */
#include "cuda/columns.h"
#include "cuda/divisor.h"
#include "cuda/rows.h"

enum { WARPS = 8, OF_WARP = RP_ATTENTION_HEAD_MAX / 32 /* elements of a lane, of all its heads */ };

struct hn_job {
    const float *x, *dy; /* (tokens, heads of q, k and v, d) */
    const float *gq, *gk;
    const float *of_inv;
    float *inv, *out;               /* inv: (tokens, heads of q and k) */
    int64_t all;                    /* heads of all tokens */
    int d, heads, normed, of_token; /* heads of q; of q and k; of q, k and v */
    struct rp_divisor by_token;     /* heads of a token */
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
    job.by_token = rp_divisor_of(job.of_token);
    job.eps = p->eps;
    return job;
}

/* The elements of a row that this lane owns; `whole` where it is known that they are there. */
template <int of_lane, bool whole = false>
static __device__ __forceinline__ void load_lane(const float *x, int n, float v[of_lane])
{
    RP_UNROLL
    for (int i = 0; i < of_lane; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        v[i] = whole || e < n ? x[e] : 0.0f;
    }
}

template <int of_lane, bool whole = false>
static __device__ __forceinline__ void store_lane(float *x, int n, const float v[of_lane])
{
    RP_UNROLL
    for (int i = 0; i < of_lane; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        if (whole || e < n) x[e] = v[i];
    }
}

/* RSUM of a b. */
template <int of_lane, bool whole = false>
static __device__ __forceinline__ float sum_products(const float a[of_lane], const float b[of_lane],
                                                     int n)
{
    float acc = -0.0f;
    RP_UNROLL
    for (int i = 0; i < of_lane; i++)
        if (whole || (int)threadIdx.x % 32 + 32 * i < n) acc = rp_fma(a[i], b[i], acc);
    return rp_row_fold(acc);
}

/* visit(at, token, head, i): number i of this warp's heads, the at-th of all. */
template <int of_lane, class Visit>
static __device__ __forceinline__ void each_head(const struct hn_job &job, Visit visit)
{
    const int count = OF_WARP / of_lane;
    int64_t first = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * count;
    RP_UNROLL
    for (int i = 0; i < count; i++) {
        int64_t at = first + i;
        uint32_t token = rp_divide((uint32_t)at, job.by_token);
        int head = (int)((uint32_t)at - token * job.by_token.by);
        if (at < job.all) visit(at, (int64_t)token, head, i);
    }
}

/* Lane i makes 1 / rms of head i, counted from `first`, and keeps it: what is slow is done once for
 * all heads of the warp. */
template <int of_lane, bool whole>
static __device__ __forceinline__ float invs_of_heads(const struct hn_job &job, int64_t first,
                                                      const float x[OF_WARP / of_lane][of_lane])
{
    const int count = OF_WARP / of_lane;
    float sum[count], own = 0;
    int lane = (int)threadIdx.x % 32;
    RP_UNROLL
    for (int i = 0; i < count; i++) sum[i] = sum_products<of_lane, whole>(x[i], x[i], job.d);
    RP_UNROLL
    for (int i = 0; i < count; i++) own = lane == i ? sum[i] : own;
    float inv = 1.0f / rp_sqrt(own / (float)job.d + job.eps);
    uint32_t at = (uint32_t)first + (uint32_t)lane, token = rp_divide(at, job.by_token);
    int head = (int)(at - token * job.by_token.by);
    if (lane < count && (whole || first + lane < job.all) && head < job.normed)
        job.inv[(int64_t)token * job.normed + head] = inv;
    return inv;
}

/* The heads of a warp, from `first` on; `whole`: all of them are there, and all elements of a lane.
 * Few instructions are left then, of which there would be more than the memory has time for. */
template <int of_lane, bool whole>
static __device__ __forceinline__ void normalize_of_warp(const struct hn_job &job, int64_t first)
{
    const int count = OF_WARP / of_lane, d = whole ? 32 * of_lane : job.d;
    const float *from = job.x + first * d;
    float x[count][of_lane] = {}, gq[of_lane], gk[of_lane], *to = job.out + first * d;
    RP_UNROLL
    for (int i = 0; i < count; i++)
        if (whole || first + i < job.all) load_lane<of_lane, whole>(from + i * d, d, x[i]);
    load_lane<of_lane, whole>(job.gq, d, gq);
    load_lane<of_lane, whole>(job.gk, d, gk);
    float invs = invs_of_heads<of_lane, whole>(job, first, x);
    int head = (int)((uint32_t)first - rp_divide((uint32_t)first, job.by_token) * job.by_token.by);
    RP_UNROLL
    for (int i = 0; i < count; i++) {
        float inv = __shfl_sync(0xffffffffu, invs, i);
        RP_UNROLL
        for (int k = 0; k < of_lane; k++) {
            float y = (x[i][k] * inv) * (head < job.heads ? gq[k] : gk[k]);
            x[i][k] = head < job.normed ? y : x[i][k];
        }
        if (whole || first + i < job.all) store_lane<of_lane, whole>(to + i * d, d, x[i]);
        head = head == job.of_token - 1 ? 0 : head + 1;
    }
}

template <int of_lane>
__global__ void __launch_bounds__(32 * WARPS) normalize_heads(const struct hn_job job)
{
    const int count = OF_WARP / of_lane;
    int64_t first = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * count;
    if (job.d == 32 * of_lane && first + count <= job.all)
        normalize_of_warp<of_lane, true>(job, first);
    else
        normalize_of_warp<of_lane, false>(job, first);
}

/* A statement like RP_LAUNCH, of kernel<elements of a lane>(job). */
#define LAUNCH_HEADS(cuda, kernel, job)                                                            \
    do {                                                                                           \
        if ((job).all > INT32_MAX)                                                                 \
            return rp_error_set(err, RP_STATUS_INTERNAL, "head_norm: too many heads in one pass"); \
        if ((job).d <= 32)                                                                         \
            RP_LAUNCH(cuda, kernel<1>, rp_blocks((job).all, WARPS *OF_WARP), 32 * WARPS, 0, job);  \
        else if ((job).d <= 64)                                                                    \
            RP_LAUNCH(cuda, kernel<2>, rp_blocks((job).all, WARPS *OF_WARP / 2), 32 * WARPS, 0,    \
                      job);                                                                        \
        else if ((job).d <= 128)                                                                   \
            RP_LAUNCH(cuda, kernel<4>, rp_blocks((job).all, WARPS *OF_WARP / 4), 32 * WARPS, 0,    \
                      job);                                                                        \
        else                                                                                       \
            RP_LAUNCH(cuda, kernel<OF_WARP>, rp_blocks((job).all, WARPS), 32 * WARPS, 0, job);     \
    } while (0)

RP_CUDA_KERNEL(head_norm)
{
    (void)pass;
    struct hn_job job = begin(call);
    job.x = (const float *)call->in[0].data;
    job.gq = (const float *)call->in[1].data;
    job.gk = (const float *)call->in[2].data;
    job.out = (float *)call->out[0].data;
    job.inv = (float *)call->out[1].data;
    LAUNCH_HEADS(cuda, normalize_heads, job);
    return RP_STATUS_OK;
}

/* ---- gradient of the heads ------------------------------------------------------------------- */

template <int of_lane>
__global__ void __launch_bounds__(32 * WARPS) head_gradients(const struct hn_job job)
{
    float g[OF_WARP / of_lane][of_lane], h[OF_WARP / of_lane][of_lane];
    each_head<of_lane>(job, [&](int64_t at, int64_t, int head, int i) {
        load_lane<of_lane>(job.dy + at * job.d, job.d, g[i]);
        if (head < job.normed) load_lane<of_lane>(job.x + at * job.d, job.d, h[i]);
    });
    each_head<of_lane>(job, [&](int64_t at, int64_t token, int head, int i) {
        float gamma[of_lane];
        if (head < job.normed) {
            float inv = job.of_inv[token * job.normed + head];
            load_lane<of_lane>(head < job.heads ? job.gq : job.gk, job.d, gamma);
            RP_UNROLL
            for (int k = 0; k < of_lane; k++) h[i][k] = h[i][k] * inv, g[i][k] = g[i][k] * gamma[k];
            float b = sum_products<of_lane>(g[i], h[i], job.d) / (float)job.d;
            RP_UNROLL
            for (int k = 0; k < of_lane; k++) g[i][k] = inv * rp_fma(-h[i][k], b, g[i][k]);
        }
        store_lane<of_lane>(job.out + at * job.d, job.d, g[i]);
    });
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
    LAUNCH_HEADS(cuda, head_gradients, job);
    return RP_STATUS_OK;
}

/* ---- gradients of gq and gk ------------------------------------------------------------------ */

/* Row i of a sum is head first + i mod count of token i div count: where its values lie. */
struct head_place {
    int64_t at;
    int head, count, d, skip; /* skip: from the last of these heads to the next token's first */
    __device__ __forceinline__ void next()
    {
        bool last = head == count - 1;
        at += last ? skip : d;
        head = last ? 0 : head + 1;
    }
};

struct heads_term : rp_column_term {
    enum { inputs = 2, sums = 1, row_stats = 1, dense = 0 };
    const float *in[2]; /* dy, x; the row's number, twice, is inv */
    int first, count, d, of_token, normed;
    __device__ __forceinline__ head_place rows_from(int64_t row, int64_t) const
    {
        uint32_t token = (uint32_t)row / (uint32_t)count;
        int head = (int)((uint32_t)row - token * (uint32_t)count);
        return {((int64_t)token * of_token + first + head) * d, head, count, d,
                (of_token - count + 1) * d};
    }
    __device__ __forceinline__ int64_t stat_of(int64_t row) const
    {
        uint32_t token = (uint32_t)row / (uint32_t)count;
        return (int64_t)token * normed + first + (int)((uint32_t)row - token * (uint32_t)count);
    }
    __device__ void add(const float *v, const float *of_row, float *acc) const
    {
        acc[0] = rp_fma(v[0], v[1] * of_row[0], acc[0]);
    }
};

/* The heads of q, or of k, as rows of d values. */
static struct rp_tensor rows_of(const struct rp_op_call *call, int heads)
{
    struct rp_tensor rows = call->in[0];
    rows.dims[1] *= heads;
    rows.dims[2] = call->params.attention.head_dim;
    return rows;
}

size_t rp_cuda_scratch_head_norm_dg(const struct rp_op_call *call)
{
    struct rp_tensor q = rows_of(call, call->params.attention.heads);
    struct rp_tensor k = rows_of(call, call->params.attention.kv_heads);
    return rp_columns_scratch(&q, 1) + rp_columns_scratch(&k, 1);
}

/* The sum of the heads of q (0), of k (1). */
static struct rp_columns_part_of_pair<heads_term> sum_of_heads(struct rp_cuda *cuda,
                                                               const struct rp_op_call *call,
                                                               const struct rp_pass *pass,
                                                               int which) {
    struct hn_job job = begin(call);
    struct rp_tensor q = rows_of(call, job.heads), k = rows_of(call, job.normed - job.heads);
    struct rp_columns_part_of_pair<heads_term> sum = {
    };
    float *scratch = (float *)cuda->scratch;
    if (which == 1) scratch += rp_columns_scratch(&q, 1) / sizeof(float);
    sum.job = rp_columns_begin(scratch, &pass->rows, which ? &k : &q);
    for (int i = 0; i < 2; i++) {
        sum.term.in[i] = (const float *)call->in[i].data;
        sum.term.stat[i] = (const float *)call->in[2].data;
    }
    sum.term.d = job.d, sum.term.of_token = job.of_token, sum.term.normed = job.normed;
    sum.term.first = which ? job.heads : 0;
    sum.term.count = which ? job.normed - job.heads : job.heads;
    sum.to.out[0] = (float *)call->out[which].data;
    sum.to.open[0] = (float *)call->out[2 + which].data;
    return sum;
}

RP_CUDA_KERNEL(head_norm_dg)
{
    struct rp_columns_pair<heads_term> pair = {
        sum_of_heads(cuda, call, pass, 0), sum_of_heads(cuda, call, pass, 1)
    };
    for (int i = 0; i < 2; i++)
        if ((i ? pair.second : pair.first).job.rows * pass->rows.n_shards > INT32_MAX)
            return rp_error_set(err, RP_STATUS_INTERNAL, "head_norm_dg: a sum of too many rows");
    if (pair.first.to.out[0] && pair.second.to.out[0]) return rp_columns_sum_pair(cuda, pair, err);
    const struct rp_columns_part_of_pair<heads_term> &one =
        pair.first.to.out[0] ? pair.first : pair.second;
    if (!one.to.out[0]) return RP_STATUS_OK;
    return rp_columns_sum(cuda, one.job, one.term, one.to, rp_columns_keep(), err);
}
