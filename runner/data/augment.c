/* augment.c - training samples of images through a list with more than crops and flips: step after
 * step as the spec has them, in binary32 (places and angles in binary64), every draw keyed by
 * position and step. README.md has each formula; tests/train/test_augment.py has a twin in NumPy.
 */
#include "data/data_int.h"
#include "numerics.h"

#include <string.h>

/* One image on its way: `from` is read, `to` written, then they change places. */
struct canvas {
    int64_t height, width, channels;
    float *from, *to;
};

static void swap_sides(struct canvas *canvas)
{
    float *from = canvas->from;
    canvas->from = canvas->to;
    canvas->to = from;
}

static int64_t elements(const struct canvas *canvas)
{
    return canvas->height * canvas->width * canvas->channels;
}

/* low + u (high - low), u in [0, 1) */
static float between(uint32_t word, float low, float high)
{
    return low + rp_uniform(word) * (high - low);
}

static double between64(uint32_t word, double low, double high)
{
    return low + (double)rp_uniform(word) * (high - low);
}

/* ---- steps that move pixels ------------------------------------------------------------------ */

static const float *pixel_at(const struct canvas *canvas, int64_t y, int64_t x)
{
    return canvas->from + (y * canvas->width + x) * canvas->channels;
}

static bool is_inside(const struct canvas *canvas, int64_t y, int64_t x)
{
    return y >= 0 && y < canvas->height && x >= 0 && x < canvas->width;
}

static void crop(struct canvas *canvas, const struct rp_data_step *step, struct rp_draw words)
{
    int64_t choices = 2 * (int64_t)step->padding + 1, c = canvas->channels;
    int64_t dy = rp_data_word_below(words.u[0], choices) - step->padding;
    int64_t dx = rp_data_word_below(words.u[1], choices) - step->padding;
    float *out = canvas->to;
    for (int64_t y = 0; y < canvas->height; y++)
        for (int64_t x = 0; x < canvas->width; x++, out += c) {
            if (is_inside(canvas, y + dy, x + dx))
                memcpy(out, pixel_at(canvas, y + dy, x + dx), (size_t)c * sizeof *out);
            else
                memset(out, 0, (size_t)c * sizeof *out);
        }
    swap_sides(canvas);
}

static void flip(struct canvas *canvas)
{
    float *out = canvas->to;
    for (int64_t y = 0; y < canvas->height; y++)
        for (int64_t x = canvas->width - 1; x >= 0; x--, out += canvas->channels)
            memcpy(out, pixel_at(canvas, y, x), (size_t)canvas->channels * sizeof *out);
    swap_sides(canvas);
}

/* Between four pixels: along x first, a + (b - a) t. */
static void mix_four(const float *a, const float *b, const float *c, const float *d, float ty,
                     float tx, int64_t channels, float *out)
{
    for (int64_t i = 0; i < channels; i++) {
        float top = a[i] + (b[i] - a[i]) * tx;
        float bottom = c[i] + (d[i] - c[i]) * tx;
        out[i] = top + (bottom - top) * ty;
    }
}

/* Where output i of `to` lies among `from` pixels: pixel and part of the way to the next. */
static int64_t place_linear(int64_t i, int64_t from, int64_t to, float *t)
{
    int64_t at = (2 * i + 1) * from - to;
    int64_t j = at < 0 ? 0 : at / (2 * to), f = at < 0 ? 0 : at % (2 * to);
    *t = j + 1 < from ? (float)f / (float)(2 * to) : 0;
    return j + 1 < from ? j : from - 1;
}

static int64_t whole_side(double side, int64_t most)
{
    int64_t whole = (int64_t)(side + 0.5);
    return whole < 1 ? 1 : whole > most ? most : whole;
}

