/* synthetic.c - data sets that need no file: digits (digits.c), blobs, spirals, sums modulo p. */
#include "data/tokens.h"
#include "base/sys.h"
#include "numerics.h"

#include <pthread.h>

enum { DIGIT_SIDE = 28, MAX_THREADS = 8, PER_THREAD = 512, SUM_TOKENS = 4 };

/* ---- digits, drawn by several threads: each sample depends on its number alone --------------- */

struct slice {
    const struct rp_spec_dataset *dataset;
    struct rp_data_set *set;
    int64_t first, last;
};

static void *draw_slice(void *argument)
{
    struct slice *slice = argument;
    const struct rp_spec_dataset *dataset = slice->dataset;
    for (int64_t i = slice->first; i < slice->last; i++)
        slice->set->labels[i] = rp_data_draw_digit(dataset->synthetic_seed, (uint64_t)i,
                                                   (float)dataset->synthetic_noise,
                                                   slice->set->u8 + i * slice->set->row);
    return NULL;
}

static void make_digits(const struct rp_spec_dataset *dataset, struct rp_data_set *set,
                        int n_threads)
{
    pthread_t threads[MAX_THREADS];
    struct slice slices[MAX_THREADS];
    bool started[MAX_THREADS] = {false};
    if (n_threads > MAX_THREADS) n_threads = MAX_THREADS;
    if (n_threads > 1 + set->n / PER_THREAD) n_threads = (int)(1 + set->n / PER_THREAD);
    for (int i = 0; i < n_threads; i++) {
        slices[i] =
            (struct slice){dataset, set, set->n * i / n_threads, set->n * (i + 1) / n_threads};
        if (i > 0) started[i] = pthread_create(&threads[i], NULL, draw_slice, &slices[i]) == 0;
    }
    for (int i = 0; i < n_threads; i++)
        if (!started[i]) draw_slice(&slices[i]);
    for (int i = 0; i < n_threads; i++)
        if (started[i]) pthread_join(threads[i], NULL);
}

/* ---- points ---------------------------------------------------------------------------------- */

enum site { SITE_CENTER, SITE_SAMPLE, SITE_NOISE };

/* Standard normal number `element` of the stream (site, key). */
static double normal_at(uint64_t seed, uint32_t site, uint64_t key, int64_t element)
{
    float pair[2];
    struct rp_draw words =
        rp_draw_block(seed, RP_PURPOSE_SYNTHETIC, site, key, (uint32_t)(element / 4));
    const uint32_t *two = words.u + element % 4 / 2 * 2;
    rp_normal_pair(two[0], two[1], pair);
    return pair[element % 2];
}

static uint32_t word_at(uint64_t seed, uint64_t sample, int element)
{
    return rp_draw_block(seed, RP_PURPOSE_SYNTHETIC, SITE_SAMPLE, sample, 0).u[element];
}

/* A cloud around each of `classes` centres, which lie 3 standard normals wide. The centres hang on
 * the number of the class alone, so that two sets of other seeds are drawn from the same clouds. */
static void make_blob(const struct rp_spec_dataset *dataset, struct rp_data_set *set,
                      int64_t sample)
{
    uint64_t seed = dataset->synthetic_seed;
    int64_t class =
        (int64_t)(((uint64_t)word_at(seed, (uint64_t)sample, 0) * (uint64_t)set->n_classes) >> 32);
    for (int64_t j = 0; j < set->row; j++) {
        double center = 3.0 * normal_at(0, SITE_CENTER, (uint64_t) class, j);
        double noise = normal_at(seed, SITE_NOISE, (uint64_t)sample, j);
        set->f32[sample * set->row + j] = (float)(center + dataset->synthetic_noise * noise);
    }
    set->labels[sample] = (int32_t) class;
}

/* One arm for each class, a turn and a half from the centre to radius 1. */
static void make_spiral(const struct rp_spec_dataset *dataset, struct rp_data_set *set,
                        int64_t sample)
{
    const double two_pi = 0x1.921fb54442d18p2;
    uint64_t seed = dataset->synthetic_seed, key = (uint64_t)sample;
    int64_t class = (int64_t)(((uint64_t)word_at(seed, key, 0) * (uint64_t)set->n_classes) >> 32);
    double radius = ((double)word_at(seed, key, 1) + 0.5) * 0x1p-32;
    double turns = 1.5 * radius + (double)class / (double)set->n_classes;
    double angle = two_pi * turns;
    double x = radius * rp_cos64(angle), y = radius * rp_sin64(angle);
    set->f32[2 * sample] =
        (float)(x + dataset->synthetic_noise * normal_at(seed, SITE_NOISE, key, 0));
    set->f32[2 * sample + 1] =
        (float)(y + dataset->synthetic_noise * normal_at(seed, SITE_NOISE, key, 1));
    set->labels[sample] = (int32_t) class;
}

