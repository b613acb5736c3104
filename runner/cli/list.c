/* list.c - `reprise list`: the runs under runs/, those that differ in nothing but the seed side by
 * side, with their mean and spread. */
#include "cli/cli.h"

#include "base/json_text.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "cli/run_row.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 8, MAX_CELL = 40 };

struct list {
    struct rp_run_row *rows;
    size_t n;
    struct rp_where *where;
    int n_where;
    const char *sort; /* key, or NULL: by group and age */
    bool downwards;
    const char *column[MAX_COLUMNS]; /* keys asked for: shown too */
    int n_columns;
};

/* ---- what was asked for ---------------------------------------------------------------------- */

static void add_column(struct list *list, const char *key)
{
    static const char *const shown[] = {"status", "step", "seed"};
    for (size_t i = 0; i < RP_COUNT(shown); i++)
        if (strcmp(key, shown[i]) == 0) return;
    for (int i = 0; i < list->n_columns; i++)
        if (strcmp(key, list->column[i]) == 0) return;
    if (list->n_columns < MAX_COLUMNS) list->column[list->n_columns++] = key;
}

static enum rp_status read_conditions(const struct rp_cli_args *args, struct list *list,
                                      struct rp_error *err)
{
    const char *const *texts = rp_cli_list(args, "--where");
    int n = 0;
    while (texts && texts[n]) n++;
    list->where = RP_NEW_ARRAY(struct rp_where, n + 1);
    list->sort = rp_cli_text(args, "--sort");
    list->downwards = list->sort && list->sort[0] == '-';
    if (list->downwards) list->sort++;
    for (int i = 0; i < n; i++) {
        RP_TRY(rp_where_parse(texts[i], &list->where[list->n_where++], err));
        RP_TRY(rp_run_rows_check_key(list->rows, list->n, list->where[i].key, err));
        add_column(list, list->where[i].key);
    }
    if (!list->sort) return RP_STATUS_OK;
    add_column(list, list->sort);
    return rp_run_rows_check_key(list->rows, list->n, list->sort, err);
}

static void filter(struct list *list)
{
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++) {
        bool fits = true;
        for (int w = 0; w < list->n_where && fits; w++)
            fits = rp_where_fits(&list->where[w], &list->rows[i]);
        if (fits)
            list->rows[kept++] = list->rows[i];
        else
            rp_run_row_close(&list->rows[i]);
    }
    list->n = kept;
}

struct sorted {
    struct rp_run_row row;
    char *value; /* NULL: has none, comes first */
    size_t before;
    bool downwards;
};

static int by_value(const void *a, const void *b)
{
    const struct sorted *x = a, *y = b;
    bool are_numbers;
    int order = !x->value || !y->value ? (x->value != NULL) - (y->value != NULL)
                                       : rp_where_compare(x->value, y->value, &are_numbers);
    if (x->value && y->value && x->downwards) order = -order;
    return order ? order : (x->before > y->before) - (x->before < y->before);
}

static void sort_by_key(struct list *list)
{
    struct sorted *sorted = RP_NEW_ARRAY(struct sorted, list->n + 1);
    for (size_t i = 0; i < list->n; i++) {
        struct rp_text value = {0};
        sorted[i] =
            (struct sorted){.row = list->rows[i], .before = i, .downwards = list->downwards};
        if (rp_run_row_value(&list->rows[i], list->sort, &value))
            sorted[i].value = rp_mem_copy_text(rp_text_get(&value));
        rp_text_release(&value);
    }
    qsort(sorted, list->n, sizeof *sorted, by_value);
    for (size_t i = 0; i < list->n; i++) {
        list->rows[i] = sorted[i].row;
        rp_mem_free(sorted[i].value);
    }
    rp_mem_free(sorted);
}

/* ---- for people ------------------------------------------------------------------------------ */

static int widest_name(const struct list *list)
{
    size_t widest = 3;
    for (size_t i = 0; i < list->n; i++)
        if (strlen(list->rows[i].view.shown) > widest) widest = strlen(list->rows[i].view.shown);
    return (int)widest;
}

