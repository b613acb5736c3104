/* json_line.c - one line of a file of JSON lines. */
#include "data/json_line.h"

#include "base/mem.h"

#include <string.h>

enum { MEMBERS_SHOWN = 8 };

enum rp_status rp_json_line_read(int64_t line, const char *text, size_t n, json_t **object,
                                 struct rp_error *err)
{
    /* Numbers are none of our business: whole ones of any length are taken as fractions. */
    enum { FLAGS = JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL };
    json_error_t why;
    size_t blank = 0;
    *object = NULL;
    if (line == 1 && n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, n -= 3;
    while (blank < n && strchr(" \t\r", text[blank]) && text[blank]) blank++;
    if (blank == n) return RP_STATUS_OK;
    *object = json_loadb(text, n, FLAGS, &why);
    if (!*object)
        return rp_error_set(err, RP_STATUS_DATA, "no JSON: %s (column %d)", why.text, why.column);
    if (json_is_object(*object)) return RP_STATUS_OK;
    json_decref(*object);
    *object = NULL;
    return rp_error_set(err, RP_STATUS_DATA, "no object {...}");
}

/* Lists a few of the members that there are. */
static enum rp_status fail_no_member(const json_t *object, const char *name, struct rp_error *err)
{
    struct rp_text names = {0};
    const char *key;
    json_t *value;
    int n = 0;
    json_object_foreach((json_t *)object, key, value)
    {
        if (n++ < MEMBERS_SHOWN) rp_text_add(&names, "%s`%.60s`", n > 1 ? ", " : "", key);
    }
    if (n > MEMBERS_SHOWN) rp_text_add(&names, ", ...");
    enum rp_status status = rp_error_set(err, RP_STATUS_DATA, "no `%s`; it has %s", name,
                                         n ? rp_text_get(&names) : "none");
    rp_text_release(&names);
    return status;
}

enum rp_status rp_json_line_text(const json_t *object, const char *name, const char **text,
                                 size_t *n, struct rp_error *err)
{
    const json_t *value = json_object_get(object, name);
    if (!value) return fail_no_member(object, name, err);
    if (!json_is_string(value))
        return rp_error_set(err, RP_STATUS_DATA, "a `%s` that is no text in quotes", name);
    *text = json_string_value(value);
    *n = json_string_length(value);
    return RP_STATUS_OK;
}
