/* reference_losses.c - cross entropy and mean squared error: chapter 10. */
#include <math.h>

#include "reference.h"

/* The maximum, exp(x - maximum) into e, and their sum. */
static float softmax_parts(const float *x, int64_t n, bool control, float *maximum, float *e)
{
    *maximum = -INFINITY;
    for (int64_t j = 0; j < n; j++)
        if (x[j] > *maximum) *maximum = x[j];
    for (int64_t j = 0; j < n; j++) e[j] = rp_exp(x[j] - *maximum);
    return sum_row(e, n, control);
}

static int32_t rank_of(const float *x, int64_t n, int32_t target)
{
    if (target < 0 || target >= n) return (int32_t)n;
    int32_t rank = 0;
    for (int64_t j = 0; j < n; j++) {
        bool below = x[j] < x[target] || (x[j] == x[target] && j > target);
        if (j != target && !below) rank++;
    }
    return rank;
}

bool reference_cross_entropy(const struct op_case *c, void *const in[], void *const out[],
                             bool control)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    double smoothing = (double)c->call.params.loss.label_smoothing;
    float *e = malloc(sizeof(*e) * (size_t)n);
    if (!e) exit(1);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)in[0] + r * n;
        int32_t target = ((const int32_t *)in[1])[r];
        float maximum, loss = NAN, sum = softmax_parts(x, n, control, &maximum, e);
        double lse = (double)maximum + rp_log64((double)sum);
        if (target >= 0 && target < n) {
            double miss = lse - (double)x[target];
            if (smoothing == 0)
                loss = (float)miss;
            else
                loss = (float)((1 - smoothing) * miss +
                               smoothing * (lse - (double)sum_row(x, n, control) / (double)n));
        }
        ((float *)out[0])[r] = loss;
        ((int32_t *)out[1])[r] = rank_of(x, n, target);
    }
    free(e);
    return true;
}

/* `control`: times 1 / sum instead of a true division. */
bool reference_cross_entropy_dx(const struct op_case *c, void *const in[], void *const out[],
                                bool control)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    float smoothing = c->call.params.loss.label_smoothing;
    float off = smoothing == 0 ? 0 : smoothing / (float)n;
    float on = smoothing == 0 ? 1 : (1 - smoothing) + off;
    float *e = malloc(sizeof(*e) * (size_t)n);
    if (!e) exit(1);
    for (int64_t r = 0; r < rows; r++) {
        int32_t target = ((const int32_t *)in[1])[r];
        float maximum, sum = softmax_parts((const float *)in[0] + r * n, n, false, &maximum, e);
        for (int64_t j = 0; j < n; j++) {
            float p = control ? e[j] * (1 / sum) : e[j] / sum;
            float dx = (p - (j == target ? on : off)) * c->pass.grad_scale;
            ((float *)out[0])[r * n + j] = target >= 0 && target < n ? dx : NAN;
        }
    }
    free(e);
    return true;
}

/* `control`: the losses of the two classes, each rounded, weighted and added. */
bool reference_cross_entropy_mix(const struct op_case *c, void *const in[], void *const out[],
                                 bool control)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    double smoothing = (double)c->call.params.loss.label_smoothing;
    float *e = malloc(sizeof(*e) * (size_t)n);
    if (!e) exit(1);
    for (int64_t r = 0; r < rows; r++) {
        const float *x = (const float *)in[0] + r * n;
        const int32_t *mix = (const int32_t *)in[1] + 3 * r;
        float maximum, sum = softmax_parts(x, n, false, &maximum, e);
        double lse = (double)maximum + rp_log64((double)sum);
        double rest = lse - (double)sum_row(x, n, false) / (double)n;
        double w = mix[2] / 16777216.0, v = (16777216.0 - mix[2]) / 16777216.0;
        float *loss = (float *)out[0] + r;
        *loss = NAN;
        if (mix[0] < 0 || mix[0] >= n || mix[1] < 0 || mix[1] >= n || w < 0 || w > 1) continue;
        double of_a = lse - (double)x[mix[0]], of_b = lse - (double)x[mix[1]];
        double miss = lse - (w * (double)x[mix[0]] + v * (double)x[mix[1]]);
        if (control)
            *loss = (float)w * (float)of_a + (float)v * (float)of_b;
        else
            *loss =
                smoothing == 0 ? (float)miss : (float)((1 - smoothing) * miss + smoothing * rest);
    }
    free(e);
    return true;
}

/* `control`: times 1 / sum instead of a true division. */
bool reference_cross_entropy_mix_dx(const struct op_case *c, void *const in[], void *const out[],
                                    bool control)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    float smoothing = c->call.params.loss.label_smoothing;
    float off = smoothing == 0 ? 0 : smoothing / (float)n;
    float *e = malloc(sizeof(*e) * (size_t)n);
    if (!e) exit(1);
    for (int64_t r = 0; r < rows; r++) {
        const int32_t *mix = (const int32_t *)in[1] + 3 * r;
        float maximum, sum = softmax_parts((const float *)in[0] + r * n, n, false, &maximum, e);
        float w = (float)(mix[2] / 16777216.0), v = (float)((16777216.0 - mix[2]) / 16777216.0);
        bool legal = mix[0] >= 0 && mix[0] < n && mix[1] >= 0 && mix[1] < n && mix[2] >= 0 &&
                     mix[2] <= 16777216;
        for (int64_t j = 0; j < n; j++) {
            float want = off;
            if (j == mix[0] && j == mix[1])
                want = (1 - smoothing) + off;
            else if (j == mix[0])
                want = w * (1 - smoothing) + off;
            else if (j == mix[1])
                want = v * (1 - smoothing) + off;
            float p = control ? e[j] * (1 / sum) : e[j] / sum;
            ((float *)out[0])[r * n + j] = legal ? (p - want) * c->pass.grad_scale : NAN;
        }
    }
    free(e);
    return true;
}

