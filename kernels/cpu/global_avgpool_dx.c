/* global_avgpool_dx.c - the gradient of global_avgpool on the CPU. */
#include "cpu/window_cpu.h"

#include <string.h>

static void image(const struct rp_op_call *call, int64_t n)
{
    const struct rp_tensor *dx = &call->out[0];
    int64_t size = dx->dims[1] * dx->dims[2], channels = dx->dims[3];
    const float *dy = (const float *)call->in[0].data + n * channels;
    float *to = (float *)dx->data + n * size * channels;
    for (int64_t c = 0; c < channels; c++) to[c] = dy[c] / (float)size;
    for (int64_t i = 1; i < size; i++) memcpy(to + i * channels, to, (size_t)channels * sizeof *to);
}

RP_CPU_KERNEL(global_avgpool_dx)
{
    (void)pass, (void)err;
    rp_rows_run(cpu, call, call->out[0].dims[0], image);
    return RP_STATUS_OK;
}
