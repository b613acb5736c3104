/* checkpoint.h - safetensors files, and the folders under checkpoints/ that exist only when
 * committed.
 *
 * Order of a save (DESIGN 4): tensor files; state.json; fsync of each; rename of the folder; fsync
 * of the parent. A damaged checkpoint is skipped with a message and never loaded.
 *
 * Several ranks write one checkpoint together: each whole tensors, to files of its own
 * (model-00002-of-00004.safetensors). Whoever reads it gets the tensors in the order and with the
 * hashes that they have in the two files of a single rank, whatever the number of ranks. */
#ifndef RP_CHECKPOINT_H
#define RP_CHECKPOINT_H

#include "base/hash.h"
#include "base/mem.h"
#include "op.h"

struct json_t;
struct rp_st_header;

/* ---- safetensors ----------------------------------------------------------------------------- */

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
 * cannot be written; what was written of it stays for the caller to remove. With path NULL nothing
 * is written, and the hashes are those of the file that would have been. */
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
    struct rp_st_file *shard; /* (n_shards) the files that it was put together from, or NULL */
    int n_shards;
};
RP_NODISCARD enum rp_status rp_st_read(const char *path, enum rp_status status,
                                       struct rp_st_file *file, struct rp_error *err);
/* The same; STOPPED when `stop` (may be NULL) says so meanwhile. */
RP_NODISCARD enum rp_status rp_st_read_until(const char *path, enum rp_status status,
                                             const struct rp_stop *stop, struct rp_st_file *file,
                                             struct rp_error *err);
const struct rp_st_tensor *rp_st_find(const struct rp_st_file *file, const char *name);
void rp_st_release(struct rp_st_file *file);

/* ---- safetensors, tensor by tensor ----------------------------------------------------------- */

/* A tensor of an open set, in F32, F16 or BF16, all of which become binary32 exactly. */
struct rp_st_entry {
    char name[112];
    const char *dtype; /* "BF16" */
    int n_dims;
    int64_t dims[RP_MAX_DIMS];
    int file;     /* of the set */
    uint64_t row; /* of that file's header */
};
/* A folder's weights: model.safetensors, or the shards of model.safetensors.index.json, in the
 * order of their names. */
struct rp_st_set {
    struct rp_st_header *file; /* private */
    int n_files;
    struct rp_st_entry *entry;
    int n;
};
/* `damaged` when a shard or a tensor of the index is missing, or a file is damaged. */
RP_NODISCARD enum rp_status rp_st_set_open(const char *folder, enum rp_status damaged,
                                           struct rp_st_set *set, struct rp_error *err);
void rp_st_set_close(struct rp_st_set *set); /* safe twice */
const struct rp_st_entry *rp_st_set_find(const struct rp_st_set *set, const char *name);
int64_t rp_st_entry_elements(const struct rp_st_entry *entry);
/* All values of a tensor, as binary32; `damaged` when its dtype is none of the three. */
RP_NODISCARD enum rp_status rp_st_set_read(const struct rp_st_set *set,
                                           const struct rp_st_entry *entry, enum rp_status damaged,
                                           float *values, struct rp_error *err);
/* SHA-256 over the bytes of the files, one after another in the order of their names: what
 * `cat FOLDER/model*.safetensors | sha256sum` prints. With `hold` they stay in memory, and are what
 * rp_st_set_read gives from then on; where there is no memory for them they do not. STOPPED when
 * `stop` (may be NULL) says so. */
RP_NODISCARD enum rp_status rp_st_set_hash(struct rp_st_set *set, bool hold,
                                           const struct rp_stop *stop, struct rp_sha256 *hash,
                                           struct rp_error *err);
uint64_t rp_st_set_bytes(const struct rp_st_set *set); /* of all files */

/* ---- Hugging Face folders: config.json beside the weights ------------------------------------ */

/* What both sides must agree on, in the words of the spec's `model`. */
struct rp_hf_shape {
    int64_t layers, heads, kv_heads, width, context, vocab, mlp_width;
    const char *mlp, *norm, *position; /* gelu | gelu_tanh | swiglu; layernorm | rmsnorm; ... */
    double norm_eps, rope_base;
    bool bias, tied, qk_norm;
};
/* The families of models that are known: qwen3 is llama with qk_norm. */
enum rp_hf_kind { RP_HF_GPT2, RP_HF_LLAMA, RP_HF_QWEN3 };
struct rp_hf {
    char *folder; /* owned */
    enum rp_hf_kind kind;
    struct rp_hf_shape shape; /* of the folder */
    bool spec_bias;           /* false: biases of the folder must all be zero (rp_hf_compare) */
    struct rp_st_set weights;
};
/* DATA when something is missing or damaged, or the model has no equal here. */
RP_NODISCARD enum rp_status rp_hf_open(const char *folder, struct rp_hf *hf, struct rp_error *err);
void rp_hf_close(struct rp_hf *hf); /* safe twice */
/* A line to write under `model` for each key of `spec` that must be another; returns how many. A
 * shorter context is no difference: of learned positions the first rows are taken. */
