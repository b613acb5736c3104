/* sweep_run.c - the members of a sweep one after another, each in its own folder: what has finished
 * is passed over, what was interrupted goes on, what fails does not stop the others. */
#include "base/json_text.h"
#include "cli/run_row.h"
#include "cli/sweep.h"

#include "base/log.h"
#include "base/sys.h"
#include "comm/comm.h"
#include "launch/launch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct member {
    char **set;  /* --set and swept values, NULL-terminated; owns the swept ones */
    int n_given; /* of --set */
    char *run;
    enum rp_status status;
    bool tried;
};
struct sweep_run {
    const struct rp_cli_args *args;
    struct rp_train_options train;
    struct rp_sweep sweep;
    struct member *members;
    double stop_at;
};

/* ---- the members ----------------------------------------------------------------------------- */

static char *describe(const struct sweep_run *sr, int m)
{
    struct rp_text text = {0};
    for (int k = 0; k < sr->sweep.n_keys; k++)
        rp_text_add(&text, "%s%s=%s", k ? " " : "", sr->sweep.key[k].key,
                    rp_sweep_value(&sr->sweep, m, k));
    char *copy = rp_mem_copy_text(rp_text_get(&text));
    rp_text_release(&text);
    return copy;
}

static enum rp_status load_member(const struct sweep_run *sr, int m, struct rp_spec **spec,
                                  struct rp_error *err)
{
    struct rp_spec_options options = {.data_folder = rp_cli_text(sr->args, "--data"),
                                      .set = (const char *const *)sr->members[m].set};
    return rp_spec_load(sr->args->word[0], &options, spec, err);
}

/* Every spec of the grid is read before the first one runs: a mistake in the last member is told
 * now. */
static enum rp_status make_member(struct sweep_run *sr, int m, struct rp_error *err)
{
    struct member *member = &sr->members[m];
    const char *const *given = rp_cli_list(sr->args, "--set");
    const char *out = rp_cli_text(sr->args, "--out");
    struct rp_spec *spec = NULL;
    while (given && given[member->n_given]) member->n_given++;
    member->set = RP_NEW_ARRAY(char *, member->n_given + sr->sweep.n_keys + 1);
    for (int i = 0; i < member->n_given; i++) member->set[i] = (char *)given[i];
    for (int k = 0; k < sr->sweep.n_keys; k++)
        member->set[member->n_given + k] =
            rp_mem_text("%s=%s", sr->sweep.key[k].key, rp_sweep_value(&sr->sweep, m, k));
    RP_TRY(load_member(sr, m, &spec, err));
    member->run = rp_train_folder(spec);
    if (out) {
        char *folder = rp_sys_join(out, strrchr(member->run, '/') + 1);
        rp_mem_free(member->run);
        member->run = folder;
    }
    rp_spec_free(spec);
    return RP_STATUS_OK;
}

static int by_run(const void *a, const void *b)
{
    const struct member *const *x = a, *const *y = b;
    int order = strcmp((*x)->run, (*y)->run);
    return order ? order : (*x > *y) - (*x < *y);
}

/* Two members of one folder would be one run: what tells them apart changes no bit. */
static enum rp_status check_distinct(const struct sweep_run *sr, struct rp_error *err)
{
    int n = sr->sweep.n_members;
    const struct member **sorted = RP_NEW_ARRAY(const struct member *, n);
    enum rp_status status = RP_STATUS_OK;
    for (int m = 0; m < n; m++) sorted[m] = &sr->members[m];
    qsort(sorted, (size_t)n, sizeof *sorted, by_run);
    for (int i = 0; i + 1 < n && status == RP_STATUS_OK; i++) {
        if (strcmp(sorted[i]->run, sorted[i + 1]->run) != 0) continue;
        char *a = describe(sr, (int)(sorted[i] - sr->members)),
             *b = describe(sr, (int)(sorted[i + 1] - sr->members));
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "%s and %s are the same experiment, %s: what differs changes no bit, "
                              "so there is nothing to sweep",
                              a, b, sorted[i]->run);
        rp_mem_free(b);
        rp_mem_free(a);
    }
    rp_mem_free(sorted);
    return status;
}

