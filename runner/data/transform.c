/* transform.c - from stored samples to what the model sees: normalise always, crop and flip when
 * training.
 *
 * The list of the spec runs in its order. Elementwise steps and geometric steps change places
 * freely, but for the zeros that a crop brings in from outside: they pass only the steps after the
 * crop. So the elementwise steps become one table over byte values, and each crop knows what its
 * zeros end as. */
#include "data/data_int.h"
#include "numerics.h"

#include <string.h>

static float normalize(const struct rp_spec_transform *transform, int64_t channel, float value)
{
    int64_t i = transform->n_channels > 1 ? channel : 0;
    return (value - transform->mean[i]) / transform->std[i];
}

/* The elementwise steps from `first` to the end of the list. */
static float apply_from(const struct rp_spec *spec, int first, int64_t channel, float value)
{
    for (int i = first; i < spec->n_transforms; i++)
        if (spec->transform[i].kind == RP_TRANSFORM_NORMALIZE)
            value = normalize(&spec->transform[i], channel, value);
    return value;
}

static int64_t channels_of(const struct rp_data_set *set)
{
    return set->n_dims == 3 ? set->dims[2] : set->dims[0];
}

static bool is_mix(const struct rp_spec_transform *transform)
{
    return transform->kind >= RP_TRANSFORM_MIXUP;
}

static bool is_stepwise(const struct rp_spec *spec)
{
    for (int i = 0; i < spec->n_transforms; i++)
        if (spec->transform[i].kind > RP_TRANSFORM_RANDOM_FLIP && !is_mix(&spec->transform[i]))
            return true;
    return false;
}

enum rp_status rp_data_transforms_check(const struct rp_spec *spec, const struct rp_data_set *set,
                                        struct rp_error *err)
{
    for (int i = 0; i < spec->n_transforms; i++) {
        const struct rp_spec_transform *transform = &spec->transform[i];
        if (set->tokens)
            return rp_spec_fail(spec, transform->at, RP_STATUS_USAGE, err,
                                "transforms are for numbers, and this data is text: leave "
                                "`transform` out");
        if (transform->kind == RP_TRANSFORM_NORMALIZE) {
            if (transform->n_channels > 1 && transform->n_channels != channels_of(set))
                return rp_spec_fail(spec, transform->at, RP_STATUS_USAGE, err,
                                    "mean and std have %d values, but the data has %lld %s: give "
                                    "one number or %lld",
                                    transform->n_channels, (long long)channels_of(set),
                                    set->n_dims == 3 ? "channels" : "columns",
                                    (long long)channels_of(set));
            if (transform->n_channels > RP_DATA_MAX_CHANNELS && (set->is_u8 || set->n_dims == 3))
                return rp_spec_fail(
                    spec, transform->at, RP_STATUS_USAGE, err,
                    "mean and std of bytes and of images have at most %d values; give one",
                    RP_DATA_MAX_CHANNELS);
        } else if (transform->kind == RP_TRANSFORM_MIXUP) {
            continue; /* of anything */
        } else if (set->n_dims != 3) {
            return rp_spec_fail(spec, transform->at, RP_STATUS_USAGE, err,
                                "%s images (height, width, channels), "
                                "but a sample of this data is a row of %lld numbers",
                                transform->kind <= RP_TRANSFORM_RANDOM_FLIP
                                    ? "random_crop and random_flip need"
                                    : "this needs",
                                (long long)set->dims[0]);
        } else if (is_stepwise(spec) && set->dims[2] > RP_DATA_MAX_CHANNELS) {
            return rp_spec_fail(spec, transform->at, RP_STATUS_USAGE, err,
                                "images have %lld channels; at most %d are taken here",
                                (long long)set->dims[2], RP_DATA_MAX_CHANNELS);
        } else if (transform->kind == RP_TRANSFORM_COLOR_JITTER && set->dims[2] != 1 &&
                   set->dims[2] != 3) {
            return rp_spec_fail(spec, transform->at, RP_STATUS_USAGE, err,
                                "color_jitter is for images of 1 or 3 channels; these have %lld",
                                (long long)set->dims[2]);
        }
    }
    return RP_STATUS_OK;
}

/* True when some step treats the channels differently. */
static bool is_per_channel(const struct rp_spec *spec)
{
    for (int i = 0; i < spec->n_transforms; i++)
        if (spec->transform[i].n_channels > 1) return true;
    return false;
}

static void copy_step(const struct rp_spec_transform *transform, struct rp_data_step *step)
{
    *step = (struct rp_data_step){.kind = transform->kind,
                                  .n_channels = transform->n_channels,
                                  .padding = transform->padding,
                                  .size = {transform->size[0], transform->size[1]},
                                  .p = transform->p};
    bool is_normalize = transform->kind == RP_TRANSFORM_NORMALIZE;
    for (int c = 0; c < RP_DATA_MAX_CHANNELS; c++) {
        step->low[c] = is_normalize ? transform->mean[c] : c < 3 ? transform->low[c] : 0;
        step->high[c] = is_normalize ? transform->std[c] : c < 3 ? transform->high[c] : 0;
    }
}