int rp_hf_compare(struct rp_hf *hf, const struct rp_hf_shape *spec, struct rp_text *lines);
/* The tensors of a model (no data) against those of the folder: DATA when one is missing, has
 * another shape, or has no place. skip[i]: the folder need not have tensor i. */
RP_NODISCARD enum rp_status rp_hf_check(const struct rp_hf *hf, const struct rp_st_tensor *tensors,
                                        const bool *skip, int n, struct rp_error *err);
/* The values of a tensor that rp_hf_check has passed. */
RP_NODISCARD enum rp_status rp_hf_load(const struct rp_hf *hf, const struct rp_st_tensor *tensor,
                                       float *values, struct rp_error *err);

/* Which family holds such a model; USAGE, naming the key that none of them has. */
RP_NODISCARD enum rp_status rp_hf_choose(const struct rp_hf_shape *shape, enum rp_hf_kind *kind,
                                         struct rp_error *err);
/* Writes config.json, generation_config.json and model.safetensors into a folder that is there.
 * `end_of_text`: the token that ends a text, -1: none. */
RP_NODISCARD enum rp_status rp_hf_write(const char *folder, enum rp_hf_kind kind,
                                        const struct rp_hf_shape *shape,
                                        const struct rp_st_tensor *tensors, int n,
                                        int64_t end_of_text, struct rp_error *err);

/* ---- a checkpoint ---------------------------------------------------------------------------- */

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

enum { RP_CHECKPOINT_MAX_SHARDS = 64 };
/* A tensor of a checkpoint that several ranks write. */
struct rp_checkpoint_entry {
    const char *name;
    uint64_t bytes;
    int shard; /* the rank that has it */
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
    /* Of several ranks: model and optimizer are this one's, and the entries tell all tensors in the
     * order of a single rank, in which this one's are too. */
    int shard, n_shards; /* 0 of 0: a single rank */
    const struct rp_checkpoint_entry *all_model, *all_optimizer;
    int n_all_model, n_all_optimizer;
};
/* Writes RUN/checkpoints/step-%08llu and commits it. On failure earlier checkpoints are as they
 * were and nothing of this one is left. May be called from a thread of its own; one save of a run
 * at a time. `tensors_hash` gets SHA-256 over the hashes of every tensor, model then optimizer, in
 * order: what `final` is made of. */
RP_NODISCARD enum rp_status rp_checkpoint_save(const char *run,
                                               const struct rp_checkpoint_content *content,
                                               struct rp_sha256 *tensors_hash,
                                               struct rp_error *err);

/* The three parts of a save by several ranks. First one rank makes an empty folder to write to;
 * then all write; then that one rank, which has what the others say of their files, commits. */
struct rp_checkpoint_shard {
    struct rp_checkpoint_file {
        struct rp_sha256 hash;
        uint64_t bytes;
    } model, optimizer;
    struct rp_sha256 *tensor; /* model, then optimizer, in the order of content; the caller's */
};
RP_NODISCARD enum rp_status rp_checkpoint_begin(const char *run, uint64_t step,
                                                struct rp_error *err);
RP_NODISCARD enum rp_status rp_checkpoint_write_shard(const char *run,
                                                      const struct rp_checkpoint_content *content,
                                                      struct rp_checkpoint_shard *shard,
                                                      struct rp_error *err);
/* shards (n_shards). */
RP_NODISCARD enum rp_status rp_checkpoint_commit(const char *run,
                                                 const struct rp_checkpoint_content *content,
                                                 const struct rp_checkpoint_shard *shards,
                                                 struct rp_sha256 *tensors_hash,
                                                 struct rp_error *err);
/* Removes what there is of a save that failed. */
void rp_checkpoint_abandon(const char *run, uint64_t step);

