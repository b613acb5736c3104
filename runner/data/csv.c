/* csv.c - tables as data sets: a header line, numeric columns as features, one column as the
 * target. */
#include "base/number.h"
#include "data/csv_int.h"

#include <stdlib.h>
#include <string.h>

enum { CELL_SHOWN = 60, HEADER_MOST = 1 << 20 };

static enum rp_status fail_at(const struct csv_table *table, const struct csv_cell *cell,
                              const char *what, struct rp_error *err)
{
    return rp_data_fail(table->source, 0, err, "line %lld: %s", (long long)cell->line, what);
}

/* ---- the header line ------------------------------------------------------------------------- */

static enum rp_status read_header(struct csv_table *table, struct rp_error *err)
{
    struct csv_cell cell = {.line = 1};
    if (!csv_reader_begin_record(&table->reader)) return fail_at(table, &cell, "no text", err);
    while (!cell.last) {
        const char *wrong = csv_reader_next(&table->reader, &cell);
        if (wrong) return fail_at(table, &cell, wrong, err);
        table->columns =
            rp_mem_grow(table->columns, (size_t)(table->n_columns + 1) * sizeof *table->columns);
        table->columns[table->n_columns++] = rp_mem_text("%.*s", (int)cell.length, cell.text);
    }
    RP_TRY(csv_place_columns(table, err));
    table->set->n_values = table->set->target == RP_TARGET_VALUES ? 1 : 0;
    return RP_STATUS_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static enum rp_status allocate_rows(struct csv_table *table, struct rp_error *err)
{
    struct rp_data_set *set = table->set;
    int64_t left = table->reader.end - table->reader.at, lines = 1;
    for (const char *at = table->reader.at;
         (at = memchr(at, '\n', (size_t)(table->reader.end - at))); at++)
        lines++;
    /* A row of k cells has at least k bytes with its line end. */
    int64_t most = left / table->n_columns + 1;
    table->capacity = lines < most ? lines : most;
    set->n = table->capacity;
    RP_TRY(rp_data_allocate_x(table->source, 0, set, err));
    if (!table->source->without_targets) RP_TRY(rp_data_allocate_y(table->source, 0, set, err));
    set->n = 0;
    if (set->target != RP_TARGET_CLASSES || table->source->without_targets) return RP_STATUS_OK;
    table->words = rp_mem_try((size_t)table->capacity * sizeof *table->words);
    if (table->words) return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_MEMORY,
        "%s: %lld lines do not fit into memory; take a machine with more, or less data",
        table->source->dataset->files[0].path, (long long)table->capacity);
}

static enum rp_status keep_number(struct csv_table *table, const struct csv_cell *cell,
                                  int64_t column, float *value, struct rp_error *err)
{
    if (rp_number_parse_float(cell->text, cell->length, value)) return RP_STATUS_OK;
    bool is_target = column == table->label;
    return rp_data_fail(table->source, 0, err,
                        "line %lld, column `%s`: `%.*s%s` is no number (of the range of binary32); "
                        "%s",
                        (long long)cell->line, table->columns[column],
                        (int)(cell->length < CELL_SHOWN ? cell->length : CELL_SHOWN), cell->text,
                        cell->length > CELL_SHOWN ? "..." : "",
                        is_target
                            ? "write `target: classes` for words"
                            : "leave the column out (`ignore`), or take its words as `indicators`");
}

/* 1 for each indicator of the column whose word the cell is; the block was zeros. */
static void indicate(struct csv_table *table, const struct csv_cell *cell, int64_t column)
{
    float *row = table->set->f32 + table->set->n * table->set->row;
    for (int i = 0; i < table->n_indicators; i++) {
        const struct csv_indicator *indicator = &table->indicator[i];
        if (indicator->column == column && indicator->length == cell->length &&
            memcmp(indicator->word, cell->text, cell->length) == 0)
            row[indicator->feature] = 1.0f;
    }
}