static enum rp_status make_members(struct sweep_run *sr, struct rp_error *err)
{
    RP_TRY(rp_sweep_parse(rp_cli_list(sr->args, "--sweep"), &sr->sweep, err));
    sr->members = RP_NEW_ARRAY(struct member, sr->sweep.n_members);
    for (int m = 0; m < sr->sweep.n_members; m++) RP_TRY(make_member(sr, m, err));
    return check_distinct(sr, err);
}

static void free_members(struct sweep_run *sr)
{
    for (int m = 0; sr->members && m < sr->sweep.n_members; m++) {
        struct member *member = &sr->members[m];
        for (int k = 0; member->set && k < sr->sweep.n_keys; k++)
            rp_mem_free(member->set[member->n_given + k]);
        rp_mem_free(member->set);
        rp_mem_free(member->run);
    }
    rp_mem_free(sr->members);
    rp_sweep_release(&sr->sweep);
}

/* ---- --sweep-list ---------------------------------------------------------------------------- */

/* The command line that runs a member alone, NULL-terminated; the words belong to others. */
static const char **member_words(const struct sweep_run *sr, int m)
{
    static const char *const flags[] = {"--fresh", "--allow-drift", "--rehash", "--no-graph"};
    static const char *const texts[] = {"--data", "--stop-after"};
    const struct member *member = &sr->members[m];
    int most = 5 + 2 * (member->n_given + sr->sweep.n_keys) + 2 * (int)RP_COUNT(texts), n = 0;
    const char **words = RP_NEW_ARRAY(const char *, most + (int)RP_COUNT(flags) + 1);
    words[n++] = "reprise";
    words[n++] = "run";
    words[n++] = sr->args->word[0];
    for (char **set = member->set; *set; set++) {
        words[n++] = "--set";
        words[n++] = *set;
    }
    if (rp_cli_has(sr->args, "--out")) {
        words[n++] = "--out";
        words[n++] = member->run;
    }
    for (size_t i = 0; i < RP_COUNT(texts); i++) {
        if (!rp_cli_has(sr->args, texts[i])) continue;
        words[n++] = texts[i];
        words[n++] = rp_cli_text(sr->args, texts[i]);
    }
    for (size_t i = 0; i < RP_COUNT(flags); i++)
        if (rp_cli_has(sr->args, flags[i])) words[n++] = flags[i];
    return words;
}

static void list_members(const struct sweep_run *sr, json_t *json)
{
    json_t *commands = json_array();
    for (int m = 0; m < sr->sweep.n_members; m++) {
        struct rp_text line = {0};
        const char **words = member_words(sr, m);
        for (int i = 0; words[i]; i++) {
            if (i) rp_text_add(&line, " ");
            rp_launch_add_word(&line, words[i]);
        }
        if (!sr->args->json) printf("%s\n", rp_text_get(&line));
        json_array_append_new(commands, rp_json_text(rp_text_get(&line)));
        rp_mem_free(words);
        rp_text_release(&line);
    }
    json_object_set_new(json, "commands", commands);
}

/* ---- running --------------------------------------------------------------------------------- */

static enum rp_status run_member(struct sweep_run *sr, int m, int *signal)
{
    struct member *member = &sr->members[m];
    struct rp_error *err = RP_NEW(struct rp_error);
    struct rp_spec *spec = NULL;
    struct rp_train_result result = {.status = "failed"};
    struct rp_train_options train = sr->train;
    char *what = describe(sr, m);
    train.set = (const char *const *)member->set;
    train.out = member->run;
    train.rank_words = member_words(sr, m);
    if (sr->stop_at > 0) train.stop_after = sr->stop_at - rp_sys_clock();
    rp_log_info("member %d of %d: %s", m + 1, sr->sweep.n_members, what);
    member->tried = true;
    enum rp_status status = load_member(sr, m, &spec, err);
    if (status == RP_STATUS_OK) status = rp_train_run(spec, &train, &result, err);
    if (status == RP_STATUS_OK && result.was_finished)
        rp_log_info("%s is finished already", member->run);
    if (status != RP_STATUS_OK && status != RP_STATUS_STOPPED)
        rp_log_warning("member %d of %d (%s) ends with exit code %d: %s", m + 1,
                       sr->sweep.n_members, what, (int)status, err->text);
    *signal = result.signal;
    member->status = status;
    rp_train_result_release(&result);
    rp_mem_free((void *)train.rank_words);
    rp_spec_free(spec);
    rp_mem_free(what);
    rp_mem_free(err);
    return status;
}

