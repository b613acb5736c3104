/* utf8_escape.c - any bytes as text for a terminal, or as UTF-8 and back. */
#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

char *rp_utf8_shown(const char *text, bool keep_newlines)
{
    size_t capacity = 4 * strlen(text) + 6; /* \xNN for each byte, and what rp_utf8_show leaves */
    char *shown = RP_NEW_ARRAY(char, capacity);
    rp_utf8_show(text, keep_newlines, shown, capacity);
    return shown;
}

char *rp_utf8_escaped(const char *text, size_t n)
{
    struct rp_text out = {0};
    rp_text_add(&out, "%s", "");
    for (size_t i = 0; i < n;) {
        size_t good = rp_utf8_length(text + i, n - i);
        rp_text_add_bytes(&out, text + i, good);
        i += good;
        if (i < n) rp_text_add(&out, "\\x%02x", (unsigned char)text[i++]);
    }
    return out.bytes;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

char *rp_utf8_unescaped(const char *text)
{
    char *copy = rp_mem_copy_text(text), *out = copy;
    while (*text) {
        int high = text[0] == '\\' && text[1] == 'x' ? hex_digit(text[2]) : -1;
        int low = high >= 8 ? hex_digit(text[3]) : -1; /* what is escaped is above ASCII */
        *out++ = low < 0 ? *text : (char)(high << 4 | low);
        text += low < 0 ? 1 : 4;
    }
    *out = '\0';
    return copy;
}
