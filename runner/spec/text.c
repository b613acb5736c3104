/* text.c - what must be true of the bytes before YAML looks at them: size, UTF-8, no control
 * characters, LF or CRLF. The first fault is a place and a sentence; several of a kind are one. */
#include "spec/spec_int.h"

#include "base/utf8.h"

#include <string.h>

struct rp_spec_place rp_spec_place_of(const char *bytes, size_t n_bytes, size_t offset)
{
    struct rp_spec_place at = {1, 1};
    size_t i = n_bytes >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (i < offset && i < n_bytes) {
        uint32_t c = 0;
        int n = rp_utf8_character(bytes + i, n_bytes - i, &c);
        i += (size_t)(n ? n : 1);
        at.column++;
        if (n && c == '\n') {
            at.line++;
            at.column = 1;
        }
    }
    return at;
}

static const char *what_is_wrong(const char *bytes, size_t left, int *length)
{
    uint32_t c = 0;
    *length = rp_utf8_character(bytes, left, &c);
    if (*length == 0) {
        *length = 1;
        return "not UTF-8; save the file as UTF-8";
    }
    if (c == 0) return "a NUL byte; a spec is plain text";
    if (c == '\r' && (left < 2 || bytes[1] != '\n'))
        return "a carriage return alone; lines end in LF or CRLF";
    if (c == '\n' || c == '\r' || c == '\t') return NULL;
    if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xa0))
        return "a control character; a spec is plain text";
    if (c == 0x2028 || c == 0x2029) return "a Unicode line separator; lines end in LF or CRLF";
    if (c == 0xfeff) return "a byte order mark that is not at the start of the file";
    if (c == 0xfffe || c == 0xffff) return "not a character; save the file as UTF-8";
    return NULL;
}

/* The position of a tab in the indentation of a line with content; n_bytes when there is none. */
static size_t find_indent_tab(const char *bytes, size_t n_bytes, size_t from)
{
    for (size_t line = from; line < n_bytes;) {
        size_t i = line, tab = n_bytes;
        for (; i < n_bytes && (bytes[i] == ' ' || bytes[i] == '\t'); i++)
            if (bytes[i] == '\t' && tab == n_bytes) tab = i;
        if (tab < n_bytes && i < n_bytes && bytes[i] != '\n' && bytes[i] != '\r' && bytes[i] != '#')
            return tab;
        const char *end = memchr(bytes + line, '\n', n_bytes - line);
        if (!end) break;
        line = (size_t)(end - bytes) + 1;
    }
    return n_bytes;
}

void rp_spec_check_text(struct rp_problems *problems)
{
    const char *bytes = problems->bytes;
    size_t n_bytes = problems->n_bytes;
    struct rp_spec_place nowhere = {0, 0};
    problems->stop = true;
    if (n_bytes > RP_SPEC_MAX_BYTES) {
        rp_problems_add(problems, nowhere, NULL, "larger than %d KiB; a spec is a short text",
                        RP_SPEC_MAX_BYTES / 1024);
        return;
    }
    if (n_bytes >= 2 && (memcmp(bytes, "\xff\xfe", 2) == 0 || memcmp(bytes, "\xfe\xff", 2) == 0)) {
        rp_problems_add(problems, nowhere, NULL, "UTF-16; save the file as UTF-8");
        return;
    }
    size_t start = n_bytes >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (size_t i = start; i < n_bytes;) {
        int length = 0;
        const char *why = what_is_wrong(bytes + i, n_bytes - i, &length);
        if (why) {
            rp_problems_add(problems, rp_spec_place_of(bytes, n_bytes, i), NULL, "%s", why);
            return;
        }
        i += (size_t)length;
    }
    size_t tab = find_indent_tab(bytes, n_bytes, start);
    if (tab < n_bytes) {
        rp_problems_add(problems, rp_spec_place_of(bytes, n_bytes, tab), NULL,
                        "a tab in the indentation; YAML is indented with spaces");
        return;
    }
    problems->stop = false;
}
