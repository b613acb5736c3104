/* tokenize_chunk.c - a chunk of text, or of JSON lines, to tokens. */
#include "data/json_line.h"
#include "data/tokenize_int.h"

#include "base/utf8.h"

#include <string.h>

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

static enum rp_status add_line(const struct chunk_form *form, struct chunk *chunk, int64_t number,
                               const char *line, size_t n)
{
    struct rp_error why = {0};
    json_t *object = NULL;
    const char *text = NULL, *is = "is";
    enum rp_status status = rp_json_line_read(number, line, n, &object, &why);
    if (object) {
        is = "has";
        status = rp_json_line_text(object, form->field, &text, &n, &why);
    }
    if (status != RP_STATUS_OK)
        status = rp_error_set(chunk->err, status, "%s: line %lld %s %s", chunk->input->path,
                              (long long)number, is, why.text);
    else if (object)
        add_document(form, chunk, text, n);
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

static bool is_odd(const struct bytes *text)
{
    return text->n > 0 &&
           (memchr(text->at, 0, text->n) || rp_utf8_length(text->at, text->n) < text->n);
}

void chunk_encode(const struct chunk_form *form, struct chunk *chunk)
{
    chunk->tokens.n = chunk->documents = chunk->n_empty = 0;
    chunk->text_bytes = 0;
    chunk->odd = false;
    if (chunk->status != RP_STATUS_OK) return;
    if (chunk->input->lines) {
        chunk->status = add_lines(form, chunk);
    } else {
        chunk->odd = is_odd(&chunk->text);
        if (chunk->begins || chunk->text.n)
            add_document(form, chunk, chunk->text.at, chunk->text.n);
    }
    if (!chunk->begins) chunk->documents = 0;
}
