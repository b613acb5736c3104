/* global_avgpool.c - the mean of each channel over the image, on the CPU: positions in panels.
 * README.md chapter 7. */
#include "cpu/window_cpu.h"
#include "row.h"

#include <string.h>

enum { BLOCK = 256 /* channels at a time */ };

static void add(float *restrict to, const float *restrict from, int64_t n)
{
    for (int64_t c = 0; c < n; c++) to[c] += from[c];
}

/* `n` channels of one image of `size` positions, `stride` apart. */
static void mean_of_block(const float *x, int64_t size, int64_t stride, int64_t n, float *y)
{
    float panel[BLOCK];
    memset(y, 0, (size_t)n * sizeof *y);
    for (int64_t begin = 0; begin < size; begin += RP_PANEL) {
        int64_t end = begin + RP_PANEL < size ? begin + RP_PANEL : size;
        memset(panel, 0, (size_t)n * sizeof *panel);
        for (int64_t i = begin; i < end; i++) add(panel, x + i * stride, n);
        add(y, panel, n); /* to +0 the first time: a sum that began at +0 is never -0 */
    }
    for (int64_t c = 0; c < n; c++) y[c] /= (float)size;
}

static void image(const struct rp_op_call *call, int64_t n)
{
    const struct rp_tensor *x = &call->in[0];
    int64_t size = x->dims[1] * x->dims[2], channels = x->dims[3];
    for (int64_t c = 0; c < channels; c += BLOCK) {
        int64_t count = channels - c < BLOCK ? channels - c : BLOCK;
        mean_of_block((const float *)x->data + n * size * channels + c, size, channels, count,
                      (float *)call->out[0].data + n * channels + c);
    }
}

RP_CPU_KERNEL(global_avgpool)
{
    (void)pass, (void)err;
    rp_rows_run(cpu, call, call->in[0].dims[0], image);
    return RP_STATUS_OK;
}
