/* pick.c - the checkpoint that a person means by best, last, or the number of a step. */
#include "checkpoint/checkpoint.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum rp_status no_such_step(const char *run, const uint64_t *steps, int n, const char *at,
                                   struct rp_error *err)
{
    struct rp_text list = {0};
    for (int i = 0; i < n; i++) rp_text_add(&list, "%s%" PRIu64, i ? ", " : "", steps[i]);
    enum rp_status status =
        rp_error_set(err, RP_STATUS_NO_CHECKPOINT, "%s keeps no checkpoint of step %s; it has: %s",
                     run, at, n ? rp_text_get(&list) : "none");
    rp_text_release(&list);
    return status;
}

static enum rp_status pick_best(const char *run, uint64_t newest, uint64_t *step,
                                struct rp_error *err)
{
    struct rp_checkpoint_state state;
    RP_TRY(rp_checkpoint_read_state(run, newest, &state, err));
    *step = state.best_step;
    if (state.has_best) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s has no best checkpoint: its spec has no checkpoint.keep.best, or "
                        "nothing was evaluated yet; take its last one, or name a step",
                        run);
}

static enum rp_status pick_number(const char *run, const uint64_t *steps, int n, const char *at,
                                  uint64_t *step, struct rp_error *err)
{
    char *end = NULL;
    *step = strtoull(at, &end, 10);
    if (end == at || *end || at[0] == '-')
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "no checkpoint is called %s: expected best, last, or a step such as 500", at);
    for (int i = 0; i < n; i++)
        if (steps[i] == *step) return RP_STATUS_OK;
    return no_such_step(run, steps, n, at, err);
}

enum rp_status rp_checkpoint_pick(const char *run, const char *at, uint64_t *step,
                                  struct rp_error *err)
{
    uint64_t *steps = NULL;
    int n = 0;
    enum rp_status status = rp_checkpoint_list(run, &steps, &n, err);
    if (status == RP_STATUS_OK && strcmp(at, "best") != 0 && strcmp(at, "last") != 0)
        status = pick_number(run, steps, n, at, step, err);
    else if (status == RP_STATUS_OK && n == 0)
        status = rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                              "%s holds no checkpoint yet; `reprise show %s` says why", run, run);
    else if (status == RP_STATUS_OK && strcmp(at, "best") == 0)
        status = pick_best(run, steps[n - 1], step, err);
    else if (status == RP_STATUS_OK)
        *step = steps[n - 1];
    rp_mem_free(steps);
    return status;
}
