/* show.c - `reprise show [RUN]`: what became of a run, its curves, and what to type next. Writes
 * nothing. */
#include "cli/cli.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "checkpoint/checkpoint.h"
#include "cli/run_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { CURVE_HEIGHT = 6, MAX_CURVES = 4, SPARK_WIDTH = 24, NAME_WIDTH = 24 };

struct show {
    struct rp_run_view view;
    struct rp_metrics metrics;
    uint64_t *checkpoints;
    int n_checkpoints;
};

static bool is(const struct show *show, const char *status)
{
    return strcmp(show->view.status, status) == 0;
}

/* ---- --json ---------------------------------------------------------------------------------- */

static json_t *newest_metrics(const struct show *show)
{
    json_t *object = json_object();
    for (int i = 0; i < show->metrics.n; i++) {
        const struct rp_series *series = &show->metrics.series[i];
        char *key = rp_mem_text("%s/%s", series->split, series->name);
        json_object_set_new(object, key, rp_json_number(series->value[series->n - 1]));
        rp_mem_free(key);
    }
    return object;
}

static json_t *best_metrics(const struct show *show)
{
    json_t *object = json_object();
    for (int i = 0; i < show->metrics.n; i++) {
        const struct rp_series *series = &show->metrics.series[i];
        int64_t best = rp_series_best(series);
        if (best < 0) continue;
        char *key = rp_mem_text("%s/%s", series->split, series->name);
        json_object_set_new(object, key,
                            json_pack("{s:o, s:I}", "value", rp_json_number(series->value[best]),
                                      "step", (json_int_t)series->step[best]));
        rp_mem_free(key);
    }
    return object;
}

static void copy_key(json_t *to, const json_t *from, const char *key)
{
    json_t *value = json_object_get(from, key);
    json_object_set_new(to, key, value ? json_deep_copy(value) : json_null());
}

