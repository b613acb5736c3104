/* save.c - a save is written beside its place under another name and exists once it has been
 * renamed. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- names ------------------------------------------------------------------------------------
 */

#define STEP_PREFIX "step-"
/* Folders on their way in or out. */
#define SAVING   "saving-"
#define REMOVING "removing-"

char *rp_checkpoint_root(const char *run)
{
    return rp_sys_join(run, "checkpoints");
}

static char *folder_with_prefix(const char *run, const char *prefix, uint64_t step)
{
    char *root = rp_checkpoint_root(run);
    char *path = rp_mem_text("%s/%s" STEP_PREFIX "%08" PRIu64, root, prefix, step);
    rp_mem_free(root);
    return path;
}

char *rp_checkpoint_folder(const char *run, uint64_t step)
{
    return folder_with_prefix(run, "", step);
}

bool rp_checkpoint_step_of(const char *name, uint64_t *step)
{
    if (strncmp(name, STEP_PREFIX, strlen(STEP_PREFIX)) != 0) return false;
    const char *digits = name + strlen(STEP_PREFIX);
    size_t n = strlen(digits);
    if (n < 8 || n > 19 || strspn(digits, "0123456789") != n) return false;
    *step = 0;
    for (; *digits; digits++) *step = *step * 10 + (uint64_t)(*digits - '0');
    return true;
}

bool rp_checkpoint_is_leftover(const char *name)
{
    return strncmp(name, SAVING, strlen(SAVING)) == 0 ||
           strncmp(name, REMOVING, strlen(REMOVING)) == 0;
}

/* ---- saving -----------------------------------------------------------------------------------
 */

struct rp_sha256 rp_checkpoint_join_hashes(const struct rp_sha256 *model, int n_model,
                                           const struct rp_sha256 *optimizer, int n_optimizer)
{
    struct rp_hasher *hasher = rp_hasher_new();
    for (int i = 0; i < n_model; i++) rp_hasher_add(hasher, model[i].bytes, RP_SHA256_BYTES);
    for (int i = 0; i < n_optimizer; i++)
        rp_hasher_add(hasher, optimizer[i].bytes, RP_SHA256_BYTES);
    struct rp_sha256 hash = rp_hasher_finish(hasher);
    rp_hasher_free(hasher);
    return hash;
}

static enum rp_status write_small(const char *folder, const char *name, const char *bytes,
                                  size_t length, struct rp_error *err)
{
    char *path = rp_sys_join(folder, name);
    int fd = -1;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_sys_create(path, &fd, err), out);
    RP_TRY_GOTO(status, rp_sys_write(fd, bytes, length, path, err), out);
    status = rp_sys_sync(fd, path, err);
out:
    rp_sys_close(fd);
    rp_mem_free(path);
    return status;
}

static enum rp_status write_tensors(const char *folder, const char *name,
                                    const struct rp_st_tensor *tensors, int n,
                                    const struct rp_st_source *source, uint64_t step,
                                    struct rp_sha256 *tensor_hash, struct rp_sha256 *file_hash,
                                    uint64_t *bytes, struct rp_error *err)
{
    char *path = rp_sys_join(folder, name), step_text[24];
    struct rp_sys_stat stat;
    snprintf(step_text, sizeof step_text, "%" PRIu64, step);
    /* `format: pt` says how the axes lie (outputs first); some readers insist on it. */
    const char *const metadata[] = {"format", "pt", "writer", "reprise", "step", step_text, NULL};
    enum rp_status status =
        rp_st_write(path, tensors, n, source, metadata, tensor_hash, file_hash, err);
    if (status == RP_STATUS_OK) status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK) *bytes = stat.size;
    rp_mem_free(path);
    return status;
}

/* All files of the checkpoint, each synced, and the folder that lists them. */
static enum rp_status write_files(const char *folder, const struct rp_checkpoint_content *content,
                                  struct rp_checkpoint_hashes *hashes, struct rp_error *err)
{
    struct rp_sha256 *model = RP_NEW_ARRAY(struct rp_sha256, content->n_model + 1);
    struct rp_sha256 *optimizer = RP_NEW_ARRAY(struct rp_sha256, content->n_optimizer + 1);
    struct rp_text text = {0};
    char hex[RP_SHA256_HEX + 1];
    enum rp_status status = RP_STATUS_OK;

