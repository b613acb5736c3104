/* reference_pooling.c - max, average and global average pooling with their gradients. */
#include "reference.h"

#define FOR_EACH(i, n) for (int64_t i = 0; i < (n); i++)

static int64_t at4(const struct rp_tensor *t, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return ((n * t->dims[1] + h) * t->dims[2] + w) * t->dims[3] + c;
}

/* The position of tap (kh, kw) of window (oh, ow) in the image, or -1 where it lies outside. */
static int64_t tap_position(const struct op_case *c, const struct rp_tensor *image, int64_t n,
                            int64_t oh, int64_t ow, int64_t tap, int64_t channel)
{
    const struct rp_pool2d_params *p = &c->call.params.pool2d;
    int64_t ih = oh * p->stride_h - p->pad_h + tap / p->kernel_w;
    int64_t iw = ow * p->stride_w - p->pad_w + tap % p->kernel_w;
    if (ih < 0 || ih >= image->dims[1] || iw < 0 || iw >= image->dims[2]) return -1;
    return at4(image, n, ih, iw, channel);
}

static int64_t window_taps(const struct op_case *c)
{
    return (int64_t)c->call.params.pool2d.kernel_h * c->call.params.pool2d.kernel_w;
}

/* The first of the largest; a NaN is larger than all, and the first of them stays. `control`: the
 * last of the largest. */
bool reference_maxpool2d(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_tensor *x = &c->call.in[0], *y = &c->call.out[0];
    const float *from = in[0];
    FOR_EACH(n, y->dims[0])
    FOR_EACH(oh, y->dims[1]) FOR_EACH(ow, y->dims[2]) FOR_EACH(ch, y->dims[3])
    {
        float best = 0;
        int64_t best_tap = -1;
        FOR_EACH(tap, window_taps(c))
        {
            int64_t at = tap_position(c, x, n, oh, ow, tap, ch);
            if (at < 0) continue;
            bool larger = best_tap < 0 || from[at] > best || (from[at] != from[at] && best == best);
            if (control && from[at] == best) larger = true;
            if (!larger) continue;
            best = from[at];
            best_tap = tap;
        }
        ((float *)out[0])[at4(y, n, oh, ow, ch)] = best;
        ((uint8_t *)out[1])[at4(y, n, oh, ow, ch)] = (uint8_t)best_tap;
    }
    return true;
}

/* Every image position collects from its windows in ascending (oh, ow); `control`: descending. */
static void collect(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_tensor *dy = &c->call.in[0], *dx = &c->call.out[0];
    int64_t n_windows = dy->dims[1] * dy->dims[2], taps = window_taps(c);
    const uint8_t *tap_of = in[1]; /* NULL: an average */
    float *to = out[0];
    FOR_EACH(i, rp_tensor_elements(dx)) to[i] = 0;
    FOR_EACH(n, dy->dims[0])
    FOR_EACH(ch, dy->dims[3]) FOR_EACH(i, n_windows)
    {
        int64_t window = control ? n_windows - 1 - i : i;
        int64_t oh = window / dy->dims[2], ow = window % dy->dims[2];
        int64_t from = at4(dy, n, oh, ow, ch);
        float g = ((const float *)in[0])[from];
        FOR_EACH(tap, taps)
        {
            int64_t at = tap_position(c, dx, n, oh, ow, tap, ch);
            if (at < 0 || (tap_of && tap_of[from] != tap)) continue;
            to[at] += tap_of ? g : g / (float)taps;
        }
    }
}

bool reference_maxpool2d_dx(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    collect(c, in, out, control);
    return true;
}

bool reference_avgpool2d_dx(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    collect(c, in, out, control);
    return true;
}

/* `control`: times the reciprocal instead of a division. */
bool reference_avgpool2d(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_tensor *x = &c->call.in[0], *y = &c->call.out[0];
    float count = (float)window_taps(c);
    FOR_EACH(n, y->dims[0])
    FOR_EACH(oh, y->dims[1]) FOR_EACH(ow, y->dims[2]) FOR_EACH(ch, y->dims[3])
    {
        float sum = 0;
        FOR_EACH(tap, window_taps(c))
        {
            int64_t at = tap_position(c, x, n, oh, ow, tap, ch);
            if (at >= 0) sum += ((const float *)in[0])[at];
        }
        ((float *)out[0])[at4(y, n, oh, ow, ch)] = control ? sum * (1 / count) : sum / count;
    }
    return true;
}

struct image_column {
    const float *x;
    int64_t stride;
};

static float image_step(const void *arg, int64_t k, float acc)
{
    const struct image_column *column = arg;
    return acc + column->x[k * column->stride];
}

bool reference_global_avgpool(const struct op_case *c, void *const in[], void *const out[],
                              bool control)
{
    const struct rp_tensor *x = &c->call.in[0];
    int64_t size = x->dims[1] * x->dims[2];
    FOR_EACH(n, x->dims[0]) FOR_EACH(ch, x->dims[3])
    {
        struct image_column column = {(const float *)in[0] + n * size * x->dims[3] + ch,
                                      x->dims[3]};
        float sum = sum_panels(size, image_step, &column, control);
        ((float *)out[0])[n * x->dims[3] + ch] = sum / (float)size;
    }
    return true;
}

bool reference_global_avgpool_dx(const struct op_case *c, void *const in[], void *const out[],
                                 bool control)
{
    const struct rp_tensor *dx = &c->call.out[0];
    int64_t size = dx->dims[1] * dx->dims[2], channels = dx->dims[3];
    FOR_EACH(i, rp_tensor_elements(dx))
    {
        float dy = ((const float *)in[0])[i / (size * channels) * channels + i % channels];
        ((float *)out[0])[i] = control ? dy * (1 / (float)size) : dy / (float)size;
    }
    return true;
}
