/* reference_products.c - linear and conv2d with their gradients, and sum_rows: one output element
 * at a time, k in order. */
#include "reference.h"

/* a[k * a_stride] * b[k * b_stride], one after the other. */
struct dot {
    const float *a, *b;
    int64_t a_stride, b_stride;
};

static float dot_step(const void *arg, int64_t k, float acc)
{
    const struct dot *dot = arg;
    return rp_fma(dot->a[k * dot->a_stride], dot->b[k * dot->b_stride], acc);
}

bool reference_linear(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const float *x = in[0], *w = in[1], *b = in[2];
    float *y = out[0];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n_out = c->call.in[1].dims[0];
    int64_t n_in = c->call.in[1].dims[1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < n_out; o++) {
            struct dot dot = {x + r * n_in, w + o * n_in, 1, 1};
            float sum = sum_panels(n_in, dot_step, &dot, control);
            y[r * n_out + o] = b ? sum + b[o] : sum;
        }
    return true;
}

bool reference_linear_dx(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const float *dy = in[0], *w = in[1];
    float *dx = out[0];
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n_out = c->call.in[1].dims[0];
    int64_t n_in = c->call.in[1].dims[1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n_in; i++) {
            struct dot dot = {dy + r * n_out, w + i, 1, n_in};
            dx[r * n_in + i] = sum_panels(n_out, dot_step, &dot, control);
        }
    return true;
}

bool reference_linear_dw(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const float *dy = in[0], *x = in[1];
    float *dw = out[0];
    int64_t rows = rp_tensor_rows(&c->call.in[0]);
    int64_t n_out = c->call.in[0].dims[2], n_in = c->call.in[1].dims[2];
    for (int64_t o = 0; o < n_out; o++)
        for (int64_t i = 0; i < n_in; i++) {
            struct dot dot = {dy + o, x + i, n_out, n_in};
            dw[o * n_in + i] = sum_samples(c, rows, dot_step, &dot, control);
        }
    return true;
}

static float column_step(const void *arg, int64_t k, float acc)
{
    const struct dot *dot = arg;
    return acc + dot->a[k * dot->a_stride];
}

bool reference_sum_rows(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), columns = c->call.in[0].dims[2];
    for (int64_t i = 0; i < columns; i++) {
        struct dot dot = {.a = (const float *)in[0] + i, .a_stride = columns};
        ((float *)out[0])[i] = sum_samples(c, rows, column_step, &dot, control);
    }
    return true;
}

/* ---- conv2d --------------------------------------------------------------------------------- */

/* The sizes of a convolution, and the element that is being computed. */
struct conv {
    const float *a, *b;
    const struct rp_conv2d_params *p;
    int64_t h, w, c, oh, ow, o; /* image and output */
    int64_t group_in, group_out;
    int64_t n, y, x, channel; /* of y: n, oh, ow, o; of dx: n, ih, iw, c; of dw: o, kh, kw, c */
};

static void conv_sizes(const struct op_case *c, const struct rp_tensor *image,
                       const struct rp_tensor *output, struct conv *v)
{
    v->p = &c->call.params.conv2d;
    v->h = image->dims[1], v->w = image->dims[2], v->c = image->dims[3];
    v->oh = output->dims[1], v->ow = output->dims[2], v->o = output->dims[3];
    v->group_in = v->c / v->p->groups, v->group_out = v->o / v->p->groups;
}

/* k over (kh, kw, c): a is x, b is w. Outside the image x is +0, and takes part. */
static float conv_step(const void *arg, int64_t k, float acc)
{
    const struct conv *v = arg;
    int64_t c = k % v->group_in, kw = k / v->group_in % v->p->kernel_w;
    int64_t kh = k / v->group_in / v->p->kernel_w;
    int64_t ih = v->y * v->p->stride_h - v->p->pad_h + kh;
    int64_t iw = v->x * v->p->stride_w - v->p->pad_w + kw;
    int64_t group = v->channel / v->group_out;
    float x = 0;
    if (ih >= 0 && ih < v->h && iw >= 0 && iw < v->w)
        x = v->a[((v->n * v->h + ih) * v->w + iw) * v->c + group * v->group_in + c];
    float w = v->b[((v->channel * v->p->kernel_h + kh) * v->p->kernel_w + kw) * v->group_in + c];
    return rp_fma(x, w, acc);
}

