/* try_int.h - private to train/: what `run --try` asks of a loop, and what it learns from it. */
#ifndef RP_TRY_INT_H
#define RP_TRY_INT_H

#include "train/start_int.h"

enum { RP_TRIAL_STEPS = 3 };

/* One rank of one of the two rounds of a trial, a process of its own, on its way through the loop.
 */
struct rp_trial {
    bool resumed;       /* the second round: goes on after the first was killed */
    uint64_t event_at;  /* evaluate and save when this many steps are done; 0: never */
    uint64_t last_step; /* then it reports */
    double opened;      /* rp_sys_clock when it began */
    double start_seconds, step_seconds[RP_TRIAL_STEPS], eval_seconds, save_seconds;
    uint64_t peak_bytes; /* of the rank that has met the most */
    struct rp_start *start;
    int pipe; /* reports go there */
};
/* The loop is about to act on `step` steps done: is this where the trial wants its events? */
bool rp_trial_event(const struct rp_trial *trial, uint64_t step);
/* After a step: how long the evaluation before it, the save before it and the step took. NULL is
 * fine. The first round does not return from its last step. */
RP_NODISCARD enum rp_status rp_trial_note(struct rp_trial *trial, const struct rp_loop *loop,
                                          double eval_seconds, double save_seconds,
                                          double step_seconds, struct rp_error *err);
/* From what the first round has measured to the whole run. */
void rp_trial_estimate(const struct rp_trial *trial, struct rp_try_result *result);

/* What a rank says through its pipe: once, whole. */
struct rp_trial_report {
    enum rp_status status;
    char text[RP_ERROR_TEXT_BYTES]; /* what is wrong */
    bool told;                      /* ... which another rank has found, and says */
    struct rp_sha256 chain;         /* rank 0: after the last of the steps */
    struct rp_try_result figures;   /* rank 0, of the first round */
    uint64_t n_checked;             /* rank 0, of the second: steps computed again, found equal */
};
/* try_child.c: the whole of a rank, in a process of its own; never returns. `real` is the folder of
 * the run, `folder` the trial's: rank 0's are everybody's. */
_Noreturn void rp_trial_be_rank(const struct rp_spec *spec, const struct rp_train_options *options,
                                const struct rp_comm_world *world, const char *real,
                                const char *folder, struct rp_trial *trial);

#endif
