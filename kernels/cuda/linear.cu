/* linear.cu - y = x W^T + b on a GPU. */
#include "cuda/gemm_run.cuh"

RP_CUDA_KERNEL(linear)
{
    (void)pass;
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1];
    int64_t k = w->dims[1], o = w->dims[0];
    struct rp_gemm gemm = {};
    gemm.m = rp_tensor_rows(x), gemm.n = o, gemm.groups = 1;
    gemm.sum = rp_gemm_whole(k);
    gemm.c = rp_gemm_out_plain((float *)call->out[0].data, o, o, 0);
    gemm.bias = (const float *)call->in[2].data;
    struct rp_operands<rp_source_matrix<true>, rp_source_matrix<true>, true, true> of = {
        {(const float *)x->data, (int)k, 0}, { (const float *)w->data, (int)k, 0 }
    };
    bool narrow = !rp_gemm_aligned(x->data) || !rp_gemm_aligned(w->data) || k % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

size_t rp_cuda_scratch_linear(const struct rp_op_call *call)
{
    const struct rp_tensor *w = &call->in[1];
    return rp_gemm_scratch(rp_tensor_rows(&call->in[0]), w->dims[0], 1, w->dims[1], false);
}
