/* utf8.c - what is UTF-8, and what a terminal may see. A module takes this file too, with the
 * errors of base.c: it calls nothing of the program. */
#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

int rp_utf8_character(const char *bytes, size_t left, uint32_t *character)
{
    const unsigned char *b = (const unsigned char *)bytes;
    if (left == 0) return 0;
    int n = b[0] < 0x80   ? 1
            : b[0] < 0xc2 ? 0
            : b[0] < 0xe0 ? 2
            : b[0] < 0xf0 ? 3
            : b[0] < 0xf5 ? 4
                          : 0;
    if (n == 0 || (size_t)n > left) return 0;
    static const unsigned char mask[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    uint32_t c = b[0] & mask[n];
    for (int i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (b[i] & 0x3f);
    }
    /* the shortest form only, no surrogates, nothing past the last plane */
    if ((n == 3 && c < 0x800) || (n == 4 && (c < 0x10000 || c > 0x10ffff))) return 0;
    if (c >= 0xd800 && c <= 0xdfff) return 0;
    *character = c;
    return n;
}

size_t rp_utf8_length(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint32_t c = 0;
        int bytes = (unsigned char)text[i] < 0x80 ? 1 : rp_utf8_character(text + i, n - i, &c);
        if (bytes == 0) break;
        i += (size_t)bytes;
    }
    return i;
}

void rp_utf8_show(const char *text, bool keep_newlines, char *out, size_t capacity)
{
    size_t n = 0, left = strlen(text);
    while (left && n + 5 < capacity) {
        uint32_t c = 0;
        size_t bytes = (size_t)rp_utf8_character(text, left, &c);
        bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
        if (bytes && (!control || (keep_newlines && c == '\n'))) {
            memcpy(out + n, text, bytes);
            n += bytes;
        } else {
            bytes = 1;
            n += (size_t)snprintf(out + n, capacity - n, "\\x%02x", (unsigned char)*text);
        }
        text += bytes;
        left -= bytes;
    }
    out[n] = '\0';
}
