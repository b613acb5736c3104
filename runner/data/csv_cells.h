/* csv_cells.h - private to runner/data: the cells of a CSV text (RFC 4180), one after the other. */
#ifndef RP_DATA_CSV_CELLS_H
#define RP_DATA_CSV_CELLS_H

#include "base/base.h"

/* Walks over a text that it may change in place (doubled quotes become one). */
struct csv_reader {
    char *at, *end;
    char delimiter;
    int64_t line; /* of the next byte, from 1 */
};
struct csv_cell {
    char *text; /* in the reader's text, without quotes; blanks around an unquoted cell are left out
                 */
    size_t length;
    bool last; /* of its record */
    int64_t line;
};

/* Skips a byte order mark. */
void csv_reader_init(struct csv_reader *reader, char *text, size_t length, char delimiter);
/* Skips lines with nothing in them; false at the end of the text. */
bool csv_reader_begin_record(struct csv_reader *reader);
/* The next cell of the record; NULL, or what is wrong with it. */
const char *csv_reader_next(struct csv_reader *reader, struct csv_cell *cell);

#endif
