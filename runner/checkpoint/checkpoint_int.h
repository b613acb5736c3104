/* checkpoint_int.h - private to checkpoint/: names in a run folder, state.json, the header of a
 * safetensors file. */
#ifndef RP_CHECKPOINT_INT_H
#define RP_CHECKPOINT_INT_H

#include "checkpoint/checkpoint.h"

/* ---- safetensors_header.c -------------------------------------------------------------------- */

struct rp_st_row {
    char name[112], dtype[8];
    int n_dims;
    int64_t dims[RP_MAX_DIMS];
    uint64_t begin, end; /* bytes behind the header */
};
/* A file that is open, and what it says it holds: every offset, size and overlap is checked. */
struct rp_st_header {
    char *path; /* owned */
    int fd;
    uint64_t size, data_at; /* of the file; where its tensors begin */
    unsigned char *held;    /* (size) all of it, once it has been read; NULL: it is on disk alone */
    struct rp_st_row *row;
    int n;
};
RP_NODISCARD enum rp_status rp_st_header_open(const char *path, enum rp_status damaged,
                                              struct rp_st_header *header, struct rp_error *err);
void rp_st_header_close(struct rp_st_header *header); /* safe twice */
RP_NODISCARD enum rp_status rp_st_read_exactly(const struct rp_st_header *header,
                                               enum rp_status damaged, uint64_t offset, void *bytes,
                                               size_t length, struct rp_error *err);

/* ---- huggingface_names.c: the table of names, huggingface_config.c --------------------------- */

enum { RP_HF_PARTS = 3 };
/* Where a tensor of ours lies in a folder: one tensor, or the rows of several one below another. */
struct rp_hf_source {
    int n_parts;
    struct {
        char name[112];     /* without a prefix */
        char prefixed[112]; /* as transformers writes it */
        int64_t rows;
    } part[RP_HF_PARTS];
    bool transposed; /* GPT-2's Conv1D: (in, out) */
};
/* False: the family has no such tensor. `rows`: of the whole tensor of ours. */
bool rp_hf_source_of(enum rp_hf_kind kind, const struct rp_hf_shape *shape, const char *ours,
                     int64_t rows, struct rp_hf_source *source);
/* Our name of a tensor of a folder, whatever its prefix; false when there is none. */
bool rp_hf_name_here(enum rp_hf_kind kind, const char *theirs, char ours[112]);
/* (rows, columns) to (columns, rows). */
void rp_hf_transpose(const float *from, int64_t rows, int64_t columns, float *to);
/* Buffers that old versions saved, which are no weights. */
bool rp_hf_is_buffer(const char *theirs);

RP_NODISCARD enum rp_status rp_hf_read_config(const char *folder, enum rp_hf_kind *kind,
                                              struct rp_hf_shape *shape, struct rp_error *err);
RP_NODISCARD enum rp_status rp_hf_write_config(const char *folder, enum rp_hf_kind kind,
                                               const struct rp_hf_shape *shape, int64_t end_of_text,
                                               struct rp_error *err);

/* ---- folders and state.json ------------------------------------------------------------------ */

/* Beside the files of tensors. COMMITTED holds the SHA-256 of state.json, which holds the SHA-256
 * of the others. */
#define RP_CHECKPOINT_INDEX     "model.safetensors.index.json" /* of shards, for other readers */
#define RP_CHECKPOINT_STATE     "state.json"
#define RP_CHECKPOINT_COMMITTED "COMMITTED"

/* What state.json says of the files of one kind. */
struct rp_checkpoint_files {
    struct rp_checkpoint_file shard[RP_CHECKPOINT_MAX_SHARDS]; /* (n_shards) */
    int n_tensors, *shard_of; /* several shards: in which each tensor lies, in order; else NULL */
};
struct rp_checkpoint_hashes {
    int n_shards;                       /* 1: of a single rank */
    struct rp_checkpoint_files kind[2]; /* by enum rp_checkpoint_kind */
    struct rp_checkpoint_file index;    /* several shards: of RP_CHECKPOINT_INDEX */
    struct rp_sha256 tensors;           /* over the hashes of every tensor, model then optimizer */
};
void rp_checkpoint_hashes_release(struct rp_checkpoint_hashes *hashes); /* safe twice */
/* "model.safetensors", "optimizer-00002-of-00004.safetensors". */
enum { RP_CHECKPOINT_NAME_BYTES = 48 };
void rp_checkpoint_file_name(enum rp_checkpoint_kind kind, int shard, int n_shards,
                             char name[RP_CHECKPOINT_NAME_BYTES]);
/* What a writer adds to every file. `step_text` is written to. */
void rp_checkpoint_metadata(uint64_t step, char step_text[24], const char *metadata[7]);

/* shards.c: all files of a kind, each with the hash and size that state.json gives, as one. */
RP_NODISCARD enum rp_status rp_checkpoint_read_files(const char *folder,
                                                     const struct rp_checkpoint_hashes *hashes,
                                                     enum rp_checkpoint_kind kind,
                                                     const struct rp_stop *stop,
                                                     struct rp_st_file *file, struct rp_error *err);

/* The index of the shards, which nothing here reads. */
RP_NODISCARD enum rp_status rp_checkpoint_check_index(const char *folder,
                                                      const struct rp_checkpoint_file *known,
                                                      struct rp_error *err);

char *rp_checkpoint_root(const char *run); /* RUN/checkpoints; caller frees */
char *rp_checkpoint_folder(const char *run,
                           uint64_t step); /* its place when committed; caller frees */
bool rp_checkpoint_step_of(const char *name, uint64_t *step); /* "step-00000500" */
bool rp_checkpoint_is_leftover(const char *name); /* of an interrupted save or removal */

void rp_checkpoint_write_state(const struct rp_checkpoint_state *state,
                               const struct rp_checkpoint_hashes *hashes, struct rp_text *text);
/* DATA when `text` is not what rp_checkpoint_write_state writes. `where` is for messages. */
RP_NODISCARD enum rp_status rp_checkpoint_parse_state(const char *text, size_t length,
                                                      const char *where,
                                                      struct rp_checkpoint_state *state,
                                                      struct rp_checkpoint_hashes *hashes,
                                                      struct rp_error *err);
/* COMMITTED and state.json of a folder, checked against each other. DATA when damaged. `hashes` is
 * the caller's to release, whatever comes back. */
RP_NODISCARD enum rp_status rp_checkpoint_open_state(const char *folder,
                                                     struct rp_checkpoint_state *state,
                                                     struct rp_checkpoint_hashes *hashes,
                                                     struct rp_error *err);
/* SHA-256 over the hashes of tensors, in order. */
struct rp_sha256 rp_checkpoint_join_hashes(const struct rp_sha256 *model, int n_model,
                                           const struct rp_sha256 *optimizer, int n_optimizer);

#endif
