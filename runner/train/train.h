/* train.h - "make it so": start, continue or recognise as finished the run that a spec describes.
 */
#ifndef RP_TRAIN_H
#define RP_TRAIN_H

#include "record/record.h"
#include "spec/spec.h"

struct rp_train_options {
    const char *out;        /* run folder; NULL: <runs>/<name>-<digest> */
    const char *const *set; /* overrides, recorded; NULL: none */
    bool fresh;             /* remove what is in the folder and start again */
    bool allow_drift;  /* go on where the environment or a recomputed step differs, and record it */
    bool rehash;       /* hash every data file again */
    double stop_after; /* seconds; 0: never */
    bool profile;      /* print time per phase and op, write RUN/trace.json */
    struct json_t
        *recorded; /* rerun: the environment that the run recorded, in place of the spec's lock */
    const char *recorded_in; /* its name in messages */
    const struct rp_digests
        *against; /* stop with DIFFERENT at the first step that differs; NULL: no */
};

struct rp_train_result {
    char *run;          /* folder; owned, freed by rp_train_result_release */
    const char *status; /* "finished", "stopped", "failed" */
    bool was_finished;  /* nothing to do: the run had finished before */
    uint64_t step;
    char final[RP_SHA256_HEX]; /* "" unless finished */
    char numeric[RP_SHA256_HEX];
    int signal;          /* that ended it, 0: none */
    uint64_t n_compared; /* steps found equal to `against` */
};

RP_NODISCARD enum rp_status rp_train_run(const struct rp_spec *spec,
                                         const struct rp_train_options *options,
                                         struct rp_train_result *result, struct rp_error *err);
void rp_train_result_release(struct rp_train_result *result);

/* rerun --steps A:B: loads the newest checkpoint of RUN at or before step A - 1 into memory,
 * computes steps up to B and compares each with the record. Writes nothing. */
RP_NODISCARD enum rp_status rp_train_replay(const struct rp_spec *spec, const char *run,
                                            uint64_t first, uint64_t last,
                                            struct rp_train_result *result, struct rp_error *err);

/* run --try: the first steps in a temporary folder, with an evaluation and a save, killed, resumed,
 * compared; and what the whole run will take. What a real run would fail with in its first minute
 * is this one's failure too. */
struct rp_try_result {
    char run[4096];                       /* the folder of the real run, untouched */
    bool was_finished;                    /* which has finished: nothing was tried */
    uint64_t n_steps, n_tried, n_checked; /* of the run; tried; computed again and found equal */
    int64_t batch;
    double start_seconds, step_seconds, eval_seconds, save_seconds, stop_seconds;
    uint64_t n_evals, n_saves;
    double total_seconds;
    uint64_t peak_bytes, plan_bytes; /* of memory: met, and as plan says */
    uint64_t disk_bytes, free_bytes; /* a finished run takes at most; free there */
};
RP_NODISCARD enum rp_status rp_train_try(const struct rp_spec *spec,
                                         const struct rp_train_options *options,
                                         struct rp_try_result *result, struct rp_error *err);

/* runs/<name>-<first 8 digits of the spec's numeric digest>; caller frees. */
char *rp_train_folder(const struct rp_spec *spec);

/* Catches the signals of DESIGN section 5; once per process, before anything long. */
void rp_train_catch_signals(void);

#endif
