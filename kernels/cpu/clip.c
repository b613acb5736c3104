/* clip.c - norm, clip factor and finite flag, on one thread: it reads 8 bytes for 4096 gradients.
 * README.md chapter 11. */
#include <string.h>

#include "cpu/cpu_int.h"
#include "row.h"

/* The row sum of chapter 2 over one block. */
static double block_sum(const double *x, int64_t n)
{
    double lane[RP_ROW_LANES] = {0};
    for (int64_t i = 0; i < n; i++) lane[i % RP_ROW_LANES] += x[i];
    for (int half = RP_ROW_LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

/* Any length: blocks, and the same over the sums of blocks. Two levels are 2^24 chunks, 2^36
 * elements; the sums of blocks beyond that stand in a second level, and so on. */
static double row_sum(const double *x, int64_t n)
{
    if (n <= RP_ROW_BLOCK) return block_sum(x, n);
    double sums[RP_ROW_BLOCK];
    int64_t size = RP_ROW_BLOCK;
    while ((n + size - 1) / size > RP_ROW_BLOCK) size *= RP_ROW_BLOCK;
    int64_t count = 0;
    for (int64_t at = 0; at < n; at += size)
        sums[count++] = row_sum(x + at, n - at < size ? n - at : size);
    return block_sum(sums, count);
}

/* x - x is 0 unless x is infinite or NaN. */
static bool is_finite(double x)
{
    return x - x == 0;
}

RP_CPU_KERNEL(clip)
{
    (void)cpu;
    (void)pass;
    (void)err;
    double max_norm = call->params.clip.max_norm;
    double norm = __builtin_sqrt(row_sum(call->in[0].data, rp_tensor_elements(&call->in[0])));
    const float *loss = call->in[1].data;
    bool apply = is_finite(norm) && (!loss || is_finite((double)loss[0]));
    struct rp_control control = {
        .norm = norm == norm ? norm : (double)__builtin_nan(""), .factor = 1, .apply = apply};
    if (apply && max_norm > 0 && norm > max_norm) control.factor = (float)(max_norm / norm);
    memcpy(call->out[0].data, &control, sizeof(control));
    return RP_STATUS_OK;
}
