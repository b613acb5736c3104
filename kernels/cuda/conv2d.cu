/* conv2d.cu - the convolution on a GPU: the product of the windows of x with the weights, where a
 * window is addresses in the image and nothing is written out. */
#include "cuda/gemm_run.cuh"

static struct rp_source_pixels windows_of(const struct rp_op_call *call)
{
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t c = x->dims[3], line = x->dims[2] * c;
    struct rp_source_pixels windows = {};
    struct rp_window_map *map = &windows.map;
    map->base = (const float *)x->data - p->pad_h * line - p->pad_w * c;
    map->pixel = rp_digits_of(y->dims[1], y->dims[2], x->dims[1] * line, p->stride_h * line,
                              p->stride_w * c);
    map->tap = rp_digits_of(w->dims[2], w->dims[3], line, c, 1);
    map->step_y = p->stride_h, map->step_x = p->stride_w;
    map->tap_y = map->tap_x = 1;
    map->top = p->pad_h, map->left = p->pad_w;
    map->height = (int)x->dims[1], map->width = (int)x->dims[2];
    map->group_stride = w->dims[3];
    return windows;
}

RP_CUDA_KERNEL(conv2d)
{
    (void)pass;
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1], *y = &call->out[0];
    int groups = call->params.conv2d.groups;
    int64_t k = w->dims[1] * w->dims[2] * w->dims[3], o = w->dims[0];
    struct rp_gemm gemm = {};
    gemm.m = rp_tensor_rows(y), gemm.n = o / groups, gemm.groups = groups;
    gemm.sum = rp_gemm_whole(k);
    gemm.c = rp_gemm_out_plain((float *)y->data, gemm.n, o, gemm.n);
    gemm.bias = (const float *)call->in[2].data;
    struct rp_operands<rp_source_pixels, rp_source_matrix<true>, true, true> of = {
        windows_of(call), { (const float *)w->data, (int)k, gemm.n *k }
    };
    bool narrow = !rp_gemm_aligned(x->data) || !rp_gemm_aligned(w->data) || w->dims[3] % 4 != 0;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

size_t rp_cuda_scratch_conv2d(const struct rp_op_call *call)
{
    const struct rp_tensor *w = &call->in[1];
    int groups = call->params.conv2d.groups;
    return rp_gemm_scratch(rp_tensor_rows(&call->out[0]), w->dims[0] / groups, groups,
                           w->dims[1] * w->dims[2] * w->dims[3], false);
}
