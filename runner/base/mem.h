/* mem.h - host memory for small things. Running out here aborts with a sentence: a launcher that
 * cannot allocate a few kilobytes can neither save nor say more. Blocks whose size comes from a
 * spec or a file (tensors, data sets) are allocated with rp_mem_try(), which returns NULL. */
#ifndef RP_MEM_H
#define RP_MEM_H

#include "base/base.h"

#include <stdarg.h>

void *rp_mem_new(size_t bytes);               /* zeroed; free with rp_mem_free */
void *rp_mem_grow(void *block, size_t bytes); /* like realloc; new bytes undefined */
void *rp_mem_try(size_t bytes); /* 64-byte aligned, zeroed, or NULL; free with rp_mem_free */
void rp_mem_free(void *block);  /* NULL is fine */
char *rp_mem_text(const char *format, ...) RP_PRINTF(1, 2); /* a new string; caller frees */
char *rp_mem_text_args(const char *format, va_list args);
char *rp_mem_copy_text(const char *text); /* NULL gives NULL */

/* Whether `text` is something before `ending`, and then that. */
bool rp_text_ends(const char *text, const char *ending);

/* Large blocks go back to the system when freed, whatever was freed before: what a run holds is
 * then what plan/ counts. Once, at the start of the program. */
void rp_mem_configure(void);

#define RP_NEW(type)          ((type *)rp_mem_new(sizeof(type)))
#define RP_NEW_ARRAY(type, n) ((type *)rp_mem_new(sizeof(type) * (size_t)(n)))

/* A growing byte string. Always NUL-terminated after the first append; `bytes` may be NULL before.
 */
struct rp_text {
    char *bytes;
    size_t length, capacity;
};
void rp_text_add(struct rp_text *text, const char *format, ...) RP_PRINTF(2, 3);
void rp_text_add_bytes(struct rp_text *text, const void *bytes, size_t length);
/* `string` in JSON's quotes: control characters become \u00XX, other bytes are taken to be UTF-8.
 */
void rp_text_add_json(struct rp_text *text, const char *string);
const char *rp_text_get(const struct rp_text *text); /* never NULL */
void rp_text_release(struct rp_text *text);          /* safe twice */

#endif
