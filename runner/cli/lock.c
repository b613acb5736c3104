/* lock.c - `reprise lock SPEC`: writes environment and data hashes beside the spec, or compares
 * them with what was written. */
#include "cli/cli.h"

#include "base/json_text.h"
#include "base/sys.h"
#include "data/data.h"
#include "env/env.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* What a lock is made of, or compared with. */
struct state {
    struct rp_spec *spec;
    struct rp_data *data;
    struct rp_env_file *files; /* point into `data` */
    int n_files;
    json_t *environment;
    char *path; /* of the lock */
    struct rp_device *device;
};

/* --out, else what the spec names, else NAME.lock.json beside the spec. */
static char *lock_path(const struct rp_cli_args *args, const struct rp_spec *spec)
{
    const char *out = rp_cli_text(args, "--out");
    if (out) return rp_mem_copy_text(out);
    if (spec->environment_lock) return rp_spec_path(spec, spec->environment_lock);
    char *folder = rp_sys_folder_of(spec->path);
    char *name = rp_mem_text("%s.lock.json", spec->name);
    char *path = rp_sys_join(folder, name);
    rp_mem_free(name);
    rp_mem_free(folder);
    return path;
}

static enum rp_status state_open(const struct rp_cli_args *args, struct state *state,
                                 struct rp_error *err)
{
    const struct rp_spec_options options = {.data_folder = rp_cli_text(args, "--data"),
                                            .set = rp_cli_list(args, "--set")};
    const struct rp_data_options all = {.rehash = true};
    const struct rp_data_file *found;
    RP_TRY(rp_spec_load(args->word[0], &options, &state->spec, err));
    const struct rp_env_device_options device = {.threads = rp_env_threads(state->spec)};
    RP_TRY(rp_env_open_device(state->spec, &device, &state->device, err));
    rp_env_begin();
    RP_TRY(rp_data_open(state->spec, &all, &state->data, err));
    state->n_files = rp_data_files(state->data, &found);
    state->files = RP_NEW_ARRAY(struct rp_env_file, state->n_files + 1);
    for (int i = 0; i < state->n_files; i++)
        state->files[i] = (struct rp_env_file){found[i].key, found[i].size, found[i].sha256};
    state->environment = rp_env_probe_on(state->spec, device.threads, state->device);
    state->path = lock_path(args, state->spec);
    return RP_STATUS_OK;
}

static void state_release(struct state *state)
{
    rp_mem_free(state->path);
    json_decref(state->environment);
    rp_env_close_device(state->device);
    rp_mem_free(state->files);
    rp_data_free(state->data);
    rp_spec_free(state->spec);
}

static enum rp_status write_lock(const struct rp_cli_args *args, const struct state *state,
                                 json_t *result, struct rp_error *err)
{
    json_t *lock = rp_env_lock_new(state->spec, state->environment, state->files, state->n_files);
    char *bytes = json_dumps(lock, JSON_INDENT(2));
    struct rp_text text = {0};
    rp_text_add(&text, "%s\n", bytes);
    enum rp_status status = rp_sys_write_file(state->path, text.bytes, text.length, err);
    if (status != RP_STATUS_OK) goto out;
    json_object_set_new(result, "lock", rp_json_text(state->path));
    json_object_set_new(result, "data_files", json_integer(state->n_files));
    if (args->json) goto out;
    rp_cli_print("%s: environment and %d data file%s\n", state->path, state->n_files,
                 state->n_files == 1 ? "" : "s");
    if (!state->spec->environment_lock)
        rp_cli_print(
            "the spec does not name it yet; with this line in %s every run is held against it:\n"
            "    environment: {lock: %s}\n",
            state->spec->path,
            strrchr(state->path, '/') ? strrchr(state->path, '/') + 1 : state->path);
out:
    rp_text_release(&text);
    json_decref(lock);
    free(bytes);
    return status;
}

static enum rp_status check_lock(const struct rp_cli_args *args, const struct state *state,
                                 json_t *result, struct rp_error *err)
{
    json_t *lock = NULL;
    RP_TRY(rp_env_lock_read(state->path, &lock, err));
    json_t *rows = rp_env_compare(lock, state->environment, state->spec->determinism);
    json_t *data_rows = rp_env_compare_data(lock, state->files, state->n_files);
    int n_touching = rp_env_count_touching(rows);
    size_t n_data = json_array_size(data_rows);
    enum rp_status status = RP_STATUS_OK;

    json_object_set_new(result, "lock", rp_json_text(state->path));
    json_object_set(result, "environment", rows);
    json_object_set(result, "data", data_rows);
    if (!args->json && json_array_size(rows) + n_data > 0) {
        struct rp_text text = {0};
        json_t *all = json_copy(rows);
        json_array_extend(all, data_rows);
        rp_env_print_rows(all, &text);
        fputs(rp_text_get(&text), stdout);
        rp_text_release(&text);
        json_decref(all);
    }
    if (n_touching > 0 && state->spec->determinism != RP_TIER_FAST)
        status =
            rp_error_set(err, RP_STATUS_ENVIRONMENT,
                         "%s: %d difference%s of the environment can touch bits here; run where it "
                         "is the same, or write a new lock with `reprise lock %s`",
                         state->path, n_touching, n_touching == 1 ? "" : "s", state->spec->path);
    else if (n_data > 0)
        status =
            rp_error_set(err, RP_STATUS_DATA,
                         "%s: %zu data file%s not as locked; restore what is named, or write a "
                         "new lock with `reprise lock %s`",
                         state->path, n_data, n_data == 1 ? " is" : "s are", state->spec->path);
    else if (!args->json)
        rp_cli_print("%s: %s\n", state->path,
                     json_array_size(rows) > 0 ? "nothing that can touch bits differs"
                                               : "nothing differs");
    json_decref(data_rows);
    json_decref(rows);
    json_decref(lock);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct state state = {0};
    enum rp_status status = state_open(args, &state, err);
    if (status == RP_STATUS_OK)
        status = rp_cli_has(args, "--check") ? check_lock(args, &state, result, err)
                                             : write_lock(args, &state, result, err);
    state_release(&state);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--check", RP_CLI_FLAG, NULL, "compares with the lock, changes nothing: exit 3 or 4"},
    {"--out", RP_CLI_TEXT, "FILE", "the lock; default: of the spec, else NAME.lock.json beside it"},
    {"--data", RP_CLI_TEXT, "DIR", "where relative paths of the spec start"},
    {"--set", RP_CLI_LIST, "KEY=VALUE", "changes a key of the spec"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_lock = {
    .name = "lock",
    .usage = "SPEC",
    .summary = "writes or checks the lock of environment and data",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run,
};
