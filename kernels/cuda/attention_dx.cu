/* attention_dx.cu - the gradient of attention. README.md chapter 14.
 *
 * Three kernels: the sums over d of dy y; dq, a block for 64 queries; dk and dv, a block for 64
 * keys and all query heads of their group. */
#include "cuda/attention.cuh"
#include "cuda/rows.h"

enum { WARPS = 8 };

/* ---- sums of dy y ---------------------------------------------------------------------------- */

static __global__ void __launch_bounds__(32 * WARPS) query_sums(struct rp_at_job job)
{
    int64_t at = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32; /* of (N, T, heads) */
    if (at >= (int64_t)job.samples * job.tokens * job.heads) return;
    float acc = -0.0f;
    for (int e = (int)threadIdx.x % 32; e < job.d; e += 32)
        acc = rp_fma(job.dy[at * job.d + e], job.y_in[at * job.d + e], acc);
    acc = rp_row_fold(acc);
    int64_t head = at % job.heads, token = at / job.heads % job.tokens;
    int64_t sample = at / job.heads / job.tokens;
    if (threadIdx.x % 32 == 0) job.sums[(sample * job.heads + head) * job.tokens + token] = acc;
}

/* ---- weights of a tile and their gradients --------------------------------------------------- */

/* What is known of each of this thread's queries. */
struct known_rows {
    float maximum[4], inv[4], sum[4];

    __device__ __forceinline__ void look_up(const struct rp_at_job &job, int sample, int head,
                                            int query0)
    {
        RP_UNROLL
        for (int i = 0; i < 4; i++) {
            int row = query0 + rp_at_row() + i;
            int64_t at = ((int64_t)sample * job.heads + head) * job.tokens + row;
            bool inside = row < job.tokens;
            maximum[i] = inside ? job.stats[2 * at] : 0.0f;
            inv[i] = inside ? job.stats[2 * at + 1] : 0.0f;
            sum[i] = inside ? job.sums[at] : 0.0f;
        }
    }
};

/* s: scores, then the weights of dv; ds: products of dy and v, then the gradient of the scores. */
static __device__ __forceinline__ void make_gradients(const struct rp_at_job &job,
                                                      const struct known_rows &known, unsigned kept,
                                                      float s[4][4], float ds[4][4])
{
    RP_UNROLL
    for (int i = 0; i < 4; i++) RP_UNROLL
    for (int j = 0; j < 4; j++) {
        float p = rp_exp(s[i][j] * job.scale - known.maximum[i]) * known.inv[i];
        float w = p, dp = ds[i][j];
        if (job.drops) {
            bool stays = kept >> (4 * i + j) & 1u;
            w = stays ? w * job.drop : 0.0f;
            dp = stays ? dp * job.drop : 0.0f;
        }
        s[i][j] = w;
        ds[i][j] = p * (dp - known.sum[i]);
    }
}

/* The matrices of one query head. */
struct head_matrices {
    struct rp_at_matrix q, k, v, dy;
};

static __device__ __forceinline__ struct head_matrices matrices_of(const struct rp_at_job &job,
                                                                   int sample, int head)
{
    int key_head = rp_at_key_head(job, head);
    struct head_matrices m = {rp_at_head(job, sample, head), rp_at_head(job, sample, key_head),
                              rp_at_head(job, sample, key_head + job.kv_heads),
                              rp_at_out_head(job, job.dy, sample, head)};
    return m;
}

/* Scores, and products of dy and v. */
static __device__ __forceinline__ void make_products(const struct rp_at_job &job,
                                                     const struct head_matrices &m, int query0,
                                                     int key0, rp_at_chunk (&buffer)[2],
                                                     float s[4][4], float ds[4][4])
{
    rp_at_scores(m.q, query0, m.k, key0, job.d, buffer, s);
    rp_at_scores(m.dy, query0, m.v, key0, job.d, buffer, ds);
}

/* ---- dq -------------------------------------------------------------------------------------- */

template <int quads>
__global__ void __launch_bounds__(RP_AT_THREADS, RP_AT_RESIDENT(quads))
    query_gradients(struct rp_at_job job)
{
    RP_SHARED(rp_at_chunk, buffer, [2]);
    RP_SHARED(rp_at_weights, weights, [1]);
    int heads = job.samples * job.heads, number = (int)(blockIdx.x % heads);
    int sample = number / job.heads, head = number % job.heads;
    int query0 = (job.tiles - 1 - (int)(blockIdx.x / heads)) * RP_AT_TILE; /* longest first */
    struct head_matrices m = matrices_of(job, sample, head);
    struct known_rows known;
    struct rp_at_rows<quads> rows;
    known.look_up(job, sample, head, query0);
    rows.begin();
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= query0; key0 += RP_AT_TILE) {
        int n_keys = job.tokens - key0 < RP_AT_TILE ? job.tokens - key0 : (int)RP_AT_TILE;
        float s[4][4], ds[4][4];
        if (key0 % RP_PANEL == 0 && key0 > 0) rows.end_panel();
        make_products(job, m, query0, key0, buffer, s, ds);
        make_gradients(job, known, rp_at_kept(job, sample, head, query0, key0), s, ds);
        RP_UNROLL
        for (int j = 0; j < 4; j++)
            *reinterpret_cast<float4 *>(weights[0][rp_at_column() + j] + rp_at_row()) =
                make_float4(ds[0][j], ds[1][j], ds[2][j], ds[3][j]);
        rp_at_mix<RP_AT_UP_TO>(rows, weights[0], m.k, key0, n_keys, job.d, key0 == query0, buffer);
    }
    float *dq = job.dqkv + (m.q.base - job.qkv);
    int row0 = query0 + rp_at_row();
    rows.end(job.d, [&](int i, int column, float sum) {
        if (row0 + i < job.tokens) dq[(row0 + i) * m.q.stride + column] = sum * job.scale;
    });
}

