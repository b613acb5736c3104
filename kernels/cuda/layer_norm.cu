/* layer_norm.cu - normalisation of each row. README.md chapter 9. */
#include "cuda/columns.h"
#include "cuda/norm.cuh"

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) layer_norm_rows(const struct rp_norm_job job)
{
    rp_norm_rows<kind, true>(job);
}

RP_CUDA_KERNEL(layer_norm)
{
    (void)pass;
    struct rp_norm_job job = rp_norm_begin(call);
    job.x = (const float *)call->in[0].data;
    job.gamma = (const float *)call->in[1].data;
    job.beta = (const float *)call->in[2].data;
    job.mean = (float *)call->out[1].data;
    job.inv = (float *)call->out[2].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, layer_norm_rows, job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 2) layer_norm_dx_rows(const struct rp_norm_job job)
{
    rp_norm_dx_rows<kind, true>(job);
}

RP_CUDA_KERNEL(layer_norm_dx)
{
    (void)pass;
    struct rp_norm_job job = rp_norm_begin(call);
    job.dy = (const float *)call->in[0].data;
    job.x = (const float *)call->in[1].data;
    job.gamma = (const float *)call->in[2].data;
    job.mean = (float *)call->in[3].data;
    job.inv = (float *)call->in[4].data;
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
