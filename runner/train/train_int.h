/* train_int.h - private to train/: the state of a running job. */
#ifndef RP_TRAIN_INT_H
#define RP_TRAIN_INT_H

#include "checkpoint/checkpoint.h"
#include "comm/comm.h"
#include "plan/plan.h"
#include "record/record.h"
#include "train/profile.h"
#include "train/train.h"

#include <jansson.h>

/* One graph with every tensor bound to memory: its calls can be run again and again. */
struct rp_bound {
    const struct rp_graph *graph;
    struct rp_op_call *call; /* one per node */
    void *input, *target;
};

/* A batch taken from the loader before it is needed. */
struct rp_ahead {
    bool taken;
    uint64_t position;
    const void *x, *y;
};

/* Everything on the device, and what reads it. The blocks are allocated once, before the first
 * step. */
struct rp_trainer {
    bool eval_only; /* no gradients, no optimizer, no loader: what is only for training is NULL */
    bool trained_weights; /* eval_only: not the averages of train.ema */
    const struct rp_spec *spec;
    const struct rp_plan *plan;
    const struct rp_model *model; /* plan's */
    struct rp_device *device;
    struct rp_comm comm;
    const struct rp_data *data;
    struct rp_loader *loader; /* NULL: the device's threads fill batches */
    struct rp_ahead ahead;
    int64_t loss_values; /* of the step under way: the mean loss is over so many */
    int n_begun;         /* exchanges of plan->owners, then gathers of buckets, in that step */

    unsigned char *kept_block;  /* parameters and statistics, as plan->owners lays them out */
    void **kept;                /* (n_kept) into it */
    struct rp_plan_part *own;   /* (n_kept) what this rank updates of each */
    unsigned char *state_block; /* optimizer states */
    uint64_t state_bytes;
    void **state[2];     /* (n_kept) into it, of the own part; NULL entries where there is none */
    void **average;      /* (n_kept) into state_block, of the own part: train.ema's; or NULL */
    unsigned char *sums; /* n_levels of sum_bytes, then the open chains when passes are partial */
    const uint64_t *sum_offset; /* plan->owners': (train graph tensors) within a level */
    unsigned char *arena;       /* activations of train and eval, never alive together */
    unsigned char *io;          /* input and target */
    double *chunks;       /* sums of squares for the gradient norm, as plan->owners counts them */
    double *in_order;     /* the same in the order of the parameters, where that is another */
    int32_t *chunk_order; /* with it: which chunk stands where; else both NULL */
    struct rp_control *control;
    uint64_t *digests; /* (n_kept) digest of each kept tensor after the update */

    struct rp_bound train, eval;
    struct rp_op_call *tie_call; /* add, per parameter with two uses: the second's gradient */
    int n_tie_calls;
    struct rp_op_call *norm_call; /* grad_norm per trained parameter */
    int n_norm_calls;
    struct rp_op_call order_call; /* chunks to in_order */
    struct rp_op_call clip_call;
    struct rp_op_call *update_call; /* per trained parameter, by bucket; then per statistic */
    int n_update_calls;
    int *update_end;            /* (plan->owners.n_buckets) calls up to the end of a bucket */
    struct rp_update update[4]; /* without, with weight decay; the same by muon */
    struct rp_optim_state optim;

    uint64_t *host_digests;     /* (n_kept), of what this rank answers for */
    uint64_t *frozen_digests;   /* (n_kept) of tensors that no update writes; 0 for the others */
    struct rp_profile *profile; /* NULL: off */
    struct rp_saver *saver;     /* set by it when it reads the live state; NULL: it copies */
    struct rp_weights_found *weights; /* of model.init_from, read already; NULL: not */
};

/* ---- memory.c, bind.c: from a plan to memory and calls --------------------------------------- */

/* `comm` (NULL: a world of one) has as many ranks as the plan is for. */
RP_NODISCARD enum rp_status rp_trainer_open(const struct rp_spec *spec, const struct rp_plan *plan,
                                            const struct rp_data *data, struct rp_device *device,
                                            const struct rp_comm *comm, struct rp_trainer **trainer,
                                            struct rp_error *err);
/* The same for evaluation alone, in the memory that it needs. */
RP_NODISCARD enum rp_status rp_trainer_open_eval(const struct rp_spec *spec,
                                                 const struct rp_plan *plan,
                                                 const struct rp_data *data,
                                                 struct rp_device *device,
                                                 struct rp_trainer **trainer, struct rp_error *err);
