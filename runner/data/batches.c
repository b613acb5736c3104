/* batches.c - the samples at some positions, as a step takes them, and of an evaluation. Windows of
 * tokens: windows.c. */
#include "data/tokens.h"

#include <string.h>

/* Asks for the bytes of a sample that will be read soon: samples lie all over the memory. */
static void prefetch_sample(const struct rp_data_set *set, int64_t sample)
{
    enum { LINE = 64, MOST = 1 << 14 };
    int64_t bytes = set->row * (set->is_u8 ? 1 : (int64_t)sizeof(float));
    const char *row = set->is_u8 ? (const char *)(set->u8 + sample * set->row)
                                 : (const char *)(set->f32 + sample * set->row);
    for (int64_t at = 0; at < bytes && at < MOST; at += LINE) __builtin_prefetch(row + at);
}

/* The target of one sample into place `slot` of y; noughts where no targets were read. */
static void copy_target(const struct rp_data_set *set, int64_t sample, int64_t slot, void *y)
{
    if (!set->labels && !set->values)
        memset((float *)y + slot * (set->n_values ? set->n_values : 1), 0,
               (size_t)(set->n_values ? set->n_values : 1) * sizeof(float));
    else if (set->target == RP_TARGET_CLASSES)
        ((int32_t *)y)[slot] = set->labels[sample];
    else
        memcpy((float *)y + slot * set->n_values, set->values + sample * set->n_values,
               (size_t)set->n_values * sizeof(float));
}

/* The stored samples at `n` training positions from `position` on. */
static void find_samples(const struct rp_data *data, uint64_t position, int64_t n,
                         uint64_t *samples)
{
    rp_data_order(data->seed, (uint64_t)data->shape.n_train, position, n, samples);
    for (int64_t i = 0; data->train_index && i < n; i++) samples[i] = data->train_index[samples[i]];
}

int64_t rp_data_loss_values(const struct rp_data *data, uint64_t position, int64_t n)
{
    if (data->shape.target == RP_TARGET_TOKENS) return rp_windows_loss_values(data, position, n);
    return data->shape.target == RP_TARGET_VALUES ? n * data->shape.n_values : n;
}

int64_t rp_data_target_bytes(const struct rp_data *data, enum rp_split split)
{
    return data->shape.target == RP_TARGET_TOKENS ? rp_windows_target_bytes(data, split) : 0;
}

static void fill_numbers(const struct rp_data *data, uint64_t position, int64_t n, float *x,
                         void *y)
{
    enum { RUN = 64, AHEAD = 4 };
    const struct rp_data_set *set = &data->train;
    uint64_t samples[RUN];
    bool mixes = data->transforms.n_mixes > 0;
    float *room = data->transforms.stepwise || mixes ? RP_NEW_ARRAY(float, 2 * set->row) : NULL;
    for (int64_t slot = 0; slot < n; slot++) {
        uint64_t at = position + (uint64_t)slot;
        int64_t left = n - slot < RUN ? n - slot : RUN, in_run = slot % RUN;
        if (in_run == 0) find_samples(data, at, left, samples);
        if (in_run + AHEAD < RUN && slot + AHEAD < n)
            prefetch_sample(set, (int64_t)samples[in_run + AHEAD]);
        int64_t sample = (int64_t)samples[in_run];
        struct rp_data_key key = {.seed = data->seed, .position = at};
        rp_data_sample_random(&data->transforms, set, sample, &key, room, x + slot * set->row);
        if (mixes)
            rp_data_mix(data, sample, &key, room, x + slot * set->row, (int32_t *)y + 3 * slot);
        else
            copy_target(set, sample, slot, y);
    }
    rp_mem_free(room);
}

void rp_data_fill_train(const struct rp_data *data, uint64_t position, int64_t n, void *x, void *y)
{
    if (data->shape.target == RP_TARGET_TOKENS)
        rp_windows_fill_train(data, position, n, x, y);
    else
        fill_numbers(data, position, n, x, y);
}

static void fill_numbers_fixed(const struct rp_data *data, enum rp_split split, int64_t first,
                               int64_t n, float *x, void *y)
{
    const struct rp_data_set *set = split == RP_SPLIT_TEST                   ? &data->test
                                    : split == RP_SPLIT_TRAIN || data->split ? &data->train
                                                                             : &data->valid;
    const uint32_t *index = split == RP_SPLIT_TRAIN   ? data->train_index
                            : split == RP_SPLIT_VALID ? data->valid_index
                                                      : NULL;
    for (int64_t slot = 0; slot < n; slot++) {
        int64_t sample = index ? index[first + slot] : first + slot;
        rp_data_sample_fixed(&data->transforms, set, sample, x + slot * set->row);
        copy_target(set, sample, slot, y);
    }
}

void rp_data_fill_eval(const struct rp_data *data, enum rp_split split, int64_t first, int64_t n,
                       void *x, void *y)
{
    if (data->shape.target == RP_TARGET_TOKENS)
        rp_windows_fill_eval(data, split, first, n, x, y);
    else
        fill_numbers_fixed(data, split, first, n, x, y);
}
