/* try_int.h - private to train/: what `run --try` asks of a loop, and what it learns from it. */
#ifndef RP_TRY_INT_H
#define RP_TRY_INT_H

#include "train/start_int.h"

enum { RP_TRIAL_STEPS = 3 };

/* One of the two processes of a trial, on its way through the loop. */
struct rp_trial {
    bool resumed;       /* the second one: goes on after the first was killed */
    uint64_t event_at;  /* evaluate and save when this many steps are done; 0: never */
    uint64_t last_step; /* then `reached` is called */
    double opened;      /* rp_sys_clock when it began */
    double start_seconds, step_seconds[RP_TRIAL_STEPS], eval_seconds, save_seconds;
    struct rp_start *start;
    int pipe; /* reports go there */
};
/* The loop is about to act on `step` steps done: is this where the trial wants its events? */
bool rp_trial_event(const struct rp_trial *trial, uint64_t step);
/* After a step: how long the evaluation before it, the save before it and the step took. NULL is
 * fine. The first process does not return from its last step. */
RP_NODISCARD enum rp_status rp_trial_note(struct rp_trial *trial, const struct rp_loop *loop,
                                          double eval_seconds, double save_seconds,
                                          double step_seconds, struct rp_error *err);
/* From what the first process has measured to the whole run. */
void rp_trial_estimate(const struct rp_trial *trial, struct rp_try_result *result);

#endif