/* A window of `scale` of the area and of a shape between the ratios, grown back to the size. */
static void resized_crop(struct canvas *canvas, const struct rp_data_step *step,
                         struct rp_draw words)
{
    double area = (double)(canvas->height * canvas->width);
    double part = between64(words.u[0], (double)step->low[0], (double)step->high[0]);
    double shape = between64(words.u[1], rp_sqrt64((double)step->low[1]),
                             rp_sqrt64((double)step->high[1])); /* root of width / height */
    double side = rp_sqrt64(area * part);
    int64_t h = whole_side(side / shape, canvas->height),
            w = whole_side(side * shape, canvas->width);
    int64_t top = rp_data_word_below(words.u[2], canvas->height - h + 1);
    int64_t left = rp_data_word_below(words.u[3], canvas->width - w + 1);
    float *out = canvas->to, ty, tx;
    for (int64_t y = 0; y < canvas->height; y++) {
        int64_t j = place_linear(y, h, canvas->height, &ty), next = j + 1 < h ? j + 1 : j;
        for (int64_t x = 0; x < canvas->width; x++, out += canvas->channels) {
            int64_t i = place_linear(x, w, canvas->width, &tx), right = i + 1 < w ? i + 1 : i;
            mix_four(pixel_at(canvas, top + j, left + i), pixel_at(canvas, top + j, left + right),
                     pixel_at(canvas, top + next, left + i),
                     pixel_at(canvas, top + next, left + right), ty, tx, canvas->channels, out);
        }
    }
    swap_sides(canvas);
}

static const float *pixel_or_zero(const struct canvas *canvas, int64_t y, int64_t x)
{
    static const float zeros[RP_DATA_MAX_CHANNELS];
    return is_inside(canvas, y, x) ? pixel_at(canvas, y, x) : zeros;
}

/* Rounding down, for |x| far below 2^62. */
static int64_t floor_of(double x)
{
    int64_t whole = (int64_t)x;
    return (double)whole > x ? whole - 1 : whole;
}

/* About the middle; what comes from outside is zero. */
static void rotate(struct canvas *canvas, const struct rp_data_step *step, struct rp_draw words)
{
    const double degree = 0x1.1df46a2529d39p-6; /* pi / 180 */
    double angle = between64(words.u[0], (double)-step->high[0], (double)step->high[0]) * degree;
    double c = rp_cos64(angle), s = rp_sin64(angle);
    double cy = 0.5 * (double)(canvas->height - 1), cx = 0.5 * (double)(canvas->width - 1);
    float *out = canvas->to;
    for (int64_t y = 0; y < canvas->height; y++) {
        double dy = (double)y - cy;
        for (int64_t x = 0; x < canvas->width; x++, out += canvas->channels) {
            double dx = (double)x - cx;
            double from_x = (cx + c * dx) + s * dy, from_y = (cy - s * dx) + c * dy;
            int64_t i = floor_of(from_x), j = floor_of(from_y);
            mix_four(pixel_or_zero(canvas, j, i), pixel_or_zero(canvas, j, i + 1),
                     pixel_or_zero(canvas, j + 1, i), pixel_or_zero(canvas, j + 1, i + 1),
                     (float)(from_y - (double)j), (float)(from_x - (double)i), canvas->channels,
                     out);
        }
    }
    swap_sides(canvas);
}

/* ---- steps that change pixels where they are ------------------------------------------------- */

static void normalize(struct canvas *canvas, const struct rp_data_step *step)
{
    int64_t n = elements(canvas), per_channel = step->n_channels > 1;
    for (int64_t i = 0, c = 0; i < n; i++) {
        canvas->from[i] = (canvas->from[i] - step->low[c]) / step->high[c];
        if (per_channel) c = c + 1 == canvas->channels ? 0 : c + 1;
    }
}

/* ITU-R BT.601 */
static float grey_of(const float *pixel, int64_t channels)
{
    if (channels == 1) return pixel[0];
    return (0.299f * pixel[0] + 0.587f * pixel[1]) + 0.114f * pixel[2];
}

