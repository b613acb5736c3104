/* forward64.c - the forward of every op that has a gradient, in fp64 from its mathematical
 * definition: sums in any order, libm's functions. Nothing here is shared with the kernels. */
#include <math.h>

#include "ops_test.h"

static double dot(const double *a, int64_t a_stride, const double *b, int64_t b_stride, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i * a_stride] * b[i * b_stride];
    return sum;
}

static void linear(const struct op_case *c, double *const in[], double *y)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), o = c->call.in[1].dims[0];
    int64_t k = c->call.in[1].dims[1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < o; i++)
            y[r * o + i] = dot(in[0] + r * k, 1, in[1] + i * k, 1, k) + (in[2] ? in[2][i] : 0);
}

static void conv2d(const struct op_case *c, double *const in[], double *y)
{
    const struct rp_conv2d_params *p = &c->call.params.conv2d;
    const int64_t *x = c->call.in[0].dims, *out = c->call.out[0].dims;
    int64_t group_in = x[3] / p->groups, group_out = out[3] / p->groups;
    for (int64_t at = 0; at < rp_tensor_elements(&c->call.out[0]); at++) {
        int64_t o = at % out[3], ow = at / out[3] % out[2], oh = at / out[3] / out[2] % out[1];
        int64_t n = at / out[3] / out[2] / out[1];
        double sum = in[2] ? in[2][o] : 0;
        for (int kh = 0; kh < p->kernel_h; kh++)
            for (int kw = 0; kw < p->kernel_w; kw++) {
                int64_t ih = oh * p->stride_h + kh - p->pad_h,
                        iw = ow * p->stride_w + kw - p->pad_w;
                if (ih < 0 || ih >= x[1] || iw < 0 || iw >= x[2]) continue;
                const double *pixel = in[0] + ((n * x[1] + ih) * x[2] + iw) * x[3];
                const double *w = in[1] + ((o * p->kernel_h + kh) * p->kernel_w + kw) * group_in;
                sum += dot(pixel + o / group_out * group_in, 1, w, 1, group_in);
            }
        y[at] = sum;
    }
}

/* Maximum or mean of each window; outside the image: no candidate, or 0. */
static void pool(const struct op_case *c, double *const in[], double *y, bool maximum)
{
    const struct rp_pool2d_params *p = &c->call.params.pool2d;
    const int64_t *x = c->call.in[0].dims, *out = c->call.out[0].dims;
    for (int64_t at = 0; at < rp_tensor_elements(&c->call.out[0]); at++) {
        int64_t ch = at % out[3], ow = at / out[3] % out[2], oh = at / out[3] / out[2] % out[1];
        int64_t n = at / out[3] / out[2] / out[1];
        double best = -INFINITY, sum = 0;
        for (int kh = 0; kh < p->kernel_h; kh++)
            for (int kw = 0; kw < p->kernel_w; kw++) {
                int64_t ih = oh * p->stride_h + kh - p->pad_h,
                        iw = ow * p->stride_w + kw - p->pad_w;
                if (ih < 0 || ih >= x[1] || iw < 0 || iw >= x[2]) continue;
                double value = in[0][((n * x[1] + ih) * x[2] + iw) * x[3] + ch];
                best = fmax(best, value);
                sum += value;
            }
        y[at] = maximum ? best : sum / (p->kernel_h * p->kernel_w);
    }
}

static void global_avgpool(const struct op_case *c, double *const in[], double *y)
{
    const int64_t *x = c->call.in[0].dims;
    double size = (double)(x[1] * x[2]);
    for (int64_t i = 0; i < x[0] * x[3]; i++) y[i] = 0;
    for (int64_t i = 0; i < rp_tensor_elements(&c->call.in[0]); i++)
        y[i / (x[1] * x[2] * x[3]) * x[3] + i % x[3]] += in[0][i] / size;
}

static double activation(enum rp_op op, double x)
{
    switch (op) {
    case RP_OP_relu:
        return x > 0 ? x : 0;
    case RP_OP_gelu:
        return 0.5 * x * (1 + erf(x * M_SQRT1_2));
    case RP_OP_gelu_tanh:
        return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case RP_OP_silu:
        return x / (1 + exp(-x));
    case RP_OP_sigmoid:
        return 1 / (1 + exp(-x));
    default:
        return tanh(x);
    }
}

static void dropout(const struct op_case *c, double *const in[], double *y)
{
    const struct rp_dropout_params *p = &c->call.params.dropout;
    int64_t samples = c->call.in[0].dims[0], size = rp_tensor_elements(&c->call.in[0]) / samples;
    for (int64_t i = 0; i < samples * size; i++) {
        struct rp_draw draw =
            rp_draw_block(c->pass.seed, RP_PURPOSE_DROPOUT, p->site,
                          c->pass.position + (uint64_t)(i / size), (uint32_t)(i % size / 4));
        bool kept = draw.u[i % size % 4] * 0x1p-32 >= (double)p->p;
        y[i] = kept ? in[0][i] / (1 - (double)p->p) : 0;
    }
}

