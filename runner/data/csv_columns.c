/* csv_columns.c - which column of a table is the target, which are features, which are words that
 * become features of their own, which are left out. */
#include "data/csv_int.h"

#include <string.h>

/* The names in the first line, for messages. */
static void list_columns(const struct csv_table *table, struct rp_text *names)
{
    for (int64_t i = 0; i < table->n_columns && i < 40; i++)
        rp_text_add(names, "%s`%s`", i ? ", " : "", table->columns[i]);
    if (table->n_columns > 40) rp_text_add(names, ", ...");
}

/* The number of a column; -1: there is none of that name. */
static int64_t find_column(const struct csv_table *table, const char *name, size_t length)
{
    for (int64_t i = 0; i < table->n_columns; i++)
        if (strlen(table->columns[i]) == length && memcmp(table->columns[i], name, length) == 0)
            return i;
    return -1;
}

static enum rp_status find_label(struct csv_table *table, struct rp_error *err)
{
    const char *wanted = table->source->dataset->csv_label;
    struct rp_text names = {0};
    int found = 0;
    table->label = -1;
    for (int64_t i = 0; wanted && i < table->n_columns; i++) {
        if (strcmp(table->columns[i], wanted) != 0) continue;
        table->label = i;
        found++;
    }
    enum rp_status status = RP_STATUS_OK;
    bool may_lack = table->source->without_targets && found == 0;
    list_columns(table, &names);
    if (found != 1 && !may_lack)
        status = rp_data_fail(table->source, 0, err,
                              "%s column `%s` (data label) in its first line, which must name the "
                              "columns; found: %s",
                              found ? "more than one" : "no", wanted, rp_text_get(&names));
    else if (table->n_columns < 2 && !may_lack)
        status = rp_data_fail(table->source, 0, err,
                              "only the column `%s`: expected numeric columns beside it%s", wanted,
                              table->reader.delimiter == ',' ? " (is the `delimiter` right?)" : "");
    rp_text_release(&names);
    return status;
}

/* ---- words as features ----------------------------------------------------------------------- */

/* "colour=red": the column is what stands before the first `=` that ends a column's name. */
static enum rp_status read_indicator(struct csv_table *table, const char *text,
                                     struct rp_error *err)
{
    struct csv_indicator *indicator = &table->indicator[table->n_indicators++];
    int64_t column = -1;
    const char *equals = strchr(text, '=');
    for (; equals; equals = strchr(equals + 1, '=')) {
        column = find_column(table, text, (size_t)(equals - text));
        if (column >= 0) break;
    }
    if (column < 0)
        return rp_data_fail(table->source, 0, err,
                            "no column for the indicator `%s` in its first line: expected "
                            "COLUMN=WORD",
                            text);
    if (column == table->label)
        return rp_data_fail(table->source, 0, err, "the indicator `%s` is of the label", text);
    *indicator =
        (struct csv_indicator){.column = column, .word = equals + 1, .length = strlen(equals + 1)};
    table->feature[column] = CSV_INDICATED;
    return RP_STATUS_OK;
}

static enum rp_status read_indicators(struct csv_table *table, struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = table->source->dataset;
    table->indicator = RP_NEW_ARRAY(struct csv_indicator, dataset->n_csv_indicators + 1);
    for (int i = 0; i < dataset->n_csv_indicators; i++)
        RP_TRY(read_indicator(table, dataset->csv_indicators[i], err));
    return RP_STATUS_OK;
}

/* ---- columns left out ------------------------------------------------------------------------ */

/* A name under `ignore` that no column has is a spelling mistake. */
static enum rp_status check_ignored(const struct csv_table *table, struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = table->source->dataset;
    for (int i = 0; i < dataset->n_csv_ignore; i++) {
        const char *name = dataset->csv_ignore[i];
        int64_t column = find_column(table, name, strlen(name));
        if (column < 0)
            return rp_data_fail(table->source, 0, err, "no column `%s` to ignore in its first line",
                                name);
        if (column == table->label || table->feature[column] == CSV_INDICATED)
            return rp_data_fail(table->source, 0, err, "column `%s` is %s and under `ignore`", name,
                                column == table->label ? "the label" : "of an indicator");
    }
    return RP_STATUS_OK;
}

static bool is_ignored(const struct rp_spec_dataset *dataset, const char *column)
{
    for (int i = 0; i < dataset->n_csv_ignore; i++)
        if (strcmp(dataset->csv_ignore[i], column) == 0) return true;
    return false;
}

/* ---- features -------------------------------------------------------------------------------- */

/* Numeric columns from left to right, then the indicators in the order of the spec. */
static enum rp_status number_features(struct csv_table *table, int64_t *n, struct rp_error *err)
{
    const struct rp_spec_dataset *dataset = table->source->dataset;
    RP_TRY(check_ignored(table, err));
    for (int64_t i = 0; i < table->n_columns; i++)
        if (i != table->label && table->feature[i] != CSV_INDICATED &&
            !is_ignored(dataset, table->columns[i]))
            table->feature[i] = (*n)++;
    for (int i = 0; i < table->n_indicators; i++) table->indicator[i].feature = (*n)++;
    if (*n > 0) return RP_STATUS_OK;
    return rp_data_fail(table->source, 0, err, "every column beside `%s` is under `ignore`",
                        dataset->csv_label);
}

static int find_indicator(const struct csv_table *table, const char *text)
{
    for (int i = 0; i < table->n_indicators; i++)
        if (strcmp(table->source->dataset->csv_indicators[i], text) == 0) return i;
    return -1;
}

/* The features wanted, wherever they stand: a table that lacks one is another table. */
static enum rp_status find_wanted(struct csv_table *table, int64_t *n, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    struct rp_text names = {0};
    list_columns(table, &names);
    for (*n = 0; status == RP_STATUS_OK && table->source->columns[*n]; ++*n) {
        const char *wanted = table->source->columns[*n];
        int found = 0, indicator = find_indicator(table, wanted);
        if (indicator >= 0) {
            table->indicator[indicator].feature = *n;
            continue;
        }
        for (int64_t i = 0; i < table->n_columns; i++) {
            if (i == table->label || strcmp(table->columns[i], wanted) != 0) continue;
            table->feature[i] = *n;
            found++;
        }
        if (found != 1)
            status = rp_data_fail(table->source, 0, err,
                                  "%s column `%s`, which the model was trained on; found: %s",
                                  found ? "more than one" : "no", wanted, rp_text_get(&names));
    }
    rp_text_release(&names);
    return status;
}

static void name_features(struct csv_table *table, int64_t n)
{
    char **names = RP_NEW_ARRAY(char *, n);
    rp_data_set_shape(table->set, 1, n, 1, 1);
    for (int64_t i = 0; i < table->n_columns; i++)
        if (table->feature[i] >= 0) names[table->feature[i]] = rp_mem_copy_text(table->columns[i]);
    for (int i = 0; i < table->n_indicators; i++)
        names[table->indicator[i].feature] =
            rp_mem_copy_text(table->source->dataset->csv_indicators[i]);
    table->set->columns = names;
}

enum rp_status csv_place_columns(struct csv_table *table, struct rp_error *err)
{
    int64_t n = 0;
    RP_TRY(find_label(table, err));
    table->feature = RP_NEW_ARRAY(int64_t, table->n_columns);
    for (int64_t i = 0; i < table->n_columns; i++) table->feature[i] = CSV_NO_FEATURE;
    RP_TRY(read_indicators(table, err));
    RP_TRY(table->source->columns ? find_wanted(table, &n, err) : number_features(table, &n, err));
    name_features(table, n);
    return RP_STATUS_OK;
}
