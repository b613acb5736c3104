/* tokenizer.h - private to train/: the tokenizer that a language model was trained with. */
#ifndef RP_TRAIN_TOKENIZER_H
#define RP_TRAIN_TOKENIZER_H

#include "data/data.h"
#include "spec/spec.h"

/* `path`, else the one that data.train names; NULL: there is none, tokens are bytes or numbers. */
RP_NODISCARD enum rp_status rp_tokenizer_open(const struct rp_spec *spec, const char *path,
                                              struct rp_bpe **bpe, struct rp_error *err);
/* DATA when a folder of weights has another tokenizer than the spec names, or when its text is read
 * as bytes; nothing is said of a folder without one, of token numbers, and of embeddings that are
 * drawn anew. */
RP_NODISCARD enum rp_status rp_tokenizer_check(const struct rp_spec *spec, const char *folder,
                                               struct rp_error *err);
/* The same of the weights of a run, by what it recorded. */
RP_NODISCARD enum rp_status rp_tokenizer_check_run(const struct rp_spec *spec, const char *run,
                                                   struct rp_error *err);
/* The token that ends a text; -1: nobody knows. */
int64_t rp_tokenizer_end_of_text(const struct rp_spec *spec, const struct rp_bpe *bpe);
/* Its files, and what transformers wants beside them, into a folder. */
RP_NODISCARD enum rp_status rp_tokenizer_copy(const struct rp_bpe *bpe, const char *folder,
                                              int64_t context, struct rp_error *err);

#endif
