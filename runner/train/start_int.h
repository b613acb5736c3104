/* start_int.h - private to train/: everything that one start of a run opens, in the order of
 * opening. */
#ifndef RP_START_INT_H
#define RP_START_INT_H

#include "train/train_int.h"

struct rp_start {
    const struct rp_spec *spec;
    const struct rp_train_options *options;
    char *run;
    struct rp_sha256 spec_digest, numeric; /* data unbound, bound */
    bool found;                            /* the folder holds a run already */
    struct rp_manifest manifest;
    json_t *environment, *drift;
    struct rp_data *data;
    struct rp_plan *plan;
    struct rp_device *device;
    struct rp_hold *hold;
    int log_fd;
    struct rp_trainer *trainer;
    struct rp_weights_origin origin;
    struct rp_record *record;
    struct rp_saver *saver;
    struct rp_profile *profile; /* NULL: off */
};

/* ---- start.c
 * ------------------------------------------------------------------------------------- */

/* Reads what is in the folder; refuses another spec; `finished` when there is nothing left to do.
 */
RP_NODISCARD enum rp_status rp_start_look(struct rp_start *start, bool *finished,
                                          struct rp_error *err);
/* Data, plan, device, environment: all that can fail without touching the folder. */
RP_NODISCARD enum rp_status rp_start_prepare(struct rp_start *start, struct rp_error *err);
/* Takes the folder and loads the state to go on from, or the initial one. */
RP_NODISCARD enum rp_status rp_start_take(struct rp_start *start, struct rp_error *err);
void rp_start_close(struct rp_start *start);

/* ---- facts.c: what the manifest says
 * --------------------------------------------------------------- */

/* A manifest for a new run. */
void rp_facts_describe(struct rp_start *start);
/* A segment for this start. */
void rp_facts_begin(struct rp_start *start, uint64_t step);
/* How it ended. */
void rp_facts_end(struct rp_start *start, enum rp_status status, const char *run_status,
                  const char *why, const struct rp_checkpoint_state *state,
                  const struct rp_sha256 *final, const struct rp_error *err);
/* Hashes of data files as the manifest has them; caller frees `*known` (its paths belong to the
 * manifest). */
int rp_facts_known_data(const struct rp_manifest *manifest, struct rp_data_known **known);
/* DATA when a file of `data` is another than the one of its key in `recorded`, a manifest's "data";
 * `advice` ends the message. */
RP_NODISCARD enum rp_status rp_facts_check_data(const json_t *recorded, const struct rp_data *data,
                                                const char *advice, struct rp_error *err);
/* The shape of the data that the run was trained on; false when the manifest does not have it. */
bool rp_facts_shape(const struct rp_manifest *manifest, struct rp_data_shape *shape);
/* A text of the manifest by "digests.numeric"; NULL when there is none. */
const char *rp_facts_text(const struct rp_manifest *manifest, const char *group, const char *key);

#endif
