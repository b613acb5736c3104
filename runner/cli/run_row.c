/* run_row.c - what `list` and sweeps read of each run: little of each, for there may be a thousand.
 */
#include "cli/run_row.h"

#include "base/log.h"
#include "base/number.h"
#include "base/sys.h"
#include "spec/spec.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The newest lines of metrics.jsonl; many more when the last evaluation is farther back. */
enum { FEW_BYTES = 1 << 12, MANY_BYTES = 1 << 18, MAX_RESOLVED = 16 << 20 };

/* ---- reading --------------------------------------------------------------------------------- */

static bool has_split(const struct rp_metrics *metrics, const char *split)
{
    for (int i = 0; i < metrics->n; i++)
        if (strcmp(metrics->series[i].split, split) == 0) return true;
    return false;
}

static void read_metrics(struct rp_run_row *row)
{
    char *path = rp_sys_join(row->view.run, "metrics.jsonl");
    const json_t *shape = json_object_get(row->view.manifest.root, "shape");
    const json_t *valid = json_object_get(shape, "valid");
    bool evaluates = !json_is_integer(valid) || json_integer_value(valid) > 0;
    bool good = rp_metrics_read_newest(path, FEW_BYTES, &row->metrics, NULL) == RP_STATUS_OK;
    if (good &&
        (!has_split(&row->metrics, "train") || (evaluates && !has_split(&row->metrics, "valid")))) {
        rp_metrics_release(&row->metrics);
        good = rp_metrics_read_newest(path, MANY_BYTES, &row->metrics, NULL) == RP_STATUS_OK;
    }
    if (!good) row->metrics = (struct rp_metrics){0};
    rp_mem_free(path);
}

/* The manifest does not repeat the spec. */
static void read_resolved(struct rp_run_row *row)
{
    char *path = rp_sys_join(row->view.run, "resolved.yaml");
    struct rp_text seed = {0};
    size_t length = 0;
    if (rp_sys_read_file(path, MAX_RESOLVED, RP_STATUS_DATA, &row->resolved, &length, NULL) !=
        RP_STATUS_OK)
        row->resolved = NULL;
    if (rp_run_row_value(row, "seed", &seed))
        snprintf(row->seed, sizeof row->seed, "%.*s", (int)strspn(rp_text_get(&seed), "0123456789"),
                 rp_text_get(&seed));
    rp_text_release(&seed);
    rp_mem_free(path);
}

bool rp_run_row_open(const char *folder, struct rp_run_row *row)
{
    char *path = rp_sys_join(folder, "manifest.json");
    struct rp_sys_stat stat = {0};
    struct rp_error why = {0};
    *row = (struct rp_run_row){0};
    bool is_run = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file;
    if (is_run && rp_run_view_open(folder, &row->view, &why) != RP_STATUS_OK) {
        rp_log_warning("%s", why.text);
        is_run = false;
    }
    if (is_run) {
        row->group = rp_run_view_text(&row->view, "digests", "numeric_without_seed");
        row->started = rp_run_view_started(&row->view);
        read_resolved(row);
        read_metrics(row);
    }
    rp_mem_free(path);
    return is_run;
}

void rp_run_row_close(struct rp_run_row *row)
{
    rp_metrics_release(&row->metrics);
    rp_mem_free(row->resolved);
    rp_run_view_close(&row->view);
    *row = (struct rp_run_row){0};
}

enum rp_status rp_run_rows_read(const char *root, struct rp_run_row **rows, size_t *n,
                                struct rp_error *err)
{
    char **names = NULL;
    size_t count = 0;
    *rows = NULL;
    *n = 0;
    RP_TRY(rp_sys_list(root, &names, err));
    while (names[count]) count++;
    *rows = RP_NEW_ARRAY(struct rp_run_row, count + 1);
    for (size_t i = 0; i < count; i++) {
        char *folder = rp_sys_join(root, names[i]);
        *n += rp_run_row_open(folder, &(*rows)[*n]);
        rp_mem_free(folder);
    }
    rp_sys_free_names(names);
    return RP_STATUS_OK;
}