void rp_trainer_close(struct rp_trainer *trainer); /* NULL is fine */
RP_NODISCARD enum rp_status rp_trainer_bind(struct rp_trainer *trainer, struct rp_error *err);
/* Lets every sum of the training graph be written into buffer `level` of the tree. */
void rp_trainer_point_sums(struct rp_trainer *trainer, int level);
/* Adds buffer `level` of the tree to its left sibling, one below: these bytes of it. */
RP_NODISCARD enum rp_status rp_trainer_join_level(struct rp_trainer *trainer, int level,
                                                  uint64_t begin, uint64_t end,
                                                  const struct rp_pass *pass, struct rp_error *err);
/* One call on the device, timed when profiling. */
RP_NODISCARD enum rp_status rp_trainer_run(struct rp_trainer *trainer,
                                           const struct rp_op_call *call,
                                           const struct rp_pass *pass, struct rp_error *err);

/* ---- owners.c: what moves between ranks in a step. Without other ranks nothing does ---------- */

/* Node `node` of the last pass of a step has run: what is complete by it moves to its owners while
 * backward goes on. `level`: the buffer of the tree that the pass is written into; those below are
 * added first. */
RP_NODISCARD enum rp_status rp_owners_begin(struct rp_trainer *trainer, int node, int level,
                                            const struct rp_pass *pass, struct rp_error *err);
/* Waits until every sum has come to its owner; what is everybody's to everybody. */
RP_NODISCARD enum rp_status rp_owners_reduce(struct rp_trainer *trainer, struct rp_error *err);
/* The norm's chunks of all owners, in the order of the parameters. */
RP_NODISCARD enum rp_status rp_owners_join_norm(struct rp_trainer *trainer,
                                                const struct rp_pass *pass, struct rp_error *err);
/* Update call `call` has run: buckets that are updated by it move to everybody, beside what
 * follows.
 */
RP_NODISCARD enum rp_status rp_owners_begin_gather(struct rp_trainer *trainer, int call,
                                                   struct rp_error *err);
/* Waits until updated parameters have come from their owners to everybody. */
RP_NODISCARD enum rp_status rp_owners_gather(struct rp_trainer *trainer, struct rp_error *err);
/* The averages of train.ema to everybody, for an evaluation: into the memory of the gradients,
 * where rp_trainer_shown has each. */
RP_NODISCARD enum rp_status rp_owners_show_averages(struct rp_trainer *trainer,
                                                    struct rp_error *err);
/* A state or average of kept tensor i from all who own of it to everybody: `mine` is this rank's
 * part (NULL: none), `*whole` all of it, in the memory of its gradient. */
RP_NODISCARD enum rp_status rp_owners_join(struct rp_trainer *trainer, int i, const void *mine,
                                           const void **whole, struct rp_error *err);
/* What an evaluation reads kept tensor i from: the average of train.ema, or the tensor itself. */
void *rp_trainer_shown(const struct rp_trainer *trainer, int i);

/* ---- batch.c --------------------------------------------------------------------------------- */

/* data: the samples of one pass, from `position` on, into train.input and train.target. */
RP_NODISCARD enum rp_status rp_batch_take(struct rp_trainer *trainer, uint64_t position,
                                          struct rp_error *err);
/* A device that works beside us fetches the first batch of the next step meanwhile. */
RP_NODISCARD enum rp_status rp_batch_look_ahead(struct rp_trainer *trainer, uint64_t next_step,
                                                struct rp_error *err);
/* `n` samples of a split from `first` on into memory of the host: x, y as the eval graph has them.
 */
void rp_batch_fill_eval(struct rp_trainer *trainer, enum rp_split split, int64_t first, int64_t n,
                        void *x, void *y);

/* ---- step.c ---------------------------------------------------------------------------------- */

struct rp_step_result {
    float loss;      /* mean over the batch */
    double norm;     /* global gradient norm before clipping */
    bool applied;    /* false: not finite, nothing was written */
    uint64_t params; /* digest over every kept tensor; of what this rank answers for, until the
                      * ranks have added theirs (rp_ranks_decide) */
    uint64_t common; /* digest over what every rank has updated by itself, or none */
};
/* Step number `step` (from 0): one update of the model. Per-tensor digests are in
 * trainer->host_digests. */
