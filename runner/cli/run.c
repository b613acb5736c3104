/* run.c - `reprise run SPEC`: make it so. */
#include "base/log.h"
#include "base/sys.h"
#include "cli/run_int.h"

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
    {"--stop-after", RP_CLI_TEXT, "TIME", "save and stop after 3h50m, 90s, ... with exit code 20"},
    {"--allow-drift", RP_CLI_FLAG, NULL,
     "go on in another environment or after a difference; recorded"},
    {"--rehash", RP_CLI_FLAG, NULL, "hash every data file again"},
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

/* SIGINT is the caller's to see: a shell stops its loop only when we end by it. */
static void end_by_sigint(void)
{
    fflush(NULL);
    signal(SIGINT, SIG_DFL);
    raise(SIGINT);
}

void rp_cli_run_json(const struct rp_train_result *result, json_t *json)
{
    json_object_set_new(json, "run", json_string(result->run ? result->run : ""));
    json_object_set_new(json, "status", json_string(result->status));
    json_object_set_new(json, "step", json_integer((json_int_t)result->step));
    json_object_set_new(json, "digests",
                        json_pack("{s:s, s:s?}", "numeric", result->numeric, "final",
                                  result->final[0] ? result->final : NULL));
}

static void say_end(const struct rp_train_result *result)
{
    if (result->was_finished)
        rp_log_info("%s is finished already; --fresh starts again", result->run);
    printf("run    %s\nsteps  %llu\nfinal  %s\n", result->run, (unsigned long long)result->step,
           result->final);
}

static enum rp_status run(const struct rp_cli_args *args, json_t *json, struct rp_error *err)
{
    struct rp_spec *spec = NULL;
    struct rp_train_result result = {.status = "failed"};
    struct rp_train_options train = {.out = rp_cli_text(args, "--out"),
                                     .set = rp_cli_list(args, "--set"),
                                     .fresh = rp_cli_has(args, "--fresh"),
                                     .allow_drift = rp_cli_has(args, "--allow-drift"),
                                     .rehash = rp_cli_has(args, "--rehash"),
                                     .profile = rp_cli_has(args, "--profile")};
    const char *stop_after = rp_cli_text(args, "--stop-after");
    rp_train_catch_signals();
    if (stop_after && (train.stop_after = parse_time(stop_after)) < 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--stop-after %s: expected a time such as 3h50m, 45m or 90s",
                            stop_after);
    enum rp_status status = rp_spec_load(
        args->word[0],
        &(struct rp_spec_options){.data_folder = rp_cli_text(args, "--data"), .set = train.set},
        &spec, err);
    if (status == RP_STATUS_OK && rp_cli_has(args, "--try")) {
        status = rp_cli_try(spec, &train, args->json, json, err);
        rp_spec_free(spec);
        return status;
    }
    if (status == RP_STATUS_OK) status = rp_train_run(spec, &train, &result, err);
    rp_cli_run_json(&result, json);
    if (status == RP_STATUS_OK && !args->json) say_end(&result);
    if (result.signal == SIGINT && status == RP_STATUS_STOPPED) {
        rp_log_error(err->text);
        end_by_sigint();
    }
    rp_train_result_release(&result);
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
