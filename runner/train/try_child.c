/* try_child.c - one rank of a trial: the start of a real run, its first steps, a report. */
#include "train/try_int.h"

#include "base/host.h"
#include "base/log.h"
#include "base/sys.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include <signal.h>
#include <unistd.h>

/* ---- the loop's marks ------------------------------------------------------------------------ */

bool rp_trial_event(const struct rp_trial *trial, uint64_t step)
{
    return trial && trial->event_at > 0 && step == trial->event_at;
}

/* A parent that is gone takes us with it. */
static void send_report(int pipe, const struct rp_trial_report *report)
{
    struct rp_error ignored = {0};
    if (rp_sys_write(pipe, report, sizeof *report, "a pipe", &ignored) != RP_STATUS_OK) _exit(1);
}

static enum rp_status find_peak(struct rp_trial *trial, struct rp_error *err)
{
    struct rp_comm *comm = &trial->start->comm;
    uint64_t mine = rp_host_peak_memory(), all[RP_COMM_MAX_RANKS];
    RP_TRY(rp_comm_agree(comm, &mine, sizeof mine, all, err));
    for (int r = 0; r < comm->n_ranks; r++)
        if (all[r] > trial->peak_bytes) trial->peak_bytes = all[r];
    return RP_STATUS_OK;
}

/* Rank 0 is killed by its parent; the others, on whatever host, see it go. */
static _Noreturn void wait_for_kill(const struct rp_comm *comm)
{
    while (!rp_comm_is_over(comm)) rp_sys_sleep(0.01);
    _exit(0);
}

static enum rp_status reached(struct rp_trial *trial, const struct rp_loop *loop,
                              struct rp_error *err)
{
    struct rp_trial_report *report = RP_NEW(struct rp_trial_report);
    uint64_t left, metrics_bytes, digests_bytes;
    enum rp_status status = RP_STATUS_OK;
    if (loop->record) {
        report->chain = loop->state.chain;
        rp_record_counts(loop->record, &report->n_checked, &left);
        status = rp_record_mark(loop->record, &metrics_bytes, &digests_bytes, err);
    }
    if (status == RP_STATUS_OK && !trial->resumed) status = find_peak(trial, err);
    if (status == RP_STATUS_OK) {
        if (!trial->resumed) rp_trial_estimate(trial, &report->figures);
        send_report(trial->pipe, report);
        if (!trial->resumed) wait_for_kill(&trial->start->comm);
    }
    rp_mem_free(report);
    return status;
}

enum rp_status rp_trial_note(struct rp_trial *trial, const struct rp_loop *loop,
                             double eval_seconds, double save_seconds, double step_seconds,
                             struct rp_error *err)
{
    uint64_t step = loop->state.step;
    if (!trial || step > trial->last_step) return RP_STATUS_OK;
    if (step - 1 == trial->event_at && trial->event_at > 0) {
        trial->eval_seconds = eval_seconds;
        trial->save_seconds = save_seconds;
    }
    if (step <= RP_TRIAL_STEPS) trial->step_seconds[step - 1] = step_seconds;
    return step == trial->last_step ? reached(trial, loop, err) : RP_STATUS_OK;
}

/* ---- the start ------------------------------------------------------------------------------- */

/* What rank 0 has found in the folder of the real run. */
struct real {
    char run[1024];
    uint8_t found;
};

/* The checkpoint that a real run would go on from is read; nothing is written there. */
static enum rp_status load_real(struct rp_start *start, struct real *real, struct rp_error *err)
{
    struct real *all = RP_NEW_ARRAY(struct real, start->comm.n_ranks);
    struct rp_weights_origin origin;
    enum rp_status status = rp_comm_agree(&start->comm, real, sizeof *real, all, err);
    if (status != RP_STATUS_OK || !all[0].found) goto out;
    all[0].run[sizeof all[0].run - 1] = '\0';
    status =
        rp_start_connect(start, err); /* it may have no checkpoint, and weights that are sent */
    if (status == RP_STATUS_OK) status = rp_start_open_trainer(start, err);
    if (status == RP_STATUS_OK)
        status = rp_weights_begin(start->trainer, all[0].run, UINT64_MAX, &origin, err);
    rp_trainer_close(start->trainer);
    start->trainer = NULL;
out:
    rp_mem_free(all);
    return status;
}

/* What a real run would say of its folder before anything else. */
static enum rp_status look_at_real(struct rp_start *start, bool *finished, struct rp_error *err)
{
    RP_TRY(rp_start_look(start, finished, err));
    if (*finished || !rp_hold_is_held(start->run)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_BUSY,
                        "%s is in use by another process; wait for it, or use --out", start->run);
}