/* The exit code: 20 when it was stopped, else that of the first member that failed. */
static enum rp_status run_members(struct sweep_run *sr, int *signal, struct rp_error *err)
{
    int n = sr->sweep.n_members, n_failed = 0, first = -1, m = 0;
    bool stopped = false;
    for (; m < n && !stopped; m++) {
        if (sr->stop_at > 0 && rp_sys_clock() >= sr->stop_at) break;
        enum rp_status status = run_member(sr, m, signal);
        stopped = status == RP_STATUS_STOPPED;
        if (status == RP_STATUS_OK || stopped) continue;
        if (!n_failed++) first = m;
    }
    if (stopped || m < n)
        return rp_error_set(
            err, RP_STATUS_STOPPED,
            "stopped at member %d of %d, state saved; run the same command again to "
            "go on",
            stopped ? m : m + 1, n);
    if (!n_failed) return RP_STATUS_OK;
    char *what = describe(sr, first);
    enum rp_status status =
        rp_error_set(err, sr->members[first].status,
                     "%d of %d members failed, the first with exit code %d: %s (%s); the same "
                     "command again tries them again",
                     n_failed, n, (int)sr->members[first].status, what, sr->members[first].run);
    rp_mem_free(what);
    return status;
}

/* ---- the table ------------------------------------------------------------------------------- */

static int key_width(const struct sweep_run *sr, int k)
{
    size_t widest = strlen(sr->sweep.key[k].key);
    for (int i = 0; i < sr->sweep.key[k].n; i++)
        if (strlen(sr->sweep.key[k].value[i]) > widest) widest = strlen(sr->sweep.key[k].value[i]);
    return (int)widest;
}

static void print_member(const struct sweep_run *sr, int m, const struct rp_run_row *row)
{
    char steps[48] = "-", metric[48] = "-";
    double value;
    const char *name = row->view.run ? rp_run_row_metric(row, &value) : NULL;
    for (int k = 0; k < sr->sweep.n_keys; k++)
        rp_cli_print("%-*s  ", key_width(sr, k), rp_sweep_value(&sr->sweep, m, k));
    if (row->view.run)
        snprintf(steps, sizeof steps, "%" PRIu64 "/%" PRIu64, row->view.step, row->view.steps);
    if (name) snprintf(metric, sizeof metric, "%s %.5g", name, value);
    rp_cli_print("%-9s  %15s  %-24s %s\n", row->view.run ? row->view.status : "not begun", steps,
                 metric, sr->members[m].run);
}

static json_t *json_of_member(const struct sweep_run *sr, int m, const struct rp_run_row *row)
{
    json_t *object = json_object(), *set = json_object(), *metrics = json_object();
    for (int k = 0; k < sr->sweep.n_keys; k++)
        json_object_set_new(set, sr->sweep.key[k].key,
                            json_string(rp_sweep_value(&sr->sweep, m, k)));
    for (int i = 0; i < row->metrics.n; i++) {
        const struct rp_series *series = &row->metrics.series[i];
        char *key = rp_mem_text("%s/%s", series->split, series->name);
        json_object_set_new(metrics, key, rp_json_number(series->value[series->n - 1]));
        rp_mem_free(key);
    }
    const char *final = row->view.run ? rp_run_view_text(&row->view, "digests", "final") : "";
    json_object_set_new(object, "set", set);
    json_object_set_new(object, "run", rp_json_text(sr->members[m].run));
    json_object_set_new(object, "status",
                        json_string(row->view.run ? row->view.status : "not begun"));
    json_object_set_new(object, "exit_code",
                        sr->members[m].tried ? json_integer(sr->members[m].status) : json_null());
    json_object_set_new(object, "final", final[0] ? json_string(final) : json_null());
    json_object_set_new(object, "metrics", metrics);
    return object;
}

