/* encode.c - texts to tokens. Files are cut into chunks where a cut cannot be seen in the tokens
 * (between lines of JSON, or where the tokenizer allows it); threads take the chunks as they come,
 * and the results are put together in their order. */
#include "data/encode.h"

#include "base/log.h"
#include "base/sys.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20, THREADS_MOST = 32 };
enum { BATCH_BYTES = 1 << 28 }; /* text held at once, unless one file is longer */
enum { BYTE_END = 0, BYTE_VOCAB = 256 };
enum { LONG_SECONDS = 10 }; /* of encoding: worth a word on how to do it once */

struct chunk {
    int index;        /* of the file */
    const char *text; /* into `text` of the file */
    size_t n;
    int64_t first_line;
    bool begins; /* the beginning of a file that is one text */
    /* Made by a thread: */
    void *id;
    int64_t n_ids, texts;
    uint8_t *heard;
    enum rp_status status;
    struct rp_error *err; /* owned; NULL unless it failed */
};

struct encoder {
    struct rp_data_source *source;
    const struct rp_bpe *bpe;
    bool lines;
    int64_t texts; /* so far */
    struct rp_data_tokens *tokens;
    int32_t end;
    int width; /* bytes of a token */
    struct chunk *chunk;
    int n_chunks;
    char **text; /* owned */
    int n_texts;
    size_t bytes;
    atomic_int next, failed; /* chunks: to be taken next; the first known to have failed */
    int64_t heard_room;      /* words of tokens->heard */
    bool stopped;            /* it was asked to */
    double seconds;          /* that encoding took */
};

/* ---- the tokenizer --------------------------------------------------------------------------- */

/* Its files are data like any other: recorded by hash, which enters the numeric digest. */
static enum rp_status record_file(struct rp_data_source *source, const char *path, int number,
                                  struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    char part[32];
    snprintf(part, sizeof part, "tokenizer[%d]", number);
    source->listed =
        rp_mem_grow(source->listed, (size_t)(source->n_listed + 1) * sizeof *source->listed);
    source->listed[source->n_listed++] =
        (struct rp_spec_file){.path = rp_mem_copy_text(path), .at = source->dataset->tokenizer_at};
    RP_TRY(rp_data_stream_open(source, source->n_listed - 1, part, false, &stream, err));
    return rp_data_stream_end(stream, RP_STATUS_OK, false, err);
}

enum rp_status encode_open_tokenizer(struct rp_data_source *source, struct rp_bpe **bpe,
                                     struct rp_error *err)
{
    if (!source->dataset->tokenizer) return RP_STATUS_OK;
    char *relative = rp_spec_path(source->spec, source->dataset->tokenizer);
    char *path = rp_sys_absolute(relative);
    int n_listed = source->n_listed;
    enum rp_status status = rp_bpe_open(path, bpe, err);
    if (status == RP_STATUS_OK && !source->describe) {
        const char *const *files = rp_bpe_files(*bpe);
        for (int i = 0; files[i] && status == RP_STATUS_OK; i++)
            status = record_file(source, files[i], i, err);
    }
    while (source->n_listed > n_listed) rp_mem_free(source->listed[--source->n_listed].path);
    rp_mem_free(path);
    rp_mem_free(relative);
    return status;
}

void encode_set_vocab(const struct rp_bpe *bpe, struct rp_data_set *set)
{
    int32_t n = bpe ? rp_bpe_size(bpe) : BYTE_VOCAB;
    set->n_classes = n;
    set->tokens->below = n;
    if (!bpe) return;
    const char *bytes;
    set->tokens->bytes_of = RP_NEW_ARRAY(int32_t, n);
    for (int32_t i = 0; i < n; i++) /* the end of a text stands for none of its bytes */
        if (i != rp_bpe_end_of_text(bpe))
            set->tokens->bytes_of[i] = (int32_t)rp_bpe_decode_one(bpe, i, &bytes);
}

