/* checkpoint.h - safetensors files, and the folders under checkpoints/ that exist only when
 * committed.
 *
 * Order of a save (DESIGN 4): tensor files; state.json; fsync of each; rename of the folder; fsync
 * of the parent. A damaged checkpoint is skipped with a message and never loaded. */
#ifndef RP_CHECKPOINT_H
#define RP_CHECKPOINT_H

#include "base/hash.h"
#include "base/mem.h"
#include "op.h"

struct json_t;

/* ---- safetensors ------------------------------------------------------------------------------
 */

struct rp_st_tensor {
    char name[112];
    struct rp_tensor
        shape; /* dtype F32 (others refused on reading); data: host memory, see below */
};
/* Gives the bytes of tensors that do not lie in memory as a file has them. take() is called for
 * each tensor in turn, and what it returns is read until the next call; with NULL when the last
 * tensor of the file has been read, before the file is synced. */
struct rp_st_source {
    const void *(*take)(void *context, const struct rp_st_tensor *tensor);
    void *context;
};
/* Writes tensors in the order given, from their data or from `source` (may be NULL), with
 * `metadata` (name, value pairs, NULL-terminated; may be NULL). Fills `tensor_hash[i]` with the
 * SHA-256 of each tensor's bytes and `file_hash` (either may be NULL); fsyncs. STORAGE when it
 * cannot be written; what was written of it stays for the caller to remove. */
RP_NODISCARD enum rp_status rp_st_write(const char *path, const struct rp_st_tensor *tensors, int n,
                                        const struct rp_st_source *source,
                                        const char *const *metadata, struct rp_sha256 *tensor_hash,
                                        struct rp_sha256 *file_hash, struct rp_error *err);
/* Reads the whole file; each tensor's data points into memory owned by `*file` and lies on at least
 * 4 bytes. Every offset, size and overlap is checked before memory is taken; a damaged file is
 * `status`. Names are at most 111 bytes, tensors at most 6 dimensions, dtype F32. */
struct rp_st_file {
    struct rp_st_tensor *tensor;
    int n;
    void *block;
    uint64_t bytes;
    struct rp_sha256 file_hash;
};
RP_NODISCARD enum rp_status rp_st_read(const char *path, enum rp_status status,
                                       struct rp_st_file *file, struct rp_error *err);
const struct rp_st_tensor *rp_st_find(const struct rp_st_file *file, const char *name);
void rp_st_release(struct rp_st_file *file);

/* ---- a checkpoint -----------------------------------------------------------------------------
 */

/* What state.json holds beside hashes. */
struct rp_checkpoint_state {
    uint64_t step; /* steps done */
    uint64_t t;    /* of the optimizer */
    double beta1_power, beta2_power;
    struct rp_sha256 chain; /* of digests.jsonl at this step */
    uint64_t params_digest;
    uint64_t metrics_bytes, digests_bytes; /* lengths of both logs */
    bool has_best;
    double best_value; /* of keep.best's metric */
    uint64_t best_step;
    bool has_watched;
    double watched_value;    /* early stop: best value of its metric so far */
    uint64_t bad_evals;      /* early stop: evaluations without improvement */
    double seconds;          /* of training so far */
    uint64_t evaluated_step; /* last step after which an evaluation was completed and recorded */
};

/* Everything one save needs; host memory, file layout already applied, or `source`. Not owned. */
struct rp_checkpoint_content {
    struct rp_checkpoint_state state;
    const struct rp_st_tensor *model;
    int n_model;
    const struct rp_st_tensor *optimizer;
    int n_optimizer;
    const struct rp_st_source *source; /* of both files, model first; NULL: the tensors' data */
    /* Asked when all is on disk, right before the rename that makes it real; NULL: nothing to ask.
     * rp_manifest_check is meant to be called here: what is no longer the newest commits nothing.
     */
    enum rp_status (*before_commit)(void *context, struct rp_error *err);
    void *context;
};
/* Writes RUN/checkpoints/step-%08llu and commits it. On failure earlier checkpoints are as they
 * were and nothing of this one is left. May be called from a thread of its own; one save of a run
 * at a time. `tensors_hash` gets SHA-256 over the hashes of every tensor, model then optimizer, in
 * order: what `final` is made of. */
RP_NODISCARD enum rp_status rp_checkpoint_save(const char *run,
                                               const struct rp_checkpoint_content *content,
                                               struct rp_sha256 *tensors_hash,
                                               struct rp_error *err);

struct rp_checkpoint {
    struct rp_checkpoint_state state;
    struct rp_st_file model, optimizer;
    struct rp_sha256 tensors_hash;
};
/* The newest that verifies (or the one at `step`, when not UINT64_MAX), every hash checked; damaged
 * ones are named by rp_log_warning and skipped. NO_CHECKPOINT when there were some and none is
 * usable;
 * `*found` false when there is none at all. */
RP_NODISCARD enum rp_status rp_checkpoint_load(const char *run, uint64_t step, bool *found,
                                               struct rp_checkpoint *checkpoint,
                                               struct rp_error *err);
void rp_checkpoint_release(struct rp_checkpoint *checkpoint);

/* Steps of the committed checkpoints, ascending; caller frees with rp_mem_free. */
RP_NODISCARD enum rp_status rp_checkpoint_list(const char *run, uint64_t **steps, int *n,
                                               struct rp_error *err);
/* Reads state.json only. */
RP_NODISCARD enum rp_status rp_checkpoint_read_state(const char *run, uint64_t step,
                                                     struct rp_checkpoint_state *state,
                                                     struct rp_error *err);

/* The hash over every tensor that state.json gives: rp_checkpoint_save's `tensors_hash`. */
RP_NODISCARD enum rp_status rp_checkpoint_read_tensors_hash(const char *run, uint64_t step,
                                                            struct rp_sha256 *tensors_hash,
                                                            struct rp_error *err);

/* keep: removes what the policy does not keep (never the newest, never `best_step`) and leftovers
 * of interrupted saves. keep_every in steps, 0: none; keep_last negative: all. Not while a save is
 * under way. */
RP_NODISCARD enum rp_status rp_checkpoint_prune(const char *run, int64_t keep_last,
                                                uint64_t keep_every, bool has_best,
                                                uint64_t best_step, struct rp_error *err);
/* Every hash of every checkpoint; one line per damaged one into `report`. */
RP_NODISCARD enum rp_status rp_checkpoint_verify(const char *run, struct rp_text *report,
                                                 int *n_good, int *n_bad, struct rp_error *err);

#endif
