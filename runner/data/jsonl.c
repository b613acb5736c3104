/* jsonl.c - files of JSON lines: an object a line, of which one member is the text, or two are a
 * prompt and the response to it. Texts follow one another without padding, an end between two. Of
 * prompt and response only the response is a target, and the end behind it. */
#include "data/encode.h"
#include "data/listing.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { MEMBERS_SHOWN = 8 };

/* Lists a few of the members that there are. */
static enum rp_status fail_no_member(const struct rp_data_source *source, int index, int64_t line,
                                     const char *name, json_t *object, struct rp_error *err)
{
    struct rp_text names = {0};
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach(object, key, value)
    {
        if (n++ < MEMBERS_SHOWN) rp_text_add(&names, "%s`%.60s`", n > 1 ? ", " : "", key);
    }
    if (n > MEMBERS_SHOWN) rp_text_add(&names, ", ...");
    enum rp_status status = rp_data_fail(source, index, err, "line %lld has no `%s`; it has %s",
                                         (long long)line, name, n ? rp_text_get(&names) : "none");
    rp_text_release(&names);
    return status;
}

static enum rp_status find_text(const struct rp_data_source *source, int index, int64_t line,
                                json_t *object, const char *name, const char **text, size_t *n,
                                struct rp_error *err)
{
    const json_t *value = json_object_get(object, name);
    if (!value) return fail_no_member(source, index, line, name, object, err);
    if (!json_is_string(value))
        return rp_data_fail(source, index, err, "line %lld: `%s` is no text in quotes",
                            (long long)line, name);
    *text = json_string_value(value);
    *n = json_string_length(value);
    return RP_STATUS_OK;
}

static enum rp_status encode_object(const struct rp_data_source *source, const struct rp_bpe *bpe,
                                    int32_t end, int index, int64_t line, json_t *object,
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
    /* Numbers are none of our business: whole ones of any length are taken as fractions. */
    enum { FLAGS = JSON_DECODE_INT_AS_REAL };
    json_error_t why;
    if (line == 1 && n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, n -= 3;
    size_t blank = 0;
    while (blank < n && strchr(" \t\r", text[blank]) && text[blank]) blank++;
    if (blank == n) return RP_STATUS_OK;
    json_t *object = json_loadb(text, n, FLAGS, &why);
    enum rp_status status;
    if (!object)
        status = rp_data_fail(source, index, err, "line %lld is no JSON: %s (column %d)",
                              (long long)line, why.text, why.column);
    else if (!json_is_object(object))
        status = rp_data_fail(source, index, err, "line %lld is no object {...}", (long long)line);
    else
        status = encode_object(source, bpe, end, index, line, object, out, err);
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
