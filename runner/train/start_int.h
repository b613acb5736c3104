/* start_int.h - private to train/: everything that one start of a run opens, in the order of
 * opening. */
#ifndef RP_START_INT_H
#define RP_START_INT_H

#include "train/train_int.h"

struct rp_start {
    const struct rp_spec *spec;
    const struct rp_train_options *options;
    double begun; /* rp_sys_clock */
    char *run;
    struct rp_comm_world world;
    struct rp_comm comm;
    bool connected;
    struct rp_sha256 spec_digest,
        numeric;            /* data unbound, bound; the second is rank 0's in the end */
    struct rp_sha256 alike; /* the same but for initial weights, which it reads */
    bool found;             /* the folder holds a run already */
    struct rp_manifest manifest;
    json_t *environment, *drift;
    struct rp_data *data;
    struct rp_plan *plan;
    struct rp_weights_found weights; /* of model.init_from, until they are loaded */
    struct rp_device *device;
    struct rp_hold *hold;
    int log_fd;
    struct rp_trainer *trainer;
    struct rp_weights_origin origin;
    struct rp_record *record;
    struct rp_saver *saver;
    struct rp_profile *profile; /* NULL: off */
};

/* ---- start.c --------------------------------------------------------------------------------- */

/* Reads what is in the folder; refuses another spec; `finished` when there is nothing left to do.
 */
RP_NODISCARD enum rp_status rp_start_look(struct rp_start *start, bool *finished,
                                          struct rp_error *err);
/* Data, plan, device, environment: all that can fail without touching the folder. */
RP_NODISCARD enum rp_status rp_start_prepare(struct rp_start *start, struct rp_error *err);
/* Takes the folder, and memory for the job. */
RP_NODISCARD enum rp_status rp_start_take(struct rp_start *start, struct rp_error *err);
/* Loads the state to go on from, or the initial one, and opens the record. */
RP_NODISCARD enum rp_status rp_start_begin(struct rp_start *start, struct rp_error *err);
/* What follows when every rank is ready: on rank 0, which has taken the folder, and on the others.
 * The saver is open then, and the ranks are connected. */
RP_NODISCARD enum rp_status rp_start_lead(struct rp_start *start, struct rp_error *err);
RP_NODISCARD enum rp_status rp_start_follow(struct rp_start *start, struct rp_error *err);
/* What moves bytes between the ranks, and memory for it; once. */
RP_NODISCARD enum rp_status rp_start_connect(struct rp_start *start, struct rp_error *err);
/* Memory and calls, for the plan; with this run's comm. */
RP_NODISCARD enum rp_status rp_start_open_trainer(struct rp_start *start, struct rp_error *err);
void rp_start_close(struct rp_start *start);

/* ---- ranks.c --------------------------------------------------------------------------------- */

/* Which rank this is; starts the others where the spec demands several and no launcher did. */
RP_NODISCARD enum rp_status rp_ranks_open(struct rp_start *start, struct rp_error *err);
/* The parts of that. How many ranks this process `starts`, or 1 where a launcher has: refused
 * before anybody is started or waited for. To know it this process may have to open a GPU's driver.
 */
RP_NODISCARD enum rp_status rp_ranks_find(struct rp_start *start, int *n_local, bool *starts,
                                          struct rp_error *err);
/* Connects the rank of start->world to the others. */
RP_NODISCARD enum rp_status rp_ranks_join(struct rp_start *start, struct rp_error *err);
void rp_ranks_speak_as(int rank); /* errors alone, with its name; of rank 0 everything */
/* Threads of this rank. */
int rp_ranks_threads(const struct rp_start *start);
/* Every rank is ready, or rank 0 found nothing to do (`go` false). All must have rank 0's numeric
 * digest. */
RP_NODISCARD enum rp_status rp_ranks_ready(struct rp_start *start, bool *go, struct rp_error *err);
void rp_ranks_close(struct rp_start *start, enum rp_status status, const char *text);

/* ranks_auto.c: how many this process starts where the spec leaves it open. */
int rp_ranks_auto(const struct rp_start *start);

/* ---- lost.c ---------------------------------------------------------------------------------- */

/* From here on a rank knows the run folder, where it would note the loss of another. */
void rp_lost_begin(const char *run, int rank);
void rp_lost_note(void *context, const char *text);

/* ---- apply.c --------------------------------------------------------------------------------- */

/* rp_checkpoint_pick, but for last (or NULL) UINT64_MAX: the newest that verifies. */
RP_NODISCARD enum rp_status rp_train_pick_step(const char *run, const char *at, uint64_t *step,
                                               struct rp_error *err);

/* ---- facts.c: what the manifest says --------------------------------------------------------- */

/* A manifest for a new run. */
void rp_facts_describe(struct rp_start *start);
/* A segment for this start. */
void rp_facts_begin(struct rp_start *start, uint64_t step);
RP_NODISCARD enum rp_status rp_facts_connected(struct rp_start *start, struct rp_error *err);
/* How it ended. */
void rp_facts_end(struct rp_start *start, enum rp_status status, const char *run_status,
                  const char *why, const struct rp_checkpoint_state *state,
                  const struct rp_sha256 *final, const struct rp_error *err);
/* What it took to stop, and the longest of what a stop waits for; before rp_facts_end. */
void rp_facts_measured(struct rp_start *start, const struct rp_loop *loop);
/* A peer was lost and this process ends where it stands: the cause alone. */
void rp_facts_lost(struct rp_start *start, enum rp_status status, const struct rp_error *err);
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
