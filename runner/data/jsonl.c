/* jsonl.c - files of JSON lines: an object a line, of which one member is the text, or two are a
 * prompt and the response to it. Texts follow one another without padding, an end between two. Of
 * prompt and response only the response is a target, and the end behind it. */
#include "data/encode.h"
#include "data/json_line.h"
#include "data/listing.h"

#include <stdio.h>
#include <string.h>

static enum rp_status find_text(const struct rp_data_source *source, int index, int64_t line,
                                const json_t *object, const char *name, const char **text,
                                size_t *n, struct rp_error *err)
{
    struct rp_error why = {0};
    if (rp_json_line_text(object, name, text, n, &why) != RP_STATUS_OK)
        return rp_data_fail(source, index, err, "line %lld has %s", (long long)line, why.text);
    if (source->dataset->tokenizer || !memchr(*text, '\0', *n)) return RP_STATUS_OK;
    return rp_data_fail(source, index, err,
                        "line %lld has a NUL in `%s`, and where a token is a byte that is the end "
                        "of a text",
                        (long long)line, name);
}

static enum rp_status encode_object(const struct rp_data_source *source, const struct rp_bpe *bpe,
                                    int32_t end, int index, int64_t line, const json_t *object,
                                    struct encoded *out, struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = source->dataset;
    const char *text, *response;
    size_t n, n_response;
    if (!dataset->jsonl_prompt) {
        RP_TRY(find_text(source, index, line, object, dataset->jsonl_field, &text, &n, err));
        if (n == 0) return RP_STATUS_OK;
        encode_token(end, true, out);
        encode_text(bpe, text, n, true, out);
        out->texts++;
        return RP_STATUS_OK;
    }
    RP_TRY(find_text(source, index, line, object, dataset->jsonl_prompt, &text, &n, err));
    RP_TRY(find_text(source, index, line, object, dataset->jsonl_response, &response, &n_response,
                     err));
    encode_text(bpe, text, n, false, out);
    encode_text(bpe, response, n_response, true, out);
    encode_token(end, true, out);
    out->texts++;
    return RP_STATUS_OK;
}

enum rp_status jsonl_encode_line(const struct rp_data_source *source, const struct rp_bpe *bpe,
                                 int32_t end, int index, int64_t line, const char *text, size_t n,
                                 struct encoded *out, struct rp_error *err)
{
    struct rp_error why = {0};
    json_t *object = NULL;
    if (rp_json_line_read(line, text, n, &object, &why) != RP_STATUS_OK)
        return rp_data_fail(source, index, err, "line %lld is %s", (long long)line, why.text);
    if (!object) return RP_STATUS_OK;
    enum rp_status status = encode_object(source, bpe, end, index, line, object, out, err);
    json_decref(object);
    return status;
}

static enum rp_status read_files(struct rp_data_source *source, const struct rp_bpe *bpe,
                                 struct rp_data_set *set, struct rp_error *err)
{
    struct encoder *encoder = encoder_new(source, bpe, true, set->tokens);
    enum rp_status status = RP_STATUS_OK;
    set->tokens->n = 0;
    for (int i = 0; status == RP_STATUS_OK && i < source->n_listed; i++) {
        char part[32], *text = NULL;
        size_t n = 0;
        snprintf(part, sizeof part, "files[%d]", i);
        status = rp_data_read_whole(source, i, part, &text, &n, err);
        if (status == RP_STATUS_OK) status = encoder_add(encoder, i, text, n, err);
    }
    if (status == RP_STATUS_OK) status = encoder_end(encoder, err);
    encoder_free(encoder);
    if (status == RP_STATUS_OK && set->tokens->n == 0)
        status = rp_data_fail(source, 0, err, "there is no text in it");
    return status;
}

enum rp_status rp_data_read_jsonl(struct rp_data_source *source, struct rp_data_set *set,
                                  struct rp_error *err)
{
    struct rp_bpe *bpe = NULL;
    set->tokens = tokens_new();
    set->tokens->n = -1;
    set->n_classes = -1;
    enum rp_status status = rp_data_source_list(source, ".jsonl", err);
    bool read = !source->describe || source->deep;
    if (status == RP_STATUS_OK && read) status = encode_open_tokenizer(source, &bpe, err);
    if (status == RP_STATUS_OK && read) status = read_files(source, bpe, set, err);
    if (status == RP_STATUS_OK && (read || !source->dataset->tokenizer)) encode_set_vocab(bpe, set);
    rp_bpe_free(bpe);
    return status == RP_STATUS_OK ? tokens_set_shape(source, set, err) : status;
}
