/* sparkline.c - a curve in a few characters, and where it was best. */
#include "cli/run_view.h"

#include <math.h>
#include <string.h>

static void add_level(struct rp_text *text, int level, bool unicode)
{
    static const char plain[] = "_.-:=+*#";
    if (unicode)
        rp_text_add(text, "\xe2\x96%c", 0x81 + level);
    else
        rp_text_add(text, "%c", plain[level]);
}

/* The mean of the finite values of column `column`; NaN when it has none. */
static double mean_of(const double *y, int64_t n, int column, int width)
{
    int64_t first = n * column / width, last = n * (column + 1) / width, count = 0;
    double sum = 0;
    for (int64_t i = first; i < last; i++) {
        if (!isfinite(y[i])) continue;
        sum += y[i];
        count++;
    }
    return count ? sum / (double)count : NAN;
}

void rp_text_add_sparkline(struct rp_text *text, const double *y, int64_t n, int width,
                           bool unicode)
{
    enum { LEVELS = 8 };
    int columns = n < width ? (int)n : width;
    double low = INFINITY, high = -INFINITY;
    for (int c = 0; c < columns; c++) {
        double value = mean_of(y, n, c, columns);
        if (value < low) low = value;
        if (value > high) high = value;
    }
    for (int c = 0; c < columns; c++) {
        double value = mean_of(y, n, c, columns), span = high - low;
        if (isnan(value))
            rp_text_add(text, " ");
        else
            add_level(text,
                      span > 0 ? (int)((value - low) / span * (LEVELS - 1) + 0.5) : LEVELS / 2,
                      unicode);
    }
    rp_text_add(text, "%*s", width - columns, "");
}

int64_t rp_series_best(const struct rp_series *series)
{
    bool larger = strstr(series->name, "accuracy") != NULL;
    int64_t best = -1;
    static const char *const lower[] = {"loss", "perplexity", "bits_per_byte"};
    bool known = larger;
    for (size_t i = 0; i < RP_COUNT(lower); i++)
        known = known || strcmp(series->name, lower[i]) == 0;
    if (!known) return -1;
    for (int64_t i = 0; i < series->n; i++) {
        double value = series->value[i];
        if (!isfinite(value)) continue;
        if (best < 0 || (larger ? value > series->value[best] : value < series->value[best]))
            best = i;
    }
    return best;
}
