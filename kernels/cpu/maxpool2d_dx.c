/* maxpool2d_dx.c - the gradient of maxpool2d on the CPU. */
#include "cpu/window_cpu.h"

#include <string.h>

static void add_where(const float *restrict dy, const uint8_t *restrict tap, int64_t channels,
                      int number, float *restrict dx)
{
    for (int64_t c = 0; c < channels; c++) dx[c] += tap[c] == number ? dy[c] : 0.0f;
}

/* Outputs [oh0, oh1) have windows over row h. */
static void position(const struct rp_op_call *call, int64_t n, int64_t h, int64_t w, int64_t oh0,
                     int64_t oh1)
{
    const struct rp_tensor *dy = &call->in[0], *dx = &call->out[0];
    const struct rp_pool2d_params *p = &call->params.pool2d;
    int64_t channels = dx->dims[3], ow0, ow1;
    float *to = (float *)dx->data + ((n * dx->dims[1] + h) * dx->dims[2] + w) * channels;
    rp_window_outputs(w, dy->dims[2], p->kernel_w, p->stride_w, p->pad_w, &ow0, &ow1);
    memset(to, 0, (size_t)channels * sizeof *to);
    for (int64_t oh = oh0; oh < oh1; oh++) {
        for (int64_t ow = ow0; ow < ow1; ow++) {
            int64_t at = ((n * dy->dims[1] + oh) * dy->dims[2] + ow) * channels;
            int64_t tap_h = h + p->pad_h - oh * p->stride_h;
            int64_t tap_w = w + p->pad_w - ow * p->stride_w;
            add_where((const float *)dy->data + at, (const uint8_t *)call->in[1].data + at,
                      channels, (int)(tap_h * p->kernel_w + tap_w), to);
        }
    }
}

static void row(const struct rp_op_call *call, int64_t i)
{
    const struct rp_tensor *dx = &call->out[0];
    const struct rp_pool2d_params *p = &call->params.pool2d;
    int64_t n = i / dx->dims[1], h = i % dx->dims[1], oh0, oh1;
    rp_window_outputs(h, call->in[0].dims[1], p->kernel_h, p->stride_h, p->pad_h, &oh0, &oh1);
    for (int64_t w = 0; w < dx->dims[2]; w++) position(call, n, h, w, oh0, oh1);
}

RP_CPU_KERNEL(maxpool2d_dx)
{
    (void)pass, (void)err;
    rp_rows_run(cpu, call, call->out[0].dims[0] * call->out[0].dims[1], row);
    return RP_STATUS_OK;
}
