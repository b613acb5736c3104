/* token_files.c - files of token numbers, mapped: numbers of 16 or 32 bits, the lowest byte first,
 * alone (nanoGPT) or behind the header of llm.c. Several files are one run; each brings its own
 * ends of texts, so nothing is put between them. */
#include "data/listing.h"
#include "data/tokens.h"

#include "base/log.h"

#include <stdio.h>

/* llm.c: 256 numbers of 32 bits, the first of them magic, version, and number of tokens. */
enum {
    HEADER_BYTES = 1024,
    MAGIC_16 = 20240520,
    MAGIC_32 = 20240801,
    VERSION_16 = 1,
    VERSION_32 = 7
};
enum { CHUNK = 1 << 16 };

struct token_file {
    struct rp_data_source *source;
    int index;
    struct rp_data_stream *stream;
    int width;
    uint64_t header; /* bytes of it */
    int64_t n;
    int32_t below;
    uint32_t seen[2]; /* bits of the tokens with even and with odd numbers */
};
enum { MANY_TOKENS = 64 };

static uint32_t u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Is there a header, and what does it say? Its first twelve bytes have been read. */
static enum rp_status read_header(struct token_file *f, const uint8_t first[12],
                                  struct rp_error *err)
{
    uint32_t magic = u32(first), version = u32(first + 4);
    uint64_t size = rp_data_stream_size(f->stream), count = u32(first + 8);
    if (magic == MAGIC_16 || magic == MAGIC_32) {
        uint32_t want = magic == MAGIC_16 ? VERSION_16 : VERSION_32;
        if (version != want)
            return rp_data_fail(f->source, f->index, err,
                                "an llm.c header (%u) of version %u; version %u is read",
                                (unsigned)magic, (unsigned)version, (unsigned)want);
        f->width = magic == MAGIC_16 ? 2 : 4;
        f->header = HEADER_BYTES;
        f->n = (int64_t)count;
        return rp_data_stream_check_size(f->stream, HEADER_BYTES + count * (uint64_t)f->width, err);
    }
    f->width = f->source->dataset->token_bytes == 4 ? 4 : 2;
    f->n = (int64_t)(size / (uint64_t)f->width);
    if (size % (uint64_t)f->width == 0) return RP_STATUS_OK;
    return rp_data_fail(f->source, f->index, err,
                        "%llu bytes are no whole number of %s tokens: is it cut short, or of "
                        "another dtype?",
                        (unsigned long long)size, f->width == 4 ? "uint32" : "uint16");
}

static enum rp_status check_chunk(struct token_file *f, const uint8_t *chunk, int64_t first,
                                  int64_t n, struct rp_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *at = chunk + i * f->width;
        uint32_t token = f->width == 4 ? u32(at) : (uint32_t)at[0] | (uint32_t)at[1] << 8;
        f->seen[(first + i) & 1] |= token;
        if (token < (uint32_t)f->below) continue;
        return rp_data_fail(f->source, f->index, err,
                            "token %lld is %u, but the vocabulary ends at %d",
                            (long long)(first + i), (unsigned)token, (int)f->below - 1);
    }
    return RP_STATUS_OK;
}

/* What uint32 looks like where it is read as uint16. A text may be like that, so it is no error. */
static void warn_of_width(const struct token_file *f)
{
    if (f->width != 2 || f->header || f->n < MANY_TOKENS || f->seen[1] || !f->seen[0]) return;
    rp_log_warning("%s: every second token is 0: if they are numbers of 32 bits, write `dtype: "
                   "uint32` beside it",
                   rp_data_source_file(f->source, f->index)->path);
}

/* Every token once, as the file passes through its hash. A file whose hash is known was checked in
 * an earlier start of the same run. */
static enum rp_status check_tokens(struct token_file *f, const uint8_t *head, size_t n_head,
                                   struct rp_error *err)
{
    uint8_t *chunk = rp_mem_new(CHUNK);
    int64_t in_head = (int64_t)n_head / f->width, at = in_head;
    enum rp_status status = check_chunk(f, head, 0, in_head, err);
    while (status == RP_STATUS_OK && at < f->n) {
        int64_t n = f->n - at < CHUNK / f->width ? f->n - at : CHUNK / f->width;
        status = rp_data_stream_exact(f->stream, chunk, (size_t)(n * f->width), "its tokens", err);
        if (status == RP_STATUS_OK) status = check_chunk(f, chunk, at, n, err);
        at += n;
    }
    if (status == RP_STATUS_OK) warn_of_width(f);
    rp_mem_free(chunk);
    return status;
}

static enum rp_status read_stream(struct token_file *f, struct rp_data_tokens *tokens,
                                  struct rp_error *err)
{
    uint8_t head[HEADER_BYTES] = {0};
    size_t n_head = 0;
    void *map = NULL;
    uint64_t bytes = 0;
    RP_TRY(rp_data_stream_read(f->stream, head, 12, &n_head, err));
    RP_TRY(read_header(f, head, err));
    if (f->header) {
        RP_TRY(rp_data_stream_exact(f->stream, head + n_head, HEADER_BYTES - n_head, "its header",
                                    err));
        n_head = 0;
    }
    if (f->source->describe) {
        tokens->n += f->n;
        return RP_STATUS_OK;
    }
    if (rp_data_stream_hashes(f->stream)) RP_TRY(check_tokens(f, head, n_head, err));
    if (f->n == 0) return RP_STATUS_OK;
    RP_TRY(rp_data_stream_map(f->stream, &map, &bytes, err));
    tokens_add(tokens, (struct token_part){.at = (const uint8_t *)map + f->header,
                                           .width = f->width,
                                           .n = f->n,
                                           .map = map,
                                           .bytes = bytes});
    return RP_STATUS_OK;
}

static enum rp_status read_file(struct rp_data_source *source, int index, int32_t below,
                                struct rp_data_tokens *tokens, struct rp_error *err)
{
    struct token_file f = {.source = source, .index = index, .below = below};
    char part[32];
    snprintf(part, sizeof part, "files[%d]", index);
    RP_TRY(rp_data_stream_open(source, index, part, false, &f.stream, err));
    enum rp_status status = read_stream(&f, tokens, err);
    return rp_data_stream_end(f.stream, status, false, err);
}

/* Of the vocabularies that are known the smallest; what the set names itself, or the model. */
static int32_t find_vocab(const struct rp_data_source *source, int64_t *named)
{
    const int64_t known[] = {source->dataset->vocab, source->vocab, source->spec->model.vocab};
    int64_t below = INT32_MAX;
    *named = -1;
    for (int i = 0; i < 3; i++) {
        if (known[i] > 0 && *named < 0) *named = known[i];
        if (known[i] > 0 && known[i] < below) below = known[i];
    }
    return (int32_t)below;
}

enum rp_status rp_data_read_tokens(struct rp_data_source *source, struct rp_data_set *set,
                                   struct rp_error *err)
{
    set->tokens = tokens_new();
    set->tokens->below = find_vocab(source, &set->n_classes);
    RP_TRY(rp_data_source_list(source, ".bin", err));
    for (int i = 0; i < source->n_listed; i++)
        RP_TRY(read_file(source, i, set->tokens->below, set->tokens, err));
    if (set->tokens->n == 0) return rp_data_fail(source, 0, err, "there are no tokens in it");
    return tokens_set_shape(source, set, err);
}
