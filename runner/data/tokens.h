/* tokens.h - private to runner/data: texts as one long run of tokens, and the windows cut from it.
 */
#ifndef RP_DATA_TOKENS_H
#define RP_DATA_TOKENS_H

#include "data/stream.h"

/* A stretch of the run as it lies in memory, or in a mapped file. */
struct token_part {
    const void *at;
    int width;     /* bytes of a token: 1, 2 or 4, the lowest first */
    int64_t first; /* number of its first token in the run */
    int64_t n;
    void *owned, *map; /* what is freed or unmapped with it; one or none */
    uint64_t bytes;
};

struct rp_data_tokens {
    struct token_part *part;
    int n_parts;
    int64_t n;         /* tokens in all; -1: not known without reading */
    int32_t below;     /* every token is below it; INT32_MAX: nothing is known */
    int64_t stride;    /* fixed: tokens from one sample to the next; 0: windows are cut anywhere */
    uint64_t *heard;   /* bit i: token i is a target that counts; NULL: all of them are */
    int32_t *bytes_of; /* (below) bytes of text behind each token, owned; NULL: not known, but one
                        * each where a token is a byte */
    int64_t *before;   /* heard: such targets before token 64 i */
};

struct rp_data_tokens *tokens_new(void);
void tokens_free(struct rp_data_tokens *tokens); /* NULL is fine */
/* Takes over what the part owns. Its `first` is set here. */
void tokens_add(struct rp_data_tokens *tokens, struct token_part part);
/* Bits of `heard` are complete: counts them. */
void tokens_count_heard(struct rp_data_tokens *tokens);
/* Tokens [first, first + n) to `out`. One that is not below `below` was changed behind our back,
 * in a mapped file: nought is given, so that nothing is read outside of a table. */
void tokens_copy(const struct rp_data_tokens *tokens, int64_t first, int64_t n, int32_t *out);
/* Of the tokens [first, first + n): how many are targets that count. */
int64_t tokens_heard(const struct rp_data_tokens *tokens, int64_t first, int64_t n);

/* Gives the set its shape: windows of `model.context` tokens, and their number. USAGE when the
 * model has no context. */
RP_NODISCARD enum rp_status tokens_set_shape(const struct rp_data_source *source,
                                             struct rp_data_set *set, struct rp_error *err);

/* ---- an open data set of tokens (windows.c) -------------------------------------------------- */

/* Completes the shape of a data set whose windows are cut anywhere: n_train, n_valid. */
RP_NODISCARD enum rp_status rp_windows_find_shape(struct rp_data *data, const struct rp_spec *spec,
                                                  struct rp_error *err);
int64_t rp_windows_eval_train(const struct rp_data *data); /* windows that evaluate the training */
void rp_windows_fill_train(const struct rp_data *data, uint64_t position, int64_t n, int32_t *x,
                           int32_t *y);
void rp_windows_fill_eval(const struct rp_data *data, enum rp_split split, int64_t first, int64_t n,
                          int32_t *x, int32_t *y);
/* Bytes of text behind the targets of an evaluation; 0: not known. */
int64_t rp_windows_target_bytes(const struct rp_data *data, enum rp_split split);
int64_t rp_windows_loss_values(const struct rp_data *data, uint64_t position, int64_t n);

/* ---- windows (tokens.c) ---- */

/* Windows of `context` tokens, each token but the first of the stretch a target once. */
int64_t tokens_eval_windows(int64_t n, int64_t context);
/* The windows that an epoch takes from n tokens, wherever it begins; n at least context + 1. */
int64_t tokens_train_windows(int64_t n, int64_t context);
/* Where the windows of an epoch begin: [0, context), less where n is short. */
int64_t tokens_offset(uint64_t seed, uint64_t epoch, int64_t n, int64_t context);
/* The window of `context` tokens from `first` on, and what follows each: x, y (context) i32. From
 * token `end` on there is nothing: x is 0 there, and y -1 where it would be such a token. */
void tokens_window(const struct rp_data_tokens *tokens, int64_t first, int64_t end, int64_t context,
                   int32_t *x, int32_t *y);

#endif
