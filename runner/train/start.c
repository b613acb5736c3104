/* start.c - from a spec to a state that the loop can go on from. Everything that can be refused is
 * refused before the run folder is touched. */
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "env/env.h"
#include "train/start_int.h"

#include <stdio.h>
#include <string.h>

char *rp_train_folder(const struct rp_spec *spec)
{
    const char *runs = rp_sys_env("REPRISE_RUNS");
    struct rp_sha256 digest = rp_spec_digest(spec, RP_SECTION_NUMERIC);
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&digest, hex);
    return rp_mem_text("%s/%s-%.8s", runs && runs[0] ? runs : "runs", spec->name, hex);
}

/* ---- what is in the folder ------------------------------------------------------------------- */

static enum rp_status refuse_other_spec(const struct rp_start *start, struct rp_error *err)
{
    char *path = rp_sys_join(start->run, "resolved.yaml");
    struct rp_spec *before = NULL;
    struct rp_text lines = {0};
    struct rp_error ignored = {0};
    if (rp_spec_load(path, &(struct rp_spec_options){0}, &before, &ignored) == RP_STATUS_OK)
        rp_spec_differences(before, start->spec, RP_SECTION_NUMERIC, &lines);
    enum rp_status status = rp_error_set(err, RP_STATUS_USAGE,
                                         "%s holds a run of another spec:\n%sgive this one its own "
                                         "folder (--out DIR), replace that run (--fresh), or "
                                         "go on from its weights in a new spec with\n"
                                         "  model:\n    init_from: {run: %s, load: all}",
                                         start->run, rp_text_get(&lines), start->run);
    rp_text_release(&lines);
    rp_spec_free(before);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_start_look(struct rp_start *start, bool *finished, struct rp_error *err)
{
    char hex[RP_SHA256_HEX];
    *finished = false;
    start->spec_digest = rp_spec_digest(start->spec, RP_SECTION_NUMERIC);
    rp_sha256_hex(&start->spec_digest, hex);
    RP_TRY(rp_manifest_read(start->run, &start->found, &start->manifest, err));
    if (start->options->fresh) start->found = false;
    if (!start->found) return RP_STATUS_OK;
    const char *before = rp_facts_text(&start->manifest, "digests", "numeric_unbound");
    if (!before || strcmp(before, hex) != 0) return refuse_other_spec(start, err);
    const char *status = rp_facts_text(&start->manifest, NULL, "status");
    *finished = status && strcmp(status, "finished") == 0;
    return RP_STATUS_OK;
}

/* ---- what needs no folder -------------------------------------------------------------------- */

static void show_hashing(const char *what, double fraction)
{
    rp_log_progress("%s: %.0f %%", what, 100 * fraction);
}

static enum rp_status check_numeric(const struct rp_start *start, struct rp_error *err)
{
    char hex[RP_SHA256_HEX];
    const char *before = rp_facts_text(&start->manifest, "digests", "numeric");
    rp_sha256_hex(&start->numeric, hex);
    if (!start->found || (before && strcmp(before, hex) == 0)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "the data or initial weights are not those that the run in %s began with "
                        "(numeric digest %.16s then, %.16s now); "
                        "`reprise show %s --json` has the hashes. Restore the files, or start anew "
                        "with --out DIR or --fresh",
                        start->run, before ? before : "?", hex, start->run);
}

static enum rp_status open_data(struct rp_start *start, struct rp_error *err)
{
    const struct rp_stop stop = {rp_ranks_stop_asked, &start->comm};
    struct rp_data_known *known = NULL;
    int n_known = start->found ? rp_facts_known_data(&start->manifest, &known) : 0;
    struct rp_data_options options = {.known = known,
                                      .n_known = n_known,
                                      .rehash = start->options->rehash,
                                      .progress = show_hashing,
                                      .stop = &stop};
    enum rp_status status = rp_data_open(start->spec, &options, &start->data, err);
    rp_log_progress_clear();
    rp_mem_free(known);
    return status;
}

/* A lock holds the hashes of the data too. So does a run that is repeated: there the first step
 * that differs decides, and this says why. */
static enum rp_status check_data(const struct rp_start *start, struct rp_error *err)
{
    if (start->options->recorded) {
        if (rp_facts_check_data(start->options->recorded_data, start->data,
                                "what follows is on other data", err) != RP_STATUS_OK)
            rp_log_warning("%s", err->text);
        rp_error_clear(err);
        return RP_STATUS_OK;
    }
    const struct rp_data_file *found = NULL;
    int n = rp_data_files(start->data, &found);
    struct rp_env_file *files = RP_NEW_ARRAY(struct rp_env_file, n + 1);
    for (int i = 0; i < n; i++)
        files[i] = (struct rp_env_file){found[i].key, found[i].size, found[i].sha256};
    enum rp_status status = rp_env_check_data(start->spec, files, n, err);
    rp_mem_free(files);
    return status;
}

static enum rp_status check_environment(struct rp_start *start, struct rp_error *err)
{
    const struct rp_train_options *options = start->options;
    if (!options->recorded)
        return rp_env_check(start->spec, start->environment, options->allow_drift, &start->drift,
                            err);
    json_t *lock = json_pack("{s:O}", "environment", options->recorded);
    enum rp_status status =
        rp_env_check_against(start->spec, options->recorded_in, lock, start->environment,
                             options->allow_drift, &start->drift, err);
    json_decref(lock);
    return status;
}

/* A GPU's memory is another than the machine's; the CPU's is in the plan's first sum. */
static enum rp_status check_device_memory(const struct rp_start *start, struct rp_error *err)
{
    struct rp_device_facts facts;
    start->device->table->facts(start->device, &facts);
    if (facts.memory == 0) return RP_STATUS_OK;
    return rp_plan_check_device_memory(start->plan, facts.memory_free, err);
}

/* Memory that initial weights may take until they are loaded: what the plan leaves free beside the
 * ranks of this host. None where a checkpoint will be loaded instead. */
static uint64_t room_for_weights(const struct rp_start *start)
{
    uint64_t *steps = NULL, limit = rp_sys_memory_limit();
    uint64_t here = start->world.local_ranks > 1 ? (uint64_t)start->world.local_ranks : 1;
    int n = 0;
    if (start->found && rp_checkpoint_list_all(start->run, &steps, &n, NULL) != RP_STATUS_OK) n = 0;
    rp_mem_free(steps);
    if (n > 0 || limit / here <= start->plan->memory_bytes) return 0;
    return limit - here * start->plan->memory_bytes;
}

/* Rank 0's, whatever number of ranks will have them. */
static enum rp_status read_weights(struct rp_start *start, struct rp_error *err)
{
    const struct rp_stop stop = {rp_ranks_stop_asked, &start->comm};
    return rp_weights_read(start->spec, room_for_weights(start), &stop, &start->weights, err);
}

enum rp_status rp_start_prepare(struct rp_start *start, struct rp_error *err)
{
    int threads = rp_ranks_threads(start);
    bool reads_weights = start->world.rank == 0;
    struct rp_env_device_options device = {.threads = threads,
                                           .gpu = start->world.local_rank,
                                           .no_graph =
                                               start->options->no_graph || start->options->profile};
    RP_TRY(rp_env_open_device(start->spec, &device, &start->device, err));
    RP_TRY(rp_comm_choose(&start->comm, &start->world, start->spec->resources.comm, start->device,
                          err));
    rp_env_begin(); /* hashes the program and its modules while the data is read */
    RP_TRY(open_data(start, err));
    RP_TRY(check_data(start, err));
    RP_TRY(rp_plan_make_for(start->spec, rp_data_shape(start->data), threads, start->world.n_ranks,
                            start->device->table, &start->plan, err));
    if (rp_comm_is_one_host(&start->world)) rp_plan_share_host(start->plan, start->spec);
    if (reads_weights) RP_TRY(rp_train_check_weights(start->spec, start->plan->model, err));
    RP_TRY(rp_plan_check_memory(start->plan, err));
    RP_TRY(check_device_memory(start, err));
    if (reads_weights) RP_TRY(read_weights(start, err));
    start->alike = rp_plan_numeric_digest(start->spec, start->data, NULL);
    start->numeric = rp_plan_numeric_digest(start->spec, start->data,
                                            start->weights.given ? &start->weights.hash : NULL);
    RP_TRY(check_numeric(start, err));
    start->environment = rp_env_probe_on(start->spec, threads, start->device);
    return check_environment(start, err);
}

/* ---- the folder ------------------------------------------------------------------------------ */

static enum rp_status clear_folder(const struct rp_start *start, struct rp_error *err)
{
    static const char *const ours[] = {"manifest.json", "spec.yaml",     "overrides.txt",
                                       "resolved.yaml", "metrics.jsonl", "digests.jsonl",
                                       "checkpoints",   "logs"};
    for (size_t i = 0; i < RP_COUNT(ours); i++) {
        char *path = rp_sys_join(start->run, ours[i]);
        enum rp_status status = rp_sys_remove(path, err);
        rp_mem_free(path);
        RP_TRY(status);
    }
    return RP_STATUS_OK;
}

static enum rp_status write_text(const struct rp_start *start, const char *name, const char *bytes,
                                 size_t length, struct rp_error *err)
{
    char *path = rp_sys_join(start->run, name);
    enum rp_status status = rp_sys_write_file(path, bytes, length, err);
    rp_mem_free(path);
    return status;
}

static enum rp_status write_spec(const struct rp_start *start, struct rp_error *err)
{
    struct rp_text resolved = {0}, overrides = {0};
    enum rp_status status = RP_STATUS_OK;
    rp_spec_resolved(start->spec, &resolved);
    for (const char *const *set = start->options->set; set && *set; set++)
        rp_text_add(&overrides, "%s\n", *set);
    RP_TRY_GOTO(status,
                write_text(start, "spec.yaml", start->spec->bytes, start->spec->n_bytes, err), out);
    if (overrides.length)
        RP_TRY_GOTO(status,
                    write_text(start, "overrides.txt", overrides.bytes, overrides.length, err),
                    out);
    status = write_text(start, "resolved.yaml", rp_text_get(&resolved), resolved.length, err);
out:
    rp_text_release(&overrides);
    rp_text_release(&resolved);
    return status;
}

static enum rp_status open_log(struct rp_start *start, struct rp_error *err)
{
    char *folder = rp_sys_join(start->run, "logs"), *path = rp_sys_join(folder, "rank-00000.txt");
    enum rp_status status = rp_sys_make_folder(folder, err);
    if (status == RP_STATUS_OK) status = rp_sys_open_append(path, &start->log_fd, err);
    if (status == RP_STATUS_OK) rp_log_to_file(start->log_fd);
    rp_mem_free(path);
    rp_mem_free(folder);
    return status;
}

/* With drift allowed, what was recorded beyond the checkpoint is not compared with. */
static enum rp_status open_record(struct rp_start *start, struct rp_error *err)
{
    const struct rp_checkpoint_state *state = &start->origin.state;
    RP_TRY(rp_record_open(start->run, state->metrics_bytes, state->digests_bytes,
                          start->origin.restored ? &state->chain : NULL, &start->record, err));
    if (!start->options->allow_drift && start->spec->determinism != RP_TIER_FAST)
        return RP_STATUS_OK;
    return rp_record_forget(start->record, err);
}

/* Memory that another process took after the plan was checked: the same table says what for. */
static enum rp_status with_table(const struct rp_start *start, enum rp_status status,
                                 struct rp_error *err)
{
    if (status != RP_STATUS_MEMORY) return status;
    struct rp_text text = {0};
    rp_text_add(&text, "%s\n", err->text);
    rp_plan_print_memory(start->plan, &text);
    rp_error_clear(err);
    status = rp_error_set(err, RP_STATUS_MEMORY, "%.*s", (int)text.length - 1, rp_text_get(&text));
    rp_text_release(&text);
    return status;
}

enum rp_status rp_start_open_trainer(struct rp_start *start, struct rp_error *err)
{
    enum rp_status status =
        rp_trainer_open(start->spec, start->plan, start->data, start->device,
                        start->comm.n_ranks > 1 ? &start->comm : NULL, &start->trainer, err);
    if (status == RP_STATUS_OK) start->trainer->weights = &start->weights;
    return with_table(start, status, err);
}

enum rp_status rp_start_take(struct rp_start *start, struct rp_error *err)
{
    bool finished = false;
    RP_TRY(rp_hold_take(start->run, &start->hold, err));
    if (start->options->fresh) RP_TRY(clear_folder(start, err));
    rp_manifest_release(&start->manifest); /* somebody may have gone on with it before we took it */
    RP_TRY(rp_start_look(start, &finished, err));
    if (!start->found) rp_manifest_begin(start->run, &start->manifest);
    RP_TRY(open_log(start, err));
    return rp_start_open_trainer(start, err);
}

enum rp_status rp_start_begin(struct rp_start *start, struct rp_error *err)
{
    RP_TRY(rp_weights_begin(start->trainer, start->run, UINT64_MAX, &start->origin, err));
    if (!start->found) {
        rp_facts_describe(start);
        RP_TRY(write_spec(start, err));
    }
    rp_facts_begin(start, start->origin.state.step);
    RP_TRY(rp_manifest_write(&start->manifest, err));
    RP_TRY(open_record(start, err));
    return rp_saver_open(start->trainer, start->run, &start->manifest, start->record, &start->saver,
                         err);
}

enum rp_status rp_start_connect(struct rp_start *start, struct rp_error *err)
{
    if (start->connected) return RP_STATUS_OK;
    start->connected = true;
    RP_TRY(rp_comm_connect(&start->comm, err));
    enum rp_status status = rp_comm_reserve(&start->comm, start->plan->owners.incoming, err);
    return with_table(start, status, err);
}

enum rp_status rp_start_lead(struct rp_start *start, struct rp_error *err)
{
    RP_TRY(rp_start_connect(start, err));
    RP_TRY(rp_facts_connected(start, err));
    RP_TRY(rp_start_begin(start, err));
    rp_comm_settle(&start->comm);
    return RP_STATUS_OK;
}

enum rp_status rp_start_follow(struct rp_start *start, struct rp_error *err)
{
    RP_TRY(rp_start_open_trainer(start, err));
    RP_TRY(rp_start_connect(start, err));
    RP_TRY(rp_weights_begin(start->trainer, start->run, UINT64_MAX, &start->origin, err));
    rp_comm_settle(&start->comm);
    return rp_saver_open(start->trainer, start->run, NULL, NULL, &start->saver, err);
}

void rp_start_close(struct rp_start *start)
{
    rp_saver_close(start->saver);
    rp_profile_free(start->profile);
    rp_record_close(start->record);
    rp_trainer_close(start->trainer);
    rp_log_to_file(-1);
    rp_sys_close(start->log_fd);
    rp_hold_release(start->hold);
    rp_env_close_device(start->device);
    rp_weights_release(&start->weights);
    rp_plan_free(start->plan);
    rp_data_free(start->data);
    json_decref(start->drift);
    json_decref(start->environment);
    rp_manifest_release(&start->manifest);
    rp_mem_free(start->run);
}
