/* conv2d.c - the convolution on the CPU: the product of the windows of x with the weights, where
 * the windows are addresses in the framed images and nothing is written out. */
#include "cpu/gemm.h"
#include "cpu/image.h"

static struct rp_gemm describe(const struct rp_op_call *call, const struct rp_image *image)
{
    const struct rp_tensor *w = &call->in[1], *y = &call->out[0];
    const struct rp_conv2d_params *params = &call->params.conv2d;
    int64_t o = w->dims[0], taps_w = w->dims[2], c = w->dims[3];
    int64_t row = image->wide * image->c, k = w->dims[1] * taps_w * c;
    return (struct rp_gemm){
        .m = rp_tensor_rows(y),
        .n = o / params->groups,
        .sum = rp_gemm_whole(k),
        .b = w->data,
        .c = y->data,
        .a_m = {.n1 = y->dims[1],
                .n2 = y->dims[2],
                .s0 = image->high * row,
                .s1 = params->stride_h * row,
                .s2 = params->stride_w * image->c},
        .a_k = {.n1 = taps_w, .n2 = c, .s0 = row, .s1 = image->c, .s2 = 1},
        .b_n = rp_gemm_plain(k),
        .b_k = rp_gemm_plain(1),
        .c_m = rp_gemm_plain(o),
        .c_n = rp_gemm_plain(1),
        .bias = call->in[2].data,
        .near_a = true,
    };
}

RP_CPU_KERNEL(conv2d)
{
    (void)pass, (void)err;
    struct rp_image image = rp_image_of_input(&call->in[0], &call->params.conv2d);
    struct rp_gemm gemm = describe(call, &image);
    size_t framed = RP_ISA_NAME(rp_image_scratch)(&image);
    gemm.a = RP_ISA_NAME(rp_image_frame)(cpu, &image, cpu->scratch);
    for (int g = 0; g < call->params.conv2d.groups; g++) {
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, cpu->scratch + RP_GEMM_ROUND(framed));
        gemm.a += call->in[1].dims[3];
        gemm.b += gemm.n * gemm.sum.rows;
        gemm.c += gemm.n;
        if (gemm.bias) gemm.bias += gemm.n;
    }
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_conv2d)(const struct rp_op_call *call, int n_threads)
{
    struct rp_image image = rp_image_of_input(&call->in[0], &call->params.conv2d);
    struct rp_gemm gemm = describe(call, &image);
    return RP_GEMM_ROUND(RP_ISA_NAME(rp_image_scratch)(&image)) +
           RP_ISA_NAME(rp_gemm_scratch)(&gemm, n_threads);
}
