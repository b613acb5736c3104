/* conv2d_dx.cu - the gradient of the image on a GPU.
 *
 * With a stride, image positions fall into phases (h + pad) mod stride, and each phase meets its
 * own taps: kh = phase + t stride, at the output oh = (h + pad) div stride - t. Each phase is one
 * product. */
#include "cuda/gemm_run.cuh"

/* One axis of one phase. */
struct phase {
    int64_t first, count; /* image positions first, first + stride, ... */
    int64_t taps;
    int64_t output; /* the output that tap t = 0 meets at the first position */
};

static struct phase find_phase(int64_t size, int kernel, int stride, int pad, int number)
{
    struct phase phase = {};
    phase.first = (number - pad % stride + stride) % stride;
    phase.count = phase.first < size ? (size - phase.first + stride - 1) / stride : 0;
    phase.taps = number < kernel ? (kernel - number + stride - 1) / stride : 0;
    phase.output = (phase.first + pad) / stride;
    return phase;
}

/* Digits of a phase without a tap are never used, but must not divide by 0. */
static int64_t at_least_one(int64_t n)
{
    return n < 1 ? 1 : n;
}

static struct rp_source_pixels outputs_of(const struct rp_op_call *call, const struct phase *h,
                                          const struct phase *v)
{
    const struct rp_tensor *dy = &call->in[0];
    int64_t o = dy->dims[3], line = dy->dims[2] * o, of_group = o / call->params.conv2d.groups;
    struct rp_source_pixels outputs = {};
    struct rp_window_map *map = &outputs.map;
    map->base = (const float *)dy->data + h->output * line + v->output * o;
    map->pixel = rp_digits_of(h->count, v->count, dy->dims[1] * line, line, o);
    map->tap = rp_digits_of(at_least_one(v->taps), of_group, -line, -o, 1);
    map->step_y = map->step_x = 1;
    map->tap_y = map->tap_x = -1;
    map->top = -(int)h->output, map->left = -(int)v->output;
    map->height = (int)dy->dims[1], map->width = (int)dy->dims[2];
    map->group_stride = of_group;
    return outputs;
}

static struct rp_source_weights weights_of(const struct rp_op_call *call, const struct phase *v,
                                           int phase_h, int phase_w)
{
    const struct rp_tensor *w = &call->in[1];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t c = w->dims[3], line = w->dims[2] * c, filter = w->dims[1] * line;
    int64_t of_group = w->dims[0] / p->groups;
    struct rp_source_weights weights = {};
    weights.base = (const float *)w->data + phase_h * line + phase_w * c;
    weights.k_digits =
        rp_digits_of(at_least_one(v->taps), of_group, p->stride_h * line, p->stride_w * c, filter);
    weights.group_stride = of_group * filter;
    return weights;
}

static struct rp_gemm_out positions_of(const struct rp_op_call *call, const struct phase *h,
                                       const struct phase *v)
{
    const struct rp_tensor *dx = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t c = dx->dims[3], line = dx->dims[2] * c, of_group = c / p->groups;
    float *base = (float *)dx->data + h->first * line + v->first * c;
    struct rp_gemm_out out = rp_gemm_out_plain(base, of_group, c, of_group);
    out.images = true;
    out.per_image = rp_divisor_of(h->count * v->count), out.per_line = rp_divisor_of(v->count);
    out.image = dx->dims[1] * line;
    out.line = p->stride_h * line;
    out.pixel = p->stride_w * c;
    return out;
}

RP_NODISCARD static enum rp_status run_phase(struct rp_cuda *cuda, const struct rp_op_call *call,
                                             int phase_h, int phase_w, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *w = &call->in[1], *dx = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t o = dy->dims[3] / p->groups;
    struct phase h = find_phase(dx->dims[1], p->kernel_h, p->stride_h, p->pad_h, phase_h);
    struct phase v = find_phase(dx->dims[2], p->kernel_w, p->stride_w, p->pad_w, phase_w);
    if (h.count == 0 || v.count == 0) return RP_STATUS_OK;
    struct rp_gemm gemm = {};
    gemm.m = dx->dims[0] * h.count * v.count, gemm.n = w->dims[3], gemm.groups = p->groups;
    gemm.sum = rp_gemm_whole(h.taps * v.taps * o);
    gemm.c = positions_of(call, &h, &v);
    struct rp_operands<rp_source_pixels, rp_source_weights, true, false, true> of = {
        outputs_of(call, &h, &v), weights_of(call, &v, phase_h, phase_w)
    };
    bool wide = rp_gemm_aligned(dy->data) && o % 4 == 0;
    bool narrow = !wide || !rp_gemm_aligned(w->data) || gemm.n % 4 != 0;
    gemm.thin = wide && gemm.n <= 4;
    return rp_gemm_run(cuda, gemm, of, narrow, err);
}

RP_CUDA_KERNEL(conv2d_dx)
{
    (void)pass;
    const struct rp_conv2d_params *p = &call->params.conv2d;
    for (int phase_h = 0; phase_h < p->stride_h; phase_h++)
        for (int phase_w = 0; phase_w < p->stride_w; phase_w++)
            RP_TRY(run_phase(cuda, call, phase_h, phase_w, err));
    return RP_STATUS_OK;
}

/* As much as a phase with all positions and all taps would need. */
size_t rp_cuda_scratch_conv2d_dx(const struct rp_op_call *call)
{
    const struct rp_tensor *w = &call->in[1];
    int groups = call->params.conv2d.groups;
    return rp_gemm_scratch(rp_tensor_rows(&call->out[0]), w->dims[3], groups,
                           w->dims[1] * w->dims[2] * w->dims[0] / groups, false);
}
