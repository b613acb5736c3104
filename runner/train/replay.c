/* replay.c - the steps of a run computed again in memory and compared with its record: rerun
 * --steps A:B, by as many ranks as the run would have; compare --replay, by one. */
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/start_int.h"

#include <string.h>

/* The newest committed checkpoint from which step `first` can be reached; 0: the beginning. */
static enum rp_status pick_checkpoint(const char *run, uint64_t first, uint64_t *step,
                                      struct rp_error *err)
{
    uint64_t *steps = NULL;
    int n = 0;
    RP_TRY(rp_checkpoint_list(run, &steps, &n, err));
    for (int i = 0; i < n; i++) {
        if (steps[i] >= first) break;
        *step = steps[i];
    }
    rp_mem_free(steps);
    return RP_STATUS_OK;
}

static const struct rp_digest_line *find_line(const struct rp_digests *digests, uint64_t step)
{
    for (int64_t i = 0; i < digests->n; i++)
        if (digests->line[i].step == step) return &digests->line[i];
    return NULL;
}

static enum rp_status compare_line(const struct rp_digests *digests, uint64_t done,
                                   const struct rp_step_result *result, struct rp_error *err)
{
    const struct rp_digest_line *line = find_line(digests, done);
    uint32_t loss_bits;
    char want[RP_HEX64], got[RP_HEX64];
    memcpy(&loss_bits, &result->loss, sizeof loss_bits);
    if (!line)
        return rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                            "the record has no step %llu; `reprise show` says which it has",
                            (unsigned long long)done);
    if (line->params == result->params && line->loss_bits == loss_bits) return RP_STATUS_OK;
    rp_hex64(line->params, want);
    rp_hex64(result->params, got);
    return rp_error_set(
        err, RP_STATUS_DIFFERENT,
        "step %llu differs: params digest %s on record, %s computed (loss bits %08x and %08x); "
        "`reprise verify` tells whether the record is whole, another machine whether this one is",
        (unsigned long long)done, want, got, line->loss_bits, loss_bits);
}

/* One step by all ranks; every one has the record and compares, and comes to the same. */
static enum rp_status compute_step(struct rp_start *start, const struct rp_digests *digests,
                                   uint64_t step, uint64_t first, struct rp_train_result *result,
                                   struct rp_error *err)
{
    struct rp_step_result computed;
    struct rp_decision decision = {.stop = rp_signals_stop_asked()};
    RP_TRY(rp_step(start->trainer, step, &computed, err));
    RP_TRY(rp_ranks_decide(&start->comm, step + 1, &computed, NULL, 0, &decision, err));
    if (step + 1 >= first) {
        RP_TRY(compare_line(digests, step + 1, &computed, err));
        result->n_compared++;
    }
    result->step = step + 1;
    if (!decision.stop) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_STOPPED,
                        "stopped at step %llu; nothing is written by a replay. Run it again",
                        (unsigned long long)(step + 1));
}

static enum rp_status compute(struct rp_start *start, uint64_t first, uint64_t last,
                              struct rp_train_result *result, struct rp_error *err)
{
    struct rp_digests digests = {0};
    char *path = rp_sys_join(start->run, "digests.jsonl");
    enum rp_status status = rp_digests_read(path, &digests, err);
    for (uint64_t step = start->origin.state.step; status == RP_STATUS_OK && step < last; step++) {
        status = compute_step(start, &digests, step, first, result, err);
        rp_log_progress("step %llu of %llu", (unsigned long long)(step + 1),
                        (unsigned long long)last);
    }
    rp_log_progress_clear();
    rp_digests_release(&digests);
    rp_mem_free(path);
    return status;
}

/* The state that all go on from; rank 0 says which. */
static enum rp_status restore(struct rp_start *start, uint64_t first, struct rp_error *err)
{
    uint64_t step = 0, all[RP_COMM_MAX_RANKS];
    if (start->world.rank == 0) RP_TRY(pick_checkpoint(start->run, first, &step, err));
    RP_TRY(rp_comm_agree(&start->comm, &step, sizeof step, all, err));
    RP_TRY(rp_weights_begin(start->trainer, start->run, all[0], &start->origin, err));
    rp_comm_settle(&start->comm);
    return RP_STATUS_OK;
}

/* `state` (may be NULL) gets what is there after the last step. */
static enum rp_status replay(struct rp_start *start, uint64_t first, uint64_t last,
                             struct rp_train_result *result, struct rp_checkpoint *state,
                             struct rp_error *err)
{
    bool finished = false, go = true;
    if (start->world.rank == 0) RP_TRY(rp_start_look(start, &finished, err));
    RP_TRY(rp_start_prepare(start, err));
    RP_TRY(rp_ranks_ready(start, &go, err));
    RP_TRY(rp_start_open_trainer(start, err));
    RP_TRY(rp_start_connect(start, err));
    RP_TRY(restore(start, first, err));
    RP_TRY(compute(start, first, last, result, err));
    result->status = "equal";
    return state ? rp_trainer_snapshot(start->trainer, state, err) : RP_STATUS_OK;
}

/* With `state` one rank has all of it. */
static enum rp_status open_and_replay(const struct rp_spec *spec, const char *run, uint64_t first,
                                      uint64_t last, struct rp_train_result *result,
                                      struct rp_checkpoint *state, struct rp_error *err)
{
    struct rp_train_options options = {.out = run};
    struct rp_start start = {
        .spec = spec, .options = &options, .log_fd = -1, .manifest = {.segment = -1}};
    enum rp_status status = RP_STATUS_OK;
    start.world.n_ranks = start.comm.n_ranks = 1;
    *result = (struct rp_train_result){.status = "failed", .run = rp_mem_copy_text(run)};
    start.run = rp_mem_copy_text(run);
    if (!state) status = rp_ranks_open(&start, err);
    if (status == RP_STATUS_OK) status = replay(&start, first, last, result, state, err);
    if (start.world.rank != 0 && rp_comm_ends_together(status)) rp_log_mute();
    rp_ranks_close(&start, status, err->text);
    rp_start_close(&start);
    return status;
}

enum rp_status rp_train_replay(const struct rp_spec *spec, const char *run, uint64_t first,
                               uint64_t last, struct rp_train_result *result, struct rp_error *err)
{
    return open_and_replay(spec, run, first, last, result, NULL, err);
}

enum rp_status rp_train_recompute(const struct rp_spec *spec, const char *run, uint64_t step,
                                  struct rp_checkpoint *state, struct rp_error *err)
{
    struct rp_train_result result = {0};
    enum rp_status status = open_and_replay(spec, run, step, step, &result, state, err);
    rp_train_result_release(&result);
    return status;
}