static void fill_result(const struct show *show, json_t *result)
{
    const json_t *root = show->view.manifest.root;
    static const char *const copied[] = {"name", "best", "error",   "environment",
                                         "code", "data", "segments"};
    json_t *digests = json_object(), *steps = json_array();
    json_object_set_new(result, "run", rp_json_text(show->view.run));
    json_object_set_new(result, "status", json_string(show->view.status));
    json_object_set_new(result, "step", json_integer((json_int_t)show->view.step));
    json_object_set_new(result, "steps", json_integer((json_int_t)show->view.steps));
    json_object_update(digests, json_object_get(root, "digests"));
    json_object_set_new(digests, "chain",
                        show->view.chain[0] ? json_string(show->view.chain) : json_null());
    json_object_set_new(result, "digests", digests);
    json_object_set_new(result, "metrics", newest_metrics(show));
    json_object_set_new(result, "best_metrics", best_metrics(show));
    for (int i = 0; i < show->n_checkpoints; i++)
        json_array_append_new(steps, json_integer((json_int_t)show->checkpoints[i]));
    json_object_set_new(result, "checkpoints", steps);
    for (size_t i = 0; i < RP_COUNT(copied); i++) copy_key(result, root, copied[i]);
    json_t *code = json_object_get(root, "exit_code");
    json_object_set_new(result, "run_exit_code", code ? json_incref(code) : json_null());
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_text(const char *label, const char *value)
{
    char *shown = rp_utf8_shown(value, false);
    if (value[0]) printf("%-12s %s\n", label, shown);
    rp_mem_free(shown);
}

/* What the exit code means and what to do: of runs that are to be started again. */
static void print_exit_code(const struct show *show)
{
    const json_t *code = json_object_get(show->view.manifest.root, "exit_code");
    if (!json_is_integer(code) || json_integer_value(code) == RP_STATUS_OK || is(show, "running"))
        return;
    enum rp_status status = (enum rp_status)json_integer_value(code);
    printf("%-12s %d, %s: %s\n", "exit code", (int)status, rp_status_meaning(status),
           rp_status_advice(status));
}

static void print_status(const struct show *show)
{
    const struct rp_run_view *view = &show->view;
    const json_t *segment = rp_run_view_last_segment(view);
    const char *why = json_string_value(json_object_get(segment, "why"));
    const char *host = json_string_value(json_object_get(segment, "host"));
    struct rp_text time = {0};
    double seconds = json_number_value(json_object_get(view->manifest.root, "seconds"));
    printf("%s\n", view->shown);
    printf("%-12s %s", "status", view->status);
    if (is(show, "lost"))
        printf(": it says running, but nobody holds the folder (killed, or its host died)");
    if (why && !is(show, "lost")) {
        char *shown = rp_utf8_shown(why, false);
        printf(" (%s)", shown);
        rp_mem_free(shown);
    }
    printf("\n%-12s %" PRIu64 " of %" PRIu64, "step", view->step, view->steps);
    if (view->steps) printf(" (%.1f %%)", 100.0 * (double)view->step / (double)view->steps);
    if (seconds > 0) {
        rp_text_add_duration(&time, seconds);
        printf(", %s of training", time.bytes);
    }
    printf("\n");
    if (host && is(show, "running"))
        printf("%-12s %s, process %lld\n", "held by", host,
               (long long)json_integer_value(json_object_get(segment, "pid")));
    print_text("error", rp_run_view_text(view, NULL, "error"));
    print_exit_code(show);
    rp_text_release(&time);
}

static void print_digests(const struct show *show)
{
    static const char *const names[] = {"numeric", "policy", "place", "final"};
    for (size_t i = 0; i < RP_COUNT(names); i++)
        print_text(names[i], rp_run_view_text(&show->view, "digests", names[i]));
    if (!rp_run_view_text(&show->view, "digests", "final")[0] && show->view.chain[0])
        print_text("chain", show->view.chain);
}

static void print_segments(const struct show *show)
{
    const json_t *segments = json_object_get(show->view.manifest.root, "segments"), *segment;
    size_t i = 0, n = json_array_size(segments);
    if (n < 2) return;
    printf("%-12s %zu\n", "segments", n);
    json_array_foreach((json_t *)segments, i, segment)
    {
        const char *start = json_string_value(json_object_get(segment, "start_utc"));
        const char *host = json_string_value(json_object_get(segment, "host"));
        const char *why = json_string_value(json_object_get(segment, "why"));
        const json_t *last = json_object_get(segment, "step_last");
        char *shown_host = rp_utf8_shown(host ? host : "?", false);
        char *shown_why = rp_utf8_shown(why                                 ? why
                                        : i + 1 == n && is(show, "running") ? "running"
                                                                            : "lost",
                                        false);
        printf("  %2zu  %.20s  from step %lld", i, start ? start : "?",
               (long long)json_integer_value(json_object_get(segment, "step_first")));
        if (json_is_integer(last)) printf(" to %lld", (long long)json_integer_value(last));
        printf("  %s  %s%s\n", shown_host, shown_why,
               json_array_size(json_object_get(segment, "drift")) ? ", drift allowed" : "");
        rp_mem_free(shown_why);
        rp_mem_free(shown_host);
    }
}

static void print_best(const struct show *show)
{
    const json_t *best = json_object_get(show->view.manifest.root, "best");
    const char *metric = json_string_value(json_object_get(best, "metric"));
    if (metric)
        printf("%-12s %s %.6g at step %lld\n", "best", metric,
               json_number_value(json_object_get(best, "value")),
               (long long)json_integer_value(json_object_get(best, "step")));
    if (!show->n_checkpoints) return;
    printf("%-12s", "checkpoints");
    int first = show->n_checkpoints > 8 ? show->n_checkpoints - 8 : 0;
    if (first) printf(" ...");
    for (int i = first; i < show->n_checkpoints; i++) printf(" %" PRIu64, show->checkpoints[i]);
    printf("\n");
}

/* Losses, then accuracies: what most people look at. `--metric` asks for another. */
static void print_curves(const struct show *show, const char *wanted, bool unicode)
{
    static const char *const usual[] = {"train/loss", "valid/loss", "valid/accuracy",
                                        "train/accuracy"};
    int width = rp_sys_columns() - 14, drawn = 0;
    for (int k = 0; k < (wanted ? 1 : (int)RP_COUNT(usual)) && drawn < MAX_CURVES; k++) {
        const struct rp_series *series =
            rp_metrics_find(&show->metrics, wanted ? wanted : usual[k]);
        struct rp_text text = {0};
        if (!series || (series->n < 2 && !wanted)) continue;
        rp_text_add_curve(&text, series->step, series->value, series->n, width < 100 ? width : 100,
                          CURVE_HEIGHT, unicode);
        printf("\n%s/%s: %.6g\n%s", series->split, series->name, series->value[series->n - 1],
               rp_text_get(&text));
        rp_text_release(&text);
        drawn++;
    }
}

/* A line per metric: its curve in small, where it stands, where it was best. */
static void print_metrics(const struct show *show, bool unicode)
{
    if (show->metrics.n)
        printf("\n%-*s  %-*s  %-24s %s\n", NAME_WIDTH, "metric", SPARK_WIDTH, "curve", "newest",
               "best");
    for (int i = 0; i < show->metrics.n; i++) {
        const struct rp_series *series = &show->metrics.series[i];
        int64_t best = rp_series_best(series);
        char *name = rp_mem_text("%s/%s", series->split, series->name), newest[64];
        char *shown = rp_utf8_shown(name, false);
        struct rp_text curve = {0};
        rp_text_add_sparkline(&curve, series->value, series->n, SPARK_WIDTH, unicode);
        snprintf(newest, sizeof newest, "%.6g at step %" PRIu64, series->value[series->n - 1],
                 series->step[series->n - 1]);
        printf("%-*s  %s  ", NAME_WIDTH, shown, rp_text_get(&curve));
        if (best >= 0)
            printf("%-24s %.6g at step %" PRIu64 "\n", newest, series->value[best],
                   series->step[best]);
        else
            printf("%s\n", newest);
        rp_text_release(&curve);
        rp_mem_free(shown);
        rp_mem_free(name);
    }
}

/* What a run that has ended is good for. */
static void print_uses(const struct show *show)
{
    const char *run = show->view.shown;
    bool speaks = rp_metrics_find(&show->metrics, "train/tokens_per_second") != NULL;
    if (speaks)
        printf("next: reprise sample %s --prompt TEXT    (let it speak)\n"
               "      reprise eval %s     (measure it, also on other text)\n",
               run, run);
    else
        printf("next: reprise eval %s     (measure it: per-class figures, confusion, other data)\n"
               "      reprise predict %s --data FILE    (use it)\n",
               run, run);
    printf("      reprise rerun %s    (again, and compare bit by bit)\n"
           "      reprise verify %s   (every hash in the folder)\n",
           run, run);
}

static void print_next(const struct show *show)
{
    const char *run = show->view.shown, *again = rp_run_view_text(&show->view, NULL, "command");
    json_int_t code = json_integer_value(json_object_get(show->view.manifest.root, "exit_code"));
    char *shown = rp_utf8_shown(again, false);
    printf("\n");
    if (is(show, "finished"))
        print_uses(show);
    else if (is(show, "running"))
        printf("next: reprise show %s     (again, later)\n", run);
    else if (code == RP_STATUS_NONFINITE)
        printf("next: reprise run SPEC --set train.optimizer.lr=SMALLER    (another run: this one "
               "would fail at the same step again)\n");
    else if (again[0])
        printf("next: %s    (goes on from the newest checkpoint)\n", shown);
    else
        printf("next: reprise run %s/spec.yaml --out %s    (goes on from the newest checkpoint)\n",
               run, run);
    rp_mem_free(shown);
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum rp_status open_show(const char *run, struct show *show, struct rp_error *err)
{
    RP_TRY(rp_run_view_open(run, &show->view, err));
    RP_TRY(rp_checkpoint_list(run, &show->checkpoints, &show->n_checkpoints, err));
    struct rp_error why = {0};
    char *path = rp_sys_join(run, "metrics.jsonl");
    if (rp_metrics_read(path, &show->metrics, &why) != RP_STATUS_OK) rp_log_warning("%s", why.text);
    rp_mem_free(path);
    return RP_STATUS_OK;
}

static enum rp_status check_metric(const struct show *show, const char *wanted,
                                   struct rp_error *err)
{
    struct rp_text names = {0};
    if (!wanted || rp_metrics_find(&show->metrics, wanted)) return RP_STATUS_OK;
    for (int i = 0; i < show->metrics.n; i++)
        rp_text_add(&names, "%s%s/%s", i ? ", " : "", show->metrics.series[i].split,
                    show->metrics.series[i].name);
    enum rp_status status =
        rp_error_set(err, RP_STATUS_USAGE, "%s has no metric %s; it has: %s", show->view.run,
                     wanted, names.length ? names.bytes : "none");
    rp_text_release(&names);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct show show = {0};
    char *path = NULL;
    const char *wanted = rp_cli_text(args, "--metric");
    bool unicode = !rp_cli_has(args, "--ascii") && rp_terminal_is_utf8();
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_run_find(args->n_words ? args->word[0] : NULL, &path, err), out);
    RP_TRY_GOTO(status, open_show(path, &show, err), out);
    RP_TRY_GOTO(status, check_metric(&show, wanted, err), out);
    fill_result(&show, result);
    if (!args->json) {
        print_status(&show);
        print_digests(&show);
        print_best(&show);
        print_segments(&show);
        print_metrics(&show, unicode);
        print_curves(&show, wanted, unicode);
        print_next(&show);
    }
out:
    rp_mem_free(show.checkpoints);
    rp_metrics_release(&show.metrics);
    rp_run_view_close(&show.view);
    rp_mem_free(path);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--metric", RP_CLI_TEXT, "SPLIT/NAME", "the curve to draw, such as valid/accuracy"},
    {"--ascii", RP_CLI_FLAG, NULL, "curves in plain characters"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_show = {
    .name = "show",
    .usage = "[RUN]",
    .summary = "a run's state, digests, metrics and curves, and what to type next",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
