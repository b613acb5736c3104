/* print.c - an environment and a table of differences, for people. */
#include "env/env_int.h"

#include <stdio.h>
#include <string.h>

/* A JSON value on one line. */
static void value_text(const json_t *value, char *text, size_t capacity)
{
    if (json_is_string(value))
        snprintf(text, capacity, "%s", json_string_value(value));
    else if (json_is_integer(value))
        snprintf(text, capacity, "%lld", (long long)json_integer_value(value));
    else if (json_is_boolean(value))
        snprintf(text, capacity, "%s", json_is_true(value) ? "yes" : "no");
    else
        snprintf(text, capacity, "%s", "-");
}

static void print_line(struct rp_text *text, const char *section, const char *name,
                       const json_t *value)
{
    char label[128], line[1024];
    snprintf(label, sizeof label, "%s%s%s", section, name[0] ? " " : "", name);
    value_text(value, line, sizeof line);
    rp_text_add(text, "%-22s %s\n", label, line);
}

/* "library libz.so.1      9f2c...  /usr/lib/..." */
static void print_libraries(struct rp_text *text, const json_t *libraries)
{
    size_t i;
    json_t *library;
    json_array_foreach(libraries, i, library)
    {
        const char *name = json_string_value(json_object_get(library, "name"));
        const char *path = json_string_value(json_object_get(library, "path"));
        const char *hash = json_string_value(json_object_get(library, "sha256"));
        rp_text_add(text, "%-22s %s  %s\n", name ? name : "-", hash ? hash : "(unreadable)",
                    path ? path : "-");
    }
}

void rp_env_print(const json_t *environment, struct rp_text *text)
{
    const char *section, *name;
    json_t *part, *value;
    json_object_foreach((json_t *)environment, section, part)
    {
        if (json_is_array(part)) {
            print_libraries(text, part);
        } else if (json_is_object(part)) {
            json_object_foreach(part, name, value) print_line(text, section, name, value);
        } else {
            print_line(text, section, "", part);
        }
    }
}

/* ---- differences ----------------------------------------------------------------------------- */

enum { CELL_MAX = 44 };

/* A cell no wider than CELL_MAX: of what is longer, both ends. Cut between characters of UTF-8. */
static void cell_text(const json_t *row, const char *key, char cell[160])
{
    char whole[1024];
    value_text(json_object_get(row, key), whole, sizeof whole);
    size_t length = strlen(whole);
    if (length <= CELL_MAX) {
        memcpy(cell, whole, length + 1);
        return;
    }
    size_t head = CELL_MAX / 2 - 2, tail = length - (CELL_MAX / 2 - 1);
    while (head > 0 && ((unsigned char)whole[head] & 0xc0) == 0x80) head--;
    while (whole[tail] && ((unsigned char)whole[tail] & 0xc0) == 0x80) tail++;
    snprintf(cell, 160, "%.*s...%s", (int)head, whole, whole + tail);
}

static size_t column_width(const json_t *rows, const char *key, const char *title)
{
    size_t width = strlen(title), i;
    json_t *row;
    json_array_foreach((json_t *)rows, i, row)
    {
        char cell[160];
        cell_text(row, key, cell);
        if (strlen(cell) > width) width = strlen(cell);
    }
    return width;
}

void rp_env_print_rows(const json_t *rows, struct rp_text *text)
{
    int what = (int)column_width(rows, "what", "what");
    int expected = (int)column_width(rows, "expected", "expected");
    int found = (int)column_width(rows, "found", "found");
    size_t i;
    json_t *row;
    rp_text_add(text, "  %-*s  %-*s  %-*s  can touch bits\n", what, "what", expected, "expected",
                found, "found");
    json_array_foreach((json_t *)rows, i, row)
    {
        char cell[3][160];
        cell_text(row, "what", cell[0]);
        cell_text(row, "expected", cell[1]);
        cell_text(row, "found", cell[2]);
        rp_text_add(text, "  %-*s  %-*s  %-*s  %s\n", what, cell[0], expected, cell[1], found,
                    cell[2], json_is_true(json_object_get(row, "touches_bits")) ? "yes" : "no");
    }
}