RP_NODISCARD enum rp_status rp_step(struct rp_trainer *trainer, uint64_t step,
                                    struct rp_step_result *result, struct rp_error *err);

/* ---- evaluate.c ------------------------------------------------------------------------------ */

struct rp_evaluation {
    int64_t samples;
    int64_t values;        /* losses summed: one a sample, of tokens one a target */
    double loss;           /* mean */
    double accuracy, top5; /* classification; top5 below zero when there are at most 5 classes */
    bool text;             /* the next two are given */
    double perplexity, bits_per_byte; /* bits_per_byte below zero when nobody knows the bytes */
    bool classification, abandoned;   /* abandoned: a stop request came first */
    double stretch; /* seconds: the longest from one look at requests to the next */
    int64_t first_right, five_right;
};
/* Host memory of one pass. */
struct rp_eval_buffers {
    void *x, *y;
    int64_t row;    /* losses of a sample: 1, or the context of tokens */
    bool is_tokens; /* a loss counts where y is not -1 */
    float *loss;    /* (eval_samples, row) */
    int32_t *rank;  /* (eval_samples, row), classification */
    float *output;  /* (eval_samples, width) logits or values; NULL: not wanted */
};
RP_NODISCARD enum rp_status rp_eval_buffers_init(const struct rp_trainer *trainer, bool with_output,
                                                 struct rp_eval_buffers *buffers,
                                                 struct rp_error *err);
void rp_eval_buffers_release(struct rp_eval_buffers *buffers);
/* n samples of a split from `first` on, n at most the size of the graph; a shorter pass repeats old
 * samples to fill up. */
RP_NODISCARD enum rp_status rp_evaluate_pass(struct rp_trainer *trainer, enum rp_split split,
                                             int64_t first, int64_t n,
                                             struct rp_eval_buffers *buffers, struct rp_error *err);
void rp_evaluation_begin(const struct rp_trainer *trainer, struct rp_evaluation *evaluation);
void rp_evaluation_add(struct rp_evaluation *evaluation, const struct rp_eval_buffers *buffers,
                       int64_t n);
void rp_evaluation_end(const struct rp_trainer *trainer, enum rp_split split,
                       struct rp_evaluation *evaluation);
/* What is recorded of an evaluation, in the order of the record; how many. */
enum { RP_EVALUATION_METRICS = 5 };
int rp_evaluation_metrics(const struct rp_evaluation *evaluation,
                          struct rp_metric metrics[RP_EVALUATION_METRICS]);
/* "valid/loss", "valid/accuracy": false when there is no such metric. */
bool rp_evaluation_metric(const struct rp_evaluation *evaluation, const char *name, double *value,
                          bool *larger_is_better);

/* ---- evaluate_ranks.c: each rank a part of the passes ---------------------------------------- */

/* What a rank has measured of a round, until its losses are added to the others'. */
struct rp_eval_block {
    struct rp_evaluation count; /* its samples and what is right; `abandoned`: asked to stop */
    float *loss;                /* (n) that count, in order */
    int64_t n;
    double seconds; /* of a pass; 0: had none */
};
/* Adds the blocks of all ranks to `evaluation`, losses in order of rank. Collective: every rank
 * gets the same. `*seconds` is of a pass on the slowest. */
RP_NODISCARD enum rp_status rp_evaluation_join(struct rp_comm *comm,
                                               const struct rp_eval_block *block,
                                               struct rp_evaluation *evaluation, double *seconds,
                                               struct rp_error *err);
/* Collective; bit for bit what a single rank would measure. Abandoned on all ranks when one was
 * asked to stop. */
RP_NODISCARD enum rp_status rp_evaluate(struct rp_trainer *trainer, enum rp_split split,
                                        struct rp_evaluation *evaluation, struct rp_error *err);

/* ---- weights.c: initial values and restored ones --------------------------------------------- */

/* What a run goes on from. */
struct rp_weights_origin {
    bool restored; /* from a checkpoint; false: the initial values */
    struct rp_checkpoint_state state;
    struct rp_sha256 tensors_hash;     /* of that checkpoint */
    uint64_t bytes[RP_COMM_MAX_RANKS]; /* that each rank has read of its files */
};
/* Loads the checkpoint of `run` at `step` (UINT64_MAX: the newest that verifies; 0: the initial
 * values), or the initial values when there is none. Collective, but for initial values by 0; rank
 * 0 says which checkpoints there are. STOPPED when a signal asks for it meanwhile. */
