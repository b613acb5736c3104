/* avgpool2d.c - the mean of each window on the CPU. */
#include "cpu/window_cpu.h"

#include <string.h>

static void window(const struct rp_op_call *call, int64_t n, int64_t oh, int64_t ow)
{
    const struct rp_tensor *x = &call->in[0], *y = &call->out[0];
    const struct rp_pool2d_params *p = &call->params.pool2d;
    int64_t channels = x->dims[3];
    float count = (float)(p->kernel_h * p->kernel_w);
    float *to = (float *)y->data + ((n * y->dims[1] + oh) * y->dims[2] + ow) * channels;
    int h0, h1, w0, w1;
    rp_window_taps(oh, x->dims[1], p->kernel_h, p->stride_h, p->pad_h, &h0, &h1);
    rp_window_taps(ow, x->dims[2], p->kernel_w, p->stride_w, p->pad_w, &w0, &w1);
    memset(to, 0, (size_t)channels * sizeof *to);
    for (int h = h0; h < h1; h++) {
        for (int w = w0; w < w1; w++) {
            int64_t row = n * x->dims[1] + oh * p->stride_h - p->pad_h + h;
            int64_t column = ow * p->stride_w - p->pad_w + w;
            const float *from = (const float *)x->data + (row * x->dims[2] + column) * channels;
            for (int64_t c = 0; c < channels; c++) to[c] += from[c];
        }
    }
    for (int64_t c = 0; c < channels; c++) to[c] /= count;
}

static void row(const struct rp_op_call *call, int64_t i)
{
    const struct rp_tensor *y = &call->out[0];
    for (int64_t ow = 0; ow < y->dims[2]; ow++) window(call, i / y->dims[1], i % y->dims[1], ow);
}

RP_CPU_KERNEL(avgpool2d)
{
    (void)pass, (void)err;
    rp_rows_run(cpu, call, call->out[0].dims[0] * call->out[0].dims[1], row);
    return RP_STATUS_OK;
}
