/* curve.c - a curve in the terminal: one mean per column of dots, drawn as braille or as stars. */
#include "cli/run_view.h"

#include <math.h>
#include <string.h>

enum { MAX_WIDTH = 200, MAX_HEIGHT = 40, LABEL = 10 };

/* The grid of dots: braille has 2 by 4 of them in a character, plain text one. */
struct grid {
    int width, height; /* in dots */
    double low, high;
    uint64_t first, last;
    unsigned char dot[MAX_HEIGHT * 4][MAX_WIDTH * 2];
};

static bool find_range(struct grid *grid, const uint64_t *x, const double *y, int64_t n)
{
    bool any = false;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) continue;
        if (!any || y[i] < grid->low) grid->low = y[i];
        if (!any || y[i] > grid->high) grid->high = y[i];
        if (!any || x[i] < grid->first) grid->first = x[i];
        if (!any || x[i] > grid->last) grid->last = x[i];
        any = true;
    }
    return any;
}

static int row_of(const struct grid *grid, double value)
{
    double span = grid->high - grid->low;
    double share = span > 0 ? (value - grid->low) / span : 0.5;
    int row = (int)((1 - share) * (grid->height - 1) + 0.5);
    return row < 0 ? 0 : row >= grid->height ? grid->height - 1 : row;
}

/* A straight line between two columns, its rows filled where it is steep. */
static void join(struct grid *grid, int from, double from_value, int to, double to_value)
{
    int before = row_of(grid, from_value);
    for (int column = from; column <= to; column++) {
        double share = to > from ? (double)(column - from) / (to - from) : 0;
        int row = row_of(grid, from_value + share * (to_value - from_value));
        for (int r = row; r != before; r += row < before ? 1 : -1) grid->dot[r][column] = 1;
        grid->dot[row][column] = 1;
        before = row;
    }
}

static void fill(struct grid *grid, const uint64_t *x, const double *y, int64_t n)
{
    double sum[MAX_WIDTH * 2] = {0};
    int64_t count[MAX_WIDTH * 2] = {0};
    double span = (double)(grid->last - grid->first);
    int before = -1;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) continue;
        double share = span > 0 ? (double)(x[i] - grid->first) / span : 0;
        int column = (int)(share * (grid->width - 1) + 0.5);
        sum[column] += y[i];
        count[column]++;
    }
    for (int column = 0; column < grid->width; column++) {
        if (!count[column]) continue;
        sum[column] /= (double)count[column];
        if (before < 0)
            join(grid, column, sum[column], column, sum[column]);
        else
            join(grid, before, sum[before], column, sum[column]);
        before = column;
    }
}

/* U+2800 plus a bit per dot, in UTF-8. */
static void add_braille(struct rp_text *text, const struct grid *grid, int row, int column)
{
    static const unsigned char bit[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    unsigned pattern = 0;
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < 2; c++)
            if (grid->dot[4 * row + r][2 * column + c]) pattern |= bit[r][c];
    rp_text_add(text, "%c%c%c", 0xe2, (int)(0xa0 | pattern >> 6), (int)(0x80 | (pattern & 0x3f)));
}

void rp_text_add_curve(struct rp_text *text, const uint64_t *x, const double *y, int64_t n,
                       int width, int height, bool unicode)
{
    struct grid *grid = RP_NEW(struct grid);
    width = width > MAX_WIDTH ? MAX_WIDTH : width < 8 ? 8 : width;
    height = height > MAX_HEIGHT ? MAX_HEIGHT : height < 2 ? 2 : height;
    grid->width = unicode ? 2 * width : width;
    grid->height = unicode ? 4 * height : height;
    if (find_range(grid, x, y, n)) {
        fill(grid, x, y, n);
        for (int row = 0; row < height; row++) {
            char label[32] = "";
            if (row == 0) snprintf(label, sizeof label, "%.4g", grid->high);
            if (row == height - 1) snprintf(label, sizeof label, "%.4g", grid->low);
            rp_text_add(text, "%*s %s", LABEL, label, unicode ? "\xe2\x94\x82" : "|");
            for (int column = 0; column < width; column++) {
                if (unicode)
                    add_braille(text, grid, row, column);
                else
                    rp_text_add(text, "%c", grid->dot[row][column] ? '*' : ' ');
            }
            rp_text_add(text, "\n");
        }
        char last[32];
        snprintf(last, sizeof last, "step %llu", (unsigned long long)grid->last);
        int written = snprintf(NULL, 0, "step %llu", (unsigned long long)grid->first);
        int gap = width - written - (int)strlen(last);
        rp_text_add(text, "%*s  step %llu%*s%s\n", LABEL, "", (unsigned long long)grid->first,
                    gap > 1 ? gap : 1, "", last);
    } else {
        rp_text_add(text, "%*s no finite value\n", LABEL, "");
    }
    rp_mem_free(grid);
}
