/* tokenize_int.h - private to runner/data: the parts of rp_data_tokenize. Texts are read in chunks,
 * each cut where the tokens on both sides do not depend on each other; whichever thread turns a
 * chunk into tokens, they are written in the order of the text. */
#ifndef RP_TOKENIZE_INT_H
#define RP_TOKENIZE_INT_H

#include "data/tokenize.h"

/* ---- reading (tokenize_read.c) --------------------------------------------------------------- */

struct input {
    char *path;
    uint64_t size;
    bool lines; /* JSON lines */
};

struct bytes {
    char *at; /* (n), room for `room` */
    size_t n, room;
};

struct chunk {
    const struct input *input;
    struct bytes text;
    int64_t line; /* lines: number of the first, from 1 */
    bool begins;  /* a document begins with it; in lines it always does */
    struct rp_tokens tokens;
    int64_t documents, n_empty; /* that begin in it */
    uint64_t text_bytes;
    bool odd; /* of a text: there are bytes in it that text does not have */
    enum rp_status status;
    struct rp_error *err;
};

struct reader {
    const struct rp_bpe *bpe;
    struct input *input;
    int n_inputs, next; /* the one to open next */
    uint64_t total, done;
    int fd; /* of input[next - 1], or -1 */
    bool begins, ended;
    int64_t line;
    struct bytes rest; /* read, but not given out */
};

/* Finds the inputs. Release in every case. */
RP_NODISCARD enum rp_status reader_open(struct reader *reader,
                                        const struct rp_tokenize_options *options,
                                        const struct rp_bpe *bpe, struct rp_error *err);
void reader_release(struct reader *reader);
/* The next chunk; false when there is none. What went wrong stands in the chunk. */
bool reader_next(struct reader *reader, struct chunk *chunk);

/* ---- tokens of a chunk (tokenize_chunk.c) ---------------------------------------------------- */

struct chunk_form {
    const struct rp_bpe *bpe;
    int32_t end_of_text;
    const char *field;
};
void chunk_encode(const struct chunk_form *form, struct chunk *chunk);

/* ---- writing (tokenize_write.c) -------------------------------------------------------------- */

struct writer {
    const struct rp_tokenize_options *options;
    struct rp_tokenize_result *result;
    int width;
    int fd;
    char *temp; /* of the file that is open */
    char *folder;
};

/* File number i of the output; caller frees. */
char *writer_path(const struct rp_tokenize_options *options, int64_t i);
/* Refuses what is there already, unless it may be replaced. */
RP_NODISCARD enum rp_status writer_open(struct writer *writer,
                                        const struct rp_tokenize_options *options,
                                        struct rp_tokenize_result *result, struct rp_error *err);
RP_NODISCARD enum rp_status writer_add(struct writer *writer, const int32_t *id, int64_t n,
                                       struct rp_error *err);
/* Completes the files and gives them their names. */
RP_NODISCARD enum rp_status writer_commit(struct writer *writer, struct rp_error *err);
/* Removes what was not committed. */
void writer_release(struct writer *writer);

#endif