void rp_data_transforms_init(struct rp_data_transforms *transforms, const struct rp_spec *spec,
                             const struct rp_data_set *set)
{
    memset(transforms, 0, sizeof *transforms);
    for (int i = 0; i < spec->n_transforms; i++)
        if (is_mix(&spec->transform[i]))
            transforms->mix[transforms->n_mixes++] =
                (struct rp_data_mix){.kind = spec->transform[i].kind,
                                     .site = (uint32_t)i,
                                     .alpha = spec->transform[i].alpha,
                                     .p = spec->transform[i].p};
    transforms->channels = is_per_channel(spec) ? channels_of(set) : 1;
    if (transforms->channels > RP_DATA_MAX_CHANNELS) return; /* a table: no bytes, no geometry */
    transforms->stepwise = is_stepwise(spec);
    transforms->n_steps = spec->n_transforms - transforms->n_mixes; /* mixes come last */
    for (int i = 0; i < transforms->n_steps; i++)
        copy_step(&spec->transform[i], &transforms->step[i]);
    for (int i = 0; i < transforms->n_steps; i++) {
        const struct rp_spec_transform *transform = &spec->transform[i];
        if (transform->kind == RP_TRANSFORM_NORMALIZE || transforms->stepwise) continue;
        struct rp_data_geometry *geometry = &transforms->geometry[transforms->n_geometry++];
        geometry->kind = transform->kind;
        geometry->site = (uint32_t)i;
        geometry->padding = transform->padding;
        geometry->p = transform->p;
        for (int64_t c = 0; c < transforms->channels; c++)
            geometry->outside[c] = apply_from(spec, i + 1, c, 0);
    }
    for (int64_t c = 0; c < transforms->channels; c++)
        for (int byte = 0; byte < 256; byte++)
            transforms->table[c][byte] = apply_from(spec, 0, c, (float)byte / 255.0f);
}

void rp_data_transforms_apply(const struct rp_spec *spec, struct rp_data_set *set)
{
    int64_t channels = channels_of(set), total = set->n * set->row;
    bool any = false;
    for (int i = 0; i < spec->n_transforms; i++)
        any = any || spec->transform[i].kind == RP_TRANSFORM_NORMALIZE;
    if (!any) return;
    for (int64_t i = 0, c = 0; i < total; i++) {
        set->f32[i] = apply_from(spec, 0, c, set->f32[i]);
        c = c + 1 == channels ? 0 : c + 1;
    }
}

/* n bytes of one channel: eight are read at once, as a byte at a time takes three times as long. */
static void look_up_channel(const float table[256], const uint8_t *in, int64_t n, float *out)
{
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t bytes;
        memcpy(&bytes, in + i, sizeof bytes);
        for (int j = 0; j < 8; j++) out[i + j] = table[bytes >> 8 * j & 255];
    }
    for (; i < n; i++) out[i] = table[in[i]];
}

/* n bytes of interleaved channels through the table. */
static void look_up(const struct rp_data_transforms *transforms, const uint8_t *in, int64_t n,
                    float *out)
{
    if (transforms->channels == 1) {
        look_up_channel(transforms->table[0], in, n, out);
    } else if (transforms->channels == 3) {
        for (int64_t i = 0; i < n; i += 3) {
            out[i] = transforms->table[0][in[i]];
            out[i + 1] = transforms->table[1][in[i + 1]];
            out[i + 2] = transforms->table[2][in[i + 2]];
        }
    } else {
        for (int64_t i = 0; i < n; i += transforms->channels)
            for (int64_t c = 0; c < transforms->channels; c++)
                out[i + c] = transforms->table[c][in[i + c]];
    }
}

/* `n` elements of a sample from element `first` on, transformed by the fixed steps. */
static void copy_elements(const struct rp_data_transforms *transforms,
                          const struct rp_data_set *set, int64_t sample, int64_t first, int64_t n,
                          float *out)
{
    if (set->is_u8)
        look_up(transforms, set->u8 + sample * set->row + first, n, out);
    else
        memcpy(out, set->f32 + sample * set->row + first, (size_t)n * sizeof *out);
}

/* The elementwise steps on one sample of f32 that is stored as it was read. */
static void apply_steps(const struct rp_data_transforms *transforms, const struct rp_data_set *set,
                        float *out)
{
    for (int i = 0; i < transforms->n_steps; i++) {
        const struct rp_data_step *step = &transforms->step[i];
        if (step->kind != RP_TRANSFORM_NORMALIZE) continue;
        for (int64_t k = 0; k < set->row; k++) {
            int64_t c = step->n_channels > 1 ? k % set->dims[2] : 0;
            out[k] = (out[k] - step->low[c]) / step->high[c];
        }
    }
}

void rp_data_sample_fixed(const struct rp_data_transforms *transforms,
                          const struct rp_data_set *set, int64_t sample, float *out)
{
    copy_elements(transforms, set, sample, 0, set->row, out);
    if (transforms->stepwise && !set->is_u8) apply_steps(transforms, set, out);
}

