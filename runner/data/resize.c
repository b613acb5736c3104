/* resize.c - an image in another size, in integers.
 *
 * Along one side, output i of `to` is the sum of w_ij in_j over the denominator D:
 *   from >= to   w_ij = the length that [j to, (j + 1) to) and [i from, (i + 1) from) share, D =
 * from from <  to   the centre (2 i + 1) from / (2 to) - 1/2 lies between pixels j and j + 1: w =
 * (D - f, f) with f in 0 .. D, D = 2 to; beyond the edge pixel: the edge pixel Both sides together:
 * (2 S + Dy Dx) div (2 Dy Dx), S the sum of wy wx in. S < 2^8 2^17 2^17, so 64 bits hold it
 * exactly, and the order of additions is nobody's business. */
#include "data/packed.h"

#include <string.h>

/* What one output takes of one side. */
struct taps {
    int64_t first;
    int n;
    uint32_t *weight; /* (n) in the block of the side */
};
struct side {
    int64_t denominator;
    struct taps *taps; /* (to) */
    uint32_t *weights;
};

static void take_area(int64_t from, int64_t to, int64_t i, struct taps *taps)
{
    int64_t begin = i * from, end = begin + from;
    taps->first = begin / to;
    taps->n = 0;
    for (int64_t j = taps->first; j * to < end; j++) {
        int64_t low = j * to > begin ? j * to : begin;
        int64_t high = (j + 1) * to < end ? (j + 1) * to : end;
        taps->weight[taps->n++] = (uint32_t)(high - low);
    }
}

static void take_linear(int64_t from, int64_t to, int64_t i, struct taps *taps)
{
    int64_t at = (2 * i + 1) * from - to, last = from - 1; /* in units of 1 / (2 to) */
    int64_t j = at < 0 ? 0 : at / (2 * to), f = at < 0 ? 0 : at % (2 * to);
    taps->first = j < last ? j : last;
    taps->n = j < last && f > 0 ? 2 : 1;
    taps->weight[0] = (uint32_t)(taps->n == 2 ? 2 * to - f : 2 * to);
    taps->weight[1] = (uint32_t)f;
}

static struct side side_new(int64_t from, int64_t to)
{
    struct side side = {.denominator = from >= to ? from : 2 * to};
    int64_t most = from >= to ? (from + to - 1) / to + 1 : 2;
    side.taps = RP_NEW_ARRAY(struct taps, to);
    side.weights = RP_NEW_ARRAY(uint32_t, to * most);
    for (int64_t i = 0; i < to; i++) {
        side.taps[i].weight = side.weights + i * most;
        if (from >= to)
            take_area(from, to, i, &side.taps[i]);
        else
            take_linear(from, to, i, &side.taps[i]);
    }
    return side;
}

static void side_release(struct side *side)
{
    rp_mem_free(side->weights);
    rp_mem_free(side->taps);
}

/* One row of the input along x: (width, channels) of sums below 2^8 2^17. */
static void sum_row(const uint8_t *in, const struct side *x, int64_t width, int64_t channels,
                    uint32_t *sums)
{
    for (int64_t i = 0; i < width; i++) {
        const struct taps *taps = &x->taps[i];
        for (int64_t c = 0; c < channels; c++) {
            const uint8_t *at = in + taps->first * channels + c;
            uint32_t sum = 0;
            for (int j = 0; j < taps->n; j++) sum += taps->weight[j] * at[j * channels];
            sums[i * channels + c] = sum;
        }
    }
}

void packed_resize(const uint8_t *in, int64_t in_height, int64_t in_width, int64_t channels,
                   int64_t height, int64_t width, uint8_t *out)
{
    struct side y = side_new(in_height, height), x = side_new(in_width, width);
    uint64_t whole = (uint64_t)(y.denominator * x.denominator);
    int64_t row = width * channels;
    uint64_t *total = RP_NEW_ARRAY(uint64_t, row);
    uint32_t *sums = RP_NEW_ARRAY(uint32_t, row);
    int64_t summed = -1; /* the input row that `sums` is of */
    for (int64_t i = 0; i < height; i++) {
        const struct taps *taps = &y.taps[i];
        memset(total, 0, (size_t)row * sizeof *total);
        for (int j = 0; j < taps->n; j++) {
            if (summed != taps->first + j)
                sum_row(in + (taps->first + j) * in_width * channels, &x, width, channels, sums);
            summed = taps->first + j;
            for (int64_t k = 0; k < row; k++) total[k] += (uint64_t)taps->weight[j] * sums[k];
        }
        for (int64_t k = 0; k < row; k++)
            out[i * row + k] = (uint8_t)((2 * total[k] + whole) / (2 * whole));
    }
    rp_mem_free(sums);
    rp_mem_free(total);
    side_release(&x);
    side_release(&y);
}

struct packed_window packed_crop(int64_t in_height, int64_t in_width, int64_t height, int64_t width)
{
    struct packed_window window = {.height = in_height, .width = in_width};
    if (in_width * height > in_height * width)
        window.width = (2 * in_height * width + height) / (2 * height);
    else
        window.height = (2 * in_width * height + width) / (2 * width);
    if (window.width < 1) window.width = 1;
    if (window.height < 1) window.height = 1;
    window.left = (in_width - window.width) / 2;
    window.top = (in_height - window.height) / 2;
    return window;
}
