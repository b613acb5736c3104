/* reference_norms.c - batch norm, layer norm and the running statistics: chapter 9. */
#include "reference.h"

/* One channel of x and dy, rows `stride` apart; what a shard knows of it. */
struct channel {
    const float *x, *dy;
    int64_t stride;
    float mean, inv;
};

static float add_x(const void *arg, int64_t k, float acc)
{
    const struct channel *ch = arg;
    return acc + ch->x[k * ch->stride];
}
static float add_square(const void *arg, int64_t k, float acc)
{
    const struct channel *ch = arg;
    float d = ch->x[k * ch->stride] - ch->mean;
    return rp_fma(d, d, acc);
}
static float add_dy(const void *arg, int64_t k, float acc)
{
    const struct channel *ch = arg;
    return acc + ch->dy[k * ch->stride];
}
static float add_dy_h(const void *arg, int64_t k, float acc)
{
    const struct channel *ch = arg;
    float h = (ch->x[k * ch->stride] - ch->mean) * ch->inv;
    return rp_fma(ch->dy[k * ch->stride], h, acc);
}

enum { MAX_SHARDS = 1024 };

bool reference_batch_norm(const struct op_case *c, void *const in[], void *const out[],
                          bool control)
{
    const float *gamma = in[1], *beta = in[2];
    float *y = out[0], *means = out[1], *invs = out[2];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), channels = c->call.in[1].dims[0];
    int shards = c->pass.rows.n_shards;
    int64_t m = rows / shards;
    for (int64_t i = 0; i < channels; i++) {
        float seen_mean[MAX_SHARDS], seen_var[MAX_SHARDS];
        struct channel ch = {.x = (const float *)in[0] + i, .stride = channels};
        for (int s = 0; s < shards; s++) {
            ch.mean = sum_shard(c, rows, s, add_x, &ch, control) / (float)m;
            float squares = sum_shard(c, rows, s, add_square, &ch, control);
            ch.inv = 1 / rp_sqrt(squares / (float)m + c->call.params.norm.eps);
            for (int64_t r = s * m; r < (s + 1) * m; r++)
                y[r * channels + i] =
                    rp_fma(ch.x[r * channels] - ch.mean, ch.inv * gamma[i], beta[i]);
            means[s * channels + i] = seen_mean[s] = ch.mean;
            invs[s * channels + i] = ch.inv;
            seen_var[s] = squares / (float)(m > 1 ? m - 1 : 1);
        }
        ((float *)out[3])[i] = sum_tree(seen_mean, shards);
        ((float *)out[4])[i] = sum_tree(seen_var, shards);
    }
    return true;
}

bool reference_batch_norm_dx(const struct op_case *c, void *const in[], void *const out[],
                             bool control)
{
    const float *gamma = in[2], *means = in[3], *invs = in[4];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), channels = c->call.in[2].dims[0];
    int shards = c->pass.rows.n_shards;
    int64_t m = rows / shards;
    for (int64_t i = 0; i < channels; i++) {
        float sum_g[MAX_SHARDS], sum_b[MAX_SHARDS];
        struct channel ch = {(const float *)in[1] + i, (const float *)in[0] + i, channels, 0, 0};
        for (int s = 0; s < shards; s++) {
            ch.mean = means[s * channels + i], ch.inv = invs[s * channels + i];
            sum_b[s] = sum_shard(c, rows, s, add_dy, &ch, control);
            sum_g[s] = sum_shard(c, rows, s, add_dy_h, &ch, control);
            float g = sum_g[s] / (float)m, b = sum_b[s] / (float)m;
            for (int64_t r = s * m; r < (s + 1) * m; r++) {
                float h = (ch.x[r * channels] - ch.mean) * ch.inv;
                ((float *)out[0])[r * channels + i] =
                    (ch.inv * gamma[i]) * rp_fma(-h, g, ch.dy[r * channels] - b);
            }
        }
        ((float *)out[1])[i] = sum_tree(sum_g, shards);
        ((float *)out[2])[i] = sum_tree(sum_b, shards);
    }
    return true;
}

/* `control`: the product with inv before the one with gamma. */
bool reference_batch_norm_eval(const struct op_case *c, void *const in[], void *const out[],
                               bool control)
{
    const float *x = in[0], *gamma = in[1], *beta = in[2], *mean = in[3], *var = in[4];
    int64_t n = rp_tensor_elements(&c->call.in[0]), channels = c->call.in[1].dims[0];
    for (int64_t i = 0; i < n; i++) {
        int64_t ch = i % channels;
        float inv = 1 / rp_sqrt(var[ch] + c->call.params.norm.eps), d = x[i] - mean[ch];
        ((float *)out[0])[i] =
            control ? rp_fma(d * inv, gamma[ch], beta[ch]) : rp_fma(d, inv * gamma[ch], beta[ch]);
    }
    return true;
}