bool reference_conv2d(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    struct conv v = {.a = in[0], .b = in[1]};
    const float *bias = in[2];
    float *y = out[0];
    conv_sizes(c, &c->call.in[0], &c->call.out[0], &v);
    int64_t k = v.p->kernel_h * v.p->kernel_w * v.group_in;
    for (v.n = 0; v.n < c->call.in[0].dims[0]; v.n++)
        for (v.y = 0; v.y < v.oh; v.y++)
            for (v.x = 0; v.x < v.ow; v.x++)
                for (v.channel = 0; v.channel < v.o; v.channel++, y++) {
                    float sum = sum_panels(k, conv_step, &v, control);
                    *y = bias ? sum + bias[v.channel] : sum;
                }
    return true;
}

/* The taps of an axis that meet an output position: first, first + stride, ... */
static int64_t first_tap(int64_t position, int pad, int stride)
{
    return (position + pad) % stride;
}
static int64_t count_taps(int64_t position, int pad, int stride, int kernel)
{
    int64_t first = first_tap(position, pad, stride);
    return first >= kernel ? 0 : (kernel - 1 - first) / stride + 1;
}

/* k over (kh, kw, out) of the taps that meet an output: a is dy, b is w. Outside the outputs dy is
 * +0, and takes part. */
static float conv_dx_step(const void *arg, int64_t k, float acc)
{
    const struct conv *v = arg;
    const struct rp_conv2d_params *p = v->p;
    int64_t taps_w = count_taps(v->x, p->pad_w, p->stride_w, p->kernel_w);
    int64_t group = v->channel / v->group_in, c = v->channel % v->group_in;
    int64_t o = k % v->group_out + group * v->group_out, tap = k / v->group_out;
    int64_t kh = first_tap(v->y, p->pad_h, p->stride_h) + tap / taps_w * p->stride_h;
    int64_t kw = first_tap(v->x, p->pad_w, p->stride_w) + tap % taps_w * p->stride_w;
    int64_t oh = (v->y + p->pad_h - kh) / p->stride_h, ow = (v->x + p->pad_w - kw) / p->stride_w;
    float dy = 0;
    if (oh >= 0 && oh < v->oh && ow >= 0 && ow < v->ow)
        dy = v->a[((v->n * v->oh + oh) * v->ow + ow) * v->o + o];
    float w = v->b[((o * p->kernel_h + kh) * p->kernel_w + kw) * v->group_in + c];
    return rp_fma(dy, w, acc);
}

bool reference_conv2d_dx(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    struct conv v = {.a = in[0], .b = in[1]};
    float *dx = out[0];
    conv_sizes(c, &c->call.out[0], &c->call.in[0], &v);
    const struct rp_conv2d_params *p = v.p;
    for (v.n = 0; v.n < c->call.in[0].dims[0]; v.n++)
        for (v.y = 0; v.y < v.h; v.y++)
            for (v.x = 0; v.x < v.w; v.x++) {
                int64_t k = count_taps(v.y, p->pad_h, p->stride_h, p->kernel_h) *
                            count_taps(v.x, p->pad_w, p->stride_w, p->kernel_w) * v.group_out;
                for (v.channel = 0; v.channel < v.c; v.channel++)
                    *dx++ = sum_panels(k, conv_dx_step, &v, control);
            }
    return true;
}

/* k over (n, oh, ow): a is dy, b is x. Outside the image x is +0, and takes part. */
static float conv_dw_step(const void *arg, int64_t k, float acc)
{
    const struct conv *v = arg;
    int64_t ow = k % v->ow, oh = k / v->ow % v->oh, n = k / v->ow / v->oh;
    int64_t ih = oh * v->p->stride_h - v->p->pad_h + v->y;
    int64_t iw = ow * v->p->stride_w - v->p->pad_w + v->x;
    int64_t o = v->n, c = o / v->group_out * v->group_in + v->channel;
    float x = 0;
    if (ih >= 0 && ih < v->h && iw >= 0 && iw < v->w)
        x = v->b[((n * v->h + ih) * v->w + iw) * v->c + c];
    return rp_fma(v->a[k * v->o + o], x, acc);
}

bool reference_conv2d_dw(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    struct conv v = {.a = in[0], .b = in[1]};
    float *dw = out[0];
    conv_sizes(c, &c->call.in[1], &c->call.in[0], &v);
    int64_t rows = rp_tensor_rows(&c->call.in[0]);
    for (v.n = 0; v.n < v.o; v.n++)
        for (v.y = 0; v.y < v.p->kernel_h; v.y++)
            for (v.x = 0; v.x < v.p->kernel_w; v.x++)
                for (v.channel = 0; v.channel < v.group_in; v.channel++)
                    *dw++ = sum_samples(c, rows, conv_dw_step, &v, control);
    return true;
}