/* ---- dk, dv ---------------------------------------------------------------------------------- */

static __device__ __forceinline__ void put_rows(const float w[4][4], rp_at_weights &to)
{
    RP_UNROLL
    for (int i = 0; i < 4; i++)
        *reinterpret_cast<float4 *>(to[rp_at_row() + i] + rp_at_column()) =
            make_float4(w[i][0], w[i][1], w[i][2], w[i][3]);
}

/* The sums of one query head added to those of the heads before it, in the gradient itself. */
template <class Rows>
static __device__ __forceinline__ void add_head(const struct rp_at_job &job, Rows &rows, float *out,
                                                int key0, bool first, float factor)
{
    int row0 = key0 + rp_at_row();
    rows.end(job.d, [&](int i, int column, float sum) {
        float *to = out + (row0 + i) * job.width + column;
        if (row0 + i >= job.tokens) return;
        if (!first) sum = *to + sum;
        *to = factor != 1.0f ? sum * factor : sum;
    });
}

template <int quads, bool one_panel>
__global__ void __launch_bounds__(RP_AT_THREADS, RP_AT_RESIDENT(quads))
    key_gradients(struct rp_at_job job)
{
    RP_SHARED(rp_at_chunk, buffer, [2]);
    RP_SHARED(rp_at_weights, weights, [1]);
    int heads = job.samples * job.kv_heads, number = (int)(blockIdx.x % heads);
    int sample = number / job.kv_heads, kv = number % job.kv_heads;
    int key0 = (int)(blockIdx.x / heads) * RP_AT_TILE; /* those with the most queries first */
    RP_NO_UNROLL
    for (int g = 0; g < job.group; g++) {
        int head = kv * job.group + g;
        struct head_matrices m = matrices_of(job, sample, head);
        struct rp_at_rows<quads, one_panel> dk, dv;
        dk.begin();
        dv.begin();
        RP_NO_UNROLL
        for (int query0 = key0; query0 < job.tokens; query0 += RP_AT_TILE) {
            int n_queries =
                job.tokens - query0 < RP_AT_TILE ? job.tokens - query0 : (int)RP_AT_TILE;
            bool diagonal = query0 == key0;
            struct known_rows known;
            float s[4][4], ds[4][4];
            if (!one_panel && query0 % RP_PANEL == 0 && query0 > key0)
                dk.end_panel(), dv.end_panel();
            make_products(job, m, query0, key0, buffer, s, ds);
            known.look_up(job, sample, head, query0); /* not before: registers are scarce */
            make_gradients(job, known, rp_at_kept(job, sample, head, query0, key0), s, ds);
            put_rows(s, weights[0]);
            rp_at_mix<RP_AT_FROM>(dv, weights[0], m.dy, query0, n_queries, job.d, diagonal, buffer);
            __syncthreads();
            put_rows(ds, weights[0]);
            rp_at_mix<RP_AT_FROM>(dk, weights[0], m.q, query0, n_queries, job.d, diagonal, buffer);
        }
        bool last = g == job.group - 1;
        add_head(job, dk, job.dqkv + (m.k.base - job.qkv), key0, g == 0, last ? job.scale : 1.0f);
        add_head(job, dv, job.dqkv + (m.v.base - job.qkv), key0, g == 0, 1.0f);
    }
}

/* ---- all of it ------------------------------------------------------------------------------- */

size_t rp_cuda_scratch_attention_dx(const struct rp_op_call *call)
{
    const struct rp_tensor *qkv = &call->in[1];
    return (size_t)(qkv->dims[0] * qkv->dims[1]) * (size_t)call->params.attention.heads *
           sizeof(float);
}

RP_CUDA_KERNEL(attention_dx)
{
    struct rp_at_job job = rp_at_begin(cuda, call, &call->in[1], pass);
    job.dy = (const float *)call->in[0].data;
    job.y_in = (const float *)call->in[2].data;
    job.stats = (float *)call->in[3].data;
    job.sums = (float *)cuda->scratch;
    job.dqkv = (float *)call->out[0].data;
    int64_t rows = (int64_t)job.samples * job.tokens * job.heads;
    int64_t blocks = (int64_t)job.samples * job.heads * job.tiles;
    if (rows > INT32_MAX || blocks > INT32_MAX)
        return rp_error_set(err, RP_STATUS_INTERNAL, "attention_dx: too many heads in one pass");
    RP_LAUNCH(cuda, query_sums, rp_blocks(rows, WARPS), 32 * WARPS, 0, job);
    RP_AT_LAUNCH(cuda, query_gradients, (unsigned)blocks, job);
    if (job.tokens <= RP_PANEL) /* two sums of one panel fit into the registers */
        RP_AT_LAUNCH(cuda, key_gradients, (unsigned)(blocks / job.group), job, true);
    else
        RP_AT_LAUNCH(cuda, key_gradients, (unsigned)(blocks / job.group), job, false);
    return RP_STATUS_OK;
}