void rp_run_rows_free(struct rp_run_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) rp_run_row_close(&rows[i]);
    rp_mem_free(rows);
}

/* ---- order ----------------------------------------------------------------------------------- */

static int by_group(const void *a, const void *b)
{
    const struct rp_run_row *x = a, *y = b;
    int groups = strcmp(x->group, y->group);
    if (groups) return groups;
    if (x->started != y->started) return x->started < y->started ? -1 : 1;
    return strcmp(x->view.run, y->view.run);
}

static int by_age(const void *a, const void *b)
{
    const struct rp_run_row *x = a, *y = b;
    bool same = strcmp(x->group, y->group) == 0;
    if (!same && x->group_started != y->group_started)
        return x->group_started < y->group_started ? -1 : 1;
    return by_group(a, b);
}

void rp_run_rows_sort(struct rp_run_row *rows, size_t n)
{
    qsort(rows, n, sizeof *rows, by_group);
    for (size_t i = n; i-- > 0;) {
        rows[i].end_of_group = i + 1 == n || strcmp(rows[i].group, rows[i + 1].group) != 0;
        rows[i].group_started = rows[i].end_of_group ? rows[i].started : rows[i + 1].group_started;
    }
    qsort(rows, n, sizeof *rows, by_age);
}

/* ---- values ---------------------------------------------------------------------------------- */

bool rp_run_row_metric_value(const struct rp_run_row *row, const char *key, double *value)
{
    const struct rp_series *series = rp_metrics_find(&row->metrics, key);
    if (series) *value = series->value[series->n - 1];
    return series != NULL;
}

const char *rp_run_row_metric(const struct rp_run_row *row, double *value)
{
    static const char *const wanted[] = {"valid/accuracy", "valid/loss", "train/loss"};
    bool text = rp_metrics_find(&row->metrics, "valid/perplexity") != NULL;
    for (size_t i = text ? 1 : 0; i < RP_COUNT(wanted); i++)
        if (rp_run_row_metric_value(row, wanted[i], value)) return wanted[i];
    return NULL;
}

/* resolved.yaml is written by us: two blanks a level, one key a line. */
static bool find_resolved(const char *text, const char *key, struct rp_text *value)
{
    size_t depth = 0;
    const char *part = key;
    for (const char *line = text; *line; line += strcspn(line, "\n") + (*line != '\0')) {
        size_t blanks = strspn(line, " "), length = strcspn(line, "\n");
        if (length == 0) continue;
        if (blanks < 2 * depth) return false; /* left the part that the key lies in */
        size_t name = strcspn(part, ".");
        const char *at = line + blanks;
        if (blanks != 2 * depth || strncmp(at, part, name) != 0 || at[name] != ':') continue;
        depth++;
        if (part[name] == '.') {
            part += name + 1;
            continue;
        }
        at += name + 1;
        if (*at == ' ') at++;
        rp_text_add_bytes(value, at, (size_t)(line + length - at));
        rp_text_add(value, "%s", "");
        return true;
    }
    return false;
}

static bool find_fact(const struct rp_run_row *row, const char *key, struct rp_text *value)
{
    const json_t *root = row->view.manifest.root;
    const json_t *best = json_object_get(json_object_get(root, "best"), "value");
    char number[RP_NUMBER_BYTES];
    if (strcmp(key, "status") == 0)
        rp_text_add(value, "%s", row->view.status);
    else if (strcmp(key, "step") == 0)
        rp_text_add(value, "%" PRIu64, row->view.step);
    else if (strcmp(key, "steps") == 0)
        rp_text_add(value, "%" PRIu64, row->view.steps);
    else if (strcmp(key, "exit_code") == 0 && json_is_integer(json_object_get(root, "exit_code")))
        rp_text_add(value, "%lld", (long long)json_integer_value(json_object_get(root, key)));
    else if (strcmp(key, "started") == 0 || strcmp(key, "seconds") == 0) {
        bool is_start = strcmp(key, "started") == 0;
        rp_number_text(is_start ? row->started : json_number_value(json_object_get(root, key)),
                       number);
        rp_text_add(value, "%s", number);
    } else if (strcmp(key, "best") == 0 && json_is_number(best)) {
        rp_number_text(json_number_value(best), number);
        rp_text_add(value, "%s", number);
    }
    return value->length > 0;
}

