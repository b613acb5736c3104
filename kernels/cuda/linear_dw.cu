/* linear_dw.cu - dW = dy^T x on a GPU: rows of a shard in panels, then the tree over the shards. */
#include "cuda/gemm_run.cuh"

RP_CUDA_KERNEL(linear_dw)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1];
    int64_t o = dy->dims[dy->n_dims - 1], k = x->dims[x->n_dims - 1];
    struct rp_gemm gemm = {};
    gemm.m = o, gemm.n = k, gemm.groups = 1;
    gemm.sum = rp_gemm_cut(&pass->rows, rp_tensor_rows(dy) / pass->rows.n_samples);
    gemm.c = rp_gemm_out_plain((float *)call->out[0].data, k, k, 0);
    gemm.chain = (float *)call->out[1].data;
    struct rp_operands<rp_source_matrix<false>, rp_source_matrix<false>, false, false> of = {
        {(const float *)dy->data, (int)o, 0}, { (const float *)x->data, (int)k, 0 }
    };
    bool narrow =
        !rp_gemm_aligned(dy->data) || !rp_gemm_aligned(x->data) || o % 4 != 0 || k % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

size_t rp_cuda_scratch_linear_dw(const struct rp_op_call *call)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1];
    return rp_gemm_scratch(dy->dims[dy->n_dims - 1], x->dims[x->n_dims - 1], 1, rp_tensor_rows(dy),
                           true);
}
