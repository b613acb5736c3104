/* list.c - `reprise list`: the runs under runs/, those that differ in nothing but the seed side by
 * side. */
#include "cli/cli.h"

#include "base/log.h"
#include "base/sys.h"
#include "cli/run_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    struct rp_run_view view;
    const char *group; /* digest without the seed */
    double started, group_started;
    char seed[24];
    char newest[64]; /* "valid/accuracy 0.981" */
};

/* The line `seed: N` of resolved.yaml; the manifest does not repeat the spec. */
static void read_seed(struct row *row)
{
    char *path = rp_sys_join(row->view.run, "resolved.yaml"), *text = NULL;
    size_t length = 0;
    if (rp_sys_read_file(path, 16 << 20, RP_STATUS_DATA, &text, &length, NULL) == RP_STATUS_OK) {
        const char *line = strncmp(text, "seed:", 5) == 0 ? text : strstr(text, "\nseed:");
        if (line) sscanf(line + (*line == '\n') + 5, " %23[0-9]", row->seed);
    }
    rp_mem_free(text);
    rp_mem_free(path);
}

/* The metric to show: accuracy on validation data, else its loss, else the training loss. */
static void read_newest(struct row *row)
{
    static const char *const wanted[] = {"valid/accuracy", "valid/loss", "train/loss"};
    char *path = rp_sys_join(row->view.run, "metrics.jsonl");
    struct rp_metrics metrics;
    if (rp_metrics_read_newest(path, &metrics, NULL) == RP_STATUS_OK) {
        for (size_t i = 0; i < RP_COUNT(wanted) && !row->newest[0]; i++) {
            const struct rp_series *series = rp_metrics_find(&metrics, wanted[i]);
            if (series)
                snprintf(row->newest, sizeof row->newest, "%s %.4g", wanted[i],
                         series->value[series->n - 1]);
        }
        rp_metrics_release(&metrics);
    }
    rp_mem_free(path);
}

static int compare_rows(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    int groups = strcmp(x->group, y->group);
    if (groups && x->group_started != y->group_started)
        return x->group_started < y->group_started ? -1 : 1;
    if (groups) return groups;
    if (x->started != y->started) return x->started < y->started ? -1 : 1;
    return strcmp(x->view.run, y->view.run);
}

/* Groups by age of their newest run, the newest last, next to the prompt. */
static void sort_rows(struct row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            if (strcmp(rows[i].group, rows[k].group) == 0 &&
                rows[k].started > rows[i].group_started)
                rows[i].group_started = rows[k].started;
    qsort(rows, n, sizeof *rows, compare_rows);
}

static enum rp_status read_rows(const char *root, struct row **rows, size_t *n,
                                struct rp_error *err)
{
    char **names = NULL;
    size_t count = 0;
    RP_TRY(rp_sys_list(root, &names, err));
    while (names[count]) count++;
    *rows = RP_NEW_ARRAY(struct row, count + 1);
    for (size_t i = 0; i < count; i++) {
        char *folder = rp_sys_join(root, names[i]), *path = rp_sys_join(folder, "manifest.json");
        struct rp_sys_stat stat = {0};
        struct rp_error why = {0};
        struct row *row = &(*rows)[*n];
        bool is_run = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file;
        if (is_run && rp_run_view_open(folder, &row->view, &why) != RP_STATUS_OK) {
            rp_log_warning("%s", why.text);
            is_run = false;
        }
        if (is_run) {
            row->group = rp_run_view_text(&row->view, "digests", "numeric_without_seed");
            row->started = rp_run_view_started(&row->view);
            read_seed(row);
            read_newest(row);
            ++*n;
        }
        rp_mem_free(path);
        rp_mem_free(folder);
    }
    rp_sys_free_names(names);
    return RP_STATUS_OK;
}

static int widest_name(const struct row *rows, size_t n)
{
    size_t widest = 3;
    for (size_t i = 0; i < n; i++)
        if (strlen(rows[i].view.shown) > widest) widest = strlen(rows[i].view.shown);
    return (int)widest;
}

static void print_rows(const struct row *rows, size_t n, const char *root)
{
    int width = widest_name(rows, n);
    if (!n) {
        printf("no runs under %s\n", root);
        return;
    }
    printf("%-*s  %-9s %15s  %-10s %-17s %-17s %s\n", width, "RUN", "STATUS", "STEP", "SEED",
           "FINAL", "STARTED (UTC)", "NEWEST");
    for (size_t i = 0; i < n; i++) {
        const struct rp_run_view *view = &rows[i].view;
        char steps[48], utc[32];
        const char *final = rp_run_view_text(view, "digests", "final");
        if (i && strcmp(rows[i].group, rows[i - 1].group) != 0) printf("\n");
        snprintf(steps, sizeof steps, "%" PRIu64 "/%" PRIu64, view->step, view->steps);
        rp_sys_utc(rows[i].started, utc);
        utc[10] = ' ';
        printf("%-*s  %-9s %15s  %-10s %-17.16s %-17.16s %s\n", width, view->shown, view->status,
               steps, rows[i].seed, final[0] ? final : "-", utc, rows[i].newest);
    }
}

static json_t *json_of(const struct row *row)
{
    const struct rp_run_view *view = &row->view;
    const json_t *digests = json_object_get(view->manifest.root, "digests");
    json_t *object = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:f, s:s}", "run", view->run, "name",
                               rp_run_view_text(view, NULL, "name"), "status", view->status, "step",
                               (json_int_t)view->step, "steps", (json_int_t)view->steps, "seed",
                               row->seed, "started", row->started, "newest", row->newest);
    if (!object) object = json_object(); /* a folder whose name is no UTF-8 */
    if (digests) json_object_set(object, "digests", (json_t *)digests);
    return object;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    const char *root = args->n_words ? args->word[0] : rp_sys_env("REPRISE_RUNS");
    struct row *rows = NULL;
    size_t n = 0;
    if (!root || !root[0]) root = "runs";
    enum rp_status status = read_rows(root, &rows, &n, err);
    if (status == RP_STATUS_OK) {
        sort_rows(rows, n);
        json_t *list = json_array();
        for (size_t i = 0; i < n; i++) json_array_append_new(list, json_of(&rows[i]));
        json_object_set_new(result, "runs", list);
        if (!args->json) print_rows(rows, n, root);
    }
    for (size_t i = 0; i < n; i++) rp_run_view_close(&rows[i].view);
    rp_mem_free(rows);
    return status;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_list = {
    .name = "list",
    .usage = "[FOLDER]",
    .summary = "a table of the runs under runs/ (or $REPRISE_RUNS, or FOLDER)",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