/* ---- tokens as they are made ----------------------------------------------------------------- */

static void mark(struct encoded *out, bool heard)
{
    if (out->heard_room < out->tokens.n) {
        out->heard_room = 2 * out->tokens.n;
        out->heard = rp_mem_grow(out->heard, (size_t)out->heard_room);
    }
    if (out->heard)
        memset(out->heard + out->n_heard, heard, (size_t)(out->tokens.n - out->n_heard));
    out->n_heard = out->tokens.n;
}

void encode_text(const struct rp_bpe *bpe, const char *text, size_t n, bool heard,
                 struct encoded *out)
{
    if (bpe) rp_bpe_encode(bpe, text, n, &out->tokens);
    for (size_t i = 0; !bpe && i < n; i++)
        rp_tokens_add(&out->tokens, (int32_t)(unsigned char)text[i]);
    mark(out, heard);
}

void encode_token(int32_t id, bool heard, struct encoded *out)
{
    rp_tokens_add(&out->tokens, id);
    mark(out, heard);
}

/* ---- a chunk --------------------------------------------------------------------------------- */

static enum rp_status encode_lines(const struct encoder *encoder, const struct chunk *chunk,
                                   struct encoded *out, struct rp_error *err)
{
    const char *at = chunk->text, *end = at + chunk->n;
    for (int64_t line = chunk->first_line; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);
        RP_TRY(jsonl_encode_line(encoder->source, encoder->bpe, encoder->end, chunk->index, line,
                                 at, n, out, err));
        at += n + 1;
    }
    return RP_STATUS_OK;
}

/* Ids to as few bytes as the vocabulary needs. */
static void *pack(const struct rp_tokens *tokens, int width)
{
    uint8_t *packed = rp_mem_new((size_t)(tokens->n * width) + 1);
    for (int64_t i = 0; i < tokens->n; i++)
        for (int b = 0; b < width; b++)
            packed[i * width + b] = (uint8_t)((uint32_t)tokens->id[i] >> (8 * b));
    return packed;
}

static void encode_chunk(struct encoder *encoder, int number, struct encoded *out)
{
    struct chunk *chunk = &encoder->chunk[number];
    out->tokens.n = out->n_heard = out->texts = 0;
    chunk->err = RP_NEW(struct rp_error);
    chunk->status = RP_STATUS_OK;
    if (chunk->begins) encode_token(encoder->end, true, out);
    out->texts = chunk->begins;
    if (encoder->lines)
        chunk->status = encode_lines(encoder, chunk, out, chunk->err);
    else
        encode_text(encoder->bpe, chunk->text, chunk->n, true, out);
    if (chunk->status == RP_STATUS_OK) {
        rp_mem_free(chunk->err);
        chunk->err = NULL;
        chunk->n_ids = out->tokens.n;
        chunk->texts = out->texts;
        chunk->id = pack(&out->tokens, encoder->width);
        if (encoder->source->dataset->jsonl_prompt) {
            chunk->heard = rp_mem_new((size_t)out->tokens.n + 1);
            if (out->tokens.n) memcpy(chunk->heard, out->heard, (size_t)out->tokens.n);
        }
        return;
    }
    int failed = atomic_load(&encoder->failed);
    while (number < failed && !atomic_compare_exchange_weak(&encoder->failed, &failed, number)) {
    }
}

static void take_chunks(struct encoder *encoder, bool (*goes_on)(struct encoder *encoder))
{
    struct encoded out = {0};
    while (!goes_on || goes_on(encoder)) {
        int number = atomic_fetch_add(&encoder->next, 1);
        if (number >= encoder->n_chunks || number > atomic_load(&encoder->failed)) break;
        encode_chunk(encoder, number, &out);
    }
    rp_tokens_release(&out.tokens);
    rp_mem_free(out.heard);
}

/* Takes chunks until there are none, or one before them has failed. */
static void *work(void *encoder)
{
    take_chunks(encoder, NULL);
    return NULL;
}

