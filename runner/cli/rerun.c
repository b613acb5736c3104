/* rerun.c - `reprise rerun RUN`: the same spec once more, compared step by step with what RUN
 * recorded. */
#include "base/json_text.h"
#include "base/log.h"
#include "cli/against.h"
#include "cli/run_int.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct rp_cli_option options[] = {
    {"--out", RP_CLI_TEXT, "DIR", "folder of the new run (default: RUN-rerun)"},
    {"--data", RP_CLI_TEXT, "DIR",
     "where relative data paths start (default: where RUN found its data)"},
    {"--steps", RP_CLI_TEXT, "A:B",
     "only these steps, from the checkpoint before A; writes nothing"},
    {"--set", RP_CLI_LIST, "KEY=VALUE",
     "change a key, for example resources.threads=1, or resources.ranks=4 where RUN had another"},
    {"--allow-drift", RP_CLI_FLAG, NULL, "go on in another environment; recorded"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

static bool parse_steps(const char *text, uint64_t *first, uint64_t *last)
{
    char *end;
    *first = strtoull(text, &end, 10);
    if (end == text || *end != ':') return false;
    text = end + 1;
    *last = strtoull(text, &end, 10);
    return end != text && !*end && *first >= 1 && *first <= *last;
}

/* The run that is to be repeated. */
struct origin {
    char *run;
    struct rp_manifest manifest;
};

static enum rp_status rerun_all(const struct rp_cli_args *args, const struct rp_spec *spec,
                                const struct origin *origin, json_t *json, struct rp_error *err)
{
    const char *run = origin->run;
    struct rp_cli_against against = {0};
    struct rp_train_result result = {.status = "failed"};
    char *out = rp_cli_has(args, "--out") ? rp_mem_copy_text(rp_cli_text(args, "--out"))
                                          : rp_mem_text("%s-rerun", run);
    struct rp_train_options train = {
        .out = out,
        .set = rp_cli_list(args, "--set"),
        .allow_drift = rp_cli_has(args, "--allow-drift"),
        .recorded = json_object_get(origin->manifest.root, "environment"),
        .recorded_data = json_object_get(origin->manifest.root, "data"),
        .recorded_in = run};
    enum rp_status status = rp_cli_against_open_run(run, &against, err);
    train.against = rp_cli_against_steps(&against);
    if (status == RP_STATUS_OK) status = rp_train_run(spec, &train, &result, err);
    rp_cli_run_json(&result, json);
    json_object_set_new(json, "of", rp_json_text(run));
    if (status == RP_STATUS_OK) status = rp_cli_against_end(&against, &result, json, err);
    if (status == RP_STATUS_OK && !against.final[0])
        rp_log_info("%s has not finished: %llu steps compared, all equal", run,
                    (unsigned long long)result.n_compared);
    if (status == RP_STATUS_OK && !args->json)
        rp_cli_print(
            "equal: the same bits as %s\nrun    %s\nsteps  %llu, %llu compared\nfinal  %s\n", run,
            result.run, (unsigned long long)result.step, (unsigned long long)result.n_compared,
            result.final);
    if (result.signal == SIGINT && status == RP_STATUS_STOPPED) *args->end_by = SIGINT;
    rp_train_result_release(&result);
    rp_cli_against_release(&against);
    rp_mem_free(out);
    return status;
}

static enum rp_status rerun_steps(const struct rp_cli_args *args, const struct rp_spec *spec,
                                  const char *run, json_t *json, struct rp_error *err)
{
    const char *text = rp_cli_text(args, "--steps");
    struct rp_train_result result = {.status = "failed"};
    uint64_t first, last;
    if (!parse_steps(text, &first, &last))
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "--steps %s: expected A:B with 1 <= A <= B, for example --steps 100:200", text);
    enum rp_status status = rp_train_replay(spec, run, first, last, &result, err);
    rp_cli_run_json(&result, json);
    json_object_set_new(json, "compared", json_integer((json_int_t)result.n_compared));
    if (status == RP_STATUS_OK && !args->json)
        rp_cli_print("equal: steps %llu to %llu of %s give the same bits\n",
                     (unsigned long long)first, (unsigned long long)last, run);
    rp_train_result_release(&result);
    return status;
}

static enum rp_status rerun(const struct rp_cli_args *args, json_t *json, struct rp_error *err)
{
    struct origin origin = {.manifest = {.segment = -1}};
    struct rp_spec *spec = NULL;
    bool found = false;
    rp_train_catch_signals();
    enum rp_status status = rp_run_find(args->n_words ? args->word[0] : NULL, &origin.run, err);
    if (status == RP_STATUS_OK)
        status = rp_manifest_read(origin.run, &found, &origin.manifest, err);
    if (status == RP_STATUS_OK && !found)
        status =
            rp_error_set(err, RP_STATUS_USAGE, "%s holds no run (no manifest.json)", origin.run);
    if (status == RP_STATUS_OK)
        status = rp_train_load_spec(origin.run, &origin.manifest, rp_cli_text(args, "--data"),
                                    rp_cli_list(args, "--set"), &spec, err);
    if (status == RP_STATUS_OK)
        status = rp_cli_has(args, "--steps") ? rerun_steps(args, spec, origin.run, json, err)
                                             : rerun_all(args, spec, &origin, json, err);
    rp_spec_free(spec);
    rp_manifest_release(&origin.manifest);
    rp_mem_free(origin.run);
    return status;
}

const struct rp_command rp_command_rerun = {
    .name = "rerun",
    .usage = "[RUN]",
    .summary =
        "runs a run's spec again and compares every step: same bits, or the first difference",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = rerun};