static enum rp_status keep_cell(struct csv_table *table, const struct csv_cell *cell,
                                int64_t column, struct rp_error *err)
{
    struct rp_data_set *set = table->set;
    int64_t row = set->n, feature = table->feature[column];
    bool is_target = column == table->label && !table->source->without_targets;
    if (feature == CSV_INDICATED) indicate(table, cell, column);
    if (feature < 0 && !is_target) return RP_STATUS_OK;
    if (cell->length == 0) {
        if (table->n_empty < (int64_t)RP_COUNT(table->empty_lines))
            table->empty_lines[table->n_empty] = cell->line;
        table->n_empty++;
        return RP_STATUS_OK;
    }
    if (feature >= 0)
        return keep_number(table, cell, column, &set->f32[row * set->row + feature], err);
    if (set->target == RP_TARGET_VALUES)
        return keep_number(table, cell, column, &set->values[row], err);
    table->words[row] = (struct csv_word){cell->text, cell->length, cell->line};
    return RP_STATUS_OK;
}

static enum rp_status read_row(struct csv_table *table, struct rp_error *err)
{
    struct csv_cell cell = {0};
    int64_t column = 0, line = table->reader.line;
    for (; !cell.last; column++) {
        const char *wrong = csv_reader_next(&table->reader, &cell);
        if (wrong) return fail_at(table, &cell, wrong, err);
        if (column < table->n_columns) RP_TRY(keep_cell(table, &cell, column, err));
    }
    if (column != table->n_columns)
        return rp_data_fail(table->source, 0, err,
                            "line %lld: expected %lld cells as in the first line, found %lld",
                            (long long)line, (long long)table->n_columns, (long long)column);
    table->set->n++;
    return RP_STATUS_OK;
}

static enum rp_status fail_empty_cells(const struct csv_table *table, struct rp_error *err)
{
    struct rp_text lines = {0};
    for (int i = 0; i < (int)RP_COUNT(table->empty_lines) && i < table->n_empty; i++)
        rp_text_add(&lines, "%s%lld", i ? ", " : "", (long long)table->empty_lines[i]);
    enum rp_status status = rp_data_fail(
        table->source, 0, err,
        "%lld empty cell%s, in line%s %s%s: fill them or leave these lines out",
        (long long)table->n_empty, table->n_empty == 1 ? "" : "s", table->n_empty == 1 ? "" : "s",
        rp_text_get(&lines), table->n_empty > (int64_t)RP_COUNT(table->empty_lines) ? ", ..." : "");
    rp_text_release(&lines);
    return status;
}

static enum rp_status read_rows(struct csv_table *table, struct rp_error *err)
{
    RP_TRY(allocate_rows(table, err));
    while (csv_reader_begin_record(&table->reader)) {
        if (table->set->n == table->capacity || table->set->n == INT32_MAX)
            return rp_data_fail(table->source, 0, err, "line %lld: too many or too short lines",
                                (long long)table->reader.line);
        RP_TRY(read_row(table, err));
    }
    if (table->n_empty > 0) return fail_empty_cells(table, err);
    if (table->set->n > 0) return RP_STATUS_OK;
    return rp_data_fail(table->source, 0, err, "no lines below its first");
}

/* ---- classes --------------------------------------------------------------------------------- */

/* Bytewise, a shorter word before a longer one that it begins. */
static int compare_words(const void *a, const void *b)
{
    const struct csv_word *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    if (order != 0) return order;
    return x->length < y->length ? -1 : x->length > y->length;
}

/* The distinct words in order become the names of the classes. */
static enum rp_status name_classes(struct csv_table *table, struct rp_error *err)
{
    struct rp_data_set *set = table->set;
    struct csv_word *sorted = rp_mem_new((size_t)set->n * sizeof *sorted);
    memcpy(sorted, table->words, (size_t)set->n * sizeof *sorted);
    qsort(sorted, (size_t)set->n, sizeof *sorted, compare_words);
    int64_t n = 0;
    for (int64_t i = 0; i < set->n; i++)
        if (i == 0 || compare_words(&sorted[i], &sorted[i - 1]) != 0) n++;
    enum rp_status status = RP_STATUS_OK;
    if (n > RP_DATA_MAX_CLASSES) {
        status = rp_data_fail(table->source, 0, err, "%lld different labels, at most %d are taken",
                              (long long)n, RP_DATA_MAX_CLASSES);
        goto out;
    }
    set->class_names = RP_NEW_ARRAY(char *, n);
    for (int64_t i = 0; i < set->n; i++)
        if (i == 0 || compare_words(&sorted[i], &sorted[i - 1]) != 0)
            set->class_names[set->n_classes++] =
                rp_mem_text("%.*s", (int)sorted[i].length, sorted[i].text);
out:
    rp_mem_free(sorted);
    return status;
}

