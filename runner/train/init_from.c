/* init_from.c - initial values from another run's checkpoint, a safetensors file, or a folder of
 * Hugging Face. Rank 0 alone finds, hashes and reads them; the others get them from it, so that
 * much is read once, and need not see the files. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/huggingface.h"
#include "train/tokenizer.h"
#include "train/train_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum rp_status pick_step(const struct rp_spec *spec, const char *run, uint64_t *step,
                                struct rp_error *err)
{
    const char *at = spec->model.init_from.checkpoint ? spec->model.init_from.checkpoint : "last";
    uint64_t *steps = NULL;
    int n = 0;
    enum rp_status status = rp_checkpoint_list(run, &steps, &n, err);
    if (status == RP_STATUS_OK && n == 0)
        status = rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err,
                              "%s has no checkpoint", run);
    if (status == RP_STATUS_OK) {
        *step = steps[n - 1];
        if (strcmp(at, "best") == 0) {
            struct rp_checkpoint_state state;
            status = rp_checkpoint_read_state(run, *step, &state, err);
            if (status == RP_STATUS_OK && state.has_best) *step = state.best_step;
        } else if (strcmp(at, "last") != 0) {
            *step = strtoull(at, NULL, 10);
        }
    }
    rp_mem_free(steps);
    return status;
}

/* What the spec names: the folder of a checkpoint, or, as `path`, a file or a folder of others. The
 * other is NULL; caller frees both. */
static enum rp_status find_weights(const struct rp_spec *spec, char **folder, char **path,
                                   struct rp_error *err)
{
    *folder = *path = NULL;
    if (spec->model.init_from.path) {
        *path = rp_spec_path(spec, spec->model.init_from.path);
        return RP_STATUS_OK;
    }
    uint64_t step = 0;
    char *local = rp_spec_path(spec, spec->model.init_from.run), *run = NULL;
    struct rp_sys_stat stat;
    enum rp_status status = rp_sys_stat(local, &stat, err);
    if (status == RP_STATUS_OK && stat.is_folder)
        run = rp_mem_copy_text(local);
    else if (status == RP_STATUS_OK)
        status = rp_run_find(spec->model.init_from.run, &run, err);
    if (status == RP_STATUS_OK) status = pick_step(spec, run, &step, err);
    if (status == RP_STATUS_OK)
        *folder = rp_mem_text("%s/checkpoints/step-%08llu", run, (unsigned long long)step);
    rp_mem_free(run);
    rp_mem_free(local);
    return status;
}

static enum rp_status is_folder(const char *path, bool *folder, struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(path, &stat, err));
    *folder = stat.is_folder;
    return RP_STATUS_OK;
}

/* Of a file, or of the weight files of a folder. */
static enum rp_status hash_weights(const char *path, struct rp_sha256 *hash, struct rp_error *err)
{
    bool folder = false;
    struct rp_st_set set = {0};
    RP_TRY(is_folder(path, &folder, err));
    if (!folder) return rp_sha256_of_file(path, hash, NULL, err);
    RP_TRY(rp_st_set_open(path, RP_STATUS_DATA, &set, err));
    enum rp_status status = rp_st_set_hash(&set, hash, err);
    rp_st_set_close(&set);
    return status;
}

/* The run that the folder of a checkpoint is of; caller frees it. */
static char *run_of(const char *folder)
{
    char *checkpoints = rp_sys_folder_of(folder), *run = rp_sys_folder_of(checkpoints);
    rp_mem_free(checkpoints);
    return run;
}

enum rp_status rp_train_check_weights(const struct rp_spec *spec, const struct rp_model *model,
                                      struct rp_error *err)
{
    char *folder = NULL, *path = NULL, *run = NULL;
    bool of_others = false;
    struct rp_error ignored = {0};
    enum rp_status status = RP_STATUS_OK;
    if (!spec->model.init_from.given) return RP_STATUS_OK;
    if (find_weights(spec, &folder, &path, &ignored) != RP_STATUS_OK) return RP_STATUS_OK;
    if (path) status = is_folder(path, &of_others, err);
    if (status == RP_STATUS_OK && of_others) status = rp_hf_check_spec(spec, model, path, err);
    if (status == RP_STATUS_OK && folder && spec->model.kind == RP_MODEL_GPT) {
        run = run_of(folder);
        status = rp_tokenizer_check_run(spec, run, err);
    }
    rp_mem_free(run);
    rp_mem_free(path);
    rp_mem_free(folder);
    return status;
}

