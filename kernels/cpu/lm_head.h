/* lm_head.h - private to kernels/cpu: the product of rows and a head, a block of it. */
#ifndef RP_CPU_LM_HEAD_H
#define RP_CPU_LM_HEAD_H

#include "cpu/gemm.h"

/* Logits of rows [row, row + n_rows) for classes [column, column + n_columns), to (n_rows, stride).
 */
static inline struct rp_gemm rp_lm_head(const struct rp_op_call *call, int64_t row, int64_t n_rows,
                                        int64_t column, int64_t n_columns, float *to,
                                        int64_t stride)
{
    const float *x = call->in[0].data, *w = call->in[1].data;
    int64_t width = call->in[1].dims[1];
    return (struct rp_gemm){
        .m = n_rows,
        .n = n_columns,
        .sum = rp_gemm_whole(width),
        .a = x + row * width,
        .b = w + column * width,
        .c = to,
        .a_m = rp_gemm_plain(width),
        .a_k = rp_gemm_plain(1),
        .b_n = rp_gemm_plain(width),
        .b_k = rp_gemm_plain(1),
        .c_m = rp_gemm_plain(stride),
        .c_n = rp_gemm_plain(1),
    };
}

#endif
