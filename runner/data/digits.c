/* digits.c - the task `digits`: ten figures drawn with a pen that is never twice the same.
 *
 * A figure is a few cubic curves. A sample bends, slants, turns, scales and shifts them, draws them
 * with a pen of some width and darkness, adds a stray mark now and then, and noise. All of it is +
 * - * / sqrt on binary32 and integers, keyed by (seed, sample), so every machine draws the same
 * bytes. */
#include "data/data_int.h"
#include "numerics.h"

enum { SIDE = 28, STEPS_PER_CURVE = 8, MAX_CURVES = 6, MAX_FORMS = 3 };
enum site { SITE_FORM, SITE_NOISE };

/* Control points in a box of about [-0.6, 0.6] x [-1, 1], y downwards. */
struct curve {
    float x[4], y[4];
};
struct form {
    int n_curves;
    struct curve curves[MAX_CURVES];
};
struct figure {
    int n_forms;
    struct form forms[MAX_FORMS];
};

#define CURVE(x0, y0, x1, y1, x2, y2, x3, y3)                                                      \
    {                                                                                              \
        {x0, x1, x2, x3},                                                                          \
        {                                                                                          \
            y0, y1, y2, y3                                                                         \
        }                                                                                          \
    }
#define LINE(x0, y0, x1, y1)                                                                       \
    CURVE(x0, y0, (2 * (x0) + (x1)) / 3, (2 * (y0) + (y1)) / 3, ((x0) + 2 * (x1)) / 3,             \
          ((y0) + 2 * (y1)) / 3, x1, y1)

