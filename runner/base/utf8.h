/* utf8.h - text that may hold any bytes (the names of files, an environment's words) where only
 * UTF-8 will do. */
#ifndef RP_UTF8_H
#define RP_UTF8_H

#include "base/base.h"

/* Bytes of the UTF-8 character at `bytes`; 0 when it is none. */
int rp_utf8_character(const char *bytes, size_t left, uint32_t *character);
/* How many of the first bytes are UTF-8. */
size_t rp_utf8_length(const char *text, size_t n);

/* Text for a terminal, which a name must not be able to drive: control characters and bytes that
 * are no UTF-8 become \xNN, in `out`, which takes what fits of `capacity` bytes. */
void rp_utf8_show(const char *text, bool keep_newlines, char *out, size_t capacity);
char *rp_utf8_shown(const char *text, bool keep_newlines); /* all of it; the caller frees */

/* `text` with every byte that is no UTF-8 as \xNN, and back again; the caller frees. */
char *rp_utf8_escaped(const char *text, size_t n);
char *rp_utf8_unescaped(const char *text);

#endif