enum rp_status rp_weights_hash(const struct rp_spec *spec, bool *found, struct rp_sha256 *hash,
                               struct rp_error *err)
{
    char *folder = NULL, *path = NULL;
    *found = spec->model.init_from.given;
    if (!*found) return RP_STATUS_OK;
    enum rp_status status = find_weights(spec, &folder, &path, err);
    if (status == RP_STATUS_OK)
        status = folder ? rp_checkpoint_hash_kind(folder, RP_CHECKPOINT_OF_MODEL, hash, err)
                        : hash_weights(path, hash, err);
    if (status == RP_STATUS_OK && spec->model.init_from.has_sha256 &&
        !rp_sha256_equal(hash, &spec->model.init_from.sha256)) {
        char found_hex[RP_SHA256_HEX];
        rp_sha256_hex(hash, found_hex);
        status = rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err,
                              "%s has SHA-256 %s, not the one in the spec", folder ? folder : path,
                              found_hex);
    }
    if (status == RP_STATUS_OK && spec->model.init_from.load == RP_INIT_LOAD_ALL && folder) {
        /* The optimizer's state changes bits too: both files enter the digest. */
        struct rp_sha256 both[2] = {*hash, {{0}}};
        status = rp_checkpoint_hash_kind(folder, RP_CHECKPOINT_OF_OPTIMIZER, &both[1], err);
        if (status == RP_STATUS_OK) *hash = rp_sha256_of(both, sizeof both);
    }
    rp_mem_free(path);
    rp_mem_free(folder);
    return status;
}

bool rp_weights_skipped(const struct rp_spec *spec, const char *name)
{
    for (int i = 0; i < spec->model.init_from.n_skip; i++)
        if (rp_model_name_matches(spec->model.init_from.skip[i], name)) return true;
    return false;
}

/* From a checkpoint's folder, or the file at `path`. */
static enum rp_status load_tensors(struct rp_trainer *t, const char *folder, const char *path,
                                   struct rp_error *err)
{
    struct rp_st_file file = {0};
    enum rp_status status =
        folder ? rp_checkpoint_read_kind(folder, RP_CHECKPOINT_OF_MODEL, &file, err)
               : rp_st_read(path, RP_STATUS_DATA, &file, err);
    for (int i = 0; i < t->model->n_kept && status == RP_STATUS_OK; i++)
        if (!rp_weights_skipped(t->spec, t->model->kept[i].name))
            status = rp_weights_load(t, &file, t->model->kept[i].name, i, t->kept[i],
                                     RP_STATUS_DATA, err);
    rp_st_release(&file);
    return status;
}

static enum rp_status load_model(struct rp_trainer *t, const char *folder, const char *path,
                                 struct rp_error *err)
{
    bool of_others = false;
    if (path) RP_TRY(is_folder(path, &of_others, err));
    return of_others ? rp_hf_load_model(t, path, err) : load_tensors(t, folder, path, err);
}

/* ---- to the other ranks ---------------------------------------------------------------------- */

/* What rank 0 has in so many bytes of a block, to everybody. */
static enum rp_status share(struct rp_trainer *t, void *block, uint64_t bytes, struct rp_error *err)
{
    uint64_t border[RP_COMM_MAX_RANKS + 1] = {0};
    for (int r = 1; r <= t->comm.n_ranks; r++) border[r] = bytes;
    return rp_comm_gather(&t->comm, block, border, err);
}

/* The own part of a tensor that lies whole on the device. */
static enum rp_status keep_own(struct rp_trainer *t, int i, const void *whole, void *to,
                               struct rp_error *err)
{
    const struct rp_device_table *device = t->device->table;
    size_t bytes = (size_t)t->own[i].n * sizeof(float);
    if (bytes == 0) return RP_STATUS_OK;
    void *values = rp_mem_new(bytes);
    enum rp_status status =
        device->copy_out(t->device, values, (const float *)whole + t->own[i].first, bytes, err);
    if (status == RP_STATUS_OK) status = device->copy_in(t->device, to, values, bytes, err);
    rp_mem_free(values);
    return status;
}

/* A state or average of kept tensor i, to the ranks that own of it: by way of the memory of its
 * gradient, which is free before the first step. `file` is rank 0's. */
static enum rp_status load_state(struct rp_trainer *t, const struct rp_st_file *file,
                                 const char *name, int i, void *to, struct rp_error *err)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    if (t->comm.n_ranks == 1) return rp_weights_load_own(t, file, name, i, to, RP_STATUS_DATA, err);
    void *whole = kept->statistic ? to : t->sums + t->sum_offset[kept->grad_tensor];
    if (t->comm.rank == 0) RP_TRY(rp_weights_load(t, file, name, i, whole, RP_STATUS_DATA, err));
    RP_TRY(share(t, whole, rp_tensor_bytes(&kept->shape), err));
    return kept->statistic ? RP_STATUS_OK : keep_own(t, i, whole, to, err);
}

