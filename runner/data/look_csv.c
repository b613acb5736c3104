/* look_csv.c - what the columns of a table hold: which one is to be predicted, which can be learnt
 * from. The rules stand in the notes and in `reprise init --help`. */
#include "base/number.h"
#include "data/csv_cells.h"
#include "base/utf8.h"
#include "data/look_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MOST_CLASSES_OF_NUMBERS = 20, MOST_WORDS = 20, NAMES_SHOWN = 8, DISTINCT_KEPT = 64 };

/* A cell: where its text lies. */
struct cell_text {
    const char *text;
    size_t length;
};
struct column {
    char *name;
    int64_t n_numbers, n_words, n_empty;
    bool whole, counts; /* all numbers are whole; each is one more than that above it */
    float last;
    struct cell_text distinct[DISTINCT_KEPT]; /* the first different texts */
    int n_distinct;
    bool more, repeats; /* there are more of them; one of those kept has come again */
};
struct look_table {
    struct column *column;
    int64_t n_columns, n_rows;
};

static void release_table(struct look_table *table)
{
    for (int64_t i = 0; i < table->n_columns; i++) rp_mem_free(table->column[i].name);
    rp_mem_free(table->column);
}

/* The one of , ; tab | that occurs most in the first line, outside of quotes. */
static char find_delimiter(const char *text, size_t length)
{
    static const char candidates[] = ",;\t|";
    int count[4] = {0}, best = 0;
    bool quoted = false;
    for (size_t i = 0; i < length && text[i] != '\n'; i++) {
        if (text[i] == '"') quoted = !quoted;
        const char *found = quoted || !text[i] ? NULL : strchr(candidates, text[i]);
        if (found) count[found - candidates]++;
    }
    for (int i = 1; i < 4; i++)
        if (count[i] > count[best]) best = i;
    return candidates[best];
}

/* ---- reading --------------------------------------------------------------------------------- */

static enum rp_status fail_line(const char *path, int64_t line, const char *what,
                                struct rp_error *err)
{
    return rp_error_set(err, RP_STATUS_DATA, "%s: line %lld: %s", path, (long long)line, what);
}

static enum rp_status read_names(struct look_table *table, struct csv_reader *reader,
                                 const char *path, struct rp_error *err)
{
    struct csv_cell cell = {.line = 1};
    int64_t n_numbers = 0;
    float number;
    if (!csv_reader_begin_record(reader)) return fail_line(path, 1, "no text", err);
    while (!cell.last) {
        const char *wrong = csv_reader_next(reader, &cell);
        if (wrong) return fail_line(path, cell.line, wrong, err);
        table->column =
            rp_mem_grow(table->column, (size_t)(table->n_columns + 1) * sizeof *table->column);
        table->column[table->n_columns++] =
            (struct column){.name = rp_mem_text("%.*s", (int)cell.length, cell.text),
                            .whole = true,
                            .counts = true};
        n_numbers += rp_number_parse_float(cell.text, cell.length, &number);
    }
    if (n_numbers == table->n_columns)
        return fail_line(path, 1,
                         "holds numbers only; put a line with the names of the columns "
                         "above it",
                         err);
    return RP_STATUS_OK;
}

/* Keeps a text that is new, up to a number that says enough. */
static void note_distinct(struct column *column, const struct csv_cell *cell)
{
    if (column->more && column->repeats) return;
    for (int i = 0; i < column->n_distinct; i++) {
        const struct cell_text *kept = &column->distinct[i];
        if (kept->length != cell->length || memcmp(kept->text, cell->text, cell->length) != 0)
            continue;
        column->repeats = true;
        return;
    }
    if (column->n_distinct < DISTINCT_KEPT)
        column->distinct[column->n_distinct++] = (struct cell_text){cell->text, cell->length};
    else
        column->more = true;
}

static void count_cell(struct column *column, const struct csv_cell *cell)
{
    float number;
    if (cell->length == 0) {
        column->n_empty++;
        return;
    }
    if (rp_number_parse_float(cell->text, cell->length, &number)) {
        bool next = column->n_numbers == 0 || number == column->last + 1;
        column->counts = column->counts && next;
        column->whole = column->whole && number == floorf(number);
        column->last = number;
        column->n_numbers++;
    } else {
        column->n_words++;
    }
    note_distinct(column, cell);
}

static enum rp_status read_rows(struct look_table *table, struct csv_reader *reader,
                                const char *path, struct rp_error *err)
{
    while (csv_reader_begin_record(reader)) {
        struct csv_cell cell = {0};
        int64_t column = 0, line = reader->line;
        for (; !cell.last; column++) {
            const char *wrong = csv_reader_next(reader, &cell);
            if (wrong) return fail_line(path, cell.line, wrong, err);
            if (column < table->n_columns) count_cell(&table->column[column], &cell);
        }
        if (column != table->n_columns)
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: line %lld: expected %lld cells as in the first line, found "
                                "%lld",
                                path, (long long)line, (long long)table->n_columns,
                                (long long)column);
        table->n_rows++;
    }
    return table->n_rows ? RP_STATUS_OK : fail_line(path, 1, "no lines below it", err);
}

