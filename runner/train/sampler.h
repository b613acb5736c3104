/* sampler.h - private to train/: a language model that is fed token by token and remembers, in its
 * cache of keys and values, what it was fed; and the choice of the next token. */
#ifndef RP_TRAIN_SAMPLER_H
#define RP_TRAIN_SAMPLER_H

#include "train/train_int.h"

/* ---- sampler.c: logits ----------------------------------------------------------------------- */

struct rp_sampler;
/* A model opened for evaluation, whose graph is for one sample; not owned. */
RP_NODISCARD enum rp_status rp_sampler_open(struct rp_trainer *trainer, struct rp_sampler **sampler,
                                            struct rp_error *err);
void rp_sampler_close(struct rp_sampler *sampler); /* NULL is fine */
int64_t rp_sampler_vocab(const struct rp_sampler *sampler);
int64_t rp_sampler_places(const struct rp_sampler *sampler); /* tokens that the model can see */
int64_t rp_sampler_used(const struct rp_sampler *sampler);   /* of them, fed so far */
void rp_sampler_forget(struct rp_sampler *sampler);
/* Feeds n tokens, 1 to what is left of the places; `logits` (vocab) gets what the model expects
 * after the last. The same bits whether they are fed at once or one by one. */
RP_NODISCARD enum rp_status rp_sampler_feed(struct rp_sampler *sampler, const int32_t *tokens,
                                            int64_t n, float *logits, struct rp_error *err);

/* ---- choose.c: the next token ---------------------------------------------------------------- */

struct rp_choose_how {
    float temperature; /* 0: the likeliest token, nothing is drawn */
    int64_t top_k;     /* only the k likeliest; 0: all */
    double top_p;      /* only the fewest likeliest that together have this probability; 1: all */
    uint64_t seed;
};
struct rp_choose_room { /* for one vocabulary */
    int64_t n;
    uint32_t *key[2];
    int32_t *id[2];
    double *sum;
};
void rp_choose_room_init(struct rp_choose_room *room, int64_t n);
void rp_choose_room_release(struct rp_choose_room *room);
/* Token number `number` of a text; a pure function of its arguments. NONFINITE when a logit is no
 * number. */
RP_NODISCARD enum rp_status rp_choose(struct rp_choose_room *room, const float *logits,
                                      const struct rp_choose_how *how, uint64_t number,
                                      int32_t *token, struct rp_error *err);

#endif