/* The value of a column, short enough for a table. */
static void cell(const struct rp_run_row *row, const char *key, char out[MAX_CELL])
{
    struct rp_text value = {0};
    double number;
    char *shown = NULL;
    bool has = rp_run_row_value(row, key, &value);
    if (rp_run_row_metric_value(row, key, &number)) {
        snprintf(out, MAX_CELL, "%.5g", number);
    } else {
        shown = rp_utf8_shown(has ? rp_text_get(&value) : "-", false);
        snprintf(out, MAX_CELL, "%.*s", MAX_CELL - 1, shown);
    }
    rp_mem_free(shown);
    rp_text_release(&value);
}

static int column_width(const struct list *list, int column)
{
    size_t widest = strlen(list->column[column]);
    char text[MAX_CELL];
    for (size_t i = 0; i < list->n; i++) {
        cell(&list->rows[i], list->column[column], text);
        if (strlen(text) > widest) widest = strlen(text);
    }
    return (int)widest;
}

static void print_spread(const struct rp_run_spread *spread)
{
    if (spread->metric)
        printf("   %.4g %s %.2g over %d seeds", spread->mean,
               rp_terminal_is_utf8() ? "\xc2\xb1" : "+-", spread->deviation, spread->n);
}

static void print_row(const struct list *list, size_t i, const int *widths,
                      const struct rp_run_spread *spread)
{
    const struct rp_run_row *row = &list->rows[i];
    const struct rp_run_view *view = &row->view;
    char steps[48], utc[32], text[MAX_CELL];
    const char *final = rp_run_view_text(view, "digests", "final");
    double value;
    const char *metric = rp_run_row_metric(row, &value);
    snprintf(steps, sizeof steps, "%" PRIu64 "/%" PRIu64, view->step, view->steps);
    rp_sys_utc(row->started, utc);
    utc[10] = ' ';
    printf("%-*s  %-9s %15s  %-10s %-17.16s %-17.16s", widths[MAX_COLUMNS], view->shown,
           view->status, steps, row->seed, final[0] ? final : "-", utc);
    for (int c = 0; c < list->n_columns; c++) {
        cell(row, list->column[c], text);
        printf(" %-*s", widths[c], text);
    }
    if (metric) printf(" %s %.4g", metric, value);
    print_spread(spread);
    printf("\n");
}

static size_t begin_of_group(const struct list *list, size_t i)
{
    while (i > 0 && strcmp(list->rows[i - 1].group, list->rows[i].group) == 0) i--;
    return i;
}

static void print_rows(const struct list *list, const char *root)
{
    int widths[MAX_COLUMNS + 1] = {0};
    if (!list->n) {
        rp_cli_print(list->n_where ? "no runs under %s that fit\n" : "no runs under %s\n", root);
        return;
    }
    widths[MAX_COLUMNS] = widest_name(list);
    printf("%-*s  %-9s %15s  %-10s %-17s %-17s", widths[MAX_COLUMNS], "RUN", "STATUS", "STEP",
           "SEED", "FINAL", "STARTED (UTC)");
    for (int c = 0; c < list->n_columns; c++) {
        widths[c] = column_width(list, c);
        printf(" %-*s", widths[c], list->column[c]);
    }
    printf(" NEWEST\n");
    for (size_t i = 0; i < list->n; i++) {
        struct rp_run_spread spread = {0};
        bool ends = !list->sort &&
                    (i + 1 == list->n || strcmp(list->rows[i].group, list->rows[i + 1].group) != 0);
        size_t first = ends ? begin_of_group(list, i) : i;
        if (ends) spread = rp_run_rows_spread(&list->rows[first], i - first + 1);
        print_row(list, i, widths, &spread);
        if (ends && i + 1 < list->n) printf("\n");
    }
}

/* ---- --json ---------------------------------------------------------------------------------- */

