/* conv2d_dx.c - the gradient of the image on the CPU.
 *
 * With a stride, image positions fall into phases (h + pad) mod stride, and each phase meets its
 * own taps: kh = phase + t stride, at the output oh = (h + pad) div stride - t. Each phase is one
 * product; dy is framed so that every such output can be read. */
#include "cpu/gemm.h"
#include "cpu/image.h"

/* One axis of one phase. */
struct phase {
    int64_t first, count; /* image positions first, first + stride, ... */
    int64_t taps;
    int64_t output; /* the output that tap t = 0 meets at the first position */
};

static struct phase find_phase(int64_t size, int kernel, int stride, int pad, int phase)
{
    struct phase found = {0};
    found.first = (phase - pad % stride + stride) % stride;
    found.count = found.first < size ? (size - found.first + stride - 1) / stride : 0;
    found.taps = phase < kernel ? (kernel - phase + stride - 1) / stride : 0;
    found.output = (found.first + pad) / stride;
    return found;
}

static int64_t margin(int kernel, int stride)
{
    return (kernel - 1) / stride;
}

/* Positions that must be there after the margin. */
static int64_t extent(int64_t outputs, int64_t size, int stride, int pad)
{
    int64_t last = (size - 1 + pad) / stride + 1;
    return last > outputs ? last : outputs;
}

static struct rp_image frame_of_gradient(const struct rp_op_call *call)
{
    const struct rp_tensor *dy = &call->in[0], *dx = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    struct rp_image image = {.from = dy->data,
                             .n = dy->dims[0],
                             .h = dy->dims[1],
                             .w = dy->dims[2],
                             .c = dy->dims[3],
                             .top = margin(p->kernel_h, p->stride_h),
                             .left = margin(p->kernel_w, p->stride_w)};
    image.high = image.top + extent(image.h, dx->dims[1], p->stride_h, p->pad_h);
    image.wide = image.left + extent(image.w, dx->dims[2], p->stride_w, p->pad_w);
    return image;
}

static void run_phase(struct rp_cpu *cpu, const struct rp_op_call *call,
                      const struct rp_image *image, const float *framed, int phase_h, int phase_w,
                      unsigned char *scratch)
{
    const struct rp_tensor *w = &call->in[1], *dx = &call->out[0];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    int64_t width = dx->dims[2], channels = dx->dims[3], taps_w = w->dims[2], c = w->dims[3];
    int64_t o = w->dims[0] / p->groups, filter = w->dims[1] * taps_w * c;
    int64_t row = image->wide * image->c;
    struct phase h = find_phase(dx->dims[1], p->kernel_h, p->stride_h, p->pad_h, phase_h);
    struct phase v = find_phase(width, p->kernel_w, p->stride_w, p->pad_w, phase_w);
    struct rp_gemm gemm = {
        .m = dx->dims[0] * h.count * v.count,
        .n = c,
        .sum = rp_gemm_whole(h.taps * v.taps * o),
        .a = framed + (image->top + h.output) * row + (image->left + v.output) * image->c,
        .b = (const float *)w->data + (phase_h * taps_w + phase_w) * c,
        .c = (float *)dx->data + (h.first * width + v.first) * channels,
        .a_m = {.n1 = h.count, .n2 = v.count, .s0 = image->high * row, .s1 = row, .s2 = image->c},
        .a_k = {.n1 = v.taps, .n2 = o, .s0 = -row, .s1 = -image->c, .s2 = 1},
        .b_n = rp_gemm_plain(1),
        .b_k = {.n1 = v.taps,
                .n2 = o,
                .s0 = p->stride_h * taps_w * c,
                .s1 = p->stride_w * c,
                .s2 = filter},
        .c_m = {.n1 = h.count,
                .n2 = v.count,
                .s0 = dx->dims[1] * width * channels,
                .s1 = p->stride_h * width * channels,
                .s2 = p->stride_w * channels},
        .c_n = rp_gemm_plain(1),
        .near_a = true,
    };
    if (gemm.m == 0) return;
    if (gemm.sum.rows == 0) { /* a phase without a tap: sums of nothing, nothing of b is read */
        gemm.b = w->data;
        gemm.a_k.n1 = gemm.b_k.n1 = 1;
    }
    for (int g = 0; g < p->groups; g++) {
        RP_ISA_NAME(rp_gemm_run)(cpu, &gemm, scratch);
        gemm.a += o;
        gemm.b += o * filter;
        gemm.c += c;
    }
}

RP_CPU_KERNEL(conv2d_dx)
{
    (void)pass, (void)err;
    const struct rp_conv2d_params *p = &call->params.conv2d;
    struct rp_image image = frame_of_gradient(call);
    size_t bytes = RP_ISA_NAME(rp_image_scratch)(&image);
    const float *framed = RP_ISA_NAME(rp_image_frame)(cpu, &image, cpu->scratch);
    for (int phase_h = 0; phase_h < p->stride_h; phase_h++)
        for (int phase_w = 0; phase_w < p->stride_w; phase_w++)
            run_phase(cpu, call, &image, framed, phase_h, phase_w,
                      cpu->scratch + RP_GEMM_ROUND(bytes));
    return RP_STATUS_OK;
}

size_t RP_ISA_NAME(rp_cpu_scratch_conv2d_dx)(const struct rp_op_call *call, int n_threads)
{
    const struct rp_tensor *w = &call->in[1];
    const struct rp_conv2d_params *p = &call->params.conv2d;
    struct rp_image image = frame_of_gradient(call);
    /* The phase with the most taps. */
    int64_t taps_h = (p->kernel_h - 1) / p->stride_h + 1,
            taps_w = (p->kernel_w - 1) / p->stride_w + 1;
    struct rp_gemm most = {.n = w->dims[3],
                           .sum = rp_gemm_whole(taps_h * taps_w * w->dims[0] / p->groups)};
    return RP_GEMM_ROUND(RP_ISA_NAME(rp_image_scratch)(&image)) +
           RP_ISA_NAME(rp_gemm_scratch)(&most, n_threads);
}
