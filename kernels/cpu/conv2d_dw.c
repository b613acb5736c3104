/* conv2d_dw.c - the gradient of a convolution's weights on the CPU. The sum runs over the positions
 * of each shard, then over the shards; vectors lie along the output channels. */
#include "cpu/gemm.h"
#include "cpu/image.h"

/* Channels that fill whole vectors are worth vectors along them; else those lie along the outputs.
 */
enum { VECTORS_OF_CHANNELS = 16 };

static struct rp_gemm describe(const struct rp_op_call *call, const struct rp_image *image,
                               struct rp_gemm_sum sum)
{
    const struct rp_tensor *dy = &call->in[0], *dw = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t taps_w = dw->dims[2], c = dw->dims[3], filter = dw->dims[1] * taps_w * c;
    int64_t row = image->wide * image->c;
    struct rp_gemm_axis taps = {.n1 = taps_w, .n2 = c, .s0 = row, .s1 = image->c, .s2 = 1};
    struct rp_gemm_axis windows = {.n1 = dy->dims[1],
                                   .n2 = dy->dims[2],
                                   .s0 = image->high * row,
                                   .s1 = p->stride_h * row,
                                   .s2 = p->stride_w * image->c};
    struct rp_gemm along_outputs = {
        .m = filter,
        .n = dw->dims[0] / p->groups,
        .sum = sum,
        .a = image->from,
        .b = dy->data,
        .c = dw->data,
        .chain = call->out[1].data,
        .a_m = taps,
        .a_k = windows,
        .b_n = rp_gemm_plain(1),
        .b_k = rp_gemm_plain(dy->dims[3]),
        .c_m = rp_gemm_plain(1),
        .c_n = rp_gemm_plain(filter),
        .near_a = true,
    };
    if (c % VECTORS_OF_CHANNELS != 0) return along_outputs;
    struct rp_gemm along_inputs = along_outputs;
    along_inputs.m = along_outputs.n, along_inputs.n = along_outputs.m;
    along_inputs.a = along_outputs.b, along_inputs.b = along_outputs.a;
    along_inputs.a_m = along_outputs.b_n, along_inputs.a_k = along_outputs.b_k;
    along_inputs.b_n = along_outputs.a_m, along_inputs.b_k = along_outputs.a_k;
    along_inputs.c_m = along_outputs.c_n, along_inputs.c_n = along_outputs.c_m;
    along_inputs.near_a = false, along_inputs.near_b = true;
    return along_inputs;
}

RP_CPU_KERNEL(conv2d_dw)
{
    (void)err;
    const struct rp_tensor *dy = &call->in[0];
    struct rp_image image = rp_image_of_input(&call->in[1], &call->params.conv2d);
    size_t framed = RP_ISA_NAME(rp_image_scratch)(&image);
    image.from = RP_ISA_NAME(rp_image_frame)(cpu, &image, cpu->scratch);
    struct rp_gemm gemm =
        describe(call, &image, rp_gemm_cut(&pass->rows, dy->dims[1] * dy->dims[2]));
    const int64_t channels = call->out[0].dims[3],
                  outputs = dy->dims[3] / call->params.conv2d.groups;
    for (int g = 0; g < call->params.conv2d.groups; g++) {
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, cpu->scratch + RP_GEMM_ROUND(framed));
        gemm.a += gemm.near_a ? channels : outputs;
        gemm.b += gemm.near_a ? outputs : channels;
        gemm.c += gemm.n * gemm.m;
        if (gemm.chain) gemm.chain += gemm.n * gemm.m;
    }
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_conv2d_dw)(const struct rp_op_call *call, int n_threads)
{
    struct rp_image image = rp_image_of_input(&call->in[1], &call->params.conv2d);
    struct rp_gemm gemm = describe(call, &image, rp_gemm_whole(rp_tensor_rows(&call->in[0])));
    return RP_GEMM_ROUND(RP_ISA_NAME(rp_image_scratch)(&image)) +
           RP_ISA_NAME(rp_gemm_scratch)(&gemm, n_threads);
}
