/* run.c - `reprise run SPEC`: make it so. */
#include "base/json_text.h"
#include "base/log.h"
#include "cli/against.h"
#include "cli/run_int.h"
#include "cli/sweep.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct rp_cli_option options[] = {
    {"--out", RP_CLI_TEXT, "DIR", "run folder (default: runs/<name>-<digest of the spec>)"},
    {"--set", RP_CLI_LIST, "KEY=VALUE", "change a key of the spec; recorded"},
    {"--data", RP_CLI_TEXT, "DIR", "where relative data paths start"},
    {"--fresh", RP_CLI_FLAG, NULL, "remove what the folder holds and start again"},
    {"--stop-after", RP_CLI_TEXT, "TIME",
     "save and stop, with exit code 20, when this command has run for 3h50m, 90s, ..."},
    {"--against", RP_CLI_TEXT, "DIGEST|RUN|FILE",
     "stop with 7 at the first step that differs from a run or its digests.jsonl; a final digest "
     "is "
     "compared at the end"},
    {"--sweep", RP_CLI_LIST, "KEY=A,B|1..5",
     "run every combination, one after another, each in its own folder (under --out DIR if given)"},
    {"--sweep-list", RP_CLI_FLAG, NULL, "print a line for each member instead, for a job array"},
    {"--allow-drift", RP_CLI_FLAG, NULL,
     "go on in another environment or after a difference; recorded"},
    {"--rehash", RP_CLI_FLAG, NULL, "hash every data file again"},
    {"--no-graph", RP_CLI_FLAG, NULL, "on a GPU: launch every kernel by itself, to find a fault"},
    {"--try", RP_CLI_FLAG, NULL,
     "try the first steps, a save, a kill and a resume elsewhere; tells time, memory, disk"},
    {"--profile", RP_CLI_FLAG, NULL, "print time per phase and op; write trace.json for Perfetto"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

/* "3h50m", "90s", "1.5h", "45" (seconds): seconds, or a negative number. */
static double parse_time(const char *text)
{
    double total = 0;
    bool any = false;
    while (*text) {
        char *end;
        double value = strtod(text, &end);
        if (end == text || !(value >= 0) || !isfinite(value)) return -1;
        double unit = *end == 'd'            ? 86400
                      : *end == 'h'          ? 3600
                      : *end == 'm'          ? 60
                      : *end == 's' || !*end ? 1
                                             : -1;
        if (unit < 0) return -1;
        total += value * unit;
        any = true;
        text = *end ? end + 1 : end;
    }
    return any && total > 0 ? total : -1;
}

void rp_cli_run_json(const struct rp_train_result *result, json_t *json)
{
    json_object_set_new(json, "run", rp_json_text(result->run ? result->run : ""));
    json_object_set_new(json, "status", json_string(result->status));
    json_object_set_new(json, "step", json_integer((json_int_t)result->step));
    json_object_set_new(json, "digests",
                        json_pack("{s:s, s:s?}", "numeric", result->numeric, "final",
                                  result->final[0] ? result->final : NULL));
}

static void say_end(const struct rp_train_result *result, const struct rp_cli_against *against)
{
    if (result->was_finished)
        rp_log_info("%s is finished already; --fresh starts again", result->run);
    rp_cli_print("run    %s\nsteps  %llu\nfinal  %s\n", result->run,
                 (unsigned long long)result->step, result->final);
    if (!against->what) return;
    printf("equal  ");
    if (against->digests.n)
        rp_cli_print("%llu steps compared with %s, all equal%s\n",
                     (unsigned long long)result->n_compared, against->what,
                     against->final[0] ? "; the final digest too" : "");
    else
        printf("the final digest is the one given\n");
}

/* One spec to its end, compared with `--against`. */
static enum rp_status run_one(const struct rp_cli_args *args, const struct rp_spec *spec,
                              struct rp_train_options *train, json_t *json, struct rp_error *err)
{
    struct rp_train_result result = {.status = "failed"};
    struct rp_cli_against against = {0};
    const char *what = rp_cli_text(args, "--against");
    enum rp_status status = what ? rp_cli_against_open(what, &against, err) : RP_STATUS_OK;
    train->against = rp_cli_against_steps(&against);
    if (status == RP_STATUS_OK && what && !train->against)
        rp_log_info("--against: a final digest, so it is compared at the end");
    if (status == RP_STATUS_OK) status = rp_train_run(spec, train, &result, err);
    rp_cli_run_json(&result, json);
    if (status == RP_STATUS_OK && what) status = rp_cli_against_end(&against, &result, json, err);
    if (status == RP_STATUS_OK && !args->json) say_end(&result, &against);
    if (result.signal == SIGINT && status == RP_STATUS_STOPPED) *args->end_by = SIGINT;
    rp_cli_against_release(&against);
    rp_train_result_release(&result);
    return status;
}

static enum rp_status run_sweep(const struct rp_cli_args *args,
                                const struct rp_train_options *train, json_t *json,
                                struct rp_error *err)
{
    int number = 0;
    enum rp_status status = rp_cli_sweep(args, train, json, &number, err);
    if (number == SIGINT && status == RP_STATUS_STOPPED) *args->end_by = SIGINT;
    return status;
}

/* A trial has its own steps and its own end. */
static enum rp_status check_try(const struct rp_cli_args *args, struct rp_error *err)
{
    static const char *const others[] = {"--sweep", "--sweep-list", "--against", "--stop-after",
                                         "--profile"};
    for (size_t i = 0; i < RP_COUNT(others); i++)
        if (rp_cli_has(args, others[i]))
            return rp_error_set(err, RP_STATUS_USAGE, "--try goes without %s", others[i]);
    return RP_STATUS_OK;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *json, struct rp_error *err)
{
    struct rp_spec *spec = NULL;
    struct rp_train_options train = {.out = rp_cli_text(args, "--out"),
                                     .set = rp_cli_list(args, "--set"),
                                     .fresh = rp_cli_has(args, "--fresh"),
                                     .allow_drift = rp_cli_has(args, "--allow-drift"),
                                     .rehash = rp_cli_has(args, "--rehash"),
                                     .no_graph = rp_cli_has(args, "--no-graph"),
                                     .profile = rp_cli_has(args, "--profile")};
    const char *stop_after = rp_cli_text(args, "--stop-after");
    rp_train_catch_signals();
    if (stop_after && (train.stop_after = parse_time(stop_after)) < 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--stop-after %s: expected a time such as 3h50m, 45m or 90s",
                            stop_after);
    if (rp_cli_has(args, "--try")) RP_TRY(check_try(args, err));
    if (rp_cli_has(args, "--sweep") || rp_cli_has(args, "--sweep-list"))
        return run_sweep(args, &train, json, err);
    enum rp_status status = rp_spec_load(
        args->word[0],
        &(struct rp_spec_options){.data_folder = rp_cli_text(args, "--data"), .set = train.set},
        &spec, err);
    if (status == RP_STATUS_OK && rp_cli_has(args, "--try"))
        status = rp_cli_try(spec, &train, args->json, json, err);
    else if (status == RP_STATUS_OK)
        status = run_one(args, spec, &train, json, err);
    rp_spec_free(spec);
    return status;
}

const struct rp_command rp_command_run = {
    .name = "run",
    .usage = "SPEC",
    .summary = "starts, continues or recognises as finished the run of a spec",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run};