/* (x - mean) / deviation * gamma + beta over n values of x that are `stride` apart. */
static void normalise(const double *x, int64_t n, int64_t stride, double eps, double *y)
{
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i * stride] / (double)n;
    for (int64_t i = 0; i < n; i++) var += pow(x[i * stride] - mean, 2) / (double)n;
    for (int64_t i = 0; i < n; i++) y[i * stride] = (x[i * stride] - mean) / sqrt(var + eps);
}

static void norm(const struct op_case *c, double *const in[], double *y)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    double eps = (double)c->call.params.norm.eps;
    if (c->call.op == RP_OP_layer_norm)
        for (int64_t r = 0; r < rows; r++) normalise(in[0] + r * n, n, 1, eps, y + r * n);
    else {
        int64_t m = rows / c->pass.rows.n_shards;
        for (int s = 0; s < c->pass.rows.n_shards; s++)
            for (int64_t ch = 0; ch < n; ch++)
                normalise(in[0] + s * m * n + ch, m, n, eps, y + s * m * n + ch);
    }
    for (int64_t i = 0; i < rows * n; i++) y[i] = y[i] * in[1][i % n] + (in[2] ? in[2][i % n] : 0);
}

static void rms_norm(const struct op_case *c, double *const in[], double *y)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    for (int64_t r = 0; r < rows; r++) {
        const double *x = in[0] + r * n;
        double mean = dot(x, 1, x, 1, n) / (double)n;
        for (int64_t i = 0; i < n; i++)
            y[r * n + i] = x[i] / sqrt(mean + (double)c->call.params.norm.eps) * in[1][i];
    }
}

static void embedding(const struct op_case *c, double *const in[], double *y)
{
    const int64_t *dims = c->call.out[0].dims;
    for (int64_t i = 0; i < dims[0] * dims[1] * dims[2]; i++) {
        int64_t row = i / dims[2], place = c->pass.first_token + row % dims[1];
        y[i] = in[1][(int64_t)in[0][row] * dims[2] + i % dims[2]];
        if (in[2]) y[i] += in[2][place * dims[2] + i % dims[2]];
    }
}

static void swiglu(const struct op_case *c, double *const in[], double *y)
{
    int64_t n = rp_tensor_elements(&c->call.out[0]), half = c->call.out[0].dims[2];
    for (int64_t i = 0; i < n; i++) {
        const double *x = in[0] + i / half * 2 * half + i % half;
        y[i] = activation(RP_OP_silu, x[0]) * x[half];
    }
}

static void cross_entropy(const struct op_case *c, double *const in[], double *loss)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    double smoothing = (double)c->call.params.loss.label_smoothing;
    for (int64_t r = 0; r < rows; r++) {
        const double *x = in[0] + r * n;
        double sum = 0, mean = 0;
        for (int64_t j = 0; j < n; j++) {
            sum += exp(x[j]);
            mean += x[j] / (double)n;
        }
        const double *mix = in[1] + 3 * r;
        double at = c->call.op == RP_OP_cross_entropy_mix
                        ? mix[2] * 0x1p-24 * x[(int64_t)mix[0]] +
                              (1 - mix[2] * 0x1p-24) * x[(int64_t)mix[1]]
                        : x[(int64_t)in[1][r]];
        loss[r] = log(sum) - (1 - smoothing) * at - smoothing * mean;
    }
}

/* The head's product, then the loss; rows without a target have none. */
static void lm_loss(const struct op_case *c, double *const in[], double *loss)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[1].dims[0];
    double *logits = malloc(sizeof(*logits) * (size_t)(rows * n)), zero = 0;
    if (!logits) exit(1);
    double *of_linear[3] = {in[0], in[1], NULL};
    linear(c, of_linear, logits);
    for (int64_t r = 0; r < rows; r++) {
        bool counts = in[2][r] >= 0;
        struct op_case one = *c;
        one.call.in[0] = (struct rp_tensor){.n_dims = 2, .dims = {1, n}};
        double *of_row[2] = {logits + r * n, counts ? &in[2][r] : &zero};
        cross_entropy(&one, of_row, &loss[r]);
        if (!counts) loss[r] = 0;
    }
    free(logits);
}