/* One kind of tensors of a committed checkpoint in its folder, checked by its own hashes only, as
 * model.init_from reads it, with the SHA-256 of its file, of shards that of the one file that they
 * stand for (`hash` may be NULL); and that hash alone. STOPPED when `stop` (may be NULL) says so.
 */
enum rp_checkpoint_kind { RP_CHECKPOINT_OF_MODEL, RP_CHECKPOINT_OF_OPTIMIZER };
RP_NODISCARD enum rp_status rp_checkpoint_read_kind(const char *folder,
                                                    enum rp_checkpoint_kind kind,
                                                    const struct rp_stop *stop,
                                                    struct rp_st_file *file, struct rp_sha256 *hash,
                                                    struct rp_error *err);
RP_NODISCARD enum rp_status rp_checkpoint_hash_kind(const char *folder,
                                                    enum rp_checkpoint_kind kind,
                                                    const struct rp_stop *stop,
                                                    struct rp_sha256 *hash, struct rp_error *err);
/* Bytes of the files of a kind. */
RP_NODISCARD enum rp_status rp_checkpoint_bytes_of_kind(const char *folder,
                                                        enum rp_checkpoint_kind kind,
                                                        uint64_t *bytes, struct rp_error *err);

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

/* ---- a checkpoint read by several ranks, each what it keeps (parts.c) ------------------------ */

/* Numbers [first, first + n) of a tensor as its file has it; n is 0 for none of it. */
struct rp_checkpoint_part {
    int64_t first, n;
};
struct rp_checkpoint_reader {
    int rank, n_ranks;
    /* What a rank wants of a tensor (no data): the same on every rank. */
    struct rp_checkpoint_part (*want)(void *context, int rank, enum rp_checkpoint_kind kind,
                                      const struct rp_st_tensor *tensor);
    /* Numbers of what this rank wants, in pieces that follow each other, tensor by tensor. They are
     * not to be believed until everything has been read and the ranks have compared. */
    enum rp_status (*take)(void *context, enum rp_checkpoint_kind kind,
                           const struct rp_st_tensor *tensor, int64_t first, int64_t n,
                           const float *values, struct rp_error *err);
    void *context;
    const struct rp_stop *stop; /* may be NULL */
};
/* By rank: hashes of what was read in parts of files that it has judged, and of what it was seen to
 * read of files that this rank has judged. */
struct rp_checkpoint_proof {
    struct rp_sha256 read[RP_CHECKPOINT_MAX_SHARDS], seen[RP_CHECKPOINT_MAX_SHARDS];
};
struct rp_checkpoint_reading {
    struct rp_checkpoint_state state;
    struct rp_sha256 tensors_hash; /* as state.json has it */
    uint64_t bytes;                /* of tensor files, read here */
    struct rp_checkpoint_proof proof;
};
/* DATA or STORAGE when what this rank reads of it is damaged. What nobody has found damaged and
 * whose proofs agree is whole. */
RP_NODISCARD enum rp_status rp_checkpoint_read(const char *run, uint64_t step,
                                               const struct rp_checkpoint_reader *reader,
                                               struct rp_checkpoint_reading *result,
                                               struct rp_error *err);
/* The proofs of all ranks: false names two that have read different bytes. */
bool rp_checkpoint_proofs_agree(const struct rp_checkpoint_proof *const *proof, int n_ranks,
                                int *judge, int *reader);

/* Steps that have a folder, committed or not, ascending: what rp_checkpoint_load tries from the
 * last one on. Caller frees with rp_mem_free. */
RP_NODISCARD enum rp_status rp_checkpoint_list_all(const char *run, uint64_t **steps, int *n,
                                                   struct rp_error *err);
/* A checkpoint that cannot be used: a warning, unless it has been removed meanwhile. */
void rp_checkpoint_warn_damaged(const char *run, uint64_t step, const char *why);
/* NO_CHECKPOINT: `n` there are, and none can be used. */
RP_NODISCARD enum rp_status rp_checkpoint_none_usable(const char *run, int n, struct rp_error *err);

/* Steps of the committed checkpoints, ascending; caller frees with rp_mem_free. */
RP_NODISCARD enum rp_status rp_checkpoint_list(const char *run, uint64_t **steps, int *n,
                                               struct rp_error *err);
/* The step of the committed checkpoint named best, last or by its number: USAGE or NO_CHECKPOINT,
 * listing those there are, when the run keeps no such one. */
RP_NODISCARD enum rp_status rp_checkpoint_pick(const char *run, const char *at, uint64_t *step,
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