/* ---- random geometry ------------------------------------------------------------------------- */

/* What the list does to one axis of one sample. Going back from output to input, the coordinate
 * before step i is sign * coordinate + offset, and crop i sees zeros where that is outside [0,
 * size). */
struct axis {
    int64_t size, sign, offset;
    int64_t crop_sign[RP_SPEC_MAX_TRANSFORMS], crop_offset[RP_SPEC_MAX_TRANSFORMS];
};
struct placed {
    struct axis y, x;
};

static void axis_shift(struct axis *axis, int step, int64_t shift)
{
    axis->offset += shift;
    axis->crop_sign[step] = axis->sign;
    axis->crop_offset[step] = axis->offset;
}

static void axis_flip(struct axis *axis)
{
    axis->sign = -axis->sign;
    axis->offset = axis->size - 1 - axis->offset;
}

int64_t rp_data_word_below(uint32_t word, int64_t n)
{
    return (int64_t)(((uint64_t)word * (uint64_t)n) >> 32);
}

static struct placed place_sample(const struct rp_data_transforms *transforms,
                                  const struct rp_data_set *set, const struct rp_data_key *key)
{
    struct placed placed = {.y = {.size = set->dims[0], .sign = 1},
                            .x = {.size = set->dims[1], .sign = 1}};
    for (int i = transforms->n_geometry - 1; i >= 0; i--) {
        const struct rp_data_geometry *geometry = &transforms->geometry[i];
        struct rp_draw words = rp_draw_block(key->seed, RP_PURPOSE_TRANSFORM, geometry->site,
                                             key->position, key->block);
        if (geometry->kind == RP_TRANSFORM_RANDOM_CROP) {
            int64_t choices = 2 * geometry->padding + 1;
            axis_shift(&placed.y, i, rp_data_word_below(words.u[0], choices) - geometry->padding);
            axis_shift(&placed.x, i, rp_data_word_below(words.u[1], choices) - geometry->padding);
        } else if (rp_uniform(words.u[0]) < geometry->p) {
            axis_flip(&placed.x);
        }
    }
    return placed;
}

/* The step whose zeros an output coordinate shows, the last such step of the list; -1: none. */
static int outside_step(const struct rp_data_transforms *transforms, const struct axis *axis,
                        int64_t at)
{
    for (int i = transforms->n_geometry - 1; i >= 0; i--) {
        if (transforms->geometry[i].kind != RP_TRANSFORM_RANDOM_CROP) continue;
        int64_t seen = axis->crop_sign[i] * at + axis->crop_offset[i];
        if (seen < 0 || seen >= axis->size) return i;
    }
    return -1;
}

static void copy_pixel(const struct rp_data_transforms *transforms, const struct rp_data_set *set,
                       int64_t sample, int step, int64_t y, int64_t x, float *out)
{
    int64_t channels = set->dims[2];
    if (step < 0) {
        copy_elements(transforms, set, sample, (y * set->dims[1] + x) * channels, channels, out);
        return;
    }
    const float *outside = transforms->geometry[step].outside;
    for (int64_t c = 0; c < channels; c++) out[c] = outside[transforms->channels == 1 ? 0 : c];
}

void rp_data_sample_random(const struct rp_data_transforms *transforms,
                           const struct rp_data_set *set, int64_t sample,
                           const struct rp_data_key *key, float *room, float *out)
{
    if (transforms->stepwise) {
        rp_data_augment(transforms, set, sample, key, room, out);
        return;
    }
    if (transforms->n_geometry == 0) {
        rp_data_sample_fixed(transforms, set, sample, out);
        return;
    }
    struct placed placed = place_sample(transforms, set, key);
    int64_t height = set->dims[0], width = set->dims[1], channels = set->dims[2];
    /* The columns that no crop leaves empty are one interval: it is copied as a block when not
     * flipped. */
    int64_t first = 0, last = width;
    while (first < width && outside_step(transforms, &placed.x, first) >= 0) first++;
    while (last > first && outside_step(transforms, &placed.x, last - 1) >= 0) last--;
    for (int64_t y = 0; y < height; y++) {
        int row_step = outside_step(transforms, &placed.y, y);
        int64_t from_y = placed.y.sign * y + placed.y.offset;
        for (int64_t x = 0; x < width; x++) {
            float *pixel = out + (y * width + x) * channels;
            int64_t from_x = placed.x.sign * x + placed.x.offset;
            if (row_step < 0 && x == first && last > first && placed.x.sign > 0) {
                copy_elements(transforms, set, sample, (from_y * width + from_x) * channels,
                              (last - first) * channels, pixel);
                x = last - 1;
                continue;
            }
            int step = x >= first && x < last ? -1 : outside_step(transforms, &placed.x, x);
            copy_pixel(transforms, set, sample, step > row_step ? step : row_step, from_y, from_x,
                       pixel);
        }
    }
}