/* Which averages of train.ema rank 0's file has, by kept tensor: a run without averages has none to
 * go on with. Caller frees. */
static enum rp_status find_averages(struct rp_trainer *t, const struct rp_st_file *file, bool **has,
                                    struct rp_error *err)
{
    size_t n = (size_t)t->model->n_kept;
    bool *mine = RP_NEW_ARRAY(bool, n), *all = RP_NEW_ARRAY(bool, n *(size_t)t->comm.n_ranks);
    for (size_t i = 0; i < n && t->comm.rank == 0; i++) {
        char name[112];
        snprintf(name, sizeof name, "%s.ema", t->model->kept[i].name);
        mine[i] = t->spec->train.ema_decay > 0 && !t->model->kept[i].frozen &&
                  rp_st_find(file, name) != NULL;
    }
    enum rp_status status = rp_comm_agree(&t->comm, mine, n * sizeof *mine, all, err);
    rp_mem_free(mine);
    *has = all;
    return status;
}

static enum rp_status load_states(struct rp_trainer *t, const struct rp_st_file *file,
                                  const bool *has_average, struct rp_error *err)
{
    for (int i = 0; i < t->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &t->model->kept[i];
        char name[112];
        const char *names[2];
        if (rp_weights_skipped(t->spec, kept->name)) continue;
        int n = rp_model_is_trained(kept)
                    ? rp_optim_states(t->spec, rp_plan_optim_kind(kept), names)
                    : 0;
        for (int s = 0; s < n; s++) {
            snprintf(name, sizeof name, "%s.%s", kept->name, names[s]);
            RP_TRY(load_state(t, file, name, i, t->state[s][i], err));
        }
        snprintf(name, sizeof name, "%s.ema", kept->name);
        if (has_average[i]) RP_TRY(load_state(t, file, name, i, t->average[i], err));
    }
    return RP_STATUS_OK;
}

static enum rp_status load_optimizer(struct rp_trainer *t, const char *folder, struct rp_error *err)
{
    struct rp_st_file file = {0};
    bool *has_average = NULL;
    enum rp_status status = RP_STATUS_OK;
    if (t->comm.rank == 0)
        status = rp_checkpoint_read_kind(folder, RP_CHECKPOINT_OF_OPTIMIZER, &file, err);
    if (status == RP_STATUS_OK) status = find_averages(t, &file, &has_average, err);
    if (status == RP_STATUS_OK) status = load_states(t, &file, has_average, err);
    rp_mem_free(has_average);
    rp_st_release(&file);
    return status;
}

/* load: all goes on with the optimizer's time too, from the state beside its file. */
static enum rp_status load_time(struct rp_trainer *t, const char *folder, struct rp_error *err)
{
    struct rp_optim_state mine = {0}, all[RP_COMM_MAX_RANKS];
    if (t->comm.rank == 0) {
        char *run = run_of(folder);
        struct rp_checkpoint_state state = {0};
        uint64_t step = strtoull(strrchr(folder, '-') + 1, NULL, 10);
        enum rp_status status = rp_checkpoint_read_state(run, step, &state, err);
        rp_mem_free(run);
        RP_TRY(status);
        mine = (struct rp_optim_state){
            .t = state.t, .beta1_power = state.beta1_power, .beta2_power = state.beta2_power};
    }
    RP_TRY(rp_comm_agree(&t->comm, &mine, sizeof mine, all, err));
    t->optim = all[0];
    return RP_STATUS_OK;
}

/* Rank 0's part: the weights, and where the rest is; NULL where there is no more (`path`). */
static enum rp_status read_weights(struct rp_trainer *t, char **folder, struct rp_error *err)
{
    char *path = NULL;
    enum rp_status status = find_weights(t->spec, folder, &path, err);
    if (status == RP_STATUS_OK) status = load_model(t, *folder, path, err);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_weights_init_from(struct rp_trainer *t, struct rp_error *err)
{
    char *folder = NULL;
    enum rp_status status = RP_STATUS_OK;
    if (!t->spec->model.init_from.given) return status;
    if (t->comm.rank == 0) status = read_weights(t, &folder, err);
    if (status == RP_STATUS_OK) status = share(t, t->kept_block, t->plan->owners.kept_bytes, err);
    if (status == RP_STATUS_OK) status = rp_weights_begin_averages(t, err);
    if (status == RP_STATUS_OK && t->spec->model.init_from.load == RP_INIT_LOAD_ALL) {
        status = load_optimizer(t, folder, err);
        if (status == RP_STATUS_OK) status = load_time(t, folder, err);
    }
    rp_mem_free(folder);
    return status;
}