static void mse(const struct op_case *c, double *const in[], double *loss)
{
    int64_t rows = c->call.in[0].dims[0], n = c->call.in[0].dims[1];
    for (int64_t r = 0; r < rows; r++) {
        loss[r] = 0;
        for (int64_t j = 0; j < n; j++) loss[r] += pow(in[0][r * n + j] - in[1][r * n + j], 2);
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

static void rope(const struct op_case *c, double *const in[], double *y)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    const int64_t *dims = c->call.in[0].dims;
    int half = p->head_dim / 2;
    for (int64_t k = 0; k < rp_tensor_elements(&c->call.in[0]); k++) {
        int64_t i = k % p->head_dim, place = c->pass.first_token + k / dims[2] % dims[1];
        double angle =
            (double)place * pow((double)p->rope_base, -2.0 * (double)(i % half) / p->head_dim);
        double other = in[0][i < half ? k + half : k - half];
        y[k] = in[0][k];
        if (k % dims[2] < (p->heads + p->kv_heads) * p->head_dim)
            y[k] = in[0][k] * cos(angle) + (i < half ? -other : other) * sin(angle);
    }
}

static void head_norm(const struct op_case *c, double *const in[], double *y)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t n = p->head_dim, n_heads = p->heads + 2 * p->kv_heads;
    for (int64_t k = 0; k < rp_tensor_elements(&c->call.in[0]) / n; k++) {
        const double *x = in[0] + k * n, *gamma = in[k % n_heads < p->heads ? 1 : 2];
        double inv = 1 / sqrt(dot(x, 1, x, 1, n) / (double)n + (double)p->eps);
        for (int64_t i = 0; i < n; i++)
            y[k * n + i] = k % n_heads < p->heads + p->kv_heads ? x[i] * inv * gamma[i] : x[i];
    }
}

static void attend(const struct op_case *c, const double *qkv, int64_t n, int64_t h, int64_t i,
                   double *y)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t tokens = c->call.in[0].dims[1], width = c->call.in[0].dims[2], d = p->head_dim;
    const double *q = qkv + i * width + h * d;
    const double *k = qkv + (p->heads + h / (p->heads / p->kv_heads)) * d, *v = k + p->kv_heads * d;
    double sum = 0;
    for (int64_t x = 0; x < d; x++) y[x] = 0;
    for (int64_t j = 0; j <= i; j++) {
        double e = exp(dot(q, 1, k + j * width, 1, d) / sqrt((double)d)), kept = 1;
        uint64_t element = (uint64_t)((h * tokens + i) * tokens + j);
        struct rp_draw draw =
            rp_draw_block(c->pass.seed, RP_PURPOSE_DROPOUT, p->site, c->pass.position + (uint64_t)n,
                          (uint32_t)(element / 4));
        if (p->p > 0)
            kept = draw.u[element % 4] * 0x1p-32 >= (double)p->p ? 1 / (1 - (double)p->p) : 0;
        for (int64_t x = 0; x < d; x++) y[x] += e * kept * v[j * width + x];
        sum += e;
    }
    for (int64_t x = 0; x < d; x++) y[x] /= sum;
}

static void attention(const struct op_case *c, double *const in[], double *y)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t tokens = c->call.in[0].dims[1], width = c->call.in[0].dims[2];
    for (int64_t n = 0; n < c->call.in[0].dims[0]; n++)
        for (int64_t i = 0; i < tokens; i++)
            for (int64_t h = 0; h < p->heads; h++, y += p->head_dim)
                attend(c, in[0] + n * tokens * width, n, h, i, y);
}

bool forward64(const struct op_case *c, double *const in[], double *out)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    switch (c->call.op) {
    case RP_OP_linear:
        linear(c, in, out);
        return true;
    case RP_OP_conv2d:
        conv2d(c, in, out);
        return true;
    case RP_OP_maxpool2d:
        pool(c, in, out, true);
        return true;
    case RP_OP_avgpool2d:
        pool(c, in, out, false);
        return true;
    case RP_OP_global_avgpool:
        global_avgpool(c, in, out);
        return true;
    case RP_OP_relu:
    case RP_OP_gelu:
    case RP_OP_gelu_tanh:
    case RP_OP_silu:
    case RP_OP_sigmoid:
    case RP_OP_tanh:
        for (int64_t i = 0; i < n; i++) out[i] = activation(c->call.op, in[0][i]);
        return true;
    case RP_OP_dropout:
        dropout(c, in, out);
        return true;
    case RP_OP_batch_norm:
    case RP_OP_layer_norm:
        norm(c, in, out);
        return true;
    case RP_OP_rope:
        rope(c, in, out);
        return true;
    case RP_OP_head_norm:
        head_norm(c, in, out);
        return true;
    case RP_OP_attention:
        attention(c, in, out);
        return true;
    case RP_OP_rms_norm:
        rms_norm(c, in, out);
        return true;
    case RP_OP_embedding:
        embedding(c, in, out);
        return true;
    case RP_OP_swiglu:
        swiglu(c, in, out);
        return true;
    case RP_OP_cross_entropy:
    case RP_OP_cross_entropy_mix:
        cross_entropy(c, in, out);
        return true;
    case RP_OP_lm_loss:
        lm_loss(c, in, out);
        return true;
    case RP_OP_mse:
        mse(c, in, out);
        return true;
    default:
        return false;
    }
}