static const struct figure FIGURES[10] = {
    /* 0 */ {
        2,
        {{4,
          {CURVE(0, -.95f, .32f, -.95f, .55f, -.52f, .55f, 0),
           CURVE(.55f, 0, .55f, .52f, .32f, .95f, 0, .95f),
           CURVE(0, .95f, -.32f, .95f, -.55f, .52f, -.55f, 0),
           CURVE(-.55f, 0, -.55f, -.52f, -.32f, -.95f, 0, -.95f)}},
         {3,
          {CURVE(.2f, -.9f, -.75f, -1.0f, -.75f, .9f, -.05f, .95f),
           CURVE(-.05f, .95f, .6f, .98f, .7f, -.55f, .2f, -.9f), LINE(.2f, -.9f, .42f, -.98f)}}}},
    /* 1 */
    {3,
     {{1, {LINE(.05f, -.95f, -.05f, .95f)}},
      {2, {LINE(-.32f, -.55f, .06f, -.95f), LINE(.06f, -.95f, .06f, .95f)}},
      {3,
       {LINE(-.3f, -.6f, .04f, -.95f), LINE(.04f, -.95f, .04f, .92f),
        LINE(-.38f, .92f, .44f, .92f)}}}},
    /* 2 */
    {2,
     {{3,
       {CURVE(-.5f, -.5f, -.45f, -1.1f, .55f, -1.15f, .5f, -.4f),
        CURVE(.5f, -.4f, .45f, .05f, -.2f, .4f, -.55f, .9f), LINE(-.55f, .9f, .6f, .9f)}},
      {3,
       {CURVE(-.48f, -.6f, -.2f, -1.15f, .7f, -1.05f, .42f, -.25f),
        CURVE(.42f, -.25f, .15f, .4f, -.35f, .95f, -.5f, .65f),
        CURVE(-.5f, .65f, -.4f, .4f, .1f, 1.05f, .6f, .8f)}}}},
    /* 3 */
    {2,
     {{4,
       {CURVE(-.45f, -.75f, -.2f, -1.1f, .55f, -1.05f, .48f, -.5f),
        CURVE(.48f, -.5f, .42f, -.15f, .1f, -.05f, -.1f, -.05f),
        CURVE(-.1f, -.05f, .25f, -.08f, .6f, .1f, .55f, .5f),
        CURVE(.55f, .5f, .5f, 1.05f, -.3f, 1.1f, -.52f, .7f)}},
      {4,
       {LINE(-.48f, -.9f, .48f, -.9f), LINE(.48f, -.9f, -.05f, -.15f),
        CURVE(-.05f, -.15f, .35f, -.2f, .62f, .1f, .55f, .5f),
        CURVE(.55f, .5f, .45f, 1.05f, -.3f, 1.1f, -.5f, .7f)}}}},
    /* 4 */
    {3,
     {{3,
       {LINE(-.35f, -.9f, -.52f, .15f), LINE(-.52f, .15f, .58f, .12f),
        LINE(.25f, -.55f, .2f, .95f)}},
      {3,
       {LINE(.22f, -.95f, -.56f, .3f), LINE(-.56f, .3f, .6f, .3f), LINE(.22f, -.95f, .22f, .95f)}},
      {3,
       {CURVE(-.42f, -.9f, -.5f, -.3f, -.6f, .15f, -.3f, .12f),
        CURVE(-.3f, .12f, 0, .1f, .25f, .0f, .36f, -.1f), LINE(.42f, -.9f, .3f, .95f)}}}},
    /* 5 */
    {2,
     {{4,
       {LINE(.5f, -.92f, -.35f, -.92f), LINE(-.35f, -.92f, -.42f, -.1f),
        CURVE(-.42f, -.1f, -.1f, -.35f, .6f, -.25f, .52f, .4f),
        CURVE(.52f, .4f, .45f, 1.0f, -.3f, 1.1f, -.52f, .7f)}},
      {3,
       {CURVE(.52f, -.98f, .2f, -.85f, -.1f, -.85f, -.3f, -.9f),
        CURVE(-.3f, -.9f, -.65f, .1f, .1f, -.3f, .4f, .1f),
        CURVE(.4f, .1f, .7f, .6f, .0f, 1.15f, -.5f, .8f)}}}},
    /* 6 */
    {2,
     {{3,
       {CURVE(.35f, -.95f, -.1f, -.85f, -.55f, -.1f, -.5f, .4f),
        CURVE(-.5f, .4f, -.45f, 1.1f, .5f, 1.1f, .5f, .45f),
        CURVE(.5f, .45f, .5f, -.1f, -.35f, -.1f, -.48f, .4f)}},
      {3,
       {CURVE(-.05f, -.98f, -.5f, -.4f, -.6f, .3f, -.35f, .75f),
        CURVE(-.35f, .75f, -.05f, 1.15f, .6f, .85f, .45f, .35f),
        CURVE(.45f, .35f, .3f, .0f, -.25f, .25f, -.4f, .65f)}}}},
    /* 7 */
    {3,
     {{2, {LINE(-.52f, -.9f, .52f, -.9f), CURVE(.52f, -.9f, .3f, -.4f, -.05f, .2f, -.15f, .95f)}},
      {3,
       {LINE(-.52f, -.88f, .52f, -.92f), LINE(.52f, -.92f, -.2f, .95f),
        LINE(-.28f, .0f, .42f, -.04f)}},
      {3,
       {LINE(-.5f, -.62f, -.46f, -.9f), LINE(-.46f, -.9f, .5f, -.88f),
        CURVE(.5f, -.88f, .2f, -.3f, .1f, .3f, .05f, .95f)}}}},
    /* 8 */
    {2,
     {{4,
       {CURVE(0, -.05f, -.6f, -.25f, -.55f, -.95f, 0, -.95f),
        CURVE(0, -.95f, .55f, -.95f, .6f, -.25f, 0, -.05f),
        CURVE(0, -.05f, -.75f, .2f, -.7f, .95f, 0, .95f),
        CURVE(0, .95f, .7f, .95f, .75f, .2f, 0, -.05f)}},
      {4,
       {CURVE(.4f, -.8f, -.1f, -1.2f, -.75f, -.65f, -.25f, -.25f),
        CURVE(-.25f, -.25f, .2f, .05f, .65f, .35f, .4f, .75f),
        CURVE(.4f, .75f, .05f, 1.2f, -.75f, .8f, -.4f, .3f),
        CURVE(-.4f, .3f, -.15f, -.05f, .6f, -.35f, .4f, -.8f)}}}},
    /* 9 */
    {2,
     {{3,
       {CURVE(.45f, -.45f, .45f, -1.1f, -.5f, -1.1f, -.5f, -.45f),
        CURVE(-.5f, -.45f, -.5f, .1f, .35f, .15f, .45f, -.45f),
        CURVE(.45f, -.45f, .45f, .2f, .35f, .6f, .2f, .95f)}},
      {4,
       {CURVE(.42f, -.6f, .1f, -1.15f, -.6f, -.85f, -.45f, -.4f),
        CURVE(-.45f, -.4f, -.35f, .05f, .3f, -.05f, .42f, -.6f),
        CURVE(.42f, -.6f, .5f, .1f, .5f, .95f, .1f, .92f),
        CURVE(.1f, .92f, -.1f, .92f, -.3f, .85f, -.4f, .7f)}}}},
};

