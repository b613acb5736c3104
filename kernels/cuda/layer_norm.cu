/* layer_norm.cu - normalisation of each row. README.md chapter 9. */
#include "cuda/columns.h"
#include "cuda/rows.h"

struct ln_job {
    const float *x, *dy;       /* (rows, n) */
    const float *gamma, *beta; /* (n); beta may be NULL */
    float *mean, *inv;         /* (rows) */
    float *out;                /* (rows, n) */
    int64_t rows;
    int n;
    float eps;
};

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) layer_norm_rows(struct ln_job job)
{
    rp_row_team<is_long, cached, 1> team(job.n);
    const float *gamma = job.gamma, *beta = job.beta;
    if (team.first() < job.rows) team.copy_row(0, job.x + team.first() * job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *from = job.x + row * job.n, *x = team.input(0, from);
        const float *next = team.next(row) < job.rows ? job.x + team.next(row) * job.n : NULL;
        float *out = job.out + row * job.n;
        team.copies_wait();
        team.prefetch(next);
        float mean = team.sum_of(x) / (float)job.n;
        float squares = team.sum([=](auto batch, int e, float acc) {
            float v[batch.n];
            rp_batch_load(batch, x, e, v);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc = rp_fma(v[i] - mean, v[i] - mean, acc);
            return acc;
        });
        float inv = 1.0f / rp_sqrt(squares / (float)job.n + job.eps);
        if (team.leads()) job.mean[row] = mean, job.inv[row] = inv;
        team.each([=](auto batch, int e) {
            float v[batch.n], scale[batch.n], shift[batch.n];
            rp_batch_load(batch, x, e, v);
            rp_batch_load(batch, gamma, e, scale);
            if (beta) rp_batch_load(batch, beta, e, shift);
            team.copy(batch, e, 0, next);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) {
                float h = (v[i] - mean) * inv;
                v[i] = beta ? rp_fma(h, scale[i], shift[i]) : h * scale[i];
            }
            rp_batch_store(batch, out, e, v);
        });
    }
}

RP_CUDA_KERNEL(layer_norm)
{
    (void)pass;
    const struct rp_tensor *x = &call->in[0];
    struct ln_job job = {};
    job.x = (const float *)x->data;
    job.gamma = (const float *)call->in[1].data;
    job.beta = (const float *)call->in[2].data;
    job.out = (float *)call->out[0].data;
    job.mean = (float *)call->out[1].data;
    job.inv = (float *)call->out[2].data;
    job.rows = rp_tensor_rows(x);
    job.n = (int)x->dims[x->n_dims - 1];
    job.eps = call->params.norm.eps;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, layer_norm_rows, job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

template <bool is_long, bool cached>
__global__ void __launch_bounds__(RP_ROW_THREADS(is_long)) layer_norm_dx_rows(struct ln_job job)
{
    rp_row_team<is_long, cached, 2> team(job.n);
    const float *gamma = job.gamma;
    int n = job.n;
    if (team.first() < job.rows) {
        team.copy_row(0, job.dy + team.first() * n);
        team.copy_row(1, job.x + team.first() * n);
    }
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *dy = team.input(0, job.dy + row * n), *x = team.input(1, job.x + row * n);
        bool goes_on = team.next(row) < job.rows;
        const float *next_dy = goes_on ? job.dy + team.next(row) * n : NULL;
        const float *next_x = goes_on ? job.x + team.next(row) * n : NULL;
        float *out = job.out + row * n, mean = job.mean[row], inv = job.inv[row];
        team.copies_wait();
        team.prefetch(next_dy);
        team.prefetch(next_x);
        float a = team.sum([=](auto batch, int e, float acc) {
            float g[batch.n], scale[batch.n];
            rp_batch_load(batch, dy, e, g);
            rp_batch_load(batch, gamma, e, scale);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) acc += g[i] * scale[i];
            return acc;
        }) / (float)n;
        float b = team.sum([=](auto batch, int e, float acc) {
            float g[batch.n], h[batch.n], scale[batch.n];
            rp_batch_load(batch, dy, e, g);
            rp_batch_load(batch, x, e, h);
            rp_batch_load(batch, gamma, e, scale);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                acc = rp_fma(g[i] * scale[i], (h[i] - mean) * inv, acc);
            return acc;
        }) / (float)n;
        team.each([=](auto batch, int e) {
            float g[batch.n], h[batch.n], scale[batch.n];
            rp_batch_load(batch, dy, e, g);
            rp_batch_load(batch, x, e, h);
            rp_batch_load(batch, gamma, e, scale);
            team.copy(batch, e, 0, next_dy);
            team.copy(batch, e, 1, next_x);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                g[i] = inv * rp_fma(-((h[i] - mean) * inv), b, g[i] * scale[i] - a);
            rp_batch_store(batch, out, e, g);
        });
    }
}

RP_CUDA_KERNEL(layer_norm_dx)
{
    (void)pass;
    const struct rp_tensor *dy = &call->in[0];
    struct ln_job job = {};
    job.dy = (const float *)dy->data;
    job.x = (const float *)call->in[1].data;
    job.gamma = (const float *)call->in[2].data;
    job.mean = (float *)call->in[3].data;
    job.inv = (float *)call->in[4].data;
    job.out = (float *)call->out[0].data;
    job.rows = rp_tensor_rows(dy);
    job.n = (int)dy->dims[dy->n_dims - 1];
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 2);
    RP_ROW_LAUNCH(cuda, plan, layer_norm_dx_rows, job);
    return RP_STATUS_OK;
}

/* ---- gradients of gamma and beta ------------------------------------------------------------- */

struct dgb_term : rp_column_term {
    enum { inputs = 2, sums = 2, row_stats = 1 };
    const float *in[2]; /* dy, x; the row's numbers are mean and inv */
    __device__ void add(const float *v, const float *of_row, float *acc) const
    {
        float h = (v[1] - of_row[0]) * of_row[1];
        acc[0] = rp_fma(v[0], h, acc[0]);
        acc[1] += v[0];
    }
};

size_t rp_cuda_scratch_layer_norm_dgb(const struct rp_op_call *call)
{
    return rp_columns_scratch(&call->in[0], 2);
}

RP_CUDA_KERNEL(layer_norm_dgb)
{
    struct rp_columns job = rp_columns_begin(cuda->scratch, &pass->rows, &call->in[0]);
    struct rp_columns_out to = {};
    dgb_term term = {};
    for (int i = 0; i < 2; i++) {
        to.out[i] = (float *)call->out[i].data;
        to.open[i] = (float *)call->out[2 + i].data;
        term.in[i] = (const float *)call->in[i].data;
        term.stat[i] = (const float *)call->in[2 + i].data;
    }
    return rp_columns_sum(cuda, job, term, to, rp_columns_keep(), err);
}