RP_NODISCARD enum rp_status rp_weights_begin(struct rp_trainer *trainer, const char *run,
                                             uint64_t step, struct rp_weights_origin *origin,
                                             struct rp_error *err);
/* restore.c: the checkpoint part of it; origin->restored stays false when there is none. */
RP_NODISCARD enum rp_status rp_weights_restore(struct rp_trainer *trainer, const char *run,
                                               uint64_t step, struct rp_weights_origin *origin,
                                               struct rp_error *err);
/* The model alone, nothing of the optimizer: for evaluation. With train.ema these are the averages,
 * unless trained_weights is set. NO_CHECKPOINT when there is none at `step`; `*found_step` is the
 * one loaded. */
RP_NODISCARD enum rp_status rp_weights_restore_model(struct rp_trainer *trainer, const char *run,
                                                     uint64_t step, uint64_t *found_step,
                                                     struct rp_error *err);
/* The averages of train.ema begin as the weights do. */
RP_NODISCARD enum rp_status rp_weights_begin_averages(struct rp_trainer *trainer,
                                                      struct rp_error *err);
/* Weights that model.init_from names, then the averages, and with `load: all` the optimizer.
 * Collective, and connected: rank 0 reads. */
RP_NODISCARD enum rp_status rp_weights_init_from(struct rp_trainer *trainer, struct rp_error *err);
/* Stored tensor `name`, which belongs to kept tensor i, to the device; `bad` when missing or of
 * another shape. */
RP_NODISCARD enum rp_status rp_weights_load(struct rp_trainer *trainer,
                                            const struct rp_st_file *file, const char *name, int i,
                                            void *to, enum rp_status bad, struct rp_error *err);
/* The same of a state or average, of which only the own part is kept. */
RP_NODISCARD enum rp_status rp_weights_load_own(struct rp_trainer *trainer,
                                                const struct rp_st_file *file, const char *name,
                                                int i, void *to, enum rp_status bad,
                                                struct rp_error *err);

/* model.init_from.skip names this tensor. */
bool rp_weights_skipped(const struct rp_spec *spec, const char *name);

/* ---- init_read.c: rank 0's part of model.init_from ------------------------------------------- */

/* What it names. Zero, or released: it was not looked for. */
struct rp_weights_found {
    bool given;
    char *folder, *path; /* of a checkpoint; or a file, or, `of_others`, a folder of Hugging Face */
    bool of_others;
    struct rp_sha256 hash; /* of the file, or the weight files of a folder one after another in the
                            * order of their names; with `load: all` of both kinds' */
    bool held;             /* what it hashes is here, and need not be read again: */
    struct rp_st_file model, optimizer;
    struct rp_hf hf; /* of_others: open, held or not */
};
/* Which files they are, unread. */
RP_NODISCARD enum rp_status rp_weights_find(const struct rp_spec *spec,
                                            struct rp_weights_found *found, struct rp_error *err);
/* Found and read: its hash, and all of it where that is no more than `room` bytes. DATA when it is
 * another than the spec says; STOPPED when `stop` says so. */
RP_NODISCARD enum rp_status rp_weights_read(const struct rp_spec *spec, uint64_t room,
                                            const struct rp_stop *stop,
                                            struct rp_weights_found *found, struct rp_error *err);
char *rp_weights_run(const struct rp_weights_found *found); /* of `folder`; caller frees */
void rp_weights_release(struct rp_weights_found *found);    /* safe twice */

/* ---- against.c: comparing with another run's digests ----------------------------------------- */

/* DIFFERENT when `against` has this step with another digest. `n_compared`: lines of `against`
 * passed so far. */
RP_NODISCARD enum rp_status rp_against_step(const struct rp_digests *against,
                                            const struct rp_digest_line *line, uint64_t *n_compared,
                                            struct rp_error *err);
/* The same for the steps up to `last` that the folder of a run holds already. */
RP_NODISCARD enum rp_status rp_against_recorded(const struct rp_digests *against, const char *run,
                                                uint64_t last, uint64_t *n_compared,
                                                struct rp_error *err);

/* ---- save.c: a copy of the state, written by a thread ---------------------------------------- */

struct rp_saver;
RP_NODISCARD enum rp_status rp_saver_open(struct rp_trainer *trainer, const char *run,
                                          const struct rp_manifest *manifest,
                                          struct rp_record *record, struct rp_saver **saver,
                                          struct rp_error *err);