    RP_TRY_GOTO(status,
                write_tensors(folder, RP_CHECKPOINT_MODEL, content->model, content->n_model,
                              content->source, content->state.step, model, &hashes->model,
                              &hashes->model_bytes, err),
                out);
    RP_TRY_GOTO(status,
                write_tensors(folder, RP_CHECKPOINT_OPTIMIZER, content->optimizer,
                              content->n_optimizer, content->source, content->state.step, optimizer,
                              &hashes->optimizer, &hashes->optimizer_bytes, err),
                out);
    hashes->tensors =
        rp_checkpoint_join_hashes(model, content->n_model, optimizer, content->n_optimizer);
    rp_checkpoint_write_state(&content->state, hashes, &text);
    RP_TRY_GOTO(status, write_small(folder, RP_CHECKPOINT_STATE, text.bytes, text.length, err),
                out);
    struct rp_sha256 hash = rp_sha256_of(text.bytes, text.length);
    rp_sha256_hex(&hash, hex);
    memcpy(hex + RP_SHA256_HEX - 1, "\n", 2);
    RP_TRY_GOTO(status, write_small(folder, RP_CHECKPOINT_COMMITTED, hex, strlen(hex), err), out);
    status = rp_sys_sync_folder(folder, err);
out:
    rp_text_release(&text);
    rp_mem_free(optimizer);
    rp_mem_free(model);
    return status;
}

/* The rename, and the folder's entry on disk. A checkpoint of the same step is there when it was
 * found damaged and its steps were computed again; it makes room under another name, for a folder
 * with something in it cannot be renamed over. */
static enum rp_status commit(const char *run, const char *root, const char *saving, uint64_t step,
                             struct rp_error *err)
{
    char *place = rp_checkpoint_folder(run, step), *old = folder_with_prefix(run, REMOVING, step);
    struct rp_sys_stat stat;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, rp_sys_stat(place, &stat, err), out);
    if (stat.exists) {
        RP_TRY_GOTO(status, rp_sys_remove(old, err), out);
        RP_TRY_GOTO(status, rp_sys_rename(place, old, err), out);
    }
    RP_TRY_GOTO(status, rp_sys_rename(saving, place, err), out);
    RP_TRY_GOTO(status, rp_sys_sync_folder(root, err), out);
    if (stat.exists) status = rp_sys_remove(old, err);
out:
    rp_mem_free(old);
    rp_mem_free(place);
    return status;
}

enum rp_status rp_checkpoint_save(const char *run, const struct rp_checkpoint_content *content,
                                  struct rp_sha256 *tensors_hash, struct rp_error *err)
{
    uint64_t step = content->state.step;
    char *root = rp_checkpoint_root(run), *saving = folder_with_prefix(run, SAVING, step);
    struct rp_checkpoint_hashes hashes = {0};
    enum rp_status status = RP_STATUS_OK;

    RP_TRY_GOTO(status, rp_sys_make_folder(root, err), out);
    RP_TRY_GOTO(status, rp_sys_remove(saving, err), out);
    RP_TRY_GOTO(status, rp_sys_make_folder(saving, err), out);
    RP_TRY_GOTO(status, write_files(saving, content, &hashes, err), out);
    if (content->before_commit)
        RP_TRY_GOTO(status, content->before_commit(content->context, err), out);
    status = commit(run, root, saving, step, err);
    if (status == RP_STATUS_OK && tensors_hash) *tensors_hash = hashes.tensors;
out:
    /* The cause is in `err` already; what cannot be removed now goes with the next prune. */
    if (status != RP_STATUS_OK) {
        enum rp_status removal = rp_sys_remove(saving, NULL);
        (void)removal;
    }
    rp_mem_free(saving);
    rp_mem_free(root);
    return status;
}