/* Uniform numbers of one sample, one after the other. */
struct stream {
    uint64_t seed, sample;
    uint32_t n_used;
    struct rp_draw words;
};

static uint32_t stream_next(struct stream *stream)
{
    if (stream->n_used % 4 == 0)
        stream->words = rp_draw_block(stream->seed, RP_PURPOSE_SYNTHETIC, SITE_FORM, stream->sample,
                                      stream->n_used / 4);
    return stream->words.u[stream->n_used++ % 4];
}

static int stream_below(struct stream *stream, int n)
{
    return (int)(((uint64_t)stream_next(stream) * (uint64_t)n) >> 32);
}

static float stream_between(struct stream *stream, float low, float high)
{
    return low + (high - low) * rp_uniform(stream_next(stream));
}

/* How one sample differs from the figure in the table. */
struct hand {
    float bend_x[4], bend_y[4]; /* of x^2, xy, y^2, y^3 */
    float xx, xy, yx, yy;       /* scale, slant and turn */
    float shift_x, shift_y;     /* pixels */
    float radius, ink;          /* of the pen; brightness */
};

static struct hand hand_draw(struct stream *stream)
{
    struct hand hand;
    for (int i = 0; i < 4; i++) {
        hand.bend_x[i] = stream_between(stream, -.14f, .14f);
        hand.bend_y[i] = stream_between(stream, -.14f, .14f);
    }
    float width = stream_between(stream, 7.6f, 11.0f), height = stream_between(stream, 8.4f, 10.6f);
    float slant = stream_between(stream, -.08f, .36f);
    /* A turn by the angle whose half has this tangent: the rational form of sine and cosine. */
    float half = stream_between(stream, -.14f, .14f);
    float cosine = (1 - half * half) / (1 + half * half), sine = 2 * half / (1 + half * half);
    hand.xx = cosine * width;
    hand.xy = -slant * cosine * height - sine * height;
    hand.yx = sine * width;
    hand.yy = -slant * sine * height + cosine * height;
    hand.shift_x = stream_between(stream, -2.0f, 2.0f);
    hand.shift_y = stream_between(stream, -1.6f, 1.6f);
    hand.radius = stream_between(stream, .55f, 1.75f);
    hand.ink = stream_between(stream, .6f, 1.0f);
    return hand;
}

static void hand_place(const struct hand *hand, float x, float y, float *px, float *py)
{
    float term[4] = {x * x, x * y, y * y, y * y * y};
    float bent_x = x, bent_y = y;
    for (int i = 0; i < 4; i++) {
        bent_x = bent_x + hand->bend_x[i] * term[i];
        bent_y = bent_y + hand->bend_y[i] * term[i];
    }
    *px = hand->xx * bent_x + hand->xy * bent_y + hand->shift_x + (SIDE - 1) * 0.5f;
    *py = hand->yx * bent_x + hand->yy * bent_y + hand->shift_y + (SIDE - 1) * 0.5f;
}

/* The pixels [*first, *last] that lie within `reach` of the interval between a and b. */
static void pixel_range(float a, float b, float reach, int *first, int *last)
{
    float low = (a < b ? a : b) - reach, high = (a < b ? b : a) + reach;
    low = low < 0 ? 0 : low;
    high = high > SIDE - 1 ? SIDE - 1 : high;
    *first = low > SIDE - 1 ? SIDE : (int)low;
    *last = high < 0 ? -1 : (int)high;
}

/* Lowers each pixel's squared distance to the pen's path to that to the segment a - b. Pixels past
 * the reach do no harm, so columns are taken four at a time. */
static void draw_segment(float ax, float ay, float bx, float by, float reach,
                         float squared[SIDE][SIDE])
{
    int x0, x1, y0, y1;
    pixel_range(ax, bx, reach, &x0, &x1);
    pixel_range(ay, by, reach, &y0, &y1);
    float dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    float per_length = length > 0 ? 1 / length : 0;
    int first = x0 / 4, last = x0 <= x1 ? x1 / 4 : -1;
    for (int y = y0; y <= y1; y++) {
        float down = (float)y - ay;
        for (int x = 4 * first; x < 4 * last + 4; x++) {
            float ex = (float)x - ax, ey = down;
            float along = (ex * dx + ey * dy) * per_length;
            along = along < 0 ? 0 : along;
            along = along > 1 ? 1 : along;
            ex = ex - along * dx;
            ey = ey - along * dy;
            float distance = ex * ex + ey * ey;
            squared[y][x] = distance < squared[y][x] ? distance : squared[y][x];
        }
    }
}