/* From here on the run is the one in the temporary folder. */
static void move_to(struct rp_start *start, const char *folder)
{
    rp_mem_free(start->run);
    start->run = rp_mem_copy_text(folder);
    rp_manifest_release(&start->manifest);
    start->manifest = (struct rp_manifest){.segment = -1};
    start->found = false;
}

/* What a real run would do before its first step in the real folder. */
static enum rp_status open_real(struct rp_start *start, const char *folder, bool *go,
                                struct rp_error *err)
{
    bool finished = false;
    struct real real = {.found = false};
    if (start->world.rank == 0) RP_TRY(look_at_real(start, &finished, err));
    *go = !finished;
    if (*go) RP_TRY(rp_start_prepare(start, err));
    char *run = rp_sys_absolute(start->run);
    snprintf(real.run, sizeof real.run, "%s", run);
    real.found = start->found;
    rp_mem_free(run);
    move_to(start, folder);
    RP_TRY(rp_ranks_ready(start, go, err));
    return *go ? load_real(start, &real, err) : RP_STATUS_OK;
}

static enum rp_status open_again(struct rp_start *start, const char *folder, struct rp_error *err)
{
    bool finished = false, go = true;
    move_to(start, folder);
    if (start->world.rank == 0) RP_TRY(rp_start_look(start, &finished, err));
    RP_TRY(rp_start_prepare(start, err));
    return rp_ranks_ready(start, &go, err);
}

static enum rp_status run_steps(struct rp_start *start, struct rp_trial *trial,
                                struct rp_error *err)
{
    struct rp_loop loop = {.trainer = start->trainer,
                           .record = start->record,
                           .saver = start->saver,
                           .state = start->origin.state,
                           .trial = trial};
    if (start->plan->n_steps < trial->last_step) {
        trial->last_step = start->plan->n_steps;
        if (trial->event_at) trial->event_at = trial->last_step - 1;
    }
    trial->start = start;
    trial->start_seconds = rp_sys_clock() - trial->opened;
    RP_TRY(rp_loop_run(&loop, err));
    RP_TRY(rp_saver_wait(start->saver, NULL, err));
    if (start->world.rank != 0) return RP_STATUS_OK;
    rp_facts_end(start, RP_STATUS_STOPPED, "stopped", "signal", &loop.state, NULL, NULL);
    return rp_manifest_write(&start->manifest, err);
}

static enum rp_status open_and_run(struct rp_start *start, const char *folder,
                                   struct rp_trial *trial, struct rp_error *err)
{
    bool go = true;
    RP_TRY(rp_ranks_join(start, err));
    RP_TRY(trial->resumed ? open_again(start, folder, err) : open_real(start, folder, &go, err));
    if (!go) { /* the run has finished */
        struct rp_trial_report *report = RP_NEW(struct rp_trial_report);
        report->figures.was_finished = true;
        send_report(trial->pipe, report);
        rp_mem_free(report);
        return RP_STATUS_OK;
    }
    if (start->world.rank == 0) RP_TRY(rp_start_take(start, err));
    RP_TRY(start->world.rank == 0 ? rp_start_lead(start, err) : rp_start_follow(start, err));
    return run_steps(start, trial, err);
}

_Noreturn void rp_trial_be_rank(const struct rp_spec *spec, const struct rp_train_options *options,
                                const struct rp_comm_world *world, const char *real,
                                const char *folder, struct rp_trial *trial)
{
    struct rp_train_options own = *options;
    struct rp_start start = {.spec = spec,
                             .options = &own,
                             .log_fd = -1,
                             .manifest = {.segment = -1},
                             .world = *world,
                             .run = rp_mem_copy_text(real)};
    struct rp_error *err = RP_NEW(struct rp_error);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for a signal that cannot come */
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    rp_log_mute(); /* what is wrong goes to the parent, who says it once */
    own.fresh &= !trial->resumed;
    trial->opened = rp_sys_clock();
    rp_comm_open_one(&start.comm);
    enum rp_status status = open_and_run(&start, folder, trial, err);
    if (status != RP_STATUS_OK) {
        struct rp_trial_report *report = RP_NEW(struct rp_trial_report);
        report->status = status;
        report->told = start.world.rank != 0 &&
                       (rp_comm_is_over(&start.comm) || rp_comm_ends_together(status));
        snprintf(report->text, sizeof report->text, "%s", err->text);
        send_report(trial->pipe, report);
    }
    rp_ranks_close(&start, status, err->text);
    rp_start_close(&start);
    _exit(status == RP_STATUS_OK ? 0 : 1);
}