static float limited(float value, bool limit)
{
    if (!limit) return value;
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

static float mean_grey(const struct canvas *canvas)
{
    double sum = 0;
    int64_t pixels = canvas->height * canvas->width;
    for (int64_t i = 0; i < pixels; i++)
        sum += (double)grey_of(canvas->from + i * canvas->channels, canvas->channels);
    return (float)(sum / (double)pixels);
}

/* Brightness v f; contrast v f + (1 - f) mean; saturation v f + (1 - f) grey. Bytes stay within
 * [0, 1] after each. */
static void jitter(struct canvas *canvas, const struct rp_data_step *step, struct rp_draw words,
                   bool limit)
{
    int64_t n = elements(canvas), channels = canvas->channels;
    float f = between(words.u[0], step->low[0], step->high[0]);
    if (step->low[0] < step->high[0])
        for (int64_t i = 0; i < n; i++) canvas->from[i] = limited(canvas->from[i] * f, limit);
    if (step->low[1] < step->high[1]) {
        f = between(words.u[1], step->low[1], step->high[1]);
        float rest = (1.0f - f) * mean_grey(canvas);
        for (int64_t i = 0; i < n; i++)
            canvas->from[i] = limited(canvas->from[i] * f + rest, limit);
    }
    if (step->low[2] < step->high[2] && channels == 3) {
        f = between(words.u[2], step->low[2], step->high[2]);
        for (int64_t i = 0; i < n; i += channels) {
            float rest = (1.0f - f) * grey_of(canvas->from + i, channels);
            for (int64_t c = 0; c < channels; c++)
                canvas->from[i + c] = limited(canvas->from[i + c] * f + rest, limit);
        }
    }
}

/* A rectangle of zeros about a random pixel; what sticks out is cut off. */
static void cut_out(struct canvas *canvas, const struct rp_data_step *step, struct rp_draw words)
{
    if (rp_uniform(words.u[2]) >= step->p) return;
    int64_t top = rp_data_word_below(words.u[0], canvas->height) - step->size[0] / 2;
    int64_t left = rp_data_word_below(words.u[1], canvas->width) - step->size[1] / 2;
    for (int64_t y = top; y < top + step->size[0]; y++)
        for (int64_t x = left; x < left + step->size[1]; x++)
            if (is_inside(canvas, y, x))
                memset(canvas->from + (y * canvas->width + x) * canvas->channels, 0,
                       (size_t)canvas->channels * sizeof *canvas->from);
}

/* ---- the list -------------------------------------------------------------------------------- */

static void load(const struct rp_data_set *set, int64_t sample, float *out)
{
    if (!set->is_u8) {
        memcpy(out, set->f32 + sample * set->row, (size_t)set->row * sizeof *out);
        return;
    }
    const uint8_t *in = set->u8 + sample * set->row;
    for (int64_t i = 0; i < set->row; i++) out[i] = (float)in[i] / 255.0f;
}

static void apply(struct canvas *canvas, const struct rp_data_step *step, struct rp_draw words,
                  bool is_u8)
{
    switch (step->kind) {
    case RP_TRANSFORM_NORMALIZE:
        normalize(canvas, step);
        break;
    case RP_TRANSFORM_RANDOM_CROP:
        crop(canvas, step, words);
        break;
    case RP_TRANSFORM_RANDOM_FLIP:
        if (rp_uniform(words.u[0]) < step->p) flip(canvas);
        break;
    case RP_TRANSFORM_RANDOM_RESIZED_CROP:
        resized_crop(canvas, step, words);
        break;
    case RP_TRANSFORM_RANDOM_ROTATION:
        rotate(canvas, step, words);
        break;
    case RP_TRANSFORM_COLOR_JITTER:
        jitter(canvas, step, words, is_u8);
        break;
    case RP_TRANSFORM_CUTOUT:
        cut_out(canvas, step, words);
        break;
    case RP_TRANSFORM_MIXUP:
    case RP_TRANSFORM_CUTMIX: /* mix.c */
        break;
    }
}

void rp_data_augment(const struct rp_data_transforms *transforms, const struct rp_data_set *set,
                     int64_t sample, const struct rp_data_key *key, float *room, float *out)
{
    struct canvas canvas = {.height = set->dims[0],
                            .width = set->dims[1],
                            .channels = set->dims[2],
                            .from = out,
                            .to = room};
    load(set, sample, out);
    for (int i = 0; i < transforms->n_steps; i++)
        apply(
            &canvas, &transforms->step[i],
            rp_draw_block(key->seed, RP_PURPOSE_TRANSFORM, (uint32_t)i, key->position, key->block),
            set->is_u8);
    if (canvas.from != out) memcpy(out, canvas.from, (size_t)set->row * sizeof *out);
}