bool rp_run_row_value(const struct rp_run_row *row, const char *key, struct rp_text *value)
{
    double number;
    char text[RP_NUMBER_BYTES];
    if (strchr(key, '/')) {
        if (!rp_run_row_metric_value(row, key, &number)) return false;
        rp_number_text(number, text);
        rp_text_add(value, "%s", text);
        return true;
    }
    if (find_fact(row, key, value)) return true;
    return row->resolved && find_resolved(row->resolved, key, value);
}

enum rp_status rp_run_rows_check_key(const struct rp_run_row *rows, size_t n, const char *key,
                                     struct rp_error *err)
{
    static const char *const facts[] = {"status",    "step",    "steps", "started",
                                        "exit_code", "seconds", "best"};
    struct rp_text names = {0};
    enum rp_status status = RP_STATUS_OK;
    for (size_t i = 0; i < RP_COUNT(facts); i++)
        if (strcmp(key, facts[i]) == 0) return RP_STATUS_OK;
    if (!strchr(key, '/')) return rp_spec_check_key(key, err);
    const struct rp_run_row *most = rows;
    for (size_t i = 0; i < n; i++) {
        if (rp_metrics_find(&rows[i].metrics, key)) return RP_STATUS_OK;
        if (rows[i].metrics.n > most->metrics.n) most = &rows[i];
    }
    if (!n) return RP_STATUS_OK;
    for (int i = 0; i < most->metrics.n; i++)
        rp_text_add(&names, "%s%s/%s", i ? ", " : "", most->metrics.series[i].split,
                    most->metrics.series[i].name);
    status = rp_error_set(err, RP_STATUS_USAGE, "no run has a metric %s; %s has %s", key,
                          most->view.run, names.length ? names.bytes : "none");
    rp_text_release(&names);
    return status;
}

/* ---- spread ---------------------------------------------------------------------------------- */

static bool counts(const struct rp_run_row *rows, size_t i, const char *metric, double *value)
{
    if (strcmp(rows[i].view.status, "finished") != 0) return false;
    if (!rp_run_row_metric_value(&rows[i], metric, value) || !isfinite(*value)) return false;
    for (size_t k = 0; k < i; k++)
        if (strcmp(rows[k].seed, rows[i].seed) == 0 && strcmp(rows[k].view.status, "finished") == 0)
            return false;
    return true;
}

struct rp_run_spread rp_run_rows_spread(const struct rp_run_row *rows, size_t n)
{
    struct rp_run_spread spread = {0};
    const char *metric = NULL;
    double value, squares = 0;
    for (size_t i = 0; i < n && !metric; i++)
        if (strcmp(rows[i].view.status, "finished") == 0)
            metric = rp_run_row_metric(&rows[i], &value);
    for (size_t i = 0; metric && i < n; i++) {
        if (!counts(rows, i, metric, &value)) continue;
        if (!spread.n || value < spread.low) spread.low = value;
        if (!spread.n || value > spread.high) spread.high = value;
        double before = value - spread.mean;
        spread.mean += before / ++spread.n;
        squares += before * (value - spread.mean);
    }
    if (spread.n < 2) return (struct rp_run_spread){0};
    spread.deviation = sqrt(squares / (spread.n - 1));
    spread.metric = metric;
    return spread;
}