/* ---- layer norm ----------------------------------------------------------------------------- */

static float *floats(int64_t n)
{
    float *x = malloc(sizeof(*x) * (size_t)n);
    if (!x) exit(1);
    return x;
}

bool reference_layer_norm(const struct op_case *c, void *const in[], void *const out[],
                          bool control)
{
    const float *gamma = in[1], *beta = in[2];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    float *d = floats(n);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)in[0] + r * n;
        float mean = sum_row(x, n, control) / (float)n;
        for (int64_t i = 0; i < n; i++) d[i] = x[i] - mean;
        float inv =
            1 / rp_sqrt(sum_row_products(d, d, n, control) / (float)n + c->call.params.norm.eps);
        for (int64_t i = 0; i < n; i++)
            ((float *)out[0])[r * n + i] =
                beta ? rp_fma(d[i] * inv, gamma[i], beta[i]) : d[i] * inv * gamma[i];
        ((float *)out[1])[r] = mean;
        ((float *)out[2])[r] = inv;
    }
    free(d);
    return true;
}

bool reference_layer_norm_dx(const struct op_case *c, void *const in[], void *const out[],
                             bool control)
{
    const float *gamma = in[2], *means = in[3], *invs = in[4];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[2].dims[0];
    float *h = floats(n), *g = floats(n);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            h[i] = (((const float *)in[1])[r * n + i] - means[r]) * invs[r];
            g[i] = ((const float *)in[0])[r * n + i] * gamma[i];
        }
        float a = sum_row(g, n, control) / (float)n;
        float b = sum_row_products(g, h, n, control) / (float)n;
        for (int64_t i = 0; i < n; i++)
            ((float *)out[0])[r * n + i] = invs[r] * rp_fma(-h[i], b, g[i] - a);
    }
    free(g);
    free(h);
    return true;
}

/* A column of dy and x with the statistics of each row. */
struct norm_column {
    const float *dy, *x, *mean, *inv;
    int64_t stride;
};

static float add_column_dy(const void *arg, int64_t k, float acc)
{
    const struct norm_column *col = arg;
    return acc + col->dy[k * col->stride];
}
static float add_column_dy_h(const void *arg, int64_t k, float acc)
{
    const struct norm_column *col = arg;
    float h = (col->x[k * col->stride] - col->mean[k]) * col->inv[k];
    return rp_fma(col->dy[k * col->stride], h, acc);
}

bool reference_layer_norm_dgb(const struct op_case *c, void *const in[], void *const out[],
                              bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[0].dims[2];
    for (int64_t i = 0; i < n; i++) {
        struct norm_column col = {(const float *)in[0] + i, (const float *)in[1] + i, in[2], in[3],
                                  n};
        ((float *)out[0])[i] = sum_samples(c, rows, add_column_dy_h, &col, control);
        ((float *)out[1])[i] = sum_samples(c, rows, add_column_dy, &col, control);
    }
    return true;
}

/* ---- rms norm ------------------------------------------------------------------------------- */

bool reference_rms_norm(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const float *gamma = in[1];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)in[0] + r * n;
        float mean = sum_row_products(x, x, n, control) / (float)n;
        float inv = 1 / rp_sqrt(mean + c->call.params.norm.eps);
        for (int64_t i = 0; i < n; i++) ((float *)out[0])[r * n + i] = x[i] * inv * gamma[i];
        ((float *)out[1])[r] = inv;
    }
    return true;
}

bool reference_rms_norm_dx(const struct op_case *c, void *const in[], void *const out[],
                           bool control)
{
    const float *gamma = in[2], *invs = in[3];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[2].dims[0];
    float *h = floats(n), *g = floats(n);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            h[i] = ((const float *)in[1])[r * n + i] * invs[r];
            g[i] = ((const float *)in[0])[r * n + i] * gamma[i];
        }
        float b = sum_row_products(g, h, n, control) / (float)n;
        for (int64_t i = 0; i < n; i++)
            ((float *)out[0])[r * n + i] = invs[r] * rp_fma(-h[i], b, g[i]);
    }
    free(g);
    free(h);
    return true;
}

static float add_column_dy_x_inv(const void *arg, int64_t k, float acc)
{
    const struct norm_column *col = arg;
    return rp_fma(col->dy[k * col->stride], col->x[k * col->stride] * col->inv[k], acc);
}

bool reference_rms_norm_dg(const struct op_case *c, void *const in[], void *const out[],
                           bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[0].dims[2];
    for (int64_t i = 0; i < n; i++) {
        struct norm_column col = {.dy = (const float *)in[0] + i,
                                  .x = (const float *)in[1] + i,
                                  .inv = in[2],
                                  .stride = n};
        ((float *)out[0])[i] = sum_samples(c, rows, add_column_dy_x_inv, &col, control);
    }
    return true;
}
