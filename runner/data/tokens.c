/* tokens.c - a run of tokens in several parts, and windows cut from it as functions of numbers
 * alone. */
#include "data/tokens.h"

#include "base/sys.h"
#include "numerics.h"

#include <string.h>

/* ---- the run --------------------------------------------------------------------------------- */

struct rp_data_tokens *tokens_new(void)
{
    struct rp_data_tokens *tokens = RP_NEW(struct rp_data_tokens);
    tokens->below = INT32_MAX;
    return tokens;
}

void tokens_free(struct rp_data_tokens *tokens)
{
    if (!tokens) return;
    for (int i = 0; i < tokens->n_parts; i++) {
        rp_mem_free(tokens->part[i].owned);
        rp_sys_unmap(tokens->part[i].map, tokens->part[i].bytes);
    }
    rp_mem_free(tokens->bytes_of);
    rp_mem_free(tokens->before);
    rp_mem_free(tokens->heard);
    rp_mem_free(tokens->part);
    rp_mem_free(tokens);
}

void tokens_add(struct rp_data_tokens *tokens, struct token_part part)
{
    tokens->part = rp_mem_grow(tokens->part, (size_t)(tokens->n_parts + 1) * sizeof *tokens->part);
    part.first = tokens->n;
    tokens->part[tokens->n_parts++] = part;
    tokens->n += part.n;
}

/* The part that holds token `i`, which there is. */
static const struct token_part *find_part(const struct rp_data_tokens *tokens, int64_t i)
{
    int low = 0, high = tokens->n_parts - 1;
    while (low < high) {
        int middle = low + (high - low + 1) / 2;
        if (tokens->part[middle].first <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return &tokens->part[low];
}

/* Mapped files are read where they lie, which need not be a multiple of the width. */
static int32_t token_at(const struct token_part *part, int64_t i, int32_t below)
{
    const uint8_t *at = (const uint8_t *)part->at + i * part->width;
    uint32_t token = at[0];
    if (part->width >= 2) token |= (uint32_t)at[1] << 8;
    if (part->width == 4) token |= (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    return token < (uint32_t)below ? (int32_t)token : 0;
}

void tokens_copy(const struct rp_data_tokens *tokens, int64_t first, int64_t n, int32_t *out)
{
    if (n <= 0) return;
    for (const struct token_part *part = find_part(tokens, first); n > 0; part++) {
        int64_t from = first - part->first, count = part->n - from < n ? part->n - from : n;
        for (int64_t i = 0; i < count; i++) out[i] = token_at(part, from + i, tokens->below);
        out += count;
        first += count;
        n -= count;
    }
}

/* ---- targets that count ---------------------------------------------------------------------- */

void tokens_count_heard(struct rp_data_tokens *tokens)
{
    int64_t n = (tokens->n + 63) / 64, sum = 0;
    tokens->before = RP_NEW_ARRAY(int64_t, n + 1);
    for (int64_t i = 0; i < n; i++) {
        tokens->before[i] = sum;
        sum += __builtin_popcountll(tokens->heard[i]);
    }
    tokens->before[n] = sum;
}

static bool is_heard(const struct rp_data_tokens *tokens, int64_t i)
{
    return !tokens->heard || (tokens->heard[i / 64] >> (i % 64) & 1);
}

/* Targets that count among the first i tokens. */
static int64_t heard_before(const struct rp_data_tokens *tokens, int64_t i)
{
    int64_t count = tokens->before[i / 64];
    if (i % 64)
        count += __builtin_popcountll(tokens->heard[i / 64] & ((UINT64_C(1) << (i % 64)) - 1));
    return count;
}

int64_t tokens_heard(const struct rp_data_tokens *tokens, int64_t first, int64_t n)
{
    if (!tokens->heard) return n;
    return heard_before(tokens, first + n) - heard_before(tokens, first);
}

/* ---- windows --------------------------------------------------------------------------------- */

int64_t tokens_eval_windows(int64_t n, int64_t context)
{
    return n < 2 ? 0 : (n - 2) / context + 1;
}

int64_t tokens_train_windows(int64_t n, int64_t context)
{
    int64_t windows = (n - context) / context;
    return windows < 1 ? 1 : windows;
}

/* The draws of the permutation have sites 0 to 7 of this purpose (order.c). */
enum { SITE_OFFSET = 8 };

int64_t tokens_offset(uint64_t seed, uint64_t epoch, int64_t n, int64_t context)
{
    /* Every window must end one token before the last, which is a target only. */
    int64_t places = n - context * tokens_train_windows(n, context);
    uint32_t word = rp_draw_block(seed, RP_PURPOSE_ORDER, SITE_OFFSET, epoch, 0).u[0];
    return rp_data_word_below(word, places < context ? places : context);
}

void tokens_window(const struct rp_data_tokens *tokens, int64_t first, int64_t end, int64_t context,
                   int32_t *x, int32_t *y)
{
    int64_t there = end - first < context ? end - first : context;
    int64_t next = end - first - 1 < context ? end - first - 1 : context;
    tokens_copy(tokens, first, there, x);
    tokens_copy(tokens, first + 1, next, y);
    for (int64_t i = there; i < context; i++) x[i] = 0;
    for (int64_t i = next; i < context; i++) y[i] = -1;
    for (int64_t i = 0; tokens->heard && i < next; i++)
        if (!is_heard(tokens, first + 1 + i)) y[i] = -1;
}

/* ---- the shape ------------------------------------------------------------------------------- */

enum rp_status tokens_set_shape(const struct rp_data_source *source, struct rp_data_set *set,
                                struct rp_error *err)
{
    const struct rp_spec *spec = source->spec;
    int64_t context = spec->model.context, n = set->tokens->n;
    if (context < 1)
        return rp_spec_fail(spec, source->dataset->at, RP_STATUS_USAGE, err,
                            "%s is text, which is cut into windows of model.context tokens: write "
                            "`model: {kind: gpt, ...}`",
                            source->key);
    set->target = RP_TARGET_TOKENS;
    rp_data_set_shape(set, 1, context, 1, 1);
    set->n = n < 0 ? -1 : tokens_eval_windows(n, context);
    return RP_STATUS_OK;
}
