/* tokenize_chunk.c - a chunk of text, or of JSON lines, to tokens. */
#include "data/tokenize_int.h"

#include <jansson.h>
#include <string.h>

static enum rp_status fail_line(const struct chunk *chunk, int64_t line, const char *what,
                                const char *which)
{
    return rp_error_set(chunk->err, RP_STATUS_DATA, "%s:%lld: %s%s", chunk->input->path,
                        (long long)line, what, which);
}

/* `n` bytes of text that are a document. */
static void add_document(const struct chunk_form *form, struct chunk *chunk, const char *text,
                         size_t n)
{
    if (n == 0) {
        chunk->n_empty++;
        return;
    }
    if (chunk->documents) rp_tokens_add(&chunk->tokens, form->end_of_text);
    rp_bpe_encode(form->bpe, text, n, &chunk->tokens);
    chunk->documents++;
    chunk->text_bytes += n;
}

static enum rp_status add_object(const struct chunk_form *form, struct chunk *chunk, int64_t line,
                                 const json_t *object)
{
    const json_t *text = json_object_get(object, form->field);
    if (!json_is_object(object))
        return fail_line(chunk, line, "expected an object: {\"", form->field);
    if (!text) return fail_line(chunk, line, "no key ", form->field);
    if (!json_is_string(text)) return fail_line(chunk, line, "not a text: ", form->field);
    add_document(form, chunk, json_string_value(text), json_string_length(text));
    return RP_STATUS_OK;
}

static bool is_blank(const char *line, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') return false;
    return true;
}

static enum rp_status add_line(const struct chunk_form *form, struct chunk *chunk, int64_t number,
                               const char *line, size_t n)
{
    json_error_t problem;
    if (is_blank(line, n)) return RP_STATUS_OK;
    json_t *object = json_loadb(line, n, JSON_ALLOW_NUL, &problem);
    enum rp_status status = object ? add_object(form, chunk, number, object)
                                   : fail_line(chunk, number, "not JSON: ", problem.text);
    json_decref(object);
    return status;
}

static enum rp_status add_lines(const struct chunk_form *form, struct chunk *chunk)
{
    const char *at = chunk->text.at, *end = at + chunk->text.n;
    enum rp_status status = RP_STATUS_OK;
    for (int64_t number = chunk->line; at < end && status == RP_STATUS_OK; number++) {
        const char *feed = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((feed ? feed : end) - at);
        status = add_line(form, chunk, number, at, n);
        at += n + 1;
    }
    return status;
}

void chunk_encode(const struct chunk_form *form, struct chunk *chunk)
{
    chunk->tokens.n = chunk->documents = chunk->n_empty = 0;
    chunk->text_bytes = 0;
    if (chunk->status != RP_STATUS_OK) return;
    if (chunk->input->lines)
        chunk->status = add_lines(form, chunk);
    else if (chunk->begins || chunk->text.n)
        add_document(form, chunk, chunk->text.at, chunk->text.n);
    if (!chunk->begins) chunk->documents = 0;
}
