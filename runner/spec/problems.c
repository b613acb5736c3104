/* problems.c - the list of everything wrong with a spec, and how it is printed:
 *
 *     job.yaml:7:3: no key `optimiser` in `train`; did you mean `optimizer`?
 *       7 |   optimiser: {kind: adamw, lr: 1.0e-3}
 *         |   ^
 *
 * Columns count characters. Whatever is quoted from the file is escaped first. */
#include "spec/spec_int.h"

#include "base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCE_WIDTH = 100, SOURCE_LEAD = 60 };

void rp_problems_add(struct rp_problems *problems, struct rp_spec_place at, const char *set,
                     const char *format, ...)
{
    if (problems->n == RP_SPEC_MAX_PROBLEMS) {
        problems->n_left_out++;
        return;
    }
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct rp_problem *problem = &problems->item[problems->n++];
    problem->at = at;
    problem->set = set;
    problem->message = rp_mem_copy_text(text);
}

/* One character of `text` as it may be shown: itself, or an escape. Returns the bytes taken. */
static int quote_character(struct rp_text *out, const char *text, size_t left, int *width)
{
    uint32_t c = 0;
    int n = rp_utf8_character(text, left, &c);
    size_t before = out->length;
    if (n == 0) {
        rp_text_add(out, "\\x%02X", (unsigned char)*text);
        n = 1;
    } else if (c == '\t') {
        rp_text_add(out, "\\t");
    } else if (c == '\n') {
        rp_text_add(out, "\\n");
    } else if (c == '\r') {
        rp_text_add(out, "\\r");
    } else if (c < 0x20 || c == 0x7f) {
        rp_text_add(out, "\\x%02X", (unsigned)c);
    } else if ((c >= 0x80 && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
               (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
               (c >= 0x2066 && c <= 0x2069)) {
        rp_text_add(out, "\\u%04X", (unsigned)c); /* invisible, or turns the text around */
    } else {
        rp_text_add_bytes(out, text, (size_t)n);
        *width = 1;
        return n;
    }
    *width = (int)(out->length - before);
    return n;
}

void rp_spec_quote(struct rp_text *out, const char *text, size_t length, int limit)
{
    int shown = 0;
    for (size_t i = 0; i < length;) {
        int width = 0;
        if (shown >= limit) {
            rp_text_add(out, "...");
            return;
        }
        i += (size_t)quote_character(out, text + i, length - i, &width);
        shown += width;
    }
}

/* The line of `at` with a caret under its column; a long line is shown around the column only. */
static void add_source_line(struct rp_text *out, const char *bytes, size_t n_bytes,
                            struct rp_spec_place at)
{
    size_t i = 0;
    if (n_bytes >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) i = 3;
    for (int line = 1; line < at.line && i < n_bytes; line++) {
        const char *end = memchr(bytes + i, '\n', n_bytes - i);
        i = end ? (size_t)(end - bytes) + 1 : n_bytes;
    }
    const char *end = memchr(bytes + i, '\n', n_bytes - i);
    size_t stop = end ? (size_t)(end - bytes) : n_bytes;
    if (stop > i && bytes[stop - 1] == '\r') stop--;

    int first = at.column > SOURCE_WIDTH ? at.column - SOURCE_LEAD : 1;
    int column = 1, shown = 0, caret = 0;
    char margin[16];
    snprintf(margin, sizeof margin, "%5d", at.line);
    rp_text_add(out, "\n%s | %s", margin, first > 1 ? "..." : "");
    if (first > 1) shown = 3;
    for (; i < stop && column < first + SOURCE_WIDTH; column++) {
        int width = 0;
        if (column == at.column) caret = shown;
        if (column < first) {
            uint32_t c = 0;
            int n = rp_utf8_character(bytes + i, stop - i, &c);
            i += (size_t)(n ? n : 1);
            continue;
        }
        i += (size_t)quote_character(out, bytes + i, stop - i, &width);
        shown += width;
    }
    if (i < stop) rp_text_add(out, "...");
    if (column <= at.column) caret = shown;
    rp_text_add(out, "\n%*s | %*s^", (int)strlen(margin), "", caret, "");
}

static void add_problem(struct rp_text *out, const char *path, const char *bytes, size_t n_bytes,
                        const struct rp_problem *problem, bool with_source)
{
    if (problem->set) {
        rp_text_add(out, "--set ");
        rp_spec_quote(out, problem->set, strlen(problem->set), 120);
        rp_text_add(out, ": %s", problem->message);
    } else {
        rp_spec_quote(out, path, strlen(path), 1000);
        if (problem->at.line > 0) rp_text_add(out, ":%d:%d", problem->at.line, problem->at.column);
        rp_text_add(out, ": %s", problem->message);
        if (problem->at.line > 0 && with_source) add_source_line(out, bytes, n_bytes, problem->at);
    }
}

static int in_order_of_file(const void *a, const void *b)
{
    const struct rp_problem *x = a, *y = b;
    if (!x->set != !y->set) return x->set ? 1 : -1;
    if (x->at.line != y->at.line) return x->at.line < y->at.line ? -1 : 1;
    if (x->at.column != y->at.column) return x->at.column < y->at.column ? -1 : 1;
    return strcmp(x->message, y->message);
}

/* Several problems of one place (keys that a map lacks) show its line once, below the last. */
static bool is_repeated(const struct rp_problems *problems, int i)
{
    if (i + 1 >= problems->n) return false;
    const struct rp_problem *a = &problems->item[i], *b = &problems->item[i + 1];
    return !a->set && !b->set && a->at.line == b->at.line && a->at.column == b->at.column;
}

enum rp_status rp_problems_report(struct rp_problems *problems, enum rp_status status,
                                  struct rp_error *err)
{
    if (problems->n == 0) return RP_STATUS_OK;
    qsort(problems->item, (size_t)problems->n, sizeof problems->item[0], in_order_of_file);
    struct rp_text out = {0}, one = {0};
    int total = problems->n + problems->n_left_out, shown = 0;
    if (total > 1) {
        rp_spec_quote(&out, problems->path, strlen(problems->path), 1000);
        rp_text_add(&out, ": %d errors", total);
    }
    for (; shown < problems->n; shown++) {
        one.length = 0;
        add_problem(&one, problems->path, problems->bytes, problems->n_bytes,
                    &problems->item[shown], !is_repeated(problems, shown));
        if (out.length + one.length + 100 > RP_ERROR_TEXT_BYTES) break;
        rp_text_add(&out, "%s%s", total > 1 ? "\n" : "", rp_text_get(&one));
    }
    if (shown < total) rp_text_add(&out, "\n... and %d more", total - shown);
    status = rp_error_set(err, status, "%s", rp_text_get(&out));
    rp_text_release(&one);
    rp_text_release(&out);
    return status;
}

void rp_problems_release(struct rp_problems *problems)
{
    for (int i = 0; i < problems->n; i++) rp_mem_free(problems->item[i].message);
    problems->n = 0;
}

enum rp_status rp_spec_fail(const struct rp_spec *spec, struct rp_spec_place at,
                            enum rp_status status, struct rp_error *err, const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    struct rp_problem problem = {.at = at, .message = message};
    struct rp_text out = {0};
    add_problem(&out, spec->path, spec->bytes, spec->n_bytes, &problem, true);
    status = rp_error_set(err, status, "%s", rp_text_get(&out));
    rp_text_release(&out);
    return status;
}
