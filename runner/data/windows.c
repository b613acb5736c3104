/* windows.c - an open data set of tokens: how many windows its splits have, and batches of them. */
#include "data/tokens.h"

#include <math.h>
#include <stdio.h>

/* ---- how many -------------------------------------------------------------------------------- */

/* valid.fraction of n tokens: their end, to the nearest token. */
static int64_t count_valid(double fraction, int64_t n)
{
    return (int64_t)floor(fraction * (double)n + 0.5);
}

/* The tokens that are trained on, at least one window and what follows it. */
static enum rp_status check_train(const struct rp_data *data, const struct rp_spec *spec,
                                  int64_t n_valid, struct rp_error *err)
{
    int64_t n = data->train_tokens, context = data->train.row;
    if (n > context) return RP_STATUS_OK;
    struct rp_text left = {0};
    if (n_valid > 0)
        rp_text_add(&left, " (data.valid.fraction takes %lld of %lld)", (long long)n_valid,
                    (long long)(n + n_valid));
    enum rp_status status = rp_spec_fail(
        spec, spec->train_data.at, RP_STATUS_DATA, err,
        "data.train has %lld token%s to train on%s, but a window of %lld needs %lld: lower "
        "model.context, or take more text",
        (long long)n, n == 1 ? "" : "s", rp_text_get(&left), (long long)context,
        (long long)context + 1);
    rp_text_release(&left);
    return status;
}

/* Prompts alone teach nothing: there are targets among the tokens [first, first + n). */
static enum rp_status check_heard(const struct rp_spec *spec, struct rp_spec_place at,
                                  const char *key, const struct rp_data_tokens *tokens,
                                  int64_t first, int64_t n, struct rp_error *err)
{
    if (!tokens->heard || tokens_heard(tokens, first + 1, n - 1) > 0) return RP_STATUS_OK;
    return rp_spec_fail(spec, at, RP_STATUS_DATA, err,
                        "%s has no token of a response: all of it is prompt", key);
}

/* A split of evaluation has at least one target. */
static enum rp_status check_valid(const struct rp_spec *spec, struct rp_spec_place at,
                                  int64_t n_valid, const char *of, struct rp_error *err)
{
    if (n_valid >= 2) return RP_STATUS_OK;
    return rp_spec_fail(spec, at, RP_STATUS_DATA, err,
                        "data.valid has %lld token%s, and nothing to predict: that takes at least "
                        "2%s",
                        (long long)n_valid, n_valid == 1 ? "" : "s", of);
}

enum rp_status rp_windows_find_shape(struct rp_data *data, const struct rp_spec *spec,
                                     struct rp_error *err)
{
    struct rp_data_shape *shape = &data->shape;
    int64_t n = data->train.tokens->n, context = data->train.row;
    shape->n_train = -1;
    shape->n_valid = data->split ? -1 : data->valid.tokens ? data->valid.n : 0;
    if (data->valid.tokens && data->valid.tokens->n >= 0)
        RP_TRY(check_valid(spec, spec->valid_data.at, data->valid.tokens->n, "", err));
    if (data->valid.tokens && data->valid.tokens->n >= 0)
        RP_TRY(check_heard(spec, spec->valid_data.at, "data.valid", data->valid.tokens, 0,
                           data->valid.tokens->n, err));
    if (n < 0) return RP_STATUS_OK;
    int64_t n_valid = data->split ? count_valid(spec->valid_fraction, n) : 0;
    if (data->split) {
        char of[64];
        snprintf(of, sizeof of, " (data.valid.fraction takes so many of %lld)", (long long)n);
        RP_TRY(check_valid(spec, spec->train_data.at, n_valid, of, err));
        shape->n_valid = tokens_eval_windows(n_valid, context);
        RP_TRY(check_heard(spec, spec->train_data.at, "data.valid", data->train.tokens, n - n_valid,
                           n_valid, err));
    }
    data->train_tokens = n - n_valid;
    RP_TRY(check_train(data, spec, n_valid, err));
    RP_TRY(check_heard(spec, spec->train_data.at, "data.train", data->train.tokens, 0,
                       data->train_tokens, err));
    shape->n_train = tokens_train_windows(data->train_tokens, context);
    return RP_STATUS_OK;
}

int64_t rp_windows_eval_train(const struct rp_data *data)
{
    return tokens_eval_windows(data->train_tokens, data->train.row);
}

/* ---- training -------------------------------------------------------------------------------- */

