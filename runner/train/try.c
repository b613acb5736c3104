/* try.c - `run --try`: the first steps of a job in a folder of its own, killed and resumed, so that
 * ten seconds tell whether hours will work.
 *
 * Two processes after each other, both made by fork: the first opens everything as a real run
 * would, takes three steps with an evaluation and a save between them, reports, and is killed; the
 * second resumes from that save, computes the lost step again and compares it with the record, then
 * goes on until a signal stops it. The parent reads the reports, holds the clock and cleans up. */
#include "train/try_int.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a process of the trial says through its pipe: once, whole. */
struct report {
    enum rp_status status;
    char text[RP_ERROR_TEXT_BYTES]; /* what is wrong */
    struct rp_sha256 chain;         /* after the last of the three steps */
    struct rp_try_result figures;   /* of the first process */
    uint64_t n_checked;             /* of the second: steps computed again and found equal */
};

/* ---- in the child: the loop's marks
 * ---------------------------------------------------------------- */

bool rp_trial_event(const struct rp_trial *trial, uint64_t step)
{
    return trial && trial->event_at > 0 && step == trial->event_at;
}

static void send_report(int pipe, const struct report *report)
{
    const char *at = (const char *)report;
    size_t left = sizeof *report;
    while (left > 0) {
        ssize_t n = write(pipe, at, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* the parent is gone, and we go with it */
        at += n;
        left -= (size_t)n;
    }
}

static enum rp_status reached(struct rp_trial *trial, const struct rp_loop *loop,
                              struct rp_error *err)
{
    struct report *report = RP_NEW(struct report);
    uint64_t left, metrics_bytes, digests_bytes;
    report->chain = loop->state.chain;
    rp_record_counts(loop->record, &report->n_checked, &left);
    enum rp_status status = rp_record_mark(loop->record, &metrics_bytes, &digests_bytes, err);
    if (status == RP_STATUS_OK && !trial->resumed) rp_trial_estimate(trial, &report->figures);
    report->status = status;
    if (err) snprintf(report->text, sizeof report->text, "%s", err->text);
    send_report(trial->pipe, report);
    rp_mem_free(report);
    while (!trial->resumed) pause(); /* for the kill */
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

/* ---- in the child: the run
 * ------------------------------------------------------------------------- */

/* What a real run would do before its first step in the real folder, up to loading the checkpoint
 * that it would go on from; nothing is written there. */
static enum rp_status look_at_real(struct rp_start *start, struct rp_error *err)
{
    bool finished = false;
    RP_TRY(rp_start_look(start, &finished, err));
    RP_TRY(rp_start_prepare(start, err));
    if (!start->found) return RP_STATUS_OK;
    struct rp_weights_origin origin;
    enum rp_status status = rp_trainer_open(start->spec, start->plan, start->data, start->device,
                                            NULL, &start->trainer, err);
    if (status == RP_STATUS_OK)
        status = rp_weights_begin(start->trainer, start->run, UINT64_MAX, &origin, err);
    rp_trainer_close(start->trainer);
    start->trainer = NULL;
    return status;
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
    rp_facts_end(start, RP_STATUS_STOPPED, "stopped", "signal", &loop.state, NULL, NULL);
    return rp_manifest_write(&start->manifest, err);
}

/* The whole of one child process; never returns. */
static void be_child(const struct rp_spec *spec, const struct rp_train_options *options,
                     const char *real, const char *folder, struct rp_trial *trial)
{
    struct rp_start start = {
        .spec = spec, .options = options, .log_fd = -1, .manifest = {.segment = -1}};
    start.world.n_ranks = 1; /* a trial is of one rank */
    struct rp_error *err = RP_NEW(struct rp_error);
    enum rp_status status;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody waits for a signal that cannot come */
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    trial->opened = rp_sys_clock();
    start.run = rp_mem_copy_text(trial->resumed ? folder : real);
    if (trial->resumed) {
        bool finished = false;
        status = rp_start_look(&start, &finished, err);
        if (status == RP_STATUS_OK) status = rp_start_prepare(&start, err);
    } else {
        status = look_at_real(&start, err);
        move_to(&start, folder);
    }
    if (status == RP_STATUS_OK) status = rp_start_take(&start, err);
    if (status == RP_STATUS_OK) status = rp_start_begin(&start, err);
    if (status == RP_STATUS_OK) status = run_steps(&start, trial, err);
    if (status != RP_STATUS_OK) {
        struct report *report = RP_NEW(struct report);
        report->status = status;
        snprintf(report->text, sizeof report->text, "%s", err->text);
        send_report(trial->pipe, report);
    }
    rp_start_close(&start);
    _exit(status == RP_STATUS_OK ? 0 : 1);
}

/* ---- in the parent
 * --------------------------------------------------------------------------------- */

struct parent {
    const struct rp_spec *spec;
    const struct rp_train_options *options;
    char *real, *folder; /* of the run; of the trial */
    pid_t child;
    int pipe;
};

static enum rp_status start_child(struct parent *p, struct rp_trial *trial, struct rp_error *err)
{
    int ends[2];
    if (pipe(ends) != 0)
        return rp_error_set(err, RP_STATUS_INTERNAL, "no pipe for the trial: %s", strerror(errno));
    trial->pipe = ends[1];
    fflush(NULL);
    p->child = fork();
    if (p->child == 0) {
        close(ends[0]);
        be_child(p->spec, p->options, p->real, p->folder, trial);
    }
    close(ends[1]);
    p->pipe = ends[0];
    if (p->child > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_INTERNAL, "no process for the trial: %s", strerror(errno));
}

static void end_child(struct parent *p)
{
    if (p->child > 0) {
        kill(p->child, SIGKILL);
        while (waitpid(p->child, NULL, 0) < 0 && errno == EINTR) continue;
    }
    p->child = 0;
    if (p->pipe >= 0) close(p->pipe);
    p->pipe = -1;
}

/* Reads the child's report; a pipe that ends before it is a child that died on its own. */
static enum rp_status read_report(struct parent *p, struct report *report, struct rp_error *err)
{
    enum { LOOK_AGAIN_MS = 100 }; /* for signals, which restart a read */
    char *at = (char *)report;
    size_t left = sizeof *report;
    while (left > 0) {
        struct pollfd wait = {.fd = p->pipe, .events = POLLIN};
        int ready = poll(&wait, 1, LOOK_AGAIN_MS);
        if (rp_signals_stop_asked())
            return rp_error_set(err, RP_STATUS_STOPPED, "the trial was stopped by a signal");
        if (ready <= 0) continue;
        ssize_t n = read(p->pipe, at, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += n;
        left -= (size_t)n;
    }
    if (left == 0 && report->status == RP_STATUS_OK) return RP_STATUS_OK;
    if (left == 0) return rp_error_set(err, report->status, "%s", report->text);
    int how = 0;
    while (waitpid(p->child, &how, 0) < 0 && errno == EINTR) continue;
    p->child = 0;
    if (WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL)
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "the trial was killed from outside (signal 9), most likely for its "
                            "memory: lower train.micro_batch, or ask for more");
    return rp_error_set(err, RP_STATUS_INTERNAL, "the trial ended without a report (signal %d)",
                        WIFSIGNALED(how) ? WTERMSIG(how) : 0);
}

static enum rp_status first_process(struct parent *p, struct report *report, struct rp_error *err)
{
    struct rp_trial trial = {.last_step = RP_TRIAL_STEPS, .event_at = RP_TRIAL_STEPS - 1};
    enum rp_status status = start_child(p, &trial, err);
    if (status == RP_STATUS_OK) status = read_report(p, report, err);
    end_child(p);
    return status;
}

/* From the signal to the end of the process, with the save that it asks for. */
static enum rp_status stop_child(struct parent *p, double *seconds, struct rp_error *err)
{
    int how = 0;
    double asked = rp_sys_clock();
    kill(p->child, SIGTERM);
    while (waitpid(p->child, &how, 0) < 0) {
        if (errno == EINTR && !rp_signals_stop_asked()) continue;
        return rp_error_set(err, RP_STATUS_STOPPED, "the trial was stopped by a signal");
    }
    *seconds = rp_sys_clock() - asked;
    p->child = 0;
    if (WIFEXITED(how) && WEXITSTATUS(how) == 0) return RP_STATUS_OK;
    /* What it had to say stands in the pipe. */
    struct report *report = RP_NEW(struct report);
    enum rp_status status = RP_STATUS_INTERNAL;
    if (read(p->pipe, report, sizeof *report) == (ssize_t)sizeof *report &&
        report->status != RP_STATUS_OK)
        status = rp_error_set(err, report->status, "%s", report->text);
    else
        status = rp_error_set(err, status, "the trial did not stop cleanly");
    rp_mem_free(report);
    return status;
}

static enum rp_status second_process(struct parent *p, const struct report *first,
                                     struct rp_try_result *result, struct rp_error *err)
{
    struct rp_trial trial = {.last_step = first->figures.n_tried, .resumed = true};
    struct report *report = RP_NEW(struct report);
    enum rp_status status = start_child(p, &trial, err);
    if (status == RP_STATUS_OK) status = read_report(p, report, err);
    if (status == RP_STATUS_OK) status = stop_child(p, &result->stop_seconds, err);
    end_child(p);
    result->n_checked = report->n_checked;
    if (status == RP_STATUS_OK && !rp_sha256_equal(&report->chain, &first->chain))
        status = rp_error_set(err, RP_STATUS_DIFFERENT,
                              "resumed after a kill, step %llu has other bits than before it: "
                              "suspect this machine and try on another",
                              (unsigned long long)trial.last_step);
    rp_mem_free(report);
    return status;
}

/* Beside the run folder that it stands for, so that both see the same disk: in the nearest folder
 * above it that is there already. */
static char *trial_folder(const char *real, const char *name)
{
    struct rp_sys_stat stat = {0};
    char *parent = rp_sys_folder_of(real);
    while (rp_sys_stat(parent, &stat, NULL) != RP_STATUS_OK || !stat.exists) {
        char *above = rp_sys_folder_of(parent);
        rp_mem_free(parent);
        parent = above;
    }
    char *folder = rp_mem_text("%s/.try-%s-%d", parent, name, rp_sys_pid());
    rp_mem_free(parent);
    return folder;
}

/* What a real run would say of its folder before anything else. */
static enum rp_status check_real(struct parent *p, struct rp_try_result *result,
                                 struct rp_error *err)
{
    struct rp_start start = {.spec = p->spec,
                             .options = p->options,
                             .log_fd = -1,
                             .manifest = {.segment = -1},
                             .world = {.n_ranks = 1},
                             .run = rp_mem_copy_text(p->real)};
    enum rp_status status = rp_start_look(&start, &result->was_finished, err);
    if (status == RP_STATUS_OK && !result->was_finished && rp_hold_is_held(p->real))
        status =
            rp_error_set(err, RP_STATUS_BUSY,
                         "%s is in use by another process; wait for it, or use --out", p->real);
    rp_start_close(&start);
    return status;
}

static enum rp_status try_it(struct parent *p, struct rp_try_result *result, struct rp_error *err)
{
    struct report *first = RP_NEW(struct report);
    enum rp_status status;
    RP_TRY_GOTO(status, check_real(p, result, err), out);
    if (result->was_finished) goto out;
    p->folder = trial_folder(p->real, p->spec->name);
    rp_log_info("trying the first steps in %s", p->folder);
    RP_TRY_GOTO(status, first_process(p, first, err), out);
    *result = first->figures;
    rp_log_info("%llu steps, an evaluation and a save; killed, resuming",
                (unsigned long long)result->n_tried);
    status = second_process(p, first, result, err);
    result->free_bytes = rp_sys_free_space(p->folder);
    result->quota = rp_sys_quota(p->folder);
out:
    rp_mem_free(first);
    return status;
}

enum rp_status rp_train_try(const struct rp_spec *spec, const struct rp_train_options *options,
                            struct rp_try_result *result, struct rp_error *err)
{
    struct parent p = {.spec = spec, .options = options, .pipe = -1};
    *result = (struct rp_try_result){0};
    p.real = options->out ? rp_mem_copy_text(options->out) : rp_train_folder(spec);
    enum rp_status status = try_it(&p, result, err);
    if (p.folder && rp_sys_remove(p.folder, status == RP_STATUS_OK ? err : NULL) != RP_STATUS_OK &&
        status == RP_STATUS_OK)
        status = RP_STATUS_STORAGE;
    snprintf(result->run, sizeof result->run, "%s", p.real);
    rp_mem_free(p.folder);
    rp_mem_free(p.real);
    return status;
}