/* The thread that called asks between its chunks whether to stop, and says how far all are. */
static bool goes_on(struct encoder *encoder)
{
    const struct rp_data_options *options = encoder->source->options;
    if (options && options->progress)
        options->progress(encoder->source->key,
                          fmin((double)atomic_load(&encoder->next) / encoder->n_chunks, 1));
    if (!options || !rp_stop_asked(options->stop)) return true;
    encoder->stopped = true;
    atomic_store(&encoder->failed, -1);
    return false;
}

/* ---- all chunks ------------------------------------------------------------------------------ */

static void run_threads(struct encoder *encoder)
{
    pthread_t threads[THREADS_MOST];
    int n = rp_sys_cpus(), started = 0;
    if (n > THREADS_MOST) n = THREADS_MOST;
    if (n > encoder->n_chunks) n = encoder->n_chunks;
    atomic_store(&encoder->next, 0);
    atomic_store(&encoder->failed, encoder->n_chunks);
    while (started < n - 1 && pthread_create(&threads[started], NULL, work, encoder) == 0)
        started++;
    take_chunks(encoder, goes_on);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
}

static void keep_heard(struct encoder *encoder, const struct chunk *chunk, int64_t skip)
{
    struct rp_data_tokens *tokens = encoder->tokens;
    int64_t first = tokens->n, n = chunk->n_ids - skip, words = (first + n + 63) / 64;
    if (!encoder->source->dataset->jsonl_prompt) return;
    if (words > encoder->heard_room) {
        int64_t room = 2 * words;
        tokens->heard = rp_mem_grow(tokens->heard, (size_t)room * sizeof *tokens->heard);
        memset(tokens->heard + encoder->heard_room, 0,
               (size_t)(room - encoder->heard_room) * sizeof *tokens->heard);
        encoder->heard_room = room;
    }
    for (int64_t i = 0; i < n; i++)
        if (chunk->heard[i + skip])
            tokens->heard[(first + i) / 64] |= UINT64_C(1) << ((first + i) % 64);
}

/* An end stands before each text, and nothing before the first of all; of prompts and responses
 * behind each. */
static enum rp_status keep_chunk(struct encoder *encoder, struct chunk *chunk, struct rp_error *err)
{
    if (chunk->n_ids == 0) return RP_STATUS_OK;
    bool prompts = encoder->source->dataset->jsonl_prompt != NULL;
    int64_t skip = encoder->tokens->n == 0 && chunk->texts > 0 && !prompts;
    keep_heard(encoder, chunk, skip);
    tokens_add(encoder->tokens,
               (struct token_part){.at = (char *)chunk->id + skip * encoder->width,
                                   .width = encoder->width,
                                   .n = chunk->n_ids - skip,
                                   .owned = chunk->id,
                                   .bytes = (uint64_t)(chunk->n_ids * encoder->width)});
    chunk->id = NULL;
    encoder->texts += chunk->texts;
    if (encoder->end >= 0 || (encoder->texts < 2 && !prompts)) return RP_STATUS_OK;
    return rp_data_fail(encoder->source, chunk->index, err,
                        "the tokenizer %s has no token for the end of a text, which is put between "
                        "texts (<|endoftext|>, <|end_of_text|> or </s>): `reprise tokenize "
                        "--end-of-text NAME` takes another",
                        encoder->source->dataset->tokenizer);
}

static void drop_chunks(struct encoder *encoder)
{
    for (int i = 0; i < encoder->n_chunks; i++) {
        rp_mem_free(encoder->chunk[i].id);
        rp_mem_free(encoder->chunk[i].heard);
        rp_mem_free(encoder->chunk[i].err);
    }
    for (int i = 0; i < encoder->n_texts; i++) rp_mem_free(encoder->text[i]);
    encoder->n_chunks = encoder->n_texts = 0;
    encoder->bytes = 0;
}

