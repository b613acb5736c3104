/* load.c - finding checkpoints, and believing one only after every hash has been seen. */
#include "checkpoint/checkpoint_int.h"

#include "base/log.h"
#include "base/sys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- which there are ------------------------------------------------------------------------- */

static int compare_steps(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Steps that have a folder, ascending; with `committed` only those that hold the marker. */
static enum rp_status list_steps(const char *run, bool committed, uint64_t **steps, int *n,
                                 struct rp_error *err)
{
    char *root = rp_checkpoint_root(run), **names = NULL;
    enum rp_status status = rp_sys_list(root, &names, err);
    size_t count = 0;
    *steps = NULL;
    *n = 0;
    if (status != RP_STATUS_OK) goto out;
    while (names[count]) count++;
    *steps = RP_NEW_ARRAY(uint64_t, count + 1);
    for (size_t i = 0; i < count; i++) {
        uint64_t step;
        struct rp_sys_stat stat = {0};
        if (!rp_checkpoint_step_of(names[i], &step)) continue;
        char *marker = rp_mem_text("%s/%s/" RP_CHECKPOINT_COMMITTED, root, names[i]);
        bool known = rp_sys_stat(marker, &stat, NULL) == RP_STATUS_OK && stat.is_file;
        rp_mem_free(marker);
        if (known || !committed) (*steps)[(*n)++] = step;
    }
    qsort(*steps, (size_t)*n, sizeof **steps, compare_steps);
out:
    rp_sys_free_names(names);
    rp_mem_free(root);
    return status;
}

enum rp_status rp_checkpoint_list(const char *run, uint64_t **steps, int *n, struct rp_error *err)
{
    return list_steps(run, true, steps, n, err);
}

enum rp_status rp_checkpoint_list_all(const char *run, uint64_t **steps, int *n,
                                      struct rp_error *err)
{
    return list_steps(run, false, steps, n, err);
}

enum rp_status rp_checkpoint_read_state(const char *run, uint64_t step,
                                        struct rp_checkpoint_state *state, struct rp_error *err)
{
    struct rp_checkpoint_hashes hashes;
    char *folder = rp_checkpoint_folder(run, step);
    enum rp_status status = rp_checkpoint_open_state(folder, state, &hashes, err);
    rp_checkpoint_hashes_release(&hashes);
    rp_mem_free(folder);
    return status;
}

enum rp_status rp_checkpoint_read_tensors_hash(const char *run, uint64_t step,
                                               struct rp_sha256 *tensors_hash, struct rp_error *err)
{
    struct rp_checkpoint_hashes hashes;
    struct rp_checkpoint_state state;
    char *folder = rp_checkpoint_folder(run, step);
    enum rp_status status = rp_checkpoint_open_state(folder, &state, &hashes, err);
    if (status == RP_STATUS_OK) *tensors_hash = hashes.tensors;
    rp_checkpoint_hashes_release(&hashes);
    rp_mem_free(folder);
    return status;
}

/* ---- loading --------------------------------------------------------------------------------- */

static struct rp_sha256 *hash_each(const struct rp_st_file *file)
{
    struct rp_sha256 *hashes = RP_NEW_ARRAY(struct rp_sha256, file->n + 1);
    for (int i = 0; i < file->n; i++)
        hashes[i] =
            rp_sha256_of(file->tensor[i].shape.data, rp_tensor_bytes(&file->tensor[i].shape));
    return hashes;
}

static struct rp_sha256 hash_tensors(const struct rp_st_file *model,
                                     const struct rp_st_file *optimizer)
{
    struct rp_sha256 *first = hash_each(model), *second = hash_each(optimizer);
    struct rp_sha256 joined = rp_checkpoint_join_hashes(first, model->n, second, optimizer->n);
    rp_mem_free(second);
    rp_mem_free(first);
    return joined;
}

static enum rp_status load_folder(const char *folder, uint64_t step,
                                  struct rp_checkpoint *checkpoint, struct rp_error *err)
{
    struct rp_checkpoint_hashes hashes;
    *checkpoint = (struct rp_checkpoint){0};
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_checkpoint_open_state(folder, &checkpoint->state, &hashes, err), out);
    if (checkpoint->state.step != step) {
        status = rp_error_set(err, RP_STATUS_DATA, "%s holds step %" PRIu64, folder,
                              checkpoint->state.step);
        goto out;
    }
    RP_TRY_GOTO(status,
                rp_checkpoint_read_files(folder, &hashes, RP_CHECKPOINT_OF_MODEL, NULL,
                                         &checkpoint->model, err),
                out);
    RP_TRY_GOTO(status,
                rp_checkpoint_read_files(folder, &hashes, RP_CHECKPOINT_OF_OPTIMIZER, NULL,
                                         &checkpoint->optimizer, err),
                out);
    checkpoint->tensors_hash = hash_tensors(&checkpoint->model, &checkpoint->optimizer);
    if (!rp_sha256_equal(&checkpoint->tensors_hash, &hashes.tensors))
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s: tensors have not the hash that " RP_CHECKPOINT_STATE " gives",
                              folder);
