/* csv_cells.c - RFC 4180: cells between delimiters, quoted ones with doubled quotes and line ends
 * inside, records ended by LF or CRLF. */
#include "data/csv_cells.h"

#include <string.h>

void csv_reader_init(struct csv_reader *reader, char *text, size_t length, char delimiter)
{
    *reader = (struct csv_reader){text, text + length, delimiter, 1};
    if (length >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) reader->at += 3;
}

/* Length of the line end at `at`: 0, 1 (LF) or 2 (CRLF). */
static size_t line_end_at(const struct csv_reader *reader, const char *at)
{
    if (at < reader->end && *at == '\n') return 1;
    return reader->end - at >= 2 && at[0] == '\r' && at[1] == '\n' ? 2 : 0;
}

bool csv_reader_begin_record(struct csv_reader *reader)
{
    for (size_t n; (n = line_end_at(reader, reader->at)) > 0; reader->line++) reader->at += n;
    return reader->at < reader->end;
}

static bool is_blank(const struct csv_reader *reader, char c)
{
    return (c == ' ' || c == '\t') && c != reader->delimiter;
}

/* Copies the text of a quoted cell down over its quotes; `at` is behind the closing one then. */
static const char *read_quoted(struct csv_reader *reader, struct csv_cell *cell)
{
    char *out = reader->at + 1, *at = reader->at + 1;
    cell->text = out;
    for (;; at++) {
        if (at == reader->end) return "a quoted cell without its closing quote";
        if (*at == '"') {
            if (at + 1 == reader->end || at[1] != '"') break;
            at++;
        }
        if (*at == '\n') reader->line++;
        *out++ = *at;
    }
    cell->length = (size_t)(out - cell->text);
    reader->at = at + 1;
    return NULL;
}

static void read_unquoted(struct csv_reader *reader, struct csv_cell *cell)
{
    char *at = reader->at, *stop;
    while (at < reader->end && *at != reader->delimiter && line_end_at(reader, at) == 0) at++;
    stop = at;
    cell->text = reader->at;
    while (cell->text < stop && is_blank(reader, *cell->text)) cell->text++;
    while (stop > cell->text && is_blank(reader, stop[-1])) stop--;
    cell->length = (size_t)(stop - cell->text);
    reader->at = at;
}

const char *csv_reader_next(struct csv_reader *reader, struct csv_cell *cell)
{
    *cell = (struct csv_cell){.line = reader->line};
    if (reader->at < reader->end && *reader->at == '"') {
        const char *wrong = read_quoted(reader, cell);
        if (wrong) return wrong;
    } else {
        read_unquoted(reader, cell);
    }
    size_t line_end = line_end_at(reader, reader->at);
    if (reader->at == reader->end || line_end > 0) {
        cell->last = true;
        reader->at += line_end;
        reader->line += line_end > 0;
    } else if (*reader->at == reader->delimiter) {
        reader->at++;
    } else {
        return "text behind the closing quote of a cell";
    }
    return NULL;
}
