/* lm_head.cuh - private to kernels/cuda: the product of rows and a head, a block of it, in a part
 * of the scratch. */
#ifndef RP_CUDA_LM_HEAD_CUH
#define RP_CUDA_LM_HEAD_CUH

#include "cuda/gemm_run.cuh"
extern "C" {
#include "lm_loss.h"
}

/* Products may use what lies behind the first `bytes` of the scratch, a multiple of 256. */
static inline struct rp_cuda rp_lm_device(const struct rp_cuda *cuda, size_t bytes)
{
    struct rp_cuda part = *cuda;
    part.scratch = (unsigned char *)cuda->scratch + bytes;
    part.scratch_bytes -= bytes;
    return part;
}

static inline size_t rp_lm_bytes(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + 255) / 256 * 256;
}

/* Logits of rows [row, row + n_rows) for classes [column, column + n_columns), to (n_rows, stride).
 */
RP_NODISCARD static inline enum rp_status
rp_lm_head(struct rp_cuda *cuda, const struct rp_op_call *call, int64_t row, int64_t n_rows,
           int64_t column, int64_t n_columns, float *to, int64_t stride, struct rp_error *err)
{
    int64_t width = call->in[1].dims[1];
    const float *x = (const float *)call->in[0].data + row * width;
    const float *w = (const float *)call->in[1].data + column * width;
    struct rp_gemm gemm = {};
    gemm.m = n_rows, gemm.n = n_columns, gemm.groups = 1;
    gemm.sum = rp_gemm_whole(width);
    gemm.c = rp_gemm_out_plain(to, n_columns, stride, 0);
    struct rp_operands<rp_source_matrix<true>, rp_source_matrix<true>, true, true> of = {
        {x, (int)width, 0}, { w, (int)width, 0 }
    };
    bool narrow = !rp_gemm_aligned(x) || !rp_gemm_aligned(w) || width % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

#endif
