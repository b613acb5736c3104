/* encode.h - private to runner/data: texts to tokens, by several threads; what comes out does not
 * depend on them. */
#ifndef RP_DATA_ENCODE_H
#define RP_DATA_ENCODE_H

#include "data/bpe.h"
#include "data/tokens.h"

/* Opens the tokenizer of the data set and records its files; *bpe stays NULL when it has none. */
RP_NODISCARD enum rp_status encode_open_tokenizer(struct rp_data_source *source,
                                                  struct rp_bpe **bpe, struct rp_error *err);
/* What a vocabulary of the tokenizer, or of bytes, means for the set: below, n_classes, bytes of
 * each token. */
void encode_set_vocab(const struct rp_bpe *bpe, struct rp_data_set *set);

/* Tokens as they are made: which of them are targets that count. */
struct encoded {
    struct rp_tokens tokens;
    uint8_t *heard; /* (n of tokens) 0 or 1; NULL: all count */
    int64_t n_heard, heard_room;
    int64_t texts;
};
/* Appends a text, or one token. */
void encode_text(const struct rp_bpe *bpe, const char *text, size_t n, bool heard,
                 struct encoded *out);
void encode_token(int32_t id, bool heard, struct encoded *out);

/* A data set on its way into tokens. */
struct encoder;
/* `lines`: files of JSON lines; else each is one text. */
struct encoder *encoder_new(struct rp_data_source *source, const struct rp_bpe *bpe, bool lines,
                            struct rp_data_tokens *tokens);
void encoder_free(struct encoder *encoder); /* NULL is fine */
/* Takes over the text of file `index`. DATA, naming file and line, when a line is wrong. */
RP_NODISCARD enum rp_status encoder_add(struct encoder *encoder, int index, char *text, size_t n,
                                        struct rp_error *err);
/* Behind the last file. */
RP_NODISCARD enum rp_status encoder_end(struct encoder *encoder, struct rp_error *err);

/* One line of a file of JSON lines (jsonl.c); `end` is the token that stands between texts, here
 * before each. */
RP_NODISCARD enum rp_status jsonl_encode_line(const struct rp_data_source *source,
                                              const struct rp_bpe *bpe, int32_t end, int index,
                                              int64_t line, const char *text, size_t n,
                                              struct encoded *out, struct rp_error *err);

#endif
