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
    const char *recorded_in;          /* its name in messages */
    const struct rp_digests *against; /* stop with DIFFERENT at the first step that differs, of
                                       * those recorded before too; NULL: no */
};

struct rp_train_result {
    char *run;          /* folder; owned, freed by rp_train_result_release */
    const char *status; /* "finished", "stopped", "failed" */
    bool was_finished;  /* nothing to do: the run had finished before */
    uint64_t step;
    char final[RP_SHA256_HEX]; /* "" unless finished */
    char numeric[RP_SHA256_HEX];
    int signal;          /* that ended it, 0: none */
    uint64_t n_compared; /* lines of `against` passed, all equal */
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

/* runs/<name>-<first 8 digits of the spec's numeric digest>; caller frees. */
char *rp_train_folder(const struct rp_spec *spec);

/* Catches the signals of DESIGN section 5; once per process, before anything long. */
void rp_train_catch_signals(void);

#endif
