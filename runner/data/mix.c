/* mix.c - mixup and cutmix: a training sample with another one in it, and its class with the
 * other's. README.md has the formulas; tests/train/test_augment.py a twin in NumPy.
 *
 * Which samples meet, and by which weights, follows from seed and position alone, as every other
 * draw does: the other sample need not be in the same batch, shard or pass. */
#include "data/data_int.h"
#include "numerics.h"

#include <string.h>

enum { WHOLE = 1 << 24 };

static struct rp_draw words_of(const struct rp_data_mix *mix, const struct rp_data_key *key,
                               uint32_t block)
{
    return rp_draw_block(key->seed, RP_PURPOSE_TRANSFORM, mix->site, key->position, block);
}

/* Beta(alpha, alpha) by Bailey's polar method (Math. Comp. 62, 1994), which rejects nothing. */
static double draw_part(double alpha, uint32_t radius, uint32_t turn)
{
    const double two_pi = 0x1.921fb54442d18p2;
    double power = rp_log64(((double)radius + 0.5) * 0x1p-32) / alpha;
    double e = power < -700 ? 0 : rp_exp64(power);
    double c = rp_cos64((((double)turn + 0.5) * 0x1p-32) * two_pi), rest = 1 - e;
    return 0.5 + (0.5 * c) * rp_sqrt64(rest / (e + rest * (c * c)));
}

static int32_t mix_all(int64_t n, double part, const float *other, float *x)
{
    int32_t weight = (int32_t)(part * (double)WHOLE + 0.5);
    float own = (float)weight * 0x1p-24f, rest = (float)(WHOLE - weight) * 0x1p-24f;
    for (int64_t i = 0; i < n; i++) x[i] = x[i] * own + other[i] * rest;
    return weight;
}

static int64_t limited(int64_t at, int64_t most)
{
    return at < 0 ? 0 : at > most ? most : at;
}

/* The rectangle about a random pixel whose area is 1 - part; what sticks out is cut off. */
static int32_t paste(const struct rp_data_set *set, double part, const struct rp_draw *words,
                     const float *other, float *x)
{
    int64_t height = set->dims[0], width = set->dims[1], channels = set->dims[2];
    double side = rp_sqrt64(1 - part);
    int64_t h = (int64_t)((double)height * side + 0.5), w = (int64_t)((double)width * side + 0.5);
    int64_t top = rp_data_word_below(words->u[2], height) - h / 2;
    int64_t left = rp_data_word_below(words->u[3], width) - w / 2;
    int64_t bottom = limited(top + h, height), right = limited(left + w, width);
    top = limited(top, height), left = limited(left, width);
    for (int64_t y = top; y < bottom; y++) {
        int64_t first = (y * width + left) * channels;
        memcpy(x + first, other + first, (size_t)((right - left) * channels) * sizeof *x);
    }
    int64_t pixels = height * width, kept = pixels - (bottom - top) * (right - left);
    return (int32_t)((2 * WHOLE * kept + pixels) / (2 * pixels));
}

void rp_data_mix(const struct rp_data *data, int64_t sample, const struct rp_data_key *key,
                 float *room, float *x, int32_t *target)
{
    const struct rp_data_transforms *transforms = &data->transforms;
    const struct rp_data_set *set = &data->train;
    int64_t chosen =
        rp_data_word_below(words_of(&transforms->mix[0], key, 0).u[0], transforms->n_mixes);
    const struct rp_data_mix *mix = &transforms->mix[chosen];
    struct rp_draw words = words_of(mix, key, 0), more = words_of(mix, key, 1);
    target[0] = target[1] = set->labels[sample];
    target[2] = WHOLE;
    if (rp_uniform(words.u[1]) >= mix->p) return;
    int64_t partner = rp_data_word_below(words.u[2], data->shape.n_train);
    if (data->train_index) partner = data->train_index[partner];
    struct rp_data_key other_key = {key->seed, key->position, 1};
    float *other = room + set->row;
    rp_data_sample_random(transforms, set, partner, &other_key, room, other);
    double part = draw_part((double)mix->alpha, more.u[0], more.u[1]);
    target[1] = set->labels[partner];
    target[2] = mix->kind == RP_TRANSFORM_MIXUP ? mix_all(set->row, part, other, x)
                                                : paste(set, part, &more, other, x);
}
