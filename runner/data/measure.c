/* measure.c - mean and standard deviation of a data set, for the normalisation that `init` writes.
 */
#include "data/data_int.h"

#include <math.h>
#include <string.h>

static double value_at(const struct rp_data_set *set, int64_t i)
{
    return set->is_u8 ? (double)set->u8[i] / 255.0 : (double)set->f32[i];
}

/* Of every `stride`-th of `total` elements from `first` on; two passes, so that a large mean does
 * not swallow a small spread. */
static void measure(const struct rp_data_set *set, int64_t first, int64_t stride, int64_t total,
                    double *mean, double *std)
{
    double sum = 0, squares = 0;
    int64_t n = 0;
    for (int64_t i = first; i < total; i += stride, n++) sum += value_at(set, i);
    *mean = sum / (double)n;
    for (int64_t i = first; i < total; i += stride) {
        double off = value_at(set, i) - *mean;
        squares += off * off;
    }
    *std = sqrt(squares / (double)n);
}

int64_t rp_data_measure(const struct rp_data *data, int64_t most, double *mean, double *std)
{
    const struct rp_data_set *set = &data->train;
    int64_t channels = set->n_dims == 3 ? set->dims[2] : set->dims[0];
    /* The bytes of a row are pixels that somebody has flattened: one scale for all. */
    if (channels > most || (set->n_dims == 1 && set->is_u8)) channels = 1;
    for (int64_t c = 0; c < channels; c++)
        measure(set, c, channels, set->n * set->row, &mean[c], &std[c]);
    return channels;
}

void rp_data_measure_values(const struct rp_data *data, double *mean, double *std)
{
    const struct rp_data_set *set = &data->train;
    int64_t total = set->n * set->n_values;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < total; i++) sum += (double)set->values[i];
    *mean = sum / (double)total;
    for (int64_t i = 0; i < total; i++) {
        double off = (double)set->values[i] - *mean;
        squares += off * off;
    }
    *std = sqrt(squares / (double)total);
}