/* Where the windows at `n` training positions from `position` on begin. */
static void find_windows(const struct rp_data *data, uint64_t position, int64_t n, uint64_t *first)
{
    const struct rp_data_set *set = &data->train;
    uint64_t in_epoch = (uint64_t)data->shape.n_train, epoch = UINT64_MAX;
    int64_t stride = set->tokens->stride, offset = 0;
    rp_data_order(data->seed, in_epoch, position, n, first);
    for (int64_t i = 0; i < n; i++) {
        uint64_t here = (position + (uint64_t)i) / in_epoch;
        if (stride == 0 && here != epoch)
            offset = tokens_offset(data->seed, here, data->train_tokens, set->row);
        epoch = here;
        if (data->train_index) first[i] = data->train_index[first[i]];
        first[i] = first[i] * (uint64_t)(stride ? stride : set->row) + (uint64_t)offset;
    }
}

enum { RUN = 64 };

void rp_windows_fill_train(const struct rp_data *data, uint64_t position, int64_t n, int32_t *x,
                           int32_t *y)
{
    const struct rp_data_set *set = &data->train;
    uint64_t first[RUN];
    for (int64_t slot = 0; slot < n; slot++) {
        int64_t left = n - slot < RUN ? n - slot : RUN;
        if (slot % RUN == 0) find_windows(data, position + (uint64_t)slot, left, first);
        int64_t at = (int64_t)first[slot % RUN];
        tokens_window(set->tokens, at, at + set->row + 1, set->row, x + slot * set->row,
                      y + slot * set->row);
    }
}

int64_t rp_windows_loss_values(const struct rp_data *data, uint64_t position, int64_t n)
{
    const struct rp_data_set *set = &data->train;
    uint64_t first[RUN];
    int64_t count = 0;
    if (!set->tokens->heard) return n * set->row;
    for (int64_t slot = 0; slot < n; slot++) {
        int64_t left = n - slot < RUN ? n - slot : RUN;
        if (slot % RUN == 0) find_windows(data, position + (uint64_t)slot, left, first);
        count += tokens_heard(set->tokens, (int64_t)first[slot % RUN] + 1, set->row);
    }
    return count;
}

/* ---- evaluation ------------------------------------------------------------------------------ */

void rp_windows_fill_eval(const struct rp_data *data, enum rp_split split, int64_t first, int64_t n,
                          int32_t *x, int32_t *y)
{
    bool of_train = split == RP_SPLIT_TRAIN || (split == RP_SPLIT_VALID && data->split);
    const struct rp_data_set *set = split == RP_SPLIT_TEST ? &data->test
                                    : of_train             ? &data->train
                                                           : &data->valid;
    const uint32_t *index = split == RP_SPLIT_TRAIN   ? data->train_index
                            : split == RP_SPLIT_VALID ? data->valid_index
                                                      : NULL;
    int64_t begin = of_train && split == RP_SPLIT_VALID ? data->train_tokens : 0;
    int64_t end = split == RP_SPLIT_TRAIN ? data->train_tokens : set->tokens->n;
    for (int64_t slot = 0; slot < n; slot++) {
        int64_t window = index ? (int64_t)index[first + slot] : first + slot;
        int64_t at = begin + window * set->row, stop = end;
        if (set->tokens->stride) {
            at = window * set->tokens->stride;
            stop = at + set->row + 1;
        }
        tokens_window(set->tokens, at, stop, set->row, x + slot * set->row, y + slot * set->row);
    }
}

/* ---- what the targets stand for -------------------------------------------------------------- */

static const struct rp_data_set *set_of(const struct rp_data *data, enum rp_split split)
{
    if (split == RP_SPLIT_TEST) return &data->test;
    return split == RP_SPLIT_VALID && !data->split ? &data->valid : &data->train;
}

int64_t rp_windows_target_bytes(const struct rp_data *data, enum rp_split split)
{
    const struct rp_data_set *set = set_of(data, split);
    const struct rp_data_tokens *tokens = set->tokens;
    bool of_bytes = tokens->n_parts > 0 && tokens->part[0].width == 1;
    int64_t bytes = 0, n = rp_data_samples(data, split);
    if (!of_bytes && !tokens->bytes_of) return 0;
    int32_t *x = RP_NEW_ARRAY(int32_t, 2 * set->row), *y = x + set->row;
    for (int64_t i = 0; i < n; i++) {
        rp_windows_fill_eval(data, split, i, 1, x, y);
        for (int64_t t = 0; t < set->row; t++)
            if (y[t] >= 0) bytes += of_bytes ? 1 : tokens->bytes_of[y[t]];
    }
    rp_mem_free(x);
    return bytes;
}