/* A spec and a record are UTF-8, and so are the names and words that they take from here. */
static enum rp_status check_utf8(const char *path, const char *text, size_t length,
                                 struct rp_error *err)
{
    size_t good = rp_utf8_length(text, length);
    int64_t line = 1;
    if (good == length) return RP_STATUS_OK;
    for (size_t i = 0; i < good; i++) line += text[i] == '\n';
    return fail_line(path, line, "not UTF-8: save the file as UTF-8", err);
}

/* ---- the label ------------------------------------------------------------------------------- */

static int compare_cells(const void *a, const void *b)
{
    const struct cell_text *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int64_t find_column(const struct look_table *table, const char *name, bool any_case)
{
    for (int64_t i = 0; i < table->n_columns; i++)
        if ((any_case ? strcasecmp : strcmp)(table->column[i].name, name) == 0) return i;
    return -1;
}

/* The only column of words in which some word comes twice; -1 when there is none or more. */
static int64_t find_only_words(const struct look_table *table)
{
    int64_t found = -1;
    for (int64_t i = 0; i < table->n_columns; i++) {
        const struct column *column = &table->column[i];
        if (column->n_words == 0 || !column->repeats) continue;
        if (found >= 0) return -1;
        found = i;
    }
    return found;
}

static void list_names(const struct look_table *table, struct rp_text *text)
{
    for (int64_t i = 0; i < table->n_columns && i < 40; i++)
        rp_text_add(text, "%s`%s`", i ? ", " : "", table->column[i].name);
    if (table->n_columns > 40) rp_text_add(text, ", ...");
}

static enum rp_status choose_label(const struct look_table *table, const char *path,
                                   const char *wanted, int64_t *label, struct rp_text *notes,
                                   struct rp_error *err)
{
    static const char *const usual[] = {"label",  "labels", "class",    "classes",
                                        "target", "y",      "category", "outcome"};
    const char *rule = "--target names it";
    *label = -1;
    if (wanted) {
        struct rp_text names = {0};
        enum rp_status status = RP_STATUS_OK;
        *label = find_column(table, wanted, false);
        list_names(table, &names);
        if (*label < 0)
            status = rp_error_set(err, RP_STATUS_USAGE, "--target %s: %s has no such column: %s",
                                  wanted, path, rp_text_get(&names));
        rp_text_release(&names);
        RP_TRY(status);
    }
    for (size_t i = 0; *label < 0 && i < RP_COUNT(usual); i++) {
        *label = find_column(table, usual[i], true);
        rule = "its name says so";
    }
    if (*label < 0) {
        *label = find_only_words(table);
        rule = "it is the only column of words that come more than once";
    }
    if (*label < 0) {
        *label = table->n_columns - 1;
        rule = "it is the last one";
    }
    rp_text_add(notes, "column `%s` is the target: %s%s\n", table->column[*label].name, rule,
                wanted ? "" : " (--target COLUMN takes another)");
    return RP_STATUS_OK;
}

/* Words are classes; so are few different whole numbers. */
static void choose_kind(const struct look_table *table, int64_t label, struct rp_data_look *look)
{
    const struct column *column = &table->column[label];
    bool words = column->n_words > 0;
    bool few = !column->more && column->n_distinct <= MOST_CLASSES_OF_NUMBERS;
    bool classes = words || (column->whole && few);
    look->target = classes ? RP_TARGET_CLASSES : RP_TARGET_VALUES;
    rp_text_add(&look->notes, "it holds %s, %s%d different ones: %s\n",
                words           ? "words"
                : column->whole ? "whole numbers"
                                : "numbers",
                column->more ? "more than " : "", column->n_distinct,
                words     ? "classes to tell apart"
                : classes ? "classes to tell apart (at most 20)"
                          : "values to fit (regression)");
}

/* ---- columns left out ------------------------------------------------------------------------ */

/* Words that come again, at most 20 different ones: each becomes a feature. */
static bool is_of_few_words(const struct look_table *table, const struct column *column)
{
    return column->n_words > 0 && !column->more && column->n_distinct <= MOST_WORDS &&
           2 * column->n_distinct <= table->n_rows;
}

/* A feature for each different word of a column, in bytewise order; a gap is none of them. */
static int add_indicators(struct column *column, struct rp_data_look *look)
{
    size_t n = (size_t)column->n_distinct, total = (size_t)look->n_indicators + n;
    qsort(column->distinct, n, sizeof *column->distinct, compare_cells);
    look->indicators = rp_mem_grow(look->indicators, total * sizeof *look->indicators);
    for (size_t i = 0; i < n; i++)
        look->indicators[look->n_indicators++] = rp_mem_text(
            "%s=%.*s", column->name, (int)column->distinct[i].length, column->distinct[i].text);
    return (int)n;
}

static void indicate_columns(const struct look_table *table, int64_t label,
                             struct rp_data_look *look)
{
    struct rp_text names = {0};
    for (int64_t i = 0; i < table->n_columns; i++) {
        struct column *column = &table->column[i];
        if (i == label || !is_of_few_words(table, column)) continue;
        int n = add_indicators(column, look);
        rp_text_add(&names, "%s`%s` (%d)", names.length ? ", " : "", column->name, n);
    }
    if (names.length)
        rp_text_add(&look->notes, "columns of words, a feature for each word: %s\n",
                    rp_text_get(&names));
    rp_text_release(&names);
}

/* Why nothing can be learnt from a column, or NULL. */
static const char *why_ignored(const struct look_table *table, const struct column *column)
{
    if (column->n_words > 0) return is_of_few_words(table, column) ? NULL : "of many words";
    if (column->n_empty > 0) return "with empty cells";
    if (column->counts && table->n_rows > 2) return "that only number the rows";
    return NULL;
}

static void ignore_columns(const struct look_table *table, int64_t label, const char *why,
                           struct rp_data_look *look)
{
    int shown = 0, n = 0;
    struct rp_text names = {0};
    for (int64_t i = 0; i < table->n_columns; i++) {
        const char *reason = i == label ? NULL : why_ignored(table, &table->column[i]);
        if (!reason || strcmp(reason, why) != 0) continue;
        look->ignore =
            rp_mem_grow(look->ignore, (size_t)(look->n_ignore + 1) * sizeof *look->ignore);
        look->ignore[look->n_ignore++] = rp_mem_copy_text(table->column[i].name);
        if (n++ < NAMES_SHOWN)
            rp_text_add(&names, "%s`%s`", shown++ ? ", " : "", table->column[i].name);
    }
    if (n)
        rp_text_add(&look->notes, "left out, columns %s: %s%s\n", why, rp_text_get(&names),
                    n > NAMES_SHOWN ? ", ..." : "");
    rp_text_release(&names);
}

static enum rp_status choose_columns(const struct look_table *table, const char *path,
                                     const char *wanted, struct rp_data_look *look,
                                     struct rp_error *err)
{
    int64_t label;
    if (table->n_columns < 2)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: one column only; expected a table with a line of names, cells "
                            "between , ; tab or |",
                            path);
    RP_TRY(choose_label(table, path, wanted, &label, &look->notes, err));
    look->label = rp_mem_copy_text(table->column[label].name);
    choose_kind(table, label, look);
    ignore_columns(table, label, "of many words", look);
    ignore_columns(table, label, "with empty cells", look);
    ignore_columns(table, label, "that only number the rows", look);
    indicate_columns(table, label, look);
    if (look->n_indicators > RP_SPEC_MAX_INDICATORS)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: %d different words in columns of words; at most %d can be "
                            "features: cut columns out of the file",
                            path, look->n_indicators, RP_SPEC_MAX_INDICATORS);
    if (look->n_ignore > RP_SPEC_MAX_IGNORE)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: %d columns hold words or gaps; at most %d can be left out: cut "
                            "them out of the file",
                            path, look->n_ignore, RP_SPEC_MAX_IGNORE);
    if (look->n_ignore + 1 < table->n_columns) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s: no column of numbers beside `%s` to learn from: write words as "
                        "numbers, fill the gaps",
                        path, look->label);
}

enum rp_status look_at_csv(const char *path, const char *label, struct rp_data_look *look,
                           struct rp_error *err)
{
    struct look_source *s = look_source_new(&path, 1);
    struct look_table table = {0};
    struct csv_reader reader;
    char *text = NULL;
    size_t length = 0;
    look->format = RP_FORMAT_CSV;
    look->path[look->n_paths++] = rp_mem_copy_text(path);
    enum rp_status status = rp_data_read_whole(&s->source, 0, "file", &text, &length, err);
    if (status == RP_STATUS_OK) status = check_utf8(path, text, length, err);
    if (status == RP_STATUS_OK) {
        look->delimiter = find_delimiter(text, length);
        csv_reader_init(&reader, text, length, look->delimiter);
        status = read_names(&table, &reader, path, err);
    }
    if (status == RP_STATUS_OK) status = read_rows(&table, &reader, path, err);
    if (status == RP_STATUS_OK) status = choose_columns(&table, path, label, look, err);
    release_table(&table);
    rp_mem_free(text);
    look_source_free(s);
    return status;
}