/* ---- the head of a language model -----------------------------------------------------------*/

static float *floats(int64_t n)
{
    float *x = malloc(sizeof *x * (size_t)n);
    if (!x) exit(1);
    return x;
}

static void set_rows_of(struct rp_tensor *tensor, int64_t rows, int64_t columns)
{
    *tensor = (struct rp_tensor){.dtype = RP_DTYPE_F32, .n_dims = 3, .dims = {1, rows, columns}};
}

/* All logits, as linear makes them. */
static float *head_logits(const struct op_case *c, void *const in[], bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    float *logits = floats(rows * n);
    void *of[RP_OP_MAX_IN] = {in[0], in[1]}, *to[RP_OP_MAX_OUT] = {logits};
    reference_linear(c, of, to, control);
    return logits;
}

bool reference_lm_loss(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    float *logits = head_logits(c, in, control), *e = floats(n), *stats = out[2];
    struct op_case loss = *c;
    void *of[RP_OP_MAX_IN] = {logits, in[2]};
    loss.call.in[0] = (struct rp_tensor){.n_dims = 2, .dims = {rows, n}};
    reference_cross_entropy(&loss, of, out, control);
    for (int64_t r = 0; r < rows; r++) {
        stats[2 * r + 1] = softmax_parts(logits + r * n, n, control, &stats[2 * r], e);
        if (((const int32_t *)in[2])[r] != -1) continue;
        ((float *)out[0])[r] = stats[2 * r] = stats[2 * r + 1] = 0;
        ((int32_t *)out[1])[r] = -1;
    }
    int64_t kept = c->call.out[3].dims[0];
    memcpy(out[3], logits + (rows - kept) * n, sizeof *logits * (size_t)(kept * n));
    free(e);
    free(logits);
    return true;
}

/* `control`: as in cross_entropy_dx. */
static void head_gradients(const struct op_case *c, void *const in[], float *d, bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    int64_t made = rows - c->call.in[4].dims[0];
    float smoothing = c->call.params.loss.label_smoothing;
    float off = smoothing == 0 ? 0 : smoothing / (float)n;
    float on = smoothing == 0 ? 1 : (1 - smoothing) + off;
    memcpy(d + made * n, in[4], sizeof *d * (size_t)((rows - made) * n));
    for (int64_t r = 0; r < rows; r++) {
        const float *stats = (const float *)in[3] + 2 * r;
        int32_t target = ((const int32_t *)in[2])[r];
        for (int64_t j = 0; j < n; j++) {
            float *x = d + r * n + j, e = rp_exp(*x - stats[0]);
            float p = control ? e * (1 / stats[1]) : e / stats[1];
            *x = (p - (j == target ? on : off)) * c->pass.grad_scale;
            if (target == -1)
                *x = 0;
            else if (target < 0 || target >= n)
                *x = NAN;
        }
    }
}

bool reference_lm_loss_dxw(const struct op_case *c, void *const in[], void *const out[],
                           bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    float *d = head_logits(c, in, false);
    struct op_case dx = *c, dw = *c;
    void *of_dx[RP_OP_MAX_IN] = {d, in[1]}, *of_dw[RP_OP_MAX_IN] = {d, in[0]};
    void *to_dw[RP_OP_MAX_OUT] = {out[1]};
    head_gradients(c, in, d, control);
    set_rows_of(&dx.call.in[0], rows, n);
    reference_linear_dx(&dx, of_dx, out, control);
    set_rows_of(&dw.call.in[0], rows, n);
    set_rows_of(&dw.call.in[1], rows, c->call.in[1].dims[1]);
    reference_linear_dw(&dw, of_dw, to_dw, control);
    free(d);
    return true;
}

bool reference_mse(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    float *d = malloc(sizeof(*d) * (size_t)n);
    if (!d) exit(1);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++)
            d[i] = ((const float *)in[0])[r * n + i] - ((const float *)in[1])[r * n + i];
        ((float *)out[0])[r] = sum_row_products(d, d, n, control);
    }
    free(d);
    return true;
}

/* `control`: the scale doubled is the same number, so the difference is taken the other way round.
 */
bool reference_mse_dx(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    float scale = c->pass.grad_scale;
    for (int64_t i = 0; i < n; i++) {
        float y = ((const float *)in[0])[i], target = ((const float *)in[1])[i], d = y - target;
        ((float *)out[0])[i] = control ? y * (2 * scale) - target * (2 * scale) : (d + d) * scale;
    }
    return true;
}
