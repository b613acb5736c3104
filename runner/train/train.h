/* train.h - "make it so": start, continue or recognise as finished the run that a spec describes.
 */
#ifndef RP_TRAIN_H
#define RP_TRAIN_H

#include "base/sys.h"
#include "data/data.h"
#include "record/record.h"
#include "spec/spec.h"

struct rp_train_options {
    const char *out;        /* run folder; NULL: <runs>/<name>-<digest> */
    const char *const *set; /* overrides, recorded; NULL: none */
    bool fresh;             /* remove what is in the folder and start again */
    bool allow_drift;  /* go on where the environment or a recomputed step differs, and record it */
    bool rehash;       /* hash every data file again */
    double stop_after; /* seconds from the beginning of the start, reading included; 0: never */
    bool no_graph;     /* CUDA: launch every kernel by itself */
    bool profile;      /* print time per phase and op, write RUN/trace.json */
    bool alone;        /* try: by one rank, whatever the spec demands */
    const char *const *rank_words; /* the command line of ranks that it starts; NULL: its own */
    struct json_t
        *recorded; /* rerun: the environment that the run recorded, in place of the spec's lock */
    struct json_t *recorded_data;     /* ... and the files that it read */
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

/* The spec as `run` resolved it, its data where `data_folder` says, else (NULL) where the run found
 * it; `set` (may be NULL) changes keys. Caller frees. */
RP_NODISCARD enum rp_status rp_train_load_spec(const char *run, const struct rp_manifest *manifest,
                                               const char *data_folder, const char *const *set,
                                               struct rp_spec **spec, struct rp_error *err);

/* compare --replay: the state of `run` after `step` (at least 1), computed in memory from the
 * newest checkpoint before it; release it with rp_checkpoint_release. DIFFERENT when that step does
 * not come out as it was recorded. */
struct rp_checkpoint;
RP_NODISCARD enum rp_status rp_train_recompute(const struct rp_spec *spec, const char *run,
                                               uint64_t step, struct rp_checkpoint *state,
                                               struct rp_error *err);

/* run --try: the first steps in a temporary folder, by as many ranks as the run would have, with an
 * evaluation and a save, killed, resumed, compared; and what the whole run will take. What a real
 * run would fail with in its first minute is this one's failure too. */
struct rp_try_result {
    char run[4096];                       /* the folder of the real run, untouched */
    bool was_finished;                    /* which has finished: nothing was tried */
    uint64_t n_steps, n_tried, n_checked; /* of the run; tried; computed again and found equal */
    int64_t batch;
    int n_ranks;
    double start_seconds, step_seconds, eval_seconds, save_seconds, stop_seconds;
    uint64_t n_evals, n_saves;
    double total_seconds;
    uint64_t peak_bytes, plan_bytes; /* of a rank's memory: met, and as plan says */
    uint64_t disk_bytes, free_bytes; /* a finished run takes at most; free there */
    struct rp_sys_quota quota;       /* ... and ours there */
};
RP_NODISCARD enum rp_status rp_train_try(const struct rp_spec *spec,
                                         const struct rp_train_options *options,
                                         struct rp_try_result *result, struct rp_error *err);

/* plan --ranks: what a rank of 1, 2, 4, ... `most_ranks` takes for its part of a step (plan.h), run
 * for some steps in memory with as many copies at once as a node has ranks; on a GPU one copy. Of a
 * local network also whole steps of all ranks, connected. Reads the data, writes nothing. Call it
 * before this process opens a device. */
struct rp_plan_times;
struct rp_plan_network;
RP_NODISCARD enum rp_status rp_train_measure(const struct rp_spec *spec, int most_ranks,
                                             const struct rp_plan_network *network,
                                             struct rp_plan_times *times, struct rp_error *err);

/* Does what model.init_from names fit the model, as far as headers say, and the tokenizer of the
 * text? Only folders are looked at; one that is not there is passed over. */
struct rp_model;
RP_NODISCARD enum rp_status rp_train_check_weights(const struct rp_spec *spec,
                                                   const struct rp_model *model,
                                                   struct rp_error *err);

/* runs/<name>-<first 8 digits of the spec's numeric digest>; caller frees. */
char *rp_train_folder(const struct rp_spec *spec);

/* ---- a checkpoint applied to data, for eval and predict; writes nothing ---------------------- */

struct rp_apply_options {
    const char *run;
    const char *at;           /* best | last | STEP; NULL: last */
    const char *weights;      /* ema | trained; NULL: ema where the run keeps averages */
    enum rp_split split;      /* of the run's own data */
    const char *data_folder;  /* where its relative paths start; NULL: where the run found it */
    const char *const *files; /* other data in place of the split, NULL-terminated; or NULL */
    bool without_targets;     /* with `files`: no targets are read, and they may be missing */
};
/* What was opened; valid until rp_apply_close. */
struct rp_apply {
    uint64_t step;       /* of the checkpoint */
    const char *weights; /* "ema", "trained"; NULL: the run keeps one set only */
    struct rp_data_shape shape;
    int64_t n_samples;
    int64_t width;      /* numbers that the model gives for a sample: a logit per class; 0: of a
                           language model nobody holds them */
    char **class_names; /* (shape.n_classes), or NULL */
    const char *what;   /* "data.test", or "other data" */
    const struct rp_data_file *files;
    int n_files;
    struct rp_apply_state *state; /* private */
};
/* n samples from `first` on. Pointers are valid during the call. */
struct rp_apply_pass {
    int64_t first, n;
    const float *output;    /* (n, width): logits, or values */
    const int32_t *classes; /* (n) targets of classification, else NULL */
    const float *values;    /* (n, n_values) targets of regression, else NULL */
    const int32_t *rank;    /* (n) how many classes come before the target; classification */
};
typedef enum rp_status (*rp_apply_visit)(void *context, const struct rp_apply_pass *pass,
                                         struct rp_error *err);
struct rp_apply_means {
    double loss;
    double accuracy, top5; /* classification; top5 below zero when there are at most 5 classes */
    int64_t targets;       /* of text: tokens that were to be told */
    double perplexity, bits_per_byte; /* of text; bits_per_byte below zero when nobody knows it */
};
/* The run's own files are checked by hash (DATA when one is another). NO_CHECKPOINT when there is
 * none at `at`. */
RP_NODISCARD enum rp_status rp_apply_open(const struct rp_apply_options *options,
                                          struct rp_apply **apply, struct rp_error *err);
/* Every sample once, in file order, `visit` (NULL: none) after each pass; the means are made as a
 * run makes them, bit for bit. */
RP_NODISCARD enum rp_status rp_apply_run(struct rp_apply *apply, rp_apply_visit visit,
                                         void *context, struct rp_apply_means *means,
                                         struct rp_error *err);
void rp_apply_close(struct rp_apply *apply); /* NULL is fine */

/* ---- a checkpoint for other programs --------------------------------------------------------- */

enum rp_export_form { RP_EXPORT_SAFETENSORS, RP_EXPORT_HUGGINGFACE };
struct rp_export_options {
    const char *run;
    const char *at;        /* best | last | STEP; NULL: last */
    const char *out;       /* a file, or a folder that is missing or empty */
    const char *tokenizer; /* to put beside the weights; NULL: the spec's, if it names one */
    enum rp_export_form form;
};
struct rp_export_result {
    uint64_t step;
    int n_tensors;
    bool has_tokenizer;
};
/* All or nothing. USAGE when no folder of transformers can hold such a model. */
RP_NODISCARD enum rp_status rp_train_export(const struct rp_export_options *options,
                                            struct rp_export_result *result, struct rp_error *err);

/* ---- a language model that speaks ------------------------------------------------------------ */

enum rp_sample_stop { RP_SAMPLE_LENGTH, RP_SAMPLE_END_OF_TEXT, RP_SAMPLE_NOBODY_LISTENS };
struct rp_sample_options {
    const char *run;
    const char *at;        /* best | last | STEP; NULL: last */
    const char *tokenizer; /* NULL: the spec's, if it names one */
    const char *prompt;    /* text; of a run without text or tokenizer numbers of tokens */
    size_t prompt_bytes;
    int64_t n_tokens; /* at most so many new ones */
    float temperature;
    int64_t top_k;
    double top_p;
    uint64_t seed;
    /* Text as it comes, whole characters only; the prompt is not repeated. False: nobody listens
     * any more, stop. */
    bool (*say)(void *context, const char *bytes, size_t n);
    void *context;
};
struct rp_sample_result {
    uint64_t step; /* of the checkpoint */
    int64_t n_prompt, n_new;
    int32_t *tokens; /* (n_new), owned */
    enum rp_sample_stop why;
    int64_t n_slides; /* how often the context was full: its last half began a new one */
    double prompt_seconds, seconds; /* of the prompt; of the new tokens */
};
/* The text is a function of the checkpoint, the prompt and the numbers above: the same on every
 * device and for any number of threads. */
RP_NODISCARD enum rp_status rp_train_sample(const struct rp_sample_options *options,
                                            struct rp_sample_result *result, struct rp_error *err);
void rp_sample_result_release(struct rp_sample_result *result);

/* Catches the signals of DESIGN section 5; once per process, before anything long. */
void rp_train_catch_signals(void);

#endif