static int compare_word_to_name(const void *key, const void *element)
{
    const char *name = *(const char *const *)element;
    struct csv_word word = {.text = name, .length = strlen(name)};
    return compare_words(key, &word);
}

/* Gives each row the number of its word among `names`, those of training for a second data set. */
static enum rp_status number_classes(struct csv_table *table, const char *const *names, int64_t n,
                                     struct rp_error *err)
{
    for (int64_t i = 0; i < table->set->n; i++) {
        const struct csv_word *word = &table->words[i];
        const char *const *name =
            bsearch(word, names, (size_t)n, sizeof *names, compare_word_to_name);
        if (!name)
            return rp_data_fail(
                table->source, 0, err, "line %lld: the label `%.*s` does not occur in data.train",
                (long long)word->line, (int)(word->length < CELL_SHOWN ? word->length : CELL_SHOWN),
                word->text);
        table->set->labels[i] = (int32_t)(name - names);
    }
    return RP_STATUS_OK;
}

static enum rp_status read_targets(struct csv_table *table, struct rp_error *err)
{
    struct rp_data_set *set = table->set;
    const struct rp_data_source *source = table->source;
    if (set->target != RP_TARGET_CLASSES || source->without_targets) return RP_STATUS_OK;
    if (!source->class_names) {
        RP_TRY(name_classes(table, err));
        return number_classes(table, (const char *const *)set->class_names, set->n_classes, err);
    }
    set->n_classes = source->n_class_names;
    return number_classes(table, source->class_names, source->n_class_names, err);
}

/* ---- the file -------------------------------------------------------------------------------- */

/* The beginning of the file, which must hold its first line. */
static enum rp_status read_beginning(struct rp_data_source *source, char **text, size_t *length,
                                     struct rp_error *err)
{
    struct rp_data_stream *stream = NULL;
    RP_TRY(rp_data_stream_open(source, 0, "file", false, &stream, err));
    *text = rp_mem_new(HEADER_MOST + 1);
    enum rp_status status = rp_data_stream_read(stream, *text, HEADER_MOST, length, err);
    if (status == RP_STATUS_OK && *length == HEADER_MOST && !memchr(*text, '\n', HEADER_MOST))
        status =
            rp_data_fail(source, 0, err, "its first line is longer than %d bytes", HEADER_MOST);
    return rp_data_stream_end(stream, status, false, err);
}

static enum rp_status read_text(struct csv_table *table, char *text, size_t length,
                                bool header_only, struct rp_error *err)
{
    if (memchr(text, '\0', length))
        return rp_data_fail(table->source, 0, err,
                            "holds zero bytes: expected text in UTF-8 (not UTF-16)");
    csv_reader_init(&table->reader, text, length, table->source->dataset->csv_delimiter);
    RP_TRY(read_header(table, err));
    if (header_only) {
        table->set->n = -1;
        table->set->n_classes = table->set->target == RP_TARGET_CLASSES ? -1 : 0;
        return RP_STATUS_OK;
    }
    RP_TRY(read_rows(table, err));
    return read_targets(table, err);
}

enum rp_status rp_data_read_csv(struct rp_data_source *source, struct rp_data_set *set,
                                struct rp_error *err)
{
    struct csv_table table = {.source = source, .set = set};
    bool header_only = source->describe && !source->deep;
    char *text = NULL;
    size_t length = 0;
    enum rp_status status = header_only
                                ? read_beginning(source, &text, &length, err)
                                : rp_data_read_whole(source, 0, "file", &text, &length, err);
    if (status == RP_STATUS_OK) status = read_text(&table, text, length, header_only, err);
    for (int64_t i = 0; i < table.n_columns; i++) rp_mem_free(table.columns[i]);
    rp_mem_free(table.columns);
    rp_mem_free(table.indicator);
    rp_mem_free(table.feature);
    rp_mem_free(table.words);
    rp_mem_free(text);
    return status;
}
