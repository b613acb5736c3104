/* save.c - a save is written beside its place under another name and exists once it has been
 * renamed. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- names ----------------------------------------------------------------------------------- */

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

/* ---- saving ---------------------------------------------------------------------------------- */

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

void rp_checkpoint_file_name(enum rp_checkpoint_kind kind, int shard, int n_shards,
                             char name[RP_CHECKPOINT_NAME_BYTES])
{
    const char *what = kind == RP_CHECKPOINT_OF_MODEL ? "model" : "optimizer";
    if (n_shards > 1)
        snprintf(name, RP_CHECKPOINT_NAME_BYTES, "%s-%05d-of-%05d.safetensors", what, shard + 1,
                 n_shards);
    else
        snprintf(name, RP_CHECKPOINT_NAME_BYTES, "%s.safetensors", what);
}

void rp_checkpoint_metadata(uint64_t step, char step_text[24], const char *metadata[7])
{
    /* `format: pt` says how the axes lie (outputs first); some readers insist on it. */
    static const char *const known[] = {"format", "pt", "writer", "reprise", "step"};
    snprintf(step_text, 24, "%" PRIu64, step);
    memcpy(metadata, known, sizeof known);
    metadata[5] = step_text;
    metadata[6] = NULL;
}

static enum rp_status write_tensors(const char *folder, const struct rp_checkpoint_content *content,
                                    enum rp_checkpoint_kind kind, struct rp_sha256 *tensor_hash,
                                    struct rp_checkpoint_file *file, struct rp_error *err)
{
    bool model = kind == RP_CHECKPOINT_OF_MODEL;
    char name[RP_CHECKPOINT_NAME_BYTES], step_text[24];
    const char *metadata[7];
    struct rp_sys_stat stat;
    rp_checkpoint_file_name(kind, content->shard, content->n_shards, name);
    rp_checkpoint_metadata(content->state.step, step_text, metadata);
    char *path = rp_sys_join(folder, name);
    enum rp_status status = rp_st_write(path, model ? content->model : content->optimizer,
                                        model ? content->n_model : content->n_optimizer,
                                        content->source, metadata, tensor_hash, &file->hash, err);
    if (status == RP_STATUS_OK) status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK) file->bytes = stat.size;
    rp_mem_free(path);
    return status;
}

