/* conv2d_dw.cu - the gradient of the weights on a GPU: positions (n, oh, ow) of a shard in panels,
 * then the tree over the shards. */
#include "cuda/gemm_run.cuh"

static struct rp_source_taps windows_of(const struct rp_op_call *call)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1], *dw = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t c = x->dims[3], line = x->dims[2] * c;
    struct rp_source_taps windows = {};
    struct rp_window_map *map = &windows.map;
    map->base = (const float *)x->data - p->pad_h * line - p->pad_w * c;
    map->pixel = rp_digits_of(dy->dims[1], dy->dims[2], x->dims[1] * line, p->stride_h * line,
                              p->stride_w * c);
    map->tap = rp_digits_of(dw->dims[2], dw->dims[3], line, c, 1);
    map->step_y = p->stride_h, map->step_x = p->stride_w;
    map->tap_y = map->tap_x = 1;
    map->top = p->pad_h, map->left = p->pad_w;
    map->height = (int)x->dims[1], map->width = (int)x->dims[2];
    map->group_stride = dw->dims[3];
    return windows;
}

RP_CUDA_KERNEL(conv2d_dw)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1], *dw = &call->out[0];
    int groups = call->params.conv2d.groups;
    int64_t o = dy->dims[3], c = dw->dims[3];
    struct rp_gemm gemm = {};
    gemm.m = o / groups, gemm.n = dw->dims[1] * dw->dims[2] * c, gemm.groups = groups;
    gemm.sum = rp_gemm_cut(&pass->rows, dy->dims[1] * dy->dims[2]);
    gemm.c = rp_gemm_out_plain((float *)dw->data, gemm.n, gemm.n, gemm.m * gemm.n);
    gemm.chain = (float *)call->out[1].data;
    struct rp_operands<rp_source_matrix<false>, rp_source_taps, false, false> of = {
        {(const float *)dy->data, (int)o, gemm.m}, windows_of(call)
    };
    bool narrow =
        !rp_gemm_aligned(dy->data) || !rp_gemm_aligned(x->data) || gemm.m % 4 != 0 || c % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

size_t rp_cuda_scratch_conv2d_dw(const struct rp_op_call *call)
{
    const struct rp_tensor *dy = &call->in[0], *dw = &call->out[0];
    int groups = call->params.conv2d.groups;
    return rp_gemm_scratch(dy->dims[3] / groups, dw->dims[1] * dw->dims[2] * dw->dims[3], groups,
                           rp_tensor_rows(dy), true);
}
