/* bpe.h - byte-level BPE: text to tokens and back, with the ids that GPT-2's and Hugging Face's own
 * code give. Reached through data.h.
 *
 * Text is cut into words by the tokenizer's pattern (bpe_split.c, no regular expressions), a word's
 * bytes are merged pair by pair: always the pair of lowest rank, of equal ones the leftmost. Any
 * bytes can be encoded: what is no UTF-8 counts as punctuation, a byte at a time, and decoding
 * gives back the same bytes. Nothing is put in front or behind: no prefix space, no begin-of-text
 * token. */
#ifndef RP_BPE_H
#define RP_BPE_H

#include "base/base.h"
#include "base/mem.h"

struct rp_bpe; /* never changes once open: threads share it */

/* `path`: a folder, a tokenizer.json, or a vocab.json beside its merges.txt (gpt2-vocab.json beside
 * gpt2-merges.txt). A folder's tokenizer.json comes first. DATA, naming file and entry, for
 * whatever cannot be read or cannot be followed exactly. */
RP_NODISCARD enum rp_status rp_bpe_open(const char *path, struct rp_bpe **bpe,
                                        struct rp_error *err);
void rp_bpe_free(struct rp_bpe *bpe); /* NULL is fine */

/* The one or two files that were read, NULL-terminated, owned by `bpe`. */
const char *const *rp_bpe_files(const struct rp_bpe *bpe);

int32_t rp_bpe_size(const struct rp_bpe *bpe); /* ids are 0 to size - 1 */
/* <|endoftext|>, else <|end_of_text|>, else </s>; -1: it has none of them. */
int32_t rp_bpe_end_of_text(const struct rp_bpe *bpe);
/* The id of the token that is written `text`: an added one, else one of the vocabulary; -1: none.
 */
int32_t rp_bpe_find(const struct rp_bpe *bpe, const char *text, size_t n);

/* Ids, and what their making needs: one for each thread. Zero-initialise it. */
struct rp_tokens {
    int32_t *id; /* (n), room for `room` */
    int64_t n, room;
    struct rp_bpe_room *work; /* private: words seen before, and what they became */
};
void rp_tokens_add(struct rp_tokens *tokens, int32_t id);
void rp_tokens_release(struct rp_tokens *tokens); /* safe twice */

/* The tokens of text[0, n), appended to `out`. The names of special tokens in it are text like any
 * other, so that data cannot end a document; added tokens that are not special are found. */
void rp_bpe_encode(const struct rp_bpe *bpe, const char *text, size_t n, struct rp_tokens *out);
/* The same, but special tokens are found: for prompts. */
void rp_bpe_encode_prompt(const struct rp_bpe *bpe, const char *text, size_t n,
                          struct rp_tokens *out);

/* The first place p in (from, n) at which a text may be cut: the tokens of text[0, p) and of
 * text[p, n) are those of text[0, n). `more`: the text goes on after n, and it must not matter how.
 * n when there is no such place. */
size_t rp_bpe_cut(const struct rp_bpe *bpe, const char *text, size_t n, size_t from, bool more);

/* The bytes of a token, valid as long as `bpe`; 0 bytes for an id that does not exist. */
size_t rp_bpe_decode_one(const struct rp_bpe *bpe, int32_t id, const char **bytes);

/* Tokens to text for a reader who sees it grow: only whole characters come out; what can be none
 * any more becomes U+FFFD. Zero-initialise it. */
struct rp_bpe_stream {
    char held[4]; /* the beginning of a character */
    int n_held;
};
void rp_bpe_stream_add(const struct rp_bpe *bpe, struct rp_bpe_stream *stream, int32_t id,
                       struct rp_text *out);
/* The same for bytes that are no tokens. */
void rp_bpe_stream_add_bytes(struct rp_bpe_stream *stream, const char *bytes, size_t n,
                             struct rp_text *out);
void rp_bpe_stream_end(struct rp_bpe_stream *stream, struct rp_text *out);

#endif