/* ---- sums modulo p --------------------------------------------------------------------------- */

/* Sample a p + b is the text [a, b, =, c] with c = (a + b) mod p, of which only c is a target. */
static void make_sums(int64_t p, struct rp_data_tokens *tokens)
{
    uint16_t *token = RP_NEW_ARRAY(uint16_t, SUM_TOKENS * p * p);
    tokens->heard = RP_NEW_ARRAY(uint64_t, (SUM_TOKENS * p * p + 63) / 64);
    for (int64_t i = 0; i < p * p; i++) {
        uint8_t *at = (uint8_t *)(token + SUM_TOKENS * i);
        const int64_t text[SUM_TOKENS] = {i / p, i % p, p, (i / p + i % p) % p};
        for (int j = 0; j < SUM_TOKENS; j++) {
            at[2 * j] = (uint8_t)(text[j] & 255);
            at[2 * j + 1] = (uint8_t)(text[j] >> 8);
        }
        int64_t target = SUM_TOKENS * i + SUM_TOKENS - 1;
        tokens->heard[target / 64] |= UINT64_C(1) << (target % 64);
    }
    tokens_add(tokens, (struct token_part){.at = token,
                                           .width = 2,
                                           .n = SUM_TOKENS * p * p,
                                           .owned = token,
                                           .bytes = (uint64_t)(2 * SUM_TOKENS * p * p)});
    tokens_count_heard(tokens);
}

static enum rp_status make_modular_addition(struct rp_data_source *source, struct rp_data_set *set,
                                            struct rp_error *err)
{
    int64_t p = source->dataset->synthetic_p;
    set->tokens = tokens_new();
    set->tokens->below = (int32_t)p + 1;
    set->tokens->stride = SUM_TOKENS;
    set->n_classes = p + 1;
    if (source->describe)
        set->tokens->n = SUM_TOKENS * p * p;
    else
        make_sums(p, set->tokens);
    RP_TRY(tokens_set_shape(source, set, err));
    set->n = p * p;
    if (set->row == SUM_TOKENS - 1) return RP_STATUS_OK;
    return rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_USAGE, err,
                        "the texts of modular_addition have %d tokens before their target: write "
                        "`context: %d` under `model` (found %lld)",
                        SUM_TOKENS - 1, SUM_TOKENS - 1, (long long)set->row);
}

enum rp_status rp_data_make_synthetic(struct rp_data_source *source, struct rp_data_set *set,
                                      struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = source->dataset;
    if (dataset->synthetic == RP_SYNTHETIC_MODULAR_ADDITION)
        return make_modular_addition(source, set, err);
    set->n = dataset->synthetic_samples;
    set->target = RP_TARGET_CLASSES;
    if (dataset->synthetic == RP_SYNTHETIC_DIGITS) {
        set->is_u8 = true;
        set->n_classes = 10;
        rp_data_set_shape(set, 3, DIGIT_SIDE, DIGIT_SIDE, 1);
    } else {
        set->n_classes = dataset->synthetic_classes;
        rp_data_set_shape(
            set, 1, dataset->synthetic == RP_SYNTHETIC_BLOBS ? dataset->synthetic_features : 2, 1,
            1);
    }
    if (source->describe) return RP_STATUS_OK;
    RP_TRY(rp_data_allocate_x(source, -1, set, err));
    RP_TRY(rp_data_allocate_y(source, -1, set, err));
    if (dataset->synthetic == RP_SYNTHETIC_DIGITS) make_digits(dataset, set, rp_sys_cpus());
    for (int64_t i = 0; i < set->n && dataset->synthetic == RP_SYNTHETIC_BLOBS; i++)
        make_blob(dataset, set, i);
    for (int64_t i = 0; i < set->n && dataset->synthetic == RP_SYNTHETIC_SPIRALS; i++)
        make_spiral(dataset, set, i);
    return RP_STATUS_OK;
}
