/* text.c - files of UTF-8 as tokens: one a byte, or by a tokenizer. Between two files stands the
 * end of a text: a byte 0, which no text holds, or the token of that meaning. Empty files count as
 * not there. */
#include "data/encode.h"
#include "base/utf8.h"
#include "data/listing.h"

#include <stdio.h>
#include <string.h>

static enum rp_status read_utf8(struct rp_data_source *source, int index, char **text, size_t *n,
                                struct rp_error *err)
{
    char part[32];
    snprintf(part, sizeof part, "files[%d]", index);
    RP_TRY(rp_data_read_whole(source, index, part, text, n, err));
    size_t good = rp_utf8_length(*text, *n);
    const char *nought = memchr(*text, 0, good);
    enum rp_status status = RP_STATUS_OK;
    if (nought)
        status =
            rp_data_fail(source, index, err, "byte %llu is 0, which no text holds: is it text?",
                         (unsigned long long)(nought - *text));
    else if (good < *n)
        status = rp_data_fail(
            source, index, err,
            "byte %llu (%02x) is not UTF-8: is it text, in another encoding? iconv converts it",
            (unsigned long long)good, (unsigned)(unsigned char)(*text)[good]);
    if (status == RP_STATUS_OK) return RP_STATUS_OK;
    rp_mem_free(*text);
    *text = NULL;
    return status;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* A file that is only looked at: its bytes are counted. */
static enum rp_status count_bytes(struct rp_data_source *source, int index,
                                  struct rp_data_tokens *tokens, struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    RP_TRY(rp_data_stream_open(source, index, "files", false, &stream, err));
    int64_t n = (int64_t)rp_data_stream_size(stream);
    tokens->n += n > 0 && tokens->n > 0 ? n + 1 : n;
    return rp_data_stream_end(stream, RP_STATUS_OK, false, err);
}

static enum rp_status read_bytes(struct rp_data_source *source, int index,
                                 struct rp_data_tokens *tokens, struct rp_error *err)
{
    char *text = NULL;
    size_t n = 0;
    RP_TRY(read_utf8(source, index, &text, &n, err));
    if (n == 0) {
        rp_mem_free(text);
        return RP_STATUS_OK;
    }
    if (tokens->n > 0) { /* the 0 behind the text before, there in any case, now counts */
        tokens->part[tokens->n_parts - 1].n++;
        tokens->n++;
    }
    tokens_add(tokens, (struct token_part){
                           .at = text, .width = 1, .n = (int64_t)n, .owned = text, .bytes = n + 1});
    return RP_STATUS_OK;
}

/* ---- by a tokenizer -------------------------------------------------------------------------- */

static enum rp_status read_encoded(struct rp_data_source *source, const struct rp_bpe *bpe,
                                   struct rp_data_tokens *tokens, struct rp_error *err)
{
    struct encoder *encoder = encoder_new(source, bpe, false, tokens);
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; status == RP_STATUS_OK && i < source->n_listed; i++) {
        char *text = NULL;
        size_t n = 0;
        status = read_utf8(source, i, &text, &n, err);
        if (status == RP_STATUS_OK) status = encoder_add(encoder, i, text, n, err);
    }
    if (status == RP_STATUS_OK) status = encoder_end(encoder, err);
    encoder_free(encoder);
    return status;
}

static enum rp_status read_files(struct rp_data_source *source, struct rp_data_set *set,
                                 struct rp_error *err)
{
    struct rp_bpe *bpe = NULL;
    enum rp_status status = encode_open_tokenizer(source, &bpe, err);
    if (status == RP_STATUS_OK) encode_set_vocab(bpe, set);
    if (status == RP_STATUS_OK && bpe) status = read_encoded(source, bpe, set->tokens, err);
    for (int i = 0; !bpe && status == RP_STATUS_OK && i < source->n_listed; i++)
        status = source->describe ? count_bytes(source, i, set->tokens, err)
                                  : read_bytes(source, i, set->tokens, err);
    rp_bpe_free(bpe);
    if (status == RP_STATUS_OK && set->tokens->n == 0)
        status = rp_data_fail(source, 0, err, "the text is empty");
    return status;
}

enum rp_status rp_data_read_text(struct rp_data_source *source, struct rp_data_set *set,
                                 struct rp_error *err)
{
    bool read = !source->describe || source->deep || !source->dataset->tokenizer;
    set->tokens = tokens_new();
    set->n_classes = set->tokens->n = -1;
    RP_TRY(rp_data_source_list(source, NULL, err));
    if (read) {
        set->tokens->n = 0;
        RP_TRY(read_files(source, set, err));
    }
    return tokens_set_shape(source, set, err);
}
