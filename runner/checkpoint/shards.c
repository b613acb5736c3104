/* shards.c - the files of a checkpoint as one list of tensors: two files of a single rank, or two
 * of each of several. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <string.h>

static enum rp_status read_one(const char *folder, const char *name,
                               const struct rp_checkpoint_file *known, const struct rp_stop *stop,
                               struct rp_st_file *file, struct rp_error *err)
{
    char *path = rp_sys_join(folder, name);
    enum rp_status status = rp_st_read_until(path, RP_STATUS_DATA, stop, file, err);
    if (status == RP_STATUS_OK &&
        (file->bytes != known->bytes || !rp_sha256_equal(&file->file_hash, &known->hash)))
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s has not the hash that " RP_CHECKPOINT_STATE " gives", path);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_checkpoint_check_index(const char *folder, const struct rp_checkpoint_file *known,
                                         struct rp_error *err)
{
    char *path = rp_sys_join(folder, RP_CHECKPOINT_INDEX);
    struct rp_sha256 hash;
    enum rp_status status = rp_sha256_of_file(path, &hash, NULL, err);
    if (status == RP_STATUS_OK && !rp_sha256_equal(&hash, &known->hash))
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s has not the hash that " RP_CHECKPOINT_STATE " gives", path);
    rp_mem_free(path);
    return status;
}

/* The tensors of all shards in the order of a single rank. */
static enum rp_status merge(const char *folder, const struct rp_checkpoint_files *files,
                            struct rp_st_file *whole, struct rp_error *err)
{
    int next[RP_CHECKPOINT_MAX_SHARDS] = {0};
    bool fits = true;
    whole->tensor = RP_NEW_ARRAY(struct rp_st_tensor, files->n_tensors + 1);
    for (int i = 0; i < files->n_tensors && fits; i++) {
        int r = files->shard_of[i];
        fits = next[r] < whole->shard[r].n;
        if (fits) whole->tensor[whole->n++] = whole->shard[r].tensor[next[r]++];
    }
    for (int r = 0; r < whole->n_shards; r++) fits = fits && next[r] == whole->shard[r].n;
    if (fits) return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_DATA,
        "%s: its shards hold other tensors than `order` in " RP_CHECKPOINT_STATE " says", folder);
}

enum rp_status rp_checkpoint_read_files(const char *folder,
                                        const struct rp_checkpoint_hashes *hashes,
                                        enum rp_checkpoint_kind kind, const struct rp_stop *stop,
                                        struct rp_st_file *file, struct rp_error *err)
{
    const struct rp_checkpoint_files *files = &hashes->kind[kind];
    char name[RP_CHECKPOINT_NAME_BYTES];
    enum rp_status status = RP_STATUS_OK;
    *file = (struct rp_st_file){0};
    rp_checkpoint_file_name(kind, 0, 1, name);
    if (hashes->n_shards == 1) return read_one(folder, name, &files->shard[0], stop, file, err);
    file->shard = RP_NEW_ARRAY(struct rp_st_file, hashes->n_shards);
    file->n_shards = hashes->n_shards;
    for (int r = 0; r < hashes->n_shards; r++) {
        rp_checkpoint_file_name(kind, r, hashes->n_shards, name);
        RP_TRY_GOTO(status, read_one(folder, name, &files->shard[r], stop, &file->shard[r], err),
                    out);
    }
    RP_TRY_GOTO(status, merge(folder, files, file, err), out);
    if (kind == RP_CHECKPOINT_OF_MODEL)
        status = rp_checkpoint_check_index(folder, &hashes->index, err);
out:
    if (status != RP_STATUS_OK) rp_st_release(file);
    return status;
}

/* ---- one kind alone -------------------------------------------------------------------------- */

/* The file of a single rank, or NULL when there are shards instead. */
static char *single_file(const char *folder, enum rp_checkpoint_kind kind)
{
    char name[RP_CHECKPOINT_NAME_BYTES];
    struct rp_sys_stat index;
    char *shards = rp_sys_join(folder, RP_CHECKPOINT_INDEX);
    bool sharded = rp_sys_stat(shards, &index, NULL) == RP_STATUS_OK && index.exists;
    rp_checkpoint_file_name(kind, 0, 1, name);
    rp_mem_free(shards);
    return sharded ? NULL : rp_sys_join(folder, name);
}

static enum rp_status read_shards(const char *folder, enum rp_checkpoint_kind kind,
                                  const struct rp_stop *stop, struct rp_st_file *file,
                                  uint64_t *step, struct rp_error *err)
{
    struct rp_checkpoint_state state = {0};
    struct rp_checkpoint_hashes hashes;
    enum rp_status status = rp_checkpoint_open_state(folder, &state, &hashes, err);
    if (status == RP_STATUS_OK)
        status = rp_checkpoint_read_files(folder, &hashes, kind, stop, file, err);
    *step = state.step;
    rp_checkpoint_hashes_release(&hashes);
    return status;
}

/* As a single rank would have written it. */
static enum rp_status hash_joined(const struct rp_st_file *file, uint64_t step,
                                  struct rp_sha256 *hash, struct rp_error *err)
{
    char step_text[24];
    const char *metadata[7];
    rp_checkpoint_metadata(step, step_text, metadata);
    return rp_st_write(NULL, file->tensor, file->n, NULL, metadata, NULL, hash, err);
}

enum rp_status rp_checkpoint_read_kind(const char *folder, enum rp_checkpoint_kind kind,
                                       const struct rp_stop *stop, struct rp_st_file *file,
                                       struct rp_sha256 *hash, struct rp_error *err)
{
    uint64_t step = 0;
    char *path = single_file(folder, kind);
    enum rp_status status = path ? rp_st_read_until(path, RP_STATUS_DATA, stop, file, err)
                                 : read_shards(folder, kind, stop, file, &step, err);
    if (status == RP_STATUS_OK && hash && path) *hash = file->file_hash;
    if (status == RP_STATUS_OK && hash && !path) status = hash_joined(file, step, hash, err);
    if (status != RP_STATUS_OK) rp_st_release(file);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_checkpoint_hash_kind(const char *folder, enum rp_checkpoint_kind kind,
                                       const struct rp_stop *stop, struct rp_sha256 *hash,
                                       struct rp_error *err)
{
    struct rp_st_file file = {0};
    char *path = single_file(folder, kind);
    enum rp_status status = path ? rp_sha256_of_file_until(path, stop, hash, err)
                                 : rp_checkpoint_read_kind(folder, kind, stop, &file, hash, err);
    rp_st_release(&file);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_checkpoint_bytes_of_kind(const char *folder, enum rp_checkpoint_kind kind,
                                           uint64_t *bytes, struct rp_error *err)
{
    struct rp_checkpoint_state state = {0};
    struct rp_checkpoint_hashes hashes = {0};
    struct rp_sys_stat stat = {0};
    char *path = single_file(folder, kind);
    enum rp_status status = path ? rp_sys_stat(path, &stat, err)
                                 : rp_checkpoint_open_state(folder, &state, &hashes, err);
    *bytes = stat.size;
    for (int r = 0; r < hashes.n_shards && status == RP_STATUS_OK; r++)
        *bytes += hashes.kind[kind].shard[r].bytes;
    rp_checkpoint_hashes_release(&hashes);
    rp_mem_free(path);
    return status;
}