/* Copies the state and lets the writer commit it; waits for an earlier save first and reports its
 * failure. `prune` runs after the commit. */
RP_NODISCARD enum rp_status rp_saver_save(struct rp_saver *saver,
                                          const struct rp_checkpoint_state *state,
                                          struct rp_error *err);
/* Waits for the save under way; `tensors_hash` (may be NULL) is of the last one. */
RP_NODISCARD enum rp_status rp_saver_wait(struct rp_saver *saver, struct rp_sha256 *tensors_hash,
                                          struct rp_error *err);
/* Seconds of the longest save so far, from its copy to its commit. None may be under way. */
double rp_saver_longest(const struct rp_saver *saver);
/* The state as a checkpoint would hold it, in memory, without hashes; release it with
 * rp_checkpoint_release. */
RP_NODISCARD enum rp_status rp_trainer_snapshot(struct rp_trainer *trainer,
                                                struct rp_checkpoint *checkpoint,
                                                struct rp_error *err);
/* Waits until a save under way has read the live state, which may then change. NULL is fine. */
void rp_saver_wait_read(struct rp_saver *saver);
void rp_saver_close(struct rp_saver *saver); /* waits; NULL is fine */

/* ---- save_ranks.c ---------------------------------------------------------------------------- */

/* One rank's part of a checkpoint of several; on rank 0 with the commit. `status` other than OK:
 * this rank has failed already, and says so to rank 0. */
RP_NODISCARD enum rp_status rp_save_shard(struct rp_comm *comm, const char *run,
                                          const struct rp_checkpoint_content *content,
                                          enum rp_status status, struct rp_sha256 *tensors_hash,
                                          struct rp_error *err);

/* ---- signals.c ------------------------------------------------------------------------------- */

enum rp_request { RP_REQUEST_NONE, RP_REQUEST_SAVE, RP_REQUEST_STOP };
/* What the signals so far ask for; SAVE is given once. */
enum rp_request rp_signals_request(int *signal);
bool rp_signals_stop_asked(void);
/* While all start: that, or another rank of this struct rp_comm has ended by it. For what asks now
 * and then. */
bool rp_ranks_stop_asked(void *comm);
double
rp_signals_stop_clock(void); /* rp_sys_clock when the first came that asks to stop; 0: none */

/* ---- loop.c: steps, events, the end ---------------------------------------------------------- */

/* What all ranks do next: a request to any of them holds for all, and rank 0 has the clock. */
struct rp_decision {
    bool stop, save;
    int signal;
    double asked; /* to stop: seconds ago, where it was asked first */
};
/* The longest of each that a segment has seen, in seconds: what a request to stop waits for. */
struct rp_longest {
    double step;
    double evaluation; /* from one look at requests to the next, on all ranks */
    double save;       /* until it is committed */
};
struct rp_loop {
    struct rp_trainer *trainer;
    struct rp_record *record; /* NULL on every rank but 0 */
    struct rp_saver *saver;
    const struct rp_digests *against;
    uint64_t n_compared;
    double stop_at; /* rp_sys_clock; 0: never */
    struct rp_checkpoint_state state;
    uint64_t first_step; /* where this segment began */
    bool record_differs; /* a recomputed step differs from the record: `last` is it */
    struct rp_step_result last;
    int signal;
    const char *stopped_why; /* NULL: ran to the end */
    struct rp_trial *trial;  /* of run --try (try_int.h); NULL: a real run */
    bool decided;            /* with the digests of the last step: `decision` still holds */
    bool save_asked;         /* by a signal or rank 0's clock, and not done yet */
    struct rp_decision decision;
    double asked_at; /* rp_sys_clock when the stop was asked for; 0: it was not */
    struct rp_longest longest;
};
/* With `result` (may be NULL), of step `step`, its params and the n `digests` become those of all
 * ranks together, and what all must have in common is compared: HARDWARE names the rank that has
 * something else. */
RP_NODISCARD enum rp_status rp_ranks_decide(struct rp_comm *comm, uint64_t step,
                                            struct rp_step_result *result, uint64_t *digests, int n,
                                            struct rp_decision *decision, struct rp_error *err);
/* Steps from state.step to the end, or until asked to stop (STOPPED). */
RP_NODISCARD enum rp_status rp_loop_run(struct rp_loop *loop, struct rp_error *err);

#endif