static void draw_curve(const struct curve *curve, const struct hand *hand,
                       float squared[SIDE][SIDE])
{
    float px[4], py[4], last_x, last_y;
    for (int i = 0; i < 4; i++) hand_place(hand, curve->x[i], curve->y[i], &px[i], &py[i]);
    last_x = px[0];
    last_y = py[0];
    for (int step = 1; step <= STEPS_PER_CURVE; step++) {
        float t = (float)step / STEPS_PER_CURVE, s = 1 - t;
        float weight[4] = {s * s * s, 3 * s * s * t, 3 * s * t * t, t * t * t};
        float x = 0, y = 0;
        for (int i = 0; i < 4; i++) {
            x = x + weight[i] * px[i];
            y = y + weight[i] * py[i];
        }
        draw_segment(last_x, last_y, x, y, hand->radius + 1, squared);
        last_x = x;
        last_y = y;
    }
}

/* In one sample of four a short mark that belongs to no figure. */
static void draw_stray_mark(struct stream *stream, const struct hand *hand,
                            float squared[SIDE][SIDE])
{
    bool wanted = stream_below(stream, 4) == 0;
    float x = stream_between(stream, 2, SIDE - 3), y = stream_between(stream, 2, SIDE - 3);
    float dx = stream_between(stream, -4, 4), dy = stream_between(stream, -4, 4);
    if (wanted) draw_segment(x, y, x + dx, y + dy, hand->radius + 1, squared);
}

/* Noise of a triangular distribution, for each pixel the sum of two bytes less its middle: (28 *
 * 28). */
static void draw_noise(uint64_t seed, uint64_t sample, int16_t *noise)
{
    for (int i = 0; i < SIDE * SIDE; i += 8) {
        struct rp_draw draw =
            rp_draw_block(seed, RP_PURPOSE_SYNTHETIC, SITE_NOISE, sample, (uint32_t)(i / 8));
        for (int j = 0; j < 8; j++) {
            uint32_t pair = draw.u[j / 2] >> (j % 2 * 16);
            noise[i + j] = (int16_t)((int)(pair & 255) + (int)(pair >> 8 & 255) - 255);
        }
    }
}

/* Pixels from distances to the pen's path and noise of standard deviation `deviation` (1 is white).
 */
static void develop(const float *squared, const struct hand *hand, const int16_t *noise,
                    float deviation, uint8_t *pixels)
{
    /* The sum of two bytes has variance 2 * (256^2 - 1) / 12. */
    float per_byte = deviation / rp_sqrt(2 * 65535.0f / 12), edge = hand->radius + 0.5f;
    for (int i = 0; i < SIDE * SIDE; i++) {
        float cover = edge - rp_sqrt(squared[i]);
        cover = cover < 0 ? 0 : cover;
        cover = cover > 1 ? 1 : cover;
        float value = cover * hand->ink + (float)noise[i] * per_byte;
        value = value < 0 ? 0 : value;
        value = value > 1 ? 1 : value;
        pixels[i] = (uint8_t)(int)(value * 255 + 0.5f);
    }
}

int rp_data_draw_digit(uint64_t seed, uint64_t sample, float deviation, uint8_t pixels[SIDE * SIDE])
{
    int16_t noise[SIDE * SIDE];
    struct stream stream = {.seed = seed, .sample = sample};
    float squared[SIDE][SIDE];
    int class = stream_below(&stream, 10);
    const struct figure *figure = &FIGURES[class];
    const struct form *form = &figure->forms[stream_below(&stream, figure->n_forms)];
    struct hand hand = hand_draw(&stream);
    for (int i = 0; i < SIDE * SIDE; i++) squared[i / SIDE][i % SIDE] = 1e6f;
    for (int i = 0; i < form->n_curves; i++) draw_curve(&form->curves[i], &hand, squared);
    draw_stray_mark(&stream, &hand, squared);
    draw_noise(seed, sample, noise);
    develop(&squared[0][0], &hand, noise, deviation, pixels);
    return class;
}