static json_t *json_of(const struct list *list, const struct rp_run_row *row)
{
    const struct rp_run_view *view = &row->view;
    const json_t *digests = json_object_get(view->manifest.root, "digests");
    double value;
    const char *metric = rp_run_row_metric(row, &value);
    char newest[64] = "";
    if (metric) snprintf(newest, sizeof newest, "%s %.4g", metric, value);
    json_t *object =
        json_pack("{s:o, s:s, s:s, s:I, s:I, s:s, s:f, s:s}", "run", rp_json_text(view->run),
                  "name", rp_run_view_text(view, NULL, "name"), "status", view->status, "step",
                  (json_int_t)view->step, "steps", (json_int_t)view->steps, "seed", row->seed,
                  "started", row->started, "newest", newest);
    json_t *metrics = json_object(), *keys = json_object();
    if (digests) json_object_set(object, "digests", (json_t *)digests);
    for (int i = 0; i < row->metrics.n; i++) {
        const struct rp_series *series = &row->metrics.series[i];
        char *key = rp_mem_text("%s/%s", series->split, series->name);
        json_object_set_new(metrics, key, rp_json_number(series->value[series->n - 1]));
        rp_mem_free(key);
    }
    for (int i = 0; i < list->n_columns; i++) {
        struct rp_text text = {0};
        bool has = rp_run_row_value(row, list->column[i], &text);
        json_object_set_new(keys, list->column[i],
                            has ? json_string(rp_text_get(&text)) : json_null());
        rp_text_release(&text);
    }
    json_object_set_new(object, "metrics", metrics);
    json_object_set_new(object, "keys", keys);
    return object;
}

static json_t *groups_of(const struct list *list)
{
    json_t *groups = json_array();
    for (size_t first = 0, i = 0; i < list->n && !list->sort; i++) {
        if (i + 1 < list->n && strcmp(list->rows[i].group, list->rows[i + 1].group) == 0) continue;
        struct rp_run_spread spread = rp_run_rows_spread(&list->rows[first], i - first + 1);
        json_t *runs = json_array();
        for (; first <= i; first++)
            json_array_append_new(runs, rp_json_text(list->rows[first].view.run));
        json_t *group = json_pack("{s:s, s:o, s:i}", "numeric_without_seed", list->rows[i].group,
                                  "runs", runs, "seeds_finished", spread.n);
        if (spread.metric) {
            json_object_set_new(group, "metric", json_string(spread.metric));
            json_object_set_new(group, "mean", json_real(spread.mean));
            json_object_set_new(group, "deviation", json_real(spread.deviation));
            json_object_set_new(group, "low", json_real(spread.low));
            json_object_set_new(group, "high", json_real(spread.high));
        }
        json_array_append_new(groups, group);
    }
    return groups;
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum rp_status check_folder(const char *root, struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(root, &stat, err));
    if (!stat.exists)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "there is no folder %s; name one that holds runs (`reprise list "
                            "FOLDER`), or set REPRISE_RUNS to it. `reprise run JOB.yaml` makes one",
                            root);
    if (!stat.is_folder)
        return rp_error_set(err, RP_STATUS_USAGE, "%s is no folder; name one that holds runs",
                            root);
    return RP_STATUS_OK;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    const char *root = args->n_words ? args->word[0] : rp_sys_env("REPRISE_RUNS");
    struct list list = {0};
    if (!root || !root[0]) root = "runs";
    RP_TRY(check_folder(root, err));
    enum rp_status status = rp_run_rows_read(root, &list.rows, &list.n, err);
    if (status == RP_STATUS_OK) status = read_conditions(args, &list, err);
    if (status == RP_STATUS_OK) {
        filter(&list);
        rp_run_rows_sort(list.rows, list.n);
        if (list.sort) sort_by_key(&list);
        json_t *runs = json_array();
        for (size_t i = 0; i < list.n && args->json; i++)
            json_array_append_new(runs, json_of(&list, &list.rows[i]));
        json_object_set_new(result, "runs", runs);
        json_object_set_new(result, "groups", groups_of(&list));
        if (!args->json) print_rows(&list, root);
    }
    for (int i = 0; i < list.n_where; i++) rp_where_release(&list.where[i]);
    rp_mem_free(list.where);
    rp_run_rows_free(list.rows, list.n);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--where", RP_CLI_LIST, "KEY>VALUE",
     "only runs that fit: a key of the spec, a metric (valid/loss<0.1), status=finished; several "
     "must all hold"},
    {"--sort", RP_CLI_TEXT, "KEY", "by a key or metric, the largest last; -KEY the other way"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_list = {
    .name = "list",
    .usage = "[FOLDER]",
    .summary = "a table of the runs under runs/ (or $REPRISE_RUNS, or FOLDER)",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
