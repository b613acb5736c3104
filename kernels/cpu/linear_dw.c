/* linear_dw.c - dW = dy^T x on the CPU: rows of a shard in panels, then the tree over the shards.
 */
#include "cpu/gemm.h"

static struct rp_gemm describe(const struct rp_op_call *call, struct rp_gemm_sum sum)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1];
    int64_t o = dy->dims[dy->n_dims - 1], k = x->dims[x->n_dims - 1];
    return (struct rp_gemm){
        .m = o,
        .n = k,
        .sum = sum,
        .a = dy->data,
        .b = x->data,
        .c = call->out[0].data,
        .chain = call->out[1].data,
        .a_m = rp_gemm_plain(1),
        .a_k = rp_gemm_plain(o),
        .b_n = rp_gemm_plain(1),
        .b_k = rp_gemm_plain(k),
        .c_m = rp_gemm_plain(k),
        .c_n = rp_gemm_plain(1),
    };
}

RP_CPU_KERNEL(linear_dw)
{
    (void)err;
    int64_t per_sample = rp_tensor_rows(&call->in[0]) / pass->rows.n_samples;
    struct rp_gemm gemm = describe(call, rp_gemm_cut(&pass->rows, per_sample));
    RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, cpu->scratch);
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_linear_dw)(const struct rp_op_call *call, int n_threads)
{
    struct rp_gemm gemm = describe(call, rp_gemm_whole(rp_tensor_rows(&call->in[0])));
    return RP_ISA_NAME(rp_gemm_scratch)(&gemm, n_threads);
}
