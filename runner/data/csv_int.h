/* csv_int.h - private to runner/data: a table while it is read. */
#ifndef RP_DATA_CSV_INT_H
#define RP_DATA_CSV_INT_H

#include "data/csv_cells.h"
#include "data/stream.h"

/* A target as it stands in the text. */
struct csv_word {
    const char *text;
    size_t length;
    int64_t line;
};
/* A feature that is 1 where the cell of a column is this word, else 0. */
struct csv_indicator {
    int64_t column, feature;
    const char *word; /* in the spec */
    size_t length;
};
enum { CSV_NO_FEATURE = -1, CSV_INDICATED = -2 };
struct csv_table {
    struct rp_data_source *source;
    struct rp_data_set *set;
    struct csv_reader reader;
    char **columns;
    int64_t n_columns, label; /* column number of the target, -1: none */
    int64_t *feature; /* (n_columns) which number of a sample a column is; CSV_NO_FEATURE: none;
                       * CSV_INDICATED: those of its indicators */
    struct csv_indicator *indicator;
    int n_indicators;
    int64_t capacity;       /* rows that there can be at most */
    struct csv_word *words; /* (n) classes: the target of each row */
    int64_t n_empty, empty_lines[5];
};

/* From the names in the first line: label, feature, indicator; the set's shape and columns. */
RP_NODISCARD enum rp_status csv_place_columns(struct csv_table *table, struct rp_error *err);

#endif