/* Encodes what has been added so far. */
static enum rp_status flush(struct encoder *encoder, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    double begin = rp_sys_clock();
    if (encoder->n_chunks > 0) run_threads(encoder);
    encoder->seconds += rp_sys_clock() - begin;
    if (encoder->stopped)
        status = rp_error_set(err, RP_STATUS_STOPPED, "stopped while the text of %s was encoded",
                              encoder->source->key);
    for (int i = 0; i < encoder->n_chunks && status == RP_STATUS_OK; i++) {
        struct chunk *chunk = &encoder->chunk[i];
        if (chunk->status == RP_STATUS_OK)
            status = keep_chunk(encoder, chunk, err);
        else
            status = rp_error_set(err, chunk->status, "%s", chunk->err->text);
    }
    drop_chunks(encoder);
    return status;
}

/* Where a chunk that begins at `from` ends. */
static size_t find_cut(const struct encoder *encoder, const char *text, size_t n, size_t from)
{
    if (n - from <= CHUNK_BYTES) return n;
    if (!encoder->lines)
        return from + rp_bpe_cut(encoder->bpe, text + from, n - from, CHUNK_BYTES, false);
    const char *stop = memchr(text + from + CHUNK_BYTES, '\n', n - from - CHUNK_BYTES);
    return stop ? (size_t)(stop - text) + 1 : n;
}

static int64_t count_lines(const char *text, size_t n)
{
    int64_t lines = 0;
    for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + n - at))) != NULL; at++)
        lines++;
    return lines;
}

static void add_chunks(struct encoder *encoder, int index, const char *text, size_t n)
{
    int64_t line = 1;
    for (size_t from = 0; from < n;) {
        size_t to = find_cut(encoder, text, n, from);
        encoder->chunk =
            rp_mem_grow(encoder->chunk, (size_t)(encoder->n_chunks + 1) * sizeof *encoder->chunk);
        encoder->chunk[encoder->n_chunks++] =
            (struct chunk){.index = index,
                           .text = text + from,
                           .n = to - from,
                           .first_line = line,
                           .begins = !encoder->lines && from == 0};
        if (encoder->lines) line += count_lines(text + from, to - from);
        from = to;
    }
}

enum rp_status encoder_add(struct encoder *encoder, int index, char *text, size_t n,
                           struct rp_error *err)
{
    encoder->text =
        rp_mem_grow(encoder->text, (size_t)(encoder->n_texts + 1) * sizeof *encoder->text);
    encoder->text[encoder->n_texts++] = text;
    add_chunks(encoder, index, text, n);
    encoder->bytes += n;
    return encoder->bytes >= BATCH_BYTES ? flush(encoder, err) : RP_STATUS_OK;
}

enum rp_status encoder_end(struct encoder *encoder, struct rp_error *err)
{
    RP_TRY(flush(encoder, err));
    if (encoder->seconds > LONG_SECONDS)
        rp_log_info("%s: encoding its text took %.0f s, as it will at every start; `reprise "
                    "tokenize` does it once",
                    encoder->source->key, encoder->seconds);
    if (encoder->tokens->heard) tokens_count_heard(encoder->tokens);
    return RP_STATUS_OK;
}

struct encoder *encoder_new(struct rp_data_source *source, const struct rp_bpe *bpe, bool lines,
                            struct rp_data_tokens *tokens)
{
    struct encoder *encoder = RP_NEW(struct encoder);
    encoder->source = source;
    encoder->bpe = bpe;
    encoder->lines = lines;
    encoder->tokens = tokens;
    encoder->end = bpe ? rp_bpe_end_of_text(bpe) : BYTE_END;
    encoder->width = !bpe ? 1 : rp_bpe_size(bpe) <= 1 << 16 ? 2 : 4;
    return encoder;
}

void encoder_free(struct encoder *encoder)
{
    if (!encoder) return;
    drop_chunks(encoder);
    rp_mem_free(encoder->chunk);
    rp_mem_free(encoder->text);
    rp_mem_free(encoder);
}
