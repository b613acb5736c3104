/* text.c - files of UTF-8 as tokens, one a byte. Between two files stands a byte 0, which no text
 * holds: the model learns where one ends. Empty files count as not there. */
#include "data/listing.h"
#include "data/tokens.h"

#include <stdio.h>

enum { BYTE_VOCAB = 256 };

/* A file that is only looked at: its bytes are counted. */
static enum rp_status count_bytes(struct rp_data_source *source, int index, const char *part,
                                  struct rp_data_tokens *tokens, struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    RP_TRY(rp_data_stream_open(source, index, part, false, &stream, err));
    tokens->n += (int64_t)rp_data_stream_size(stream);
    return rp_data_stream_end(stream, RP_STATUS_OK, false, err);
}

static enum rp_status read_bytes(struct rp_data_source *source, int index, const char *part,
                                 struct rp_data_tokens *tokens, struct rp_error *err)
{
    char *text = NULL;
    size_t n = 0;
    RP_TRY(rp_data_read_whole(source, index, part, &text, &n, err));
    size_t good = rp_data_utf8_length(text, n);
    if (good < n) {
        enum rp_status status = rp_data_fail(
            source, index, err,
            "byte %llu (%02x) is not UTF-8: is it text, in another encoding? iconv converts it",
            (unsigned long long)good, (unsigned)(unsigned char)text[good]);
        rp_mem_free(text);
        return status;
    }
    /* The 0 behind the text, if it turns out not to be the last, is what separates it. */
    if (n == 0)
        rp_mem_free(text);
    else
        tokens_add(tokens,
                   (struct token_part){
                       .at = text, .width = 1, .n = (int64_t)n, .owned = text, .bytes = n + 1});
    return RP_STATUS_OK;
}

static enum rp_status read_file(struct rp_data_source *source, int index,
                                struct rp_data_tokens *tokens, struct rp_error *err)
{
    char part[32];
    snprintf(part, sizeof part, "files[%d]", index);
    int64_t before = tokens->n;
    RP_TRY(source->describe ? count_bytes(source, index, part, tokens, err)
                            : read_bytes(source, index, part, tokens, err));
    if (before == 0 || tokens->n == before) return RP_STATUS_OK;
    tokens->n++;
    if (source->describe) return RP_STATUS_OK;
    tokens->part[tokens->n_parts - 2].n++;
    tokens->part[tokens->n_parts - 1].first++;
    return RP_STATUS_OK;
}

enum rp_status rp_data_read_text(struct rp_data_source *source, struct rp_data_set *set,
                                 struct rp_error *err)
{
    set->tokens = tokens_new();
    set->tokens->below = BYTE_VOCAB;
    set->n_classes = BYTE_VOCAB;
    RP_TRY(rp_data_source_list(source, NULL, err));
    for (int i = 0; i < source->n_listed; i++) RP_TRY(read_file(source, i, set->tokens, err));
    if (set->tokens->n == 0) return rp_data_fail(source, 0, err, "the text is empty");
    return tokens_set_shape(source, set, err);
}
