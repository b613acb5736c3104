/* sum_rows.cu - sums over samples of each column. README.md chapter 6. */
#include "cuda/columns.h"

struct plain_term : rp_column_term {
    enum { inputs = 1, sums = 1 };
    const float *in[1];
    __device__ void add(const float *x, const float *, float *acc) const { acc[0] += x[0]; }
};

size_t rp_cuda_scratch_sum_rows(const struct rp_op_call *call)
{
    return rp_columns_scratch(&call->in[0], 1);
}

RP_CUDA_KERNEL(sum_rows)
{
    struct rp_columns job = rp_columns_begin(cuda->scratch, &pass->rows, &call->in[0]);
    struct rp_columns_out to = {};
    to.out[0] = (float *)call->out[0].data;
    to.open[0] = (float *)call->out[1].data;
    plain_term term = {};
    term.in[0] = (const float *)call->in[0].data;
    return rp_columns_sum(cuda, job, term, to, rp_columns_keep(), err);
}
