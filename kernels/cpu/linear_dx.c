/* linear_dx.c - dx = dy W on the CPU. */
#include "cpu/gemm.h"

static struct rp_gemm describe(const struct rp_op_call *call)
{
    const struct rp_tensor *dy = &call->in[0], *w = &call->in[1];
    int64_t o = w->dims[0], k = w->dims[1];
    return (struct rp_gemm){
        .m = rp_tensor_rows(dy),
        .n = k,
        .sum = rp_gemm_whole(o),
        .a = dy->data,
        .b = w->data,
        .c = call->out[0].data,
        .a_m = rp_gemm_plain(o),
        .a_k = rp_gemm_plain(1),
        .b_n = rp_gemm_plain(1),
        .b_k = rp_gemm_plain(k),
        .c_m = rp_gemm_plain(k),
        .c_n = rp_gemm_plain(1),
    };
}

RP_CPU_KERNEL(linear_dx)
{
    (void)pass, (void)err;
    struct rp_gemm gemm = describe(call);
    RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, cpu->scratch);
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_linear_dx)(const struct rp_op_call *call, int n_threads)
{
    struct rp_gemm gemm = describe(call);
    return RP_ISA_NAME(rp_gemm_scratch)(&gemm, n_threads);
}