out:
    rp_checkpoint_hashes_release(&hashes);
    if (status != RP_STATUS_OK) rp_checkpoint_release(checkpoint);
    return status;
}

/* A run that goes on prunes while we read: what has gone in the meantime is not damaged. */
static bool has_gone(const char *folder)
{
    struct rp_sys_stat stat;
    return rp_sys_stat(folder, &stat, NULL) == RP_STATUS_OK && !stat.exists;
}

void rp_checkpoint_warn_damaged(const char *run, uint64_t step, const char *why)
{
    char *folder = rp_checkpoint_folder(run, step);
    if (!has_gone(folder)) rp_log_warning("a damaged checkpoint is not used: %s", why);
    rp_mem_free(folder);
}

enum rp_status rp_checkpoint_none_usable(const char *run, int n, struct rp_error *err)
{
    return rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                        "%s/checkpoints: no usable checkpoint (%d damaged); restore the folder, or "
                        "start again with --fresh",
                        run, n);
}

/* Loads one step; a damaged one is named and says `*usable` false. */
static enum rp_status try_step(const char *run, uint64_t step, bool *usable,
                               struct rp_checkpoint *checkpoint, struct rp_error *err)
{
    struct rp_error why = {0};
    char *folder = rp_checkpoint_folder(run, step);
    enum rp_status status = load_folder(folder, step, checkpoint, &why);
    *usable = status == RP_STATUS_OK;
    if (status == RP_STATUS_DATA || status == RP_STATUS_STORAGE) {
        rp_checkpoint_warn_damaged(run, step, why.text);
        status = RP_STATUS_OK;
    } else if (status != RP_STATUS_OK) {
        status = rp_error_set(err, status, "%s", why.text);
    }
    rp_mem_free(folder);
    return status;
}

enum rp_status rp_checkpoint_load(const char *run, uint64_t step, bool *found,
                                  struct rp_checkpoint *checkpoint, struct rp_error *err)
{
    uint64_t *steps = NULL;
    int n = 0, tried = 0;
    *found = false;
    *checkpoint = (struct rp_checkpoint){0};
    enum rp_status status = list_steps(run, false, &steps, &n, err);
    for (int i = n - 1; i >= 0 && !*found && status == RP_STATUS_OK; i--) {
        if (step != UINT64_MAX && steps[i] != step) continue;
        tried++;
        status = try_step(run, steps[i], found, checkpoint, err);
    }
    if (status == RP_STATUS_OK && tried && !*found)
        status = rp_checkpoint_none_usable(run, tried, err);
    rp_mem_free(steps);
    return status;
}

void rp_checkpoint_release(struct rp_checkpoint *checkpoint)
{
    rp_st_release(&checkpoint->model);
    rp_st_release(&checkpoint->optimizer);
}

/* ---- verify ---------------------------------------------------------------------------------- */

enum rp_status rp_checkpoint_verify(const char *run, struct rp_text *report, int *n_good,
                                    int *n_bad, struct rp_error *err)
{
    uint64_t *steps = NULL;
    int n = 0;
    *n_good = *n_bad = 0;
    enum rp_status status = list_steps(run, false, &steps, &n, err);
    for (int i = 0; i < n && status == RP_STATUS_OK; i++) {
        struct rp_checkpoint checkpoint;
        struct rp_error why = {0};
        char *folder = rp_checkpoint_folder(run, steps[i]);
        enum rp_status one = load_folder(folder, steps[i], &checkpoint, &why);
        if (one == RP_STATUS_MEMORY) {
            status = rp_error_set(err, one, "%s", why.text);
        } else if (one != RP_STATUS_OK && !has_gone(folder)) {
            rp_text_add(report, "%s\n", why.text);
            ++*n_bad;
        } else if (one == RP_STATUS_OK) {
            ++*n_good;
        }
        rp_checkpoint_release(&checkpoint);
        rp_mem_free(folder);
    }
    rp_mem_free(steps);
    return status;
}
