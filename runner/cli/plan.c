/* plan.c - `reprise plan SPEC`: everything that can be known without a device, from headers alone;
 * with --ranks what steps on many ranks take (plan_ranks.c). */
#include "cli/grace.h"
#include "cli/plan_int.h"

#include "comm/comm.h"
#include "env/env.h"
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>

/* How long the run will take to stop, beside what the site leaves it. */
enum rp_status rp_cli_plan_stop(const struct rp_cli_args *args, const struct rp_spec *spec,
                                const struct rp_plan *plan, double step_seconds, json_t *result,
                                struct rp_error *err)
{
    struct rp_site *site = NULL;
    struct rp_cli_stop stop;
    RP_TRY(rp_site_load(rp_cli_text(args, "--site"), &site, err));
    char *run = rp_train_folder(spec);
    rp_cli_stop_expect(run, plan, step_seconds, &stop);
    rp_cli_stop_show(&stop, spec, site, args->json ? result : NULL);
    rp_mem_free(run);
    rp_site_free(site);
    return RP_STATUS_OK;
}

/* As `run` would start its ranks from here. */
static enum rp_status make_plan(const struct rp_spec *spec, const struct rp_data_shape *data,
                                struct rp_plan **plan, struct rp_error *err)
{
    struct rp_comm_world world;
    struct rp_error ignored = {0};
    bool known = rp_comm_discover(&world, &ignored) == RP_STATUS_OK;
    bool ours = known && !world.launcher && spec->resources.ranks <= RP_COMM_MAX_RANKS;
    int threads = rp_env_threads_beside(spec, ours ? (int)spec->resources.ranks : 1);
    RP_TRY(rp_plan_make_for(spec, data, threads, 0, rp_env_planned_device(spec), plan, err));
    if (known && rp_comm_is_one_host(&world)) rp_plan_share_host(*plan, spec);
    return RP_STATUS_OK;
}

static enum rp_status show(const struct rp_spec *spec, const struct rp_plan *plan,
                           const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    if (args->json) {
        json_t *json = rp_plan_json(spec, plan);
        json_object_update(result, json);
        json_decref(json);
    } else {
        struct rp_text text = {0};
        rp_plan_print(spec, plan, &text);
        fputs(rp_text_get(&text), stdout);
        rp_text_release(&text);
    }
    RP_TRY(rp_cli_plan_stop(args, spec, plan, 0, result, err));
    return rp_plan_check_memory(plan, err);
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_spec_options options = {.data_folder = rp_cli_text(args, "--data"),
                                      .set = rp_cli_list(args, "--set")};
    struct rp_spec *spec = NULL;
    struct rp_plan *plan = NULL;
    struct rp_data_shape data;
    enum rp_status status;
    RP_TRY_GOTO(status, rp_cli_plan_ranks_check(args, err), done);
    RP_TRY_GOTO(status, rp_spec_load(args->word[0], &options, &spec, err), done);
    RP_TRY_GOTO(status, rp_data_describe(spec, true, &data, err), done);
    if (rp_cli_has(args, "--ranks")) {
        status = rp_cli_plan_ranks(args, spec, &data, result, err);
        goto done;
    }
    RP_TRY_GOTO(status, make_plan(spec, &data, &plan, err), done);
    RP_TRY_GOTO(status, rp_train_check_weights(spec, plan->model, err), done);
    status = show(spec, plan, args, result, err);
done:
    rp_plan_free(plan);
    rp_spec_free(spec);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--data", RP_CLI_TEXT, "DIR", "where relative paths of the spec start"},
    {"--set", RP_CLI_LIST, "KEY=VALUE", "changes one key of the spec"},
    {"--site", RP_CLI_TEXT, "FILE",
     "facts of the cluster, whose time to stop is compared (default: as for launch)"},
    {"--ranks", RP_CLI_TEXT, "N",
     "predicts a step on 1, 2, 4, ... N ranks: measures some steps of a rank's part here"},
    {"--network", RP_CLI_TEXT, "BANDWIDTH,LATENCY",
     "with --ranks: of a node to others, like 400Gb/s,5us; its ranks share it; `local`: all on "
     "this "
     "machine, whose exchange is measured, too"},
    {"--per-node", RP_CLI_TEXT, "K", "with --ranks: ranks on a node (1)"},
    {"--node-network", RP_CLI_TEXT, "BANDWIDTH,LATENCY",
     "with --ranks: of a rank to those of its node (as --network)"},
    {"--save-times", RP_CLI_TEXT, "FILE", "with --ranks: keeps what was measured"},
    {"--times", RP_CLI_TEXT, "FILE",
     "with --ranks: takes what --save-times kept, measures nothing"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_plan = {
    .name = "plan",
    .usage = "SPEC",
    .summary = "prints model, memory, steps, checkpoint size, arithmetic, digests; needs no GPU",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run};