static int member_of(const struct sweep_run *sr, const char *run)
{
    for (int m = 0; m < sr->sweep.n_members; m++)
        if (strcmp(sr->members[m].run, run) == 0) return m;
    return 0;
}

/* Mean and spread of what differs in the seed alone. */
static void print_spreads(const struct sweep_run *sr, struct rp_run_row *rows, size_t n)
{
    rp_run_rows_sort(rows, n);
    for (size_t i = 0, first = 0; i < n; i++) {
        if (i + 1 < n && strcmp(rows[i].group, rows[i + 1].group) == 0) continue;
        struct rp_run_spread spread = rp_run_rows_spread(&rows[first], i - first + 1);
        int m = member_of(sr, rows[first].view.run);
        first = i + 1;
        if (!spread.metric) continue;
        printf("%s %.5g %s %.2g over %d seeds", spread.metric, spread.mean,
               rp_terminal_is_utf8() ? "\xc2\xb1" : "+-", spread.deviation, spread.n);
        for (int k = 0; k < sr->sweep.n_keys; k++)
            if (strcmp(sr->sweep.key[k].key, "seed") != 0)
                rp_cli_print("  %s=%s", sr->sweep.key[k].key, rp_sweep_value(&sr->sweep, m, k));
        printf("\n");
    }
}

static void show_table(const struct sweep_run *sr, json_t *json)
{
    int n = sr->sweep.n_members;
    size_t n_rows = 0;
    struct rp_run_row *rows = RP_NEW_ARRAY(struct rp_run_row, n);
    json_t *members = json_array();
    for (int k = 0; k < sr->sweep.n_keys && !sr->args->json; k++)
        printf("%-*s  ", key_width(sr, k), sr->sweep.key[k].key);
    if (!sr->args->json) printf("%-9s  %15s  %-24s %s\n", "status", "step", "newest", "run");
    for (int m = 0; m < n; m++) {
        struct rp_run_row *row = &rows[n_rows];
        n_rows += rp_run_row_open(sr->members[m].run, row);
        if (!sr->args->json) print_member(sr, m, row);
        json_array_append_new(members, json_of_member(sr, m, row));
    }
    if (!sr->args->json) print_spreads(sr, rows, n_rows);
    json_object_set_new(json, "members", members);
    rp_run_rows_free(rows, n_rows);
}

/* ---- the command ----------------------------------------------------------------------------- */

static enum rp_status check_options(const struct rp_cli_args *args, struct rp_error *err)
{
    static const char *const single[] = {"--against", "--profile"};
    for (size_t i = 0; i < RP_COUNT(single); i++)
        if (rp_cli_has(args, single[i]))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s belongs to one run, not to a sweep: run the member alone "
                                "(--sweep-list prints its command)",
                                single[i]);
    if (rp_cli_list(args, "--sweep")) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "--sweep-list prints the members of a sweep: add --sweep KEY=VALUES");
}

/* Its members come one after another, and each starts its ranks anew: a launcher's are there once.
 */
static enum rp_status check_launcher(struct rp_error *err)
{
    struct rp_comm_world world;
    RP_TRY(rp_comm_discover(&world, err));
    if (world.n_ranks == 1 && world.n_nodes == 1) return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_USAGE,
        "a sweep starts the ranks of its members itself, and %s has started several "
        "already: start it without, or its members one by one, with the lines of "
        "--sweep-list",
        world.launcher);
}

enum rp_status rp_cli_sweep(const struct rp_cli_args *args, const struct rp_train_options *train,
                            json_t *json, int *signal, struct rp_error *err)
{
    struct sweep_run sr = {.args = args, .train = *train};
    *signal = 0;
    enum rp_status status = check_options(args, err);
    if (train->stop_after > 0) sr.stop_at = rp_sys_clock() + train->stop_after;
    if (status == RP_STATUS_OK) status = make_members(&sr, err);
    if (status == RP_STATUS_OK && rp_cli_has(args, "--sweep-list")) {
        list_members(&sr, json);
    } else if (status == RP_STATUS_OK) {
        status = check_launcher(err);
        if (status == RP_STATUS_OK) {
            status = run_members(&sr, signal, err);
            show_table(&sr, json);
        }
    }
    free_members(&sr);
    return status;
}
