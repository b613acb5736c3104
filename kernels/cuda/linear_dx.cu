/* linear_dx.cu - dx = dy W on a GPU. */
#include "cuda/gemm_run.cuh"

RP_CUDA_KERNEL(linear_dx)
{
    (void)pass;
    const struct rp_tensor *dy = &call->in[0], *w = &call->in[1];
    int64_t k = w->dims[1], o = w->dims[0];
    struct rp_gemm gemm = {};
    gemm.m = rp_tensor_rows(dy), gemm.n = k, gemm.groups = 1;
    gemm.sum = rp_gemm_whole(o);
    gemm.c = rp_gemm_out_plain((float *)call->out[0].data, k, k, 0);
    struct rp_operands<rp_source_matrix<true>, rp_source_matrix<false>, true, false> of = {
        {(const float *)dy->data, (int)o, 0}, { (const float *)w->data, (int)k, 0 }
    };
    bool narrow =
        !rp_gemm_aligned(dy->data) || !rp_gemm_aligned(w->data) || o % 4 != 0 || k % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

size_t rp_cuda_scratch_linear_dx(const struct rp_op_call *call)
{
    const struct rp_tensor *w = &call->in[1];
    return rp_gemm_scratch(rp_tensor_rows(&call->in[0]), w->dims[1], 1, w->dims[0], false);
}