/* state.json and the marker, each synced, and the folder that lists all files. */
static enum rp_status write_state(const char *folder, const struct rp_checkpoint_state *state,
                                  const struct rp_checkpoint_hashes *hashes, struct rp_error *err)
{
    struct rp_text text = {0};
    char hex[RP_SHA256_HEX + 1];
    enum rp_status status = RP_STATUS_OK;
    rp_checkpoint_write_state(state, hashes, &text);
    RP_TRY_GOTO(status, write_small(folder, RP_CHECKPOINT_STATE, text.bytes, text.length, err),
                out);
    struct rp_sha256 hash = rp_sha256_of(text.bytes, text.length);
    rp_sha256_hex(&hash, hex);
    memcpy(hex + RP_SHA256_HEX - 1, "\n", 2);
    RP_TRY_GOTO(status, write_small(folder, RP_CHECKPOINT_COMMITTED, hex, strlen(hex), err), out);
    status = rp_sys_sync_folder(folder, err);
out:
    rp_text_release(&text);
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

/* ---- the parts of a save --------------------------------------------------------------------- */

enum rp_status rp_checkpoint_begin(const char *run, uint64_t step, struct rp_error *err)
{
    char *root = rp_checkpoint_root(run), *saving = folder_with_prefix(run, SAVING, step);
    enum rp_status status = rp_sys_make_folder(root, err);
    if (status == RP_STATUS_OK) status = rp_sys_remove(saving, err);
    if (status == RP_STATUS_OK) status = rp_sys_make_folder(saving, err);
    rp_mem_free(saving);
    rp_mem_free(root);
    return status;
}

enum rp_status rp_checkpoint_write_shard(const char *run,
                                         const struct rp_checkpoint_content *content,
                                         struct rp_checkpoint_shard *shard, struct rp_error *err)
{
    char *saving = folder_with_prefix(run, SAVING, content->state.step);
    shard->tensor = RP_NEW_ARRAY(struct rp_sha256, content->n_model + content->n_optimizer + 1);
    enum rp_status status = rp_sys_make_folder(saving, err); /* made on another host: seen now */
    if (status == RP_STATUS_OK)
        status = write_tensors(saving, content, RP_CHECKPOINT_OF_MODEL, shard->tensor,
                               &shard->model, err);
    if (status == RP_STATUS_OK)
        status = write_tensors(saving, content, RP_CHECKPOINT_OF_OPTIMIZER,
                               shard->tensor + content->n_model, &shard->optimizer, err);
    rp_mem_free(saving);
    return status;
}

/* Which shard each tensor lies in, and its hash, in order; `next` counts what has been taken of
 * each shard's. */
static struct rp_sha256 *take_entries(const struct rp_checkpoint_entry *all, int n,
                                      const struct rp_checkpoint_shard *shards, int *next,
                                      struct rp_checkpoint_files *files)
{
    struct rp_sha256 *tensor = RP_NEW_ARRAY(struct rp_sha256, n + 1);
    files->shard_of = RP_NEW_ARRAY(int, n + 1);
    files->n_tensors = n;
    for (int i = 0; i < n; i++) {
        int shard = files->shard_of[i] = all[i].shard;
        tensor[i] = shards[shard].tensor[next[shard]++];
    }
    return tensor;
}

static void join_shards(const struct rp_checkpoint_content *content,
                        const struct rp_checkpoint_shard *shards,
                        struct rp_checkpoint_hashes *hashes)
{
    int next[RP_CHECKPOINT_MAX_SHARDS] = {0};
    hashes->n_shards = content->n_shards > 1 ? content->n_shards : 1;
    for (int r = 0; r < hashes->n_shards; r++) {
        hashes->kind[0].shard[r] = shards[r].model;
        hashes->kind[1].shard[r] = shards[r].optimizer;
    }
    if (hashes->n_shards == 1) {
        hashes->tensors =
            rp_checkpoint_join_hashes(shards->tensor, content->n_model,
                                      shards->tensor + content->n_model, content->n_optimizer);
        return;
    }
    struct rp_sha256 *model =
        take_entries(content->all_model, content->n_all_model, shards, next, &hashes->kind[0]);
    struct rp_sha256 *optimizer = take_entries(content->all_optimizer, content->n_all_optimizer,
                                               shards, next, &hashes->kind[1]);
    hashes->tensors =
        rp_checkpoint_join_hashes(model, content->n_all_model, optimizer, content->n_all_optimizer);
    rp_mem_free(optimizer);
    rp_mem_free(model);
}

/* Which file holds which tensor, in the form that others read. */
static enum rp_status write_index(const char *folder, const struct rp_checkpoint_content *content,
                                  struct rp_checkpoint_file *index, struct rp_error *err)
{
    struct rp_text text = {0};
    uint64_t bytes = 0;
    for (int i = 0; i < content->n_all_model; i++) bytes += content->all_model[i].bytes;
    rp_text_add(&text, "{\"metadata\": {\"total_size\": %" PRIu64 "}, \"weight_map\": {", bytes);
    for (int i = 0; i < content->n_all_model; i++) {
        char name[RP_CHECKPOINT_NAME_BYTES];
        rp_checkpoint_file_name(RP_CHECKPOINT_OF_MODEL, content->all_model[i].shard,
                                content->n_shards, name);
        rp_text_add(&text, "%s\n  ", i ? "," : "");
        rp_text_add_json(&text, content->all_model[i].name);
        rp_text_add(&text, ": \"%s\"", name);
    }
    rp_text_add(&text, "}}\n");
    index->hash = rp_sha256_of(text.bytes, text.length);
    index->bytes = text.length;
    enum rp_status status = write_small(folder, RP_CHECKPOINT_INDEX, text.bytes, text.length, err);
    rp_text_release(&text);
    return status;
}

enum rp_status rp_checkpoint_commit(const char *run, const struct rp_checkpoint_content *content,
                                    const struct rp_checkpoint_shard *shards,
                                    struct rp_sha256 *tensors_hash, struct rp_error *err)
{
    uint64_t step = content->state.step;
    char *root = rp_checkpoint_root(run), *saving = folder_with_prefix(run, SAVING, step);
    struct rp_checkpoint_hashes hashes = {0};
    enum rp_status status = RP_STATUS_OK;
    join_shards(content, shards, &hashes);
    if (hashes.n_shards > 1)
        RP_TRY_GOTO(status, write_index(saving, content, &hashes.index, err), out);
    RP_TRY_GOTO(status, write_state(saving, &content->state, &hashes, err), out);
    if (content->before_commit)
        RP_TRY_GOTO(status, content->before_commit(content->context, err), out);
    status = commit(run, root, saving, step, err);
    if (status == RP_STATUS_OK && tensors_hash) *tensors_hash = hashes.tensors;
out:
    rp_checkpoint_hashes_release(&hashes);
    rp_mem_free(saving);
    rp_mem_free(root);
    return status;
}

enum rp_status rp_checkpoint_save(const char *run, const struct rp_checkpoint_content *content,
                                  struct rp_sha256 *tensors_hash, struct rp_error *err)
{
    struct rp_checkpoint_shard shard = {0};
    enum rp_status status = rp_checkpoint_begin(run, content->state.step, err);
    if (status == RP_STATUS_OK) status = rp_checkpoint_write_shard(run, content, &shard, err);
    if (status == RP_STATUS_OK)
        status = rp_checkpoint_commit(run, content, &shard, tensors_hash, err);
    if (status != RP_STATUS_OK) rp_checkpoint_abandon(run, content->state.step);
    rp_mem_free(shard.tensor);
    return status;
}

/* The cause is told already; what cannot be removed now goes with the next prune. */
void rp_checkpoint_abandon(const char *run, uint64_t step)
{
    char *saving = folder_with_prefix(run, SAVING, step);
    enum rp_status ignored = rp_sys_remove(saving, NULL);
    (void)ignored;
    rp_mem_free(saving);
}
