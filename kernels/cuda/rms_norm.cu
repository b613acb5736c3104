/* rms_norm.cu - every row divided by its root mean square. README.md chapter 9. */
#include "cuda/columns.h"
#include "cuda/norm.cuh"

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) rms_norm_rows(const struct rp_norm_job job)
{
    rp_norm_rows<kind, false>(job);
}

RP_CUDA_KERNEL(rms_norm)
{
    (void)pass;
    struct rp_norm_job job = rp_norm_begin(call);
    job.x = (const float *)call->in[0].data;
    job.gamma = (const float *)call->in[1].data;
    job.inv = (float *)call->out[1].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, rms_norm_rows, job);
    return RP_STATUS_OK;
}

/* ---- gradient of x --------------------------------------------------------------------------- */

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 2) rms_norm_dx_rows(const struct rp_norm_job job)
{
    rp_norm_dx_rows<kind, false>(job);
}

RP_CUDA_KERNEL(rms_norm_dx)
{
    (void)pass;
    struct rp_norm_job job = rp_norm_begin(call);
    job.dy = (const float *)call->in[0].data;
    job.x = (const float *)call->in[1].data;
    job.gamma = (const float *)call->in[2].data;
    job.inv = (float *)call->in[3].data;
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    RP_ROW_LAUNCH(cuda, plan, rms_norm_dx_rows, job);
    return RP_STATUS_OK;
}

/* ---- gradient of gamma ----------------------------------------------------------------------- */

struct dg_term : rp_column_term {
    enum { inputs = 2, sums = 1, row_stats = 1 };
    const float *in[2]; /* dy, x; the row's number, twice, is inv */
    __device__ void add(const float *v, const float *of_row, float *acc) const
    {
        acc[0] = rp_fma(v[0], v[1] * of_row[0], acc[0]);
    }
};

size_t rp_cuda_scratch_rms_norm_dg(const struct rp_op_call *call)
{
    return rp_columns_scratch(&call->in[0], 1);
}

RP_CUDA_KERNEL(rms_norm_dg)
{
    struct rp_columns job = rp_columns_begin(cuda->scratch, &pass->rows, &call->in[0]);
    struct rp_columns_out to = {};
    dg_term term = {};
    to.out[0] = (float *)call->out[0].data;
    to.open[0] = (float *)call->out[1].data;
    for (int i = 0; i < 2; i++) {
        term.in[i] = (const float *)call->in[i].data;
        term.stat[i] = (const float *)call->in[2].data;
    }
    return rp_columns_sum(cuda, job, term, to, rp_columns_keep(), err);
}
