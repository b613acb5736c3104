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

/* What is known of a query. */
struct known_row {
    float maximum, inv, sum;
};

/* Read for each tile anew: registers are scarce. */
static __device__ __forceinline__ struct known_row known_row_of(const struct rp_at_job &job,
                                                                int sample, int head, int row)
{
    struct known_row known = {0.0f, 0.0f, 0.0f};
    if (row >= job.tokens) return known;
    int64_t at = ((int64_t)sample * job.heads + head) * job.tokens + row;
    known.maximum = job.stats[2 * at];
    known.inv = job.stats[2 * at + 1];
    known.sum = job.sums[at];
    return known;
}

/* s: scores, then p. */
template <int rows>
static __device__ __forceinline__ void make_p(const struct rp_at_job &job, int sample, int head,
                                              int query0, float (&s)[rows][4])
{
    RP_UNROLL
    for (int i = 0; i < rows; i++) {
        struct known_row known = known_row_of(job, sample, head, query0 + rp_at_row<rows>(i));
        RP_UNROLL
        for (int j = 0; j < 4; j++)
            s[i][j] = rp_exp(s[i][j] * job.scale - known.maximum) * known.inv;
    }
}

/* p: then the weights of dv; ds: products of dy and v, then the gradient of the scores. */
template <int rows>
static __device__ __forceinline__ void make_gradients(const struct rp_at_job &job, int sample,
                                                      int head, int query0, int key0,
                                                      float (&p)[rows][4], float (&ds)[rows][4])
{
    unsigned kept = rp_at_kept<rows>(job, sample, head, query0, key0);
    RP_UNROLL
    for (int i = 0; i < rows; i++) {
        struct known_row known = known_row_of(job, sample, head, query0 + rp_at_row<rows>(i));
        RP_UNROLL
        for (int j = 0; j < 4; j++) {
            float w = p[i][j], dp = ds[i][j];
            if (job.drops) {
                bool stays = kept >> (4 * i + j) & 1u;
                w = stays ? w * job.drop : 0.0f;
                dp = stays ? dp * job.drop : 0.0f;
            }
            ds[i][j] = p[i][j] * (dp - known.sum);
            p[i][j] = w;
        }
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

/* ---- dq -------------------------------------------------------------------------------------- */

template <int quads, bool one_panel>
__global__ void __launch_bounds__(rp_at_shape<quads>::threads,
                                  rp_at_shape<quads>::resident(one_panel))
    query_gradients(struct rp_at_job job)
{
    enum { n = rp_at_shape<quads>::rows };
    RP_SHARED_DYNAMIC(rp_at_shared<2>, shared);
    rp_at_chunk(&buffer)[2] = shared->buffer;
    rp_at_weights &weights = shared->weights;
    int heads = job.samples * job.heads, number = (int)(blockIdx.x % heads);
    int sample = number / job.heads, head = number % job.heads;
    int query0 = (job.tiles - 1 - (int)(blockIdx.x / heads)) * RP_AT_TILE; /* longest first */
    struct head_matrices m = matrices_of(job, sample, head);
    struct rp_at_operand q = rp_at_keep<quads>(m.q, query0, job.d, shared->kept[0]);
    struct rp_at_operand dy = rp_at_keep<quads>(m.dy, query0, job.d, shared->kept[1]);
    struct rp_at_rows<quads, one_panel> rows;
    rows.begin();
    RP_NO_UNROLL
    for (int key0 = 0; key0 <= query0; key0 += RP_AT_TILE) {
        int n_keys = job.tokens - key0 < RP_AT_TILE ? job.tokens - key0 : (int)RP_AT_TILE;
        float s[n][4], ds[n][4];
        if (!one_panel && key0 % RP_PANEL == 0 && key0 > 0) rows.end_panel();
        rp_at_make_scores<quads, true>(q, rp_at_read(m.k, key0), job.d, buffer, s);
        make_p(job, sample, head, query0, s);
        rp_at_make_scores<quads, true>(dy, rp_at_read(m.v, key0), job.d, buffer, ds);
        make_gradients(job, sample, head, query0, key0, s, ds);
        rp_at_put_columns(ds, weights);
        rp_at_mix<RP_AT_UP_TO>(rows, weights, m.k, key0, n_keys, job.d, key0 == query0, buffer);
    }
    float *dq = job.dqkv + (m.q.base - job.qkv);
    rows.end(job.d, [&](int i, int column, float sum) {
        int row = query0 + rp_at_row<n>(i);
        if (row < job.tokens) dq[row * m.q.stride + column] = sum * job.scale;
    });
}

/* ---- dk, dv ---------------------------------------------------------------------------------- */

template <int rows>
static __device__ __forceinline__ void put_rows(const float (&w)[rows][4], rp_at_weights &to)
{
    RP_UNROLL
    for (int i = 0; i < rows; i++)
        *reinterpret_cast<float4 *>(to[rp_at_row<rows>(i)] + rp_at_column()) =
            make_float4(w[i][0], w[i][1], w[i][2], w[i][3]);
}

/* What put_rows put. */
template <int rows>
static __device__ __forceinline__ void take_rows(const rp_at_weights &from, float (&w)[rows][4])
{
    RP_UNROLL
    for (int i = 0; i < rows; i++) {
        float4 v = *reinterpret_cast<const float4 *>(from[rp_at_row<rows>(i)] + rp_at_column());
        w[i][0] = v.x, w[i][1] = v.y, w[i][2] = v.z, w[i][3] = v.w;
    }
}

/* The sums of one query head added to those of the heads before it, in the gradient itself. */
template <class Rows>
static __device__ __forceinline__ void add_head(const struct rp_at_job &job, Rows &rows, float *out,
                                                int key0, bool first, float factor)
{
    rows.end(job.d, [&](int i, int column, float sum) {
        int row = key0 + rp_at_row<Rows::n>(i);
        float *to = out + row * job.width + column;
        if (row >= job.tokens) return;
        if (!first) sum = *to + sum;
        *to = factor != 1.0f ? sum * factor : sum;
    });
}

template <int quads, bool one_panel>
__global__ void __launch_bounds__(rp_at_shape<quads>::threads,
                                  rp_at_shape<quads>::resident(one_panel))
    key_gradients(struct rp_at_job job)
{
    enum { n = rp_at_shape<quads>::rows };
    RP_SHARED_DYNAMIC(rp_at_shared<2>, shared);
    rp_at_chunk(&buffer)[2] = shared->buffer;
    rp_at_weights &weights = shared->weights;
    int heads = job.samples * job.kv_heads, number = (int)(blockIdx.x % heads);
    int sample = number / job.kv_heads, kv = number % job.kv_heads;
    int key0 = (int)(blockIdx.x / heads) * RP_AT_TILE; /* those with the most queries first */
    struct head_matrices of_group = matrices_of(job, sample, kv * job.group);
    struct rp_at_operand k = rp_at_keep<quads>(of_group.k, key0, job.d, shared->kept[0]);
    struct rp_at_operand v = rp_at_keep<quads>(of_group.v, key0, job.d, shared->kept[1]);
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
            float p[n][4], ds[n][4];
            if (!one_panel && query0 % RP_PANEL == 0 && query0 > key0)
                dk.end_panel(), dv.end_panel();
            /* p waits in shared memory: registers are scarce. */
            rp_at_make_scores<quads, false>(rp_at_read(m.q, query0), k, job.d, buffer, p);
            make_p(job, sample, head, query0, p);
            put_rows(p, weights);
            rp_at_make_scores<quads, false>(rp_at_read(m.dy, query0), v, job.d, buffer, ds);
            take_rows(weights, p);
            make_gradients(job, sample, head, query0, key0, p, ds);
            put_rows(p, weights);
            rp_at_mix<RP_AT_FROM>(dv, weights, m.dy, query0, n_queries, job.d, diagonal, buffer);
            __syncthreads();
            put_rows(ds, weights);
            rp_at_mix<RP_AT_FROM>(dk, weights, m.q, query0, n_queries, job.d, diagonal, buffer);
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
    unsigned of_keys = (unsigned)(blocks / job.group);
    if (job.tokens <= RP_PANEL) {
        RP_AT_LAUNCH(cuda, query_gradients, 2, (unsigned)blocks, job, true);
        RP_AT_LAUNCH(cuda, key_gradients, 2, of_keys, job, true);
    } else {
        RP_AT_LAUNCH(cuda, query_gradients, 2, (unsigned)blocks, job, false);
        RP_AT_LAUNCH(cuda, key_gradients, 2, of_keys, job, false);
    }
    return RP_STATUS_OK;
}
