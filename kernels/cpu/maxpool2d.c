/* maxpool2d.c - the largest value of each window and its tap, on the CPU. */
#include "cpu/window_cpu.h"

#include <string.h>

/* A later tap takes over when it is greater, or when it is NaN. */
static void take_larger(const float *restrict x, int64_t channels, uint8_t number,
                        float *restrict best, uint8_t *restrict tap)
{
    for (int64_t c = 0; c < channels; c++) {
        bool taken = !(x[c] <= best[c]) && best[c] == best[c];
        best[c] = taken ? x[c] : best[c];
        tap[c] = taken ? number : tap[c];
    }
}

static void window(const struct rp_op_call *call, int64_t n, int64_t oh, int64_t ow)
{
    const struct rp_tensor *x = &call->in[0], *y = &call->out[0];
    const struct rp_pool2d_params *p = &call->params.pool2d;
    int64_t channels = x->dims[3], at = ((n * y->dims[1] + oh) * y->dims[2] + ow) * channels;
    float *best = (float *)y->data + at;
    uint8_t *tap = (uint8_t *)call->out[1].data + at;
    int h0, h1, w0, w1;
    rp_window_taps(oh, x->dims[1], p->kernel_h, p->stride_h, p->pad_h, &h0, &h1);
    rp_window_taps(ow, x->dims[2], p->kernel_w, p->stride_w, p->pad_w, &w0, &w1);
    for (int h = h0; h < h1; h++) {
        for (int w = w0; w < w1; w++) {
            int64_t row = n * x->dims[1] + oh * p->stride_h - p->pad_h + h;
            int64_t column = ow * p->stride_w - p->pad_w + w;
            const float *from = (const float *)x->data + (row * x->dims[2] + column) * channels;
            int number = h * p->kernel_w + w;
            if (h == h0 && w == w0) {
                memcpy(best, from, (size_t)channels * sizeof *best);
                memset(tap, number, (size_t)channels);
            } else {
                take_larger(from, channels, (uint8_t)number, best, tap);
            }
        }
    }
}

static void row(const struct rp_op_call *call, int64_t i)
{
    const struct rp_tensor *y = &call->out[0];
    for (int64_t ow = 0; ow < y->dims[2]; ow++) window(call, i / y->dims[1], i % y->dims[1], ow);
}

RP_CPU_KERNEL(maxpool2d)
{
    (void)pass, (void)err;
    rp_rows_run(cpu, call, call->out[0].dims[0] * call->out[0].dims[1], row);
    return RP_STATUS_OK;
}
