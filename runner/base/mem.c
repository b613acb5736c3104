#include "base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

static void *checked(void *block)
{
    if (!block) {
        fputs("reprise: error: out of host memory for a small block; nothing can be saved or said "
              "after that\n",
              stderr);
        abort();
    }
    return block;
}

void rp_mem_configure(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 << 10); /* set, glibc no longer raises it after a large free */
}

void *rp_mem_new(size_t bytes)
{
    return checked(calloc(1, bytes ? bytes : 1));
}

void *rp_mem_grow(void *block, size_t bytes)
{
    return checked(realloc(block, bytes ? bytes : 1));
}

void *rp_mem_try(size_t bytes)
{
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    if (bytes > SIZE_MAX - alignment) return NULL;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *block = NULL;
    if (posix_memalign(&block, alignment, rounded ? rounded : ALIGNMENT) != 0) return NULL;
    /* Large blocks live for the whole run: huge pages save page faults and TLB misses. A hint only.
     */
    if (bytes >= HUGE_PAGE) madvise(block, rounded, MADV_HUGEPAGE);
    memset(block, 0, rounded);
    return block;
}

void rp_mem_free(void *block)
{
    free(block);
}

char *rp_mem_text_args(const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) length = 0;
    char *text = rp_mem_new((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, args);
    return text;
}

char *rp_mem_text(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = rp_mem_text_args(format, args);
    va_end(args);
    return text;
}

char *rp_mem_copy_text(const char *text)
{
    return text ? checked(strdup(text)) : NULL;
}

bool rp_text_ends(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n > m && strcmp(text + n - m, ending) == 0;
}

void rp_text_add_bytes(struct rp_text *text, const void *bytes, size_t length)
{
    if (text->length + length + 1 > text->capacity) {
        size_t capacity = text->capacity ? text->capacity * 2 : 256;
        while (capacity < text->length + length + 1) capacity *= 2;
        text->bytes = rp_mem_grow(text->bytes, capacity);
        text->capacity = capacity;
    }
    if (length) memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void rp_text_add(struct rp_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *piece = rp_mem_text_args(format, args);
    va_end(args);
    rp_text_add_bytes(text, piece, strlen(piece));
    rp_mem_free(piece);
}

void rp_text_add_json(struct rp_text *text, const char *string)
{
    rp_text_add_bytes(text, "\"", 1);
    for (; *string; string++) {
        unsigned char c = (unsigned char)*string;
        if (c == '"' || c == '\\')
            rp_text_add(text, "\\%c", c);
        else if (c < 0x20)
            rp_text_add(text, "\\u%04x", c);
        else
            rp_text_add_bytes(text, string, 1);
    }
    rp_text_add_bytes(text, "\"", 1);
}

const char *rp_text_get(const struct rp_text *text)
{
    return text->bytes ? text->bytes : "";
}

void rp_text_release(struct rp_text *text)
{
    rp_mem_free(text->bytes);
    *text = (struct rp_text){0};
}
