/* bpe_int.h - private to runner/data: what an open tokenizer holds. */
#ifndef RP_BPE_INT_H
#define RP_BPE_INT_H

#include "data/bpe.h"

/* ---- characters ------------------------------------------------------------------------------ */

enum bpe_class { BPE_CLASS_OTHER, BPE_CLASS_LETTER, BPE_CLASS_NUMBER, BPE_CLASS_SPACE };

/* \p{L}, \p{N} and \s of Unicode 16.0, the version of the regular expressions in today's
 * `tokenizers` and `tiktoken`. */
enum bpe_class bpe_class_of(uint32_t code_point);

/* The character at the front of text[0, n), n >= 1: its length in bytes and its class. A byte that
 * begins no valid sequence is a character by itself, of class OTHER. */
struct bpe_char {
    int length;
    enum bpe_class class;
    uint32_t code_point; /* UINT32_MAX: no UTF-8 */
};
struct bpe_char bpe_char_at(const char *text, size_t n);

/* ---- words ----------------------------------------------------------------------------------- */

/* The regular expressions that are known; the text of each is in bpe_split.c. DIGITS is GPT-2's
 * between numbers, of which each character is a word: it has no text. */
enum bpe_pattern {
    BPE_PATTERN_GPT2,
    BPE_PATTERN_LLAMA3,
    BPE_PATTERN_QWEN2,
    BPE_PATTERN_DIGITS,
    BPE_PATTERN_COUNT
};
const char *bpe_pattern_text(enum bpe_pattern pattern);

/* The bytes of the first word of text[0, n), n >= 1. */
size_t bpe_word_length(enum bpe_pattern pattern, const char *text, size_t n);

/* ---- the tokenizer --------------------------------------------------------------------------- */

/* A row of the table of merges; key UINT64_MAX: free. */
struct bpe_pair {
    uint64_t key; /* left << 32 | right */
    int32_t rank, id;
};

struct bpe_added {
    char *text;
    size_t n;
    int32_t id;
    bool special;
};

enum { BPE_MAX_SIZE = 1 << 24 };

struct rp_bpe {
    int32_t size;
    struct rp_text bytes; /* of all tokens, one after the other */
    uint32_t *at;         /* (size + 1) where each begins */
    int32_t byte_id[256];
    int32_t *word; /* (word_mask + 1) ids of the vocabulary by the hash of their bytes; -1: free */
    uint32_t word_mask;
    struct bpe_pair *pair; /* (pair_mask + 1) by the hash of their key */
    uint32_t pair_mask;
    bool whole_words; /* a word that is a token is that token, whatever the merges say */
    enum bpe_pattern pattern;
    struct bpe_added *added; /* longest first */
    int n_added;
    bool added_first[2][256]; /* [with special ones]: bytes that begin one */
    size_t added_longest;
    int32_t end_of_text;
    uint64_t serial; /* of this opening, for the rooms of threads */
    char *file[3];   /* NULL-terminated */
};

/* The token of the vocabulary with these bytes, or -1. */
int32_t bpe_find_word(const struct rp_bpe *bpe, const char *bytes, size_t n);
uint64_t bpe_hash(const char *bytes, size_t n);
/* The row of a pair, or NULL. */
const struct bpe_pair *bpe_find_pair(const struct rp_bpe *bpe, int32_t left, int32_t right);

/* The longest added token at the front of text[0, n), or NULL. */
const struct bpe_added *bpe_added_at(const struct rp_bpe *bpe, bool with_special, const char *text,
                                     size_t n);

/* ---- while it is read ------------------------------------------------------------------------ */

/* What the files say, before tables are made of it. */
struct bpe_source {
    const char *path;    /* of the vocabulary, for messages */
    char **text;         /* (room) the bytes of each id, or NULL: nobody has it yet */
    size_t *length;      /* (room) */
    bool *in_vocabulary; /* (room) else it is an added token only */
    int64_t room, n;     /* ids below `room` can be had; n: the highest that is + 1 */
};
/* Reads a tokenizer.json or a vocab.json with its merges.txt; sets everything but `serial` and
 * `end_of_text`. */
RP_NODISCARD enum rp_status bpe_read(struct rp_bpe *bpe, const char *path, struct rp_error *err);
/* The form of a tokenizer.json: what its sections other than `model` say, or why they cannot be
 * followed. */
struct json_t;
RP_NODISCARD enum rp_status bpe_read_form(struct rp_bpe *bpe, const struct json_t *root,
                                          const char *path, struct rp_error *err);

/* The tables of bpe.c: words of the vocabulary, then pairs (room for n). */
RP_NODISCARD enum rp_status bpe_make_words(struct rp_bpe *bpe, const struct bpe_source *source,
                                           struct rp_error *err);
void bpe_make_pairs(struct rp_bpe *bpe, int64_t n);
/* False: there is such a pair already. */
bool bpe_add_pair(struct rp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id);

#endif
