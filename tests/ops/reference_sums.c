/* reference_sums.c - the three kinds of sums of rp-num-1, one addition after the other. */
#include "reference.h"

enum { PANEL = 1024, LANES = 32, BLOCK = 4096 };

/* The order of a control: elements 1 and 2 change places. */
static int64_t place(int64_t k, int64_t n, bool control)
{
    if (!control || n < 3 || (k != 1 && k != 2)) return k;
    return 3 - k;
}

static float sum_range(int64_t begin, int64_t n, sum_step step, const void *arg, bool control)
{
    float total = 0;
    for (int64_t panel = 0; panel < n; panel += PANEL) {
        float chain = 0;
        for (int64_t k = panel; k < panel + PANEL && k < n; k++)
            chain = step(arg, begin + place(k, n, control), chain);
        total = panel == 0 ? chain : total + chain;
    }
    return total;
}

float sum_panels(int64_t n, sum_step step, const void *arg, bool control)
{
    return sum_range(0, n, step, arg, control);
}

float sum_shard(const struct op_case *c, int64_t rows, int shard, sum_step step, const void *arg,
                bool control)
{
    int64_t rows_a_shard = rows / c->pass.rows.n_shards;
    return sum_range(shard * rows_a_shard, rows_a_shard, step, arg, control);
}

float sum_tree(const float *of_shard, int n_shards)
{
    if (n_shards == 1) return of_shard[0];
    return sum_tree(of_shard, n_shards / 2) + sum_tree(of_shard + n_shards / 2, n_shards / 2);
}

float sum_samples(const struct op_case *c, int64_t rows, sum_step step, const void *arg,
                  bool control)
{
    float of_shard[1024];
    for (int s = 0; s < c->pass.rows.n_shards; s++)
        of_shard[s] = sum_shard(c, rows, s, step, arg, control);
    return sum_tree(of_shard, c->pass.rows.n_shards);
}

/* Adds up `n` lanes, of which those past `filled` are absent. */
static float halve_lanes(float *lane, int filled, bool control)
{
    for (int half = LANES / 2; half >= 1; half /= 2) {
        for (int j = 0; j < half; j++) {
            int other = control ? 2 * j + 1 : j + half, first = control ? 2 * j : j;
            float sum = first < filled ? lane[first] : 0;
            if (other < filled) sum = first < filled ? sum + lane[other] : lane[other];
            lane[j] = sum;
        }
        if (control)
            filled = (filled + 1) / 2;
        else if (filled > half)
            filled = half;
    }
    return lane[0];
}

static float block_sum(const float *a, const float *b, int64_t n, bool control)
{
    float lane[LANES];
    if (n == 0) return 0;
    for (int64_t i = 0; i < n; i++) {
        float *to = &lane[i % LANES];
        if (b)
            *to = i < LANES ? a[i] * b[i] : rp_fma(a[i], b[i], *to);
        else
            *to = i < LANES ? a[i] : *to + a[i];
    }
    return halve_lanes(lane, n < LANES ? (int)n : LANES, control);
}

static float long_sum(const float *a, const float *b, int64_t n, bool control)
{
    if (n <= BLOCK) return block_sum(a, b, n, control);
    int64_t n_blocks = (n + BLOCK - 1) / BLOCK;
    float *sums = malloc(sizeof(*sums) * (size_t)n_blocks);
    if (!sums) exit(1);
    for (int64_t i = 0; i < n_blocks; i++) {
        int64_t at = i * BLOCK, count = n - at < BLOCK ? n - at : BLOCK;
        sums[i] = block_sum(a + at, b ? b + at : NULL, count, control);
    }
    float sum = long_sum(sums, NULL, n_blocks, control);
    free(sums);
    return sum;
}

float sum_row(const float *x, int64_t n, bool control)
{
    return long_sum(x, NULL, n, control);
}

float sum_row_products(const float *a, const float *b, int64_t n, bool control)
{
    return long_sum(a, b, n, control);
}

double sum_row64(const double *x, int64_t n, bool control)
{
    if (n > BLOCK) {
        double sums[BLOCK];
        int64_t n_blocks = (n + BLOCK - 1) / BLOCK; /* the cases stay below 4096 blocks */
        for (int64_t i = 0; i < n_blocks; i++)
            sums[i] =
                sum_row64(x + i * BLOCK, n - i * BLOCK < BLOCK ? n - i * BLOCK : BLOCK, control);
        return sum_row64(sums, n_blocks, control);
    }
    double lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++) lane[i % LANES] += x[i];
    for (int half = LANES / 2; half >= 1; half /= 2)
        for (int j = 0; j < half; j++)
            lane[j] = control ? lane[2 * j] + lane[2 * j + 1] : lane[j] + lane[j + half];
    return lane[0];
}
