/* cases.h - shared by the files that make cases. */
#ifndef OPS_CASES_H
#define OPS_CASES_H

#include "ops_test.h"

struct op_case *case_add(struct op_cases *cases, enum rp_op op);
void case_set_dims(struct rp_tensor *tensor, enum rp_dtype dtype, int n_dims, const int64_t *dims);
void case_set_in(struct op_case *c, int i, enum fill fill, int n_dims, const int64_t *dims);
/* All samples in `shards` whole shards; parts > 1: one shard in that many passes. */
void case_set_rows(struct op_case *c, int64_t samples, int shards, int parts);
/* The last case again without some of its outputs: frozen parameters, the first layer of a model.
 */
void case_add_unwanted(struct op_cases *cases, unsigned unwanted);

#define DIMS(...)                                                                                  \
    (int)RP_COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[])                                         \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
#define IN(c, i, fill, ...) case_set_in(c, i, fill, DIMS(__VA_ARGS__))
#define OUT(c, i, ...)      case_set_dims(&(c)->call.out[i], RP_DTYPE_F32, DIMS(__VA_ARGS__))

/* cases_language.c */
void cases_add_language(struct op_cases *cases);
void cases_add_language_model(struct op_cases *cases, int64_t texts, int64_t context,
                              int64_t vocabulary, int64_t width);

/* cases_attention.c */
void cases_add_attention(struct op_cases *cases);
/* Sizes of a real model: samples, tokens, heads, kv_heads, head_dim. */
void cases_add_attention_model(struct op_cases *cases, const int64_t sizes[5]);

/* cases_lm_loss.c */
void cases_add_lm_loss(struct op_cases *cases);
/* Samples, tokens, width, classes, rows of logits that are kept. */
void cases_add_lm_loss_model(struct op_cases *cases, const int64_t sizes[5]);

#endif
