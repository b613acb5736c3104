/* replay.c - the steps of a run computed again in memory and compared with its record: rerun
 * --steps A:B, compare --replay. */
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

static enum rp_status compute(struct rp_start *start, uint64_t first, uint64_t last,
                              struct rp_train_result *result, struct rp_error *err)
{
    struct rp_digests digests = {0};
    char *path = rp_sys_join(start->run, "digests.jsonl");
    enum rp_status status = rp_digests_read(path, &digests, err);
    for (uint64_t step = start->origin.state.step; status == RP_STATUS_OK && step < last; step++) {
        struct rp_step_result step_result;
        status = rp_step(start->trainer, step, &step_result, err);
        if (status == RP_STATUS_OK && step + 1 >= first) {
            status = compare_line(&digests, step + 1, &step_result, err);
            result->n_compared += status == RP_STATUS_OK;
        }
        result->step = step + 1;
        rp_log_progress("step %llu of %llu", (unsigned long long)(step + 1),
                        (unsigned long long)last);
        if (status == RP_STATUS_OK && rp_signals_stop_asked())
            status =
                rp_error_set(err, RP_STATUS_STOPPED,
                             "stopped at step %llu; nothing is written by a replay. Run it again",
                             (unsigned long long)(step + 1));
    }
    rp_log_progress_clear();
    rp_digests_release(&digests);
    rp_mem_free(path);
    return status;
}

/* `state` (may be NULL) gets what is there after the last step. */
static enum rp_status replay(const struct rp_spec *spec, const char *run, uint64_t first,
                             uint64_t last, struct rp_train_result *result,
                             struct rp_checkpoint *state, struct rp_error *err)
{
    struct rp_train_options options = {.out = run};
    struct rp_start start = {
        .spec = spec, .options = &options, .log_fd = -1, .manifest = {.segment = -1}};
    start.world.n_ranks = 1;
    enum rp_status status = RP_STATUS_OK;
    bool finished = false;
    uint64_t step = 0;
    *result = (struct rp_train_result){.status = "failed"};
    start.run = rp_mem_copy_text(run);
    RP_TRY_GOTO(status, rp_start_look(&start, &finished, err), out);
    RP_TRY_GOTO(status, rp_start_prepare(&start, err), out);
    RP_TRY_GOTO(
        status,
        rp_trainer_open(spec, start.plan, start.data, start.device, NULL, &start.trainer, err),
        out);
    RP_TRY_GOTO(status, pick_checkpoint(run, first, &step, err), out);
    RP_TRY_GOTO(status, rp_weights_begin(start.trainer, run, step, &start.origin, err), out);
    status = compute(&start, first, last, result, err);
    if (status == RP_STATUS_OK) result->status = "equal";
    if (state && status == RP_STATUS_OK) status = rp_trainer_snapshot(start.trainer, state, err);
out:
    result->run = rp_mem_copy_text(run);
    rp_start_close(&start);
    return status;
}

enum rp_status rp_train_replay(const struct rp_spec *spec, const char *run, uint64_t first,
                               uint64_t last, struct rp_train_result *result, struct rp_error *err)
{
    return replay(spec, run, first, last, result, NULL, err);
}

enum rp_status rp_train_recompute(const struct rp_spec *spec, const char *run, uint64_t step,
                                  struct rp_checkpoint *state, struct rp_error *err)
{
    struct rp_train_result result = {0};
    enum rp_status status = replay(spec, run, step, step, &result, state, err);
    rp_train_result_release(&result);
    return status;
}
