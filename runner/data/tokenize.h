/* tokenize.h - texts to files of tokens, for `reprise tokenize`. Reached through data.h. */
#ifndef RP_TOKENIZE_H
#define RP_TOKENIZE_H

#include "base/hash.h"
#include "data/bpe.h"

struct rp_tokenize_options {
    /* Files, and folders: all that they hold at any depth, in bytewise order of the path within,
     * but for names that begin with a dot. A file is one document; a .jsonl holds one a line. */
    const char *const *input;
    int n_inputs;
    const char *tokenizer;   /* for rp_bpe_open */
    const char *end_of_text; /* between documents; NULL: the tokenizer's own */
    const char *field; /* every file holds JSON lines (of folders the .jsonl), and this is the key
                        * of their text; NULL: "text", in files that end in .jsonl */
    const char *out;
    int64_t shard_tokens; /* 0: one file; else out.bin becomes out_000000.bin, out_000001.bin, ...
                           * of so many tokens each, the last of what is left */
    bool force;           /* replace what is there */
    int threads;
    void (*progress)(uint64_t bytes, uint64_t total); /* NULL: none */
    const struct rp_stop *stop;                       /* then nothing is written; NULL: never */
};
struct rp_tokenize_file {
    char *path;
    int64_t tokens;
    struct rp_sha256 sha256;
};
struct rp_tokenize_result {
    int64_t n_inputs;           /* files read */
    int64_t documents, n_empty; /* those without a byte leave nothing behind, not even an end */
    int64_t tokens;             /* ends of text included */
    uint64_t text_bytes;        /* of the documents */
    int32_t vocabulary;
    int token_bytes; /* 2, or 4 where the vocabulary needs it */
    struct rp_tokenize_file *file;
    int n_files;
};
/* The files have the header of llm.c: of 256 numbers of 32 bits the first three are 20240520, 1 and
 * the number of tokens, each of 16 bits; or 20240801, 7, and 32 bits. The bytes depend on the
 * texts, the tokenizer and the options, not on threads; files appear whole or not at all. DATA when
 * an input cannot be read; USAGE when something is there already. Release in every case. */
RP_NODISCARD enum rp_status rp_data_tokenize(const struct rp_tokenize_options *options,
                                             struct rp_tokenize_result *result,
                                             struct rp_error *err);
void rp_tokenize_result_release(struct rp_tokenize_result *result);

#endif
