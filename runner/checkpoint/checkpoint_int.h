/* checkpoint_int.h - private to checkpoint/: names in a run folder, and state.json. */
#ifndef RP_CHECKPOINT_INT_H
#define RP_CHECKPOINT_INT_H

#include "checkpoint/checkpoint.h"

/* Files of one committed checkpoint, in the order written. COMMITTED holds the SHA-256 of
 * state.json, which holds the SHA-256 of the other two. */
#define RP_CHECKPOINT_MODEL     "model.safetensors"
#define RP_CHECKPOINT_OPTIMIZER "optimizer.safetensors"
#define RP_CHECKPOINT_STATE     "state.json"
#define RP_CHECKPOINT_COMMITTED "COMMITTED"

struct rp_checkpoint_hashes {
    struct rp_sha256 model, optimizer; /* of the files */
    uint64_t model_bytes, optimizer_bytes;
    struct rp_sha256 tensors; /* over the hashes of every tensor, model then optimizer */
};

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
/* COMMITTED and state.json of a folder, checked against each other. DATA when damaged. */
RP_NODISCARD enum rp_status rp_checkpoint_open_state(const char *folder,
                                                     struct rp_checkpoint_state *state,
                                                     struct rp_checkpoint_hashes *hashes,
                                                     struct rp_error *err);
/* SHA-256 over the hashes of tensors, in order. */
struct rp_sha256 rp_checkpoint_join_hashes(const struct rp_sha256 *model, int n_model,
                                           const struct rp_sha256 *optimizer, int n_optimizer);

#endif
