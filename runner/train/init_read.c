/* init_read.c - initial values (model.init_from) on rank 0: which files they are, and what is in
 * them. They are read once, hashed on the way, and held until they are loaded: what is trained on
 * is what was hashed. Where memory is short they are hashed first and read again. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/huggingface.h"
#include "train/tokenizer.h"

#include <string.h>

/* ---- which files ----------------------------------------------------------------------------- */

static enum rp_status pick_step(const struct rp_spec *spec, const char *run, uint64_t *step,
                                struct rp_error *err)
{
    const char *at = spec->model.init_from.checkpoint ? spec->model.init_from.checkpoint : "last";
    struct rp_error why = {0};
    if (rp_checkpoint_pick(run, at, step, &why) == RP_STATUS_OK) return RP_STATUS_OK;
    return rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err, "%s", why.text);
}

static enum rp_status is_folder(const struct rp_spec *spec, const char *path, bool *folder,
                                struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists)
        return rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err,
                            "there is no %s: no file and no folder", path);
    *folder = stat.is_folder;
    return RP_STATUS_OK;
}

/* A folder beside the spec, or a run as it is named elsewhere. */
static enum rp_status find_run(const struct rp_spec *spec, char **run, struct rp_error *err)
{
    struct rp_sys_stat stat;
    struct rp_error why = {0};
    *run = rp_spec_path(spec, spec->model.init_from.run);
    RP_TRY(rp_sys_stat(*run, &stat, err));
    if (stat.is_folder) return RP_STATUS_OK;
    rp_mem_free(*run);
    if (rp_run_find(spec->model.init_from.run, run, &why) == RP_STATUS_OK) return RP_STATUS_OK;
    return rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err, "%s", why.text);
}

enum rp_status rp_weights_find(const struct rp_spec *spec, struct rp_weights_found *found,
                               struct rp_error *err)
{
    *found = (struct rp_weights_found){.given = spec->model.init_from.given};
    if (!found->given) return RP_STATUS_OK;
    if (spec->model.init_from.path) {
        found->path = rp_spec_path(spec, spec->model.init_from.path);
        return is_folder(spec, found->path, &found->of_others, err);
    }
    uint64_t step = 0;
    char *run = NULL;
    enum rp_status status = find_run(spec, &run, err);
    if (status == RP_STATUS_OK) status = pick_step(spec, run, &step, err);
    if (status == RP_STATUS_OK)
        found->folder = rp_mem_text("%s/checkpoints/step-%08llu", run, (unsigned long long)step);
    rp_mem_free(run);
    return status;
}

void rp_weights_release(struct rp_weights_found *found)
{
    rp_hf_close(&found->hf);
    rp_st_release(&found->optimizer);
    rp_st_release(&found->model);
    rp_mem_free(found->path);
    rp_mem_free(found->folder);
    *found = (struct rp_weights_found){0};
}

char *rp_weights_run(const struct rp_weights_found *found)
{
    char *checkpoints = rp_sys_folder_of(found->folder), *run = rp_sys_folder_of(checkpoints);
    rp_mem_free(checkpoints);
    return run;
}

enum rp_status rp_train_check_weights(const struct rp_spec *spec, const struct rp_model *model,
                                      struct rp_error *err)
{
    struct rp_weights_found found;
    struct rp_error ignored = {0};
    enum rp_status status = RP_STATUS_OK;
    if (rp_weights_find(spec, &found, &ignored) != RP_STATUS_OK) goto out;
    if (found.of_others) status = rp_hf_check_spec(spec, model, found.path, err);
    if (found.folder && spec->model.kind == RP_MODEL_GPT) {
        char *run = rp_weights_run(&found);
        status = rp_tokenizer_check_run(spec, run, err);
        rp_mem_free(run);
    }
out:
    rp_weights_release(&found);
    return status;
}

/* ---- what is in them ------------------------------------------------------------------------- */

static enum rp_status count_bytes(const struct rp_weights_found *found, bool all, uint64_t *bytes,
                                  struct rp_error *err)
{
    uint64_t more = 0;
    struct rp_sys_stat stat = {0};
    *bytes = 0;
    if (found->of_others) {
        *bytes = rp_st_set_bytes(&found->hf.weights);
        return RP_STATUS_OK;
    }
    if (found->path) {
        RP_TRY(rp_sys_stat(found->path, &stat, err));
        *bytes = stat.size;
        return RP_STATUS_OK;
    }
    RP_TRY(rp_checkpoint_bytes_of_kind(found->folder, RP_CHECKPOINT_OF_MODEL, bytes, err));
    if (all)
        RP_TRY(rp_checkpoint_bytes_of_kind(found->folder, RP_CHECKPOINT_OF_OPTIMIZER, &more, err));
    *bytes += more;
    return RP_STATUS_OK;
}

static enum rp_status read_kind(const struct rp_weights_found *found, enum rp_checkpoint_kind kind,
                                const struct rp_stop *stop, struct rp_st_file *file,
                                struct rp_sha256 *hash, struct rp_error *err)
{
    return found->held ? rp_checkpoint_read_kind(found->folder, kind, stop, file, hash, err)
                       : rp_checkpoint_hash_kind(found->folder, kind, stop, hash, err);
}

/* Of the model's file, or of the weight files of a folder. */
static enum rp_status read_model(struct rp_weights_found *found, const struct rp_stop *stop,
                                 struct rp_error *err)
{
    if (found->folder)
        return read_kind(found, RP_CHECKPOINT_OF_MODEL, stop, &found->model, &found->hash, err);
    if (found->of_others)
        return rp_st_set_hash(&found->hf.weights, found->held, stop, &found->hash, err);
    if (!found->held) return rp_sha256_of_file_until(found->path, stop, &found->hash, err);
    RP_TRY(rp_st_read_until(found->path, RP_STATUS_DATA, stop, &found->model, err));
    found->hash = found->model.file_hash;
    return RP_STATUS_OK;
}

static enum rp_status check_hash(const struct rp_spec *spec, const struct rp_weights_found *found,
                                 struct rp_error *err)
{
    char hex[RP_SHA256_HEX];
    if (!spec->model.init_from.has_sha256 ||
        rp_sha256_equal(&found->hash, &spec->model.init_from.sha256))
        return RP_STATUS_OK;
    rp_sha256_hex(&found->hash, hex);
    return rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err,
                        "%s has SHA-256 %s, not the one in the spec",
                        found->folder ? found->folder : found->path, hex);
}

enum rp_status rp_weights_read(const struct rp_spec *spec, uint64_t room,
                               const struct rp_stop *stop, struct rp_weights_found *found,
                               struct rp_error *err)
{
    uint64_t bytes = 0;
    RP_TRY(rp_weights_find(spec, found, err));
    if (!found->given) return RP_STATUS_OK;
    bool all = spec->model.init_from.load == RP_INIT_LOAD_ALL && found->folder;
    if (found->of_others) RP_TRY(rp_hf_open(found->path, &found->hf, err));
    RP_TRY(count_bytes(found, all, &bytes, err));
    found->held = bytes <= room;
    RP_TRY(read_model(found, stop, err));
    RP_TRY(check_hash(spec, found, err));
    if (!all) return RP_STATUS_OK;
    /* The optimizer's state changes bits too: both files enter the digest. */
    struct rp_sha256 both[2] = {found->hash, {{0}}};
    RP_TRY(read_kind(found, RP_CHECKPOINT_OF_OPTIMIZER, stop, &found->optimizer, &both[1], err));
    found->hash = rp_sha256_of(both, sizeof both);
    return RP_STATUS_OK;
}
