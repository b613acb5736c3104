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

/* The elements of a row that this lane owns. */
template <int of_lane>
static __device__ __forceinline__ void load_lane(const float *x, int n, float v[of_lane])
{
    RP_UNROLL
    for (int i = 0; i < of_lane; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        v[i] = e < n ? x[e] : 0.0f;
    }
}

template <int of_lane>
static __device__ __forceinline__ void store_lane(float *x, int n, const float v[of_lane])
{
    RP_UNROLL
    for (int i = 0; i < of_lane; i++) {
        int e = (int)threadIdx.x % 32 + 32 * i;
        if (e < n) x[e] = v[i];
    }
}

/* RSUM of a b. */
template <int of_lane>
static __device__ __forceinline__ float sum_products(const float a[of_lane], const float b[of_lane],
                                                     int n)
{
    float acc = -0.0f;
    RP_UNROLL
    for (int i = 0; i < of_lane; i++)
        if ((int)threadIdx.x % 32 + 32 * i < n) acc = rp_fma(a[i], b[i], acc);
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

template <int of_lane>
__global__ void __launch_bounds__(32 * WARPS) normalize_heads(const struct hn_job job)
{
    float x[OF_WARP / of_lane][of_lane];
    each_head<of_lane>(job, [&](int64_t at, int64_t, int, int i) {
        load_lane<of_lane>(job.x + at * job.d, job.d, x[i]);
    });
    each_head<of_lane>(job, [&](int64_t at, int64_t token, int head, int i) {
        float gamma[of_lane];
        if (head < job.normed) {
            float sum = sum_products<of_lane>(x[i], x[i], job.d);
            float inv = 1.0f / rp_sqrt(sum / (float)job.d + job.eps);
            load_lane<of_lane>(head < job.heads ? job.gq : job.gk, job.d, gamma);
            RP_UNROLL
            for (int k = 0; k < of_lane; k++) x[i][k] = (x[i][k] * inv) * gamma[k];
            if (threadIdx.x % 32 == 0) job.inv[token * job.normed + head] = inv;
        }
        store_lane<of_lane>(job.out + at * job.d, job.d, x[i]);
    });
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
    heads_term term = {};
    for (int i = 0; i < 2; i++) {
        term.in[i] = (const float *)call->in[i].data;
        term.stat[i] = (const float *)call->in[2].data;
    }
    term.d = job.d, term.of_token = job.of_token, term.normed = job.normed;
    for (int i = 0; i < 2; i++) {
        struct rp_columns_out to = {};
        to.out[0] = (float *)call->out[i].data;
        to.open[0] = (float *)call->out[2 + i].data;
        if (!to.out[0]) continue;
        term.first = i == 0 ? 0 : job.heads;
        term.count = i == 0 ? job.heads : job.normed - job.heads;
        struct rp_tensor rows = rows_of(call, term.count);
        struct rp_columns sums = rp_columns_begin(cuda->scratch, &pass->rows, &rows);
        if (rp_tensor_rows(&rows) > INT32_MAX)
            return rp_error_set(err, RP_STATUS_INTERNAL, "head_norm_dg: a sum of too many rows");
        RP_TRY(rp_columns_sum(cuda, sums, term, to, rp_columns_keep(), err));
    }
    return RP_STATUS_OK;
}
