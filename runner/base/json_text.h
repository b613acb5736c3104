/* json_text.h - any bytes as a JSON string, which holds UTF-8 only. */
#ifndef RP_JSON_TEXT_H
#define RP_JSON_TEXT_H

#include "base/mem.h"
#include "base/utf8.h"

#include <jansson.h>
#include <string.h>

/* What is no UTF-8 becomes \xNN. */
static inline json_t *rp_json_bytes(const char *text, size_t n)
{
    char *escaped = rp_utf8_escaped(text, n);
    json_t *json = json_string(escaped);
    rp_mem_free(escaped);
    return json;
}

static inline json_t *rp_json_text(const char *text)
{
    return rp_json_bytes(text, strlen(text));
}

#endif
