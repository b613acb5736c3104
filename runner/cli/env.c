/* env.c - `reprise env`: the environment as it would be recorded. */
#include "cli/cli.h"

#include "comm/comm.h"
#include "env/env.h"

#include <jansson.h>
#include <stdio.h>

/* What could move bytes between ranks: no part of the environment that a lock holds, as a run of
 * one rank opens none of it, and the others record what they opened. */
static json_t *probe_comm(void)
{
    const char *names[RP_COMM_MODULES];
    char texts[RP_COMM_MODULES][RP_COMM_MODULE_TEXT];
    json_t *comm = json_object();
    int n = rp_comm_list(names, texts);
    for (int i = 0; i < n; i++) json_object_set_new(comm, names[i], json_string(texts[i]));
    return comm;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    const struct rp_env_device_options device = {.threads = rp_env_threads(NULL), .quiet = true};
    struct rp_device *opened = NULL;
    RP_TRY(rp_env_open_device(NULL, &device, &opened, err));
    json_t *environment = rp_env_probe_on(NULL, device.threads, opened);
    rp_env_close_device(opened);
    json_t *comm = json_pack("{s:o}", "comm", probe_comm());
    if (args->json) {
        json_object_set(result, "environment", environment);
        json_object_update(result, comm);
    } else {
        struct rp_text text = {0};
        rp_env_print(environment, &text);
        rp_env_print(comm, &text);
        fputs(rp_text_get(&text), stdout);
        rp_text_release(&text);
    }
    json_decref(comm);
    json_decref(environment);
    return RP_STATUS_OK;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_env = {
    .name = "env",
    .usage = "",
    .summary = "prints what of this machine and program could matter",
    .min_words = 0,
    .max_words = 0,
    .options = options,
    .run = run,
};
