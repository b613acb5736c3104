/* try.c - `run --try`: the first steps of a job in a folder of its own, killed and resumed, so that
 * ten seconds tell whether hours will work.
 *
 * Two rounds, in each a process for every rank that the run would have, all made by fork: the first
 * opens everything as a real run would, takes three steps with an evaluation and a save between
 * them, reports, and is killed; the second resumes from that save, computes the lost step again and
 * compares it with the record, then goes on until a signal stops it. The parent reads the reports,
 * holds the clock and cleans up. Where a launcher has started the ranks, each of its processes is
 * the parent of one, and rank 0's speaks. */
#include "train/try_int.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const double SECONDS_FOR_THE_OTHERS = 3; /* to say why, too; to end when one is gone */

struct child {
    pid_t pid;     /* 0: has been waited for */
    int pipe, how; /* -1: closed; how it ended */
    bool heard;    /* the report is whole, or will not come */
    size_t got;
    struct rp_trial_report report;
};
struct parent {
    const struct rp_spec *spec;
    const struct rp_train_options *options;
    char *real, *folder; /* of the run; of the trial */
    struct rp_comm_world world;
    int n; /* ranks that this process starts */
    struct child *child;
};

static bool leads(const struct parent *p)
{
    return p->world.rank == 0;
}

/* ---- which ranks there are ------------------------------------------------------------------- */

struct found {
    enum rp_status status;
    char text[RP_ERROR_TEXT_BYTES];
    struct rp_comm_world world;
    int n;
    bool starts;
};

/* What a launcher of MPI has started can begin with it once, and we would twice. */
static enum rp_status check_mover(const struct rp_spec *spec, const struct found *found,
                                  struct rp_error *err)
{
    if (found->starts || found->world.n_ranks == 1 || strcmp(spec->resources.comm, "mpi") != 0)
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "--try starts every rank twice, and MPI begins once: try with --set "
                        "resources.comm=auto, or start one process and demand ranks "
                        "(resources.ranks)");
}

static _Noreturn void find_ranks(const struct rp_spec *spec, int pipe)
{
    struct rp_start start = {.spec = spec};
    struct found *found = RP_NEW(struct found);
    struct rp_error *err = RP_NEW(struct rp_error);
    found->status = rp_ranks_find(&start, &found->n, &found->starts, err);
    found->world = start.world;
    if (found->status == RP_STATUS_OK) found->status = check_mover(spec, found, err);
    snprintf(found->text, sizeof found->text, "%s", err->text);
    bool sent = rp_sys_write(pipe, found, sizeof *found, "a pipe", err) == RP_STATUS_OK;
    _exit(sent ? 0 : 1);
}

static enum rp_status no_process(struct rp_error *err)
{
    return rp_error_set(err, RP_STATUS_INTERNAL, "no process for the trial: %s", strerror(errno));
}

/* In a process of its own: a GPU's driver, once asked, does not outlive a fork. */
static enum rp_status ask_for_ranks(struct parent *p, struct rp_error *err)
{
    int ends[2];
    size_t got = 0;
    p->world = (struct rp_comm_world){.n_ranks = 1, .n_nodes = 1, .local_ranks = 1, .listener = -1};
    p->n = 1;
    if (p->options->alone) return RP_STATUS_OK;
    if (pipe(ends) != 0) return no_process(err);
    struct found *found = RP_NEW(struct found);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) find_ranks(p->spec, ends[1]);
    close(ends[1]);
    enum rp_status status = pid > 0 ? rp_sys_read(ends[0], found, sizeof *found, &got, "a pipe",
                                                  RP_STATUS_INTERNAL, err)
                                    : no_process(err);
    close(ends[0]);
    rp_sys_wait_child(pid, NULL);
    if (status == RP_STATUS_OK && got != sizeof *found)
        status = rp_error_set(err, RP_STATUS_INTERNAL, "the ranks of the trial cannot be counted");
    if (status == RP_STATUS_OK && found->status != RP_STATUS_OK)
        status = rp_error_set(err, found->status, "%s", found->text);
    p->world = found->world;
    p->n = found->n;
    if (found->starts && p->world.n_nodes > 1) {
        p->world.rank = p->world.node * p->n;
        p->world.n_ranks = p->world.n_nodes * p->n;
        p->world.local_ranks = p->n;
    }
    rp_mem_free(found);
    return status;
}

/* ---- starting and ending them ---------------------------------------------------------------- */

static enum rp_status start_child(struct parent *p, int i, struct rp_trial *trial,
                                  struct rp_error *err)
{
    struct child *child = &p->child[i];
    int ends[2];
    if (pipe(ends) != 0) return no_process(err);
    *child = (struct child){.pipe = ends[0]};
    trial->pipe = ends[1];
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        struct rp_comm_world world = p->world;
        for (int k = 0; k <= i; k++) close(p->child[k].pipe);
        world.rank += i;
        if (p->n > 1) world.local_rank = i;
        if (world.rank != 0) {
            rp_sys_close(world.listener);
            world.listener = -1;
        }
        rp_trial_be_rank(p->spec, p->options, &world, p->real, p->folder, trial);
    }
    close(ends[1]);
    if (child->pid > 0) return RP_STATUS_OK;
    child->pid = 0;
    return no_process(err);
}

static void close_pipe(struct child *child)
{
    if (child->pipe >= 0) close(child->pipe);
    child->pipe = -1;
}

/* Ranks of this host alone meet anew in each round. */
static enum rp_status start_children(struct parent *p, const struct rp_trial *trial,
                                     struct rp_error *err)
{
    bool ours = p->n > 1 && p->world.n_nodes == 1;
    enum rp_status status = ours ? rp_comm_found(&p->world, p->n, err) : RP_STATUS_OK;
    for (int i = 0; i < p->n; i++) p->child[i] = (struct child){.pipe = -1};
    for (int i = 0; i < p->n && status == RP_STATUS_OK; i++) {
        struct rp_trial own = *trial;
        status = start_child(p, i, &own, err);
    }
    if (ours) rp_sys_close(p->world.listener);
    p->world.listener = -1;
    return status;
}

/* False: it has not ended. */
static bool has_ended(struct child *child)
{
    if (child->pid == 0) return true;
    if (waitpid(child->pid, &child->how, WNOHANG) != child->pid) return false;
    child->pid = 0;
    return true;
}

static void end_child(struct child *child)
{
    if (child->pid > 0) {
        kill(child->pid, SIGKILL);
        rp_sys_wait_child(child->pid, &child->how);
    }
    child->pid = 0;
    close_pipe(child);
}

/* Rank 0 first: what the others see is that it is gone. */
static void end_children(struct parent *p)
{
    for (int i = 0; i < p->n; i++) end_child(&p->child[i]);
}

/* ---- what they say --------------------------------------------------------------------------- */

/* A pipe that ends before the report is a child that died on its own. */
static void hear(struct child *child)
{
    char *at = (char *)&child->report + child->got;
    ssize_t n = read(child->pipe, at, sizeof child->report - child->got);
    if (n < 0 && errno == EINTR) return;
    if (n > 0) child->got += (size_t)n;
    child->heard = n <= 0 || child->got == sizeof child->report;
}

static bool has_failed(const struct child *child)
{
    return child->heard &&
           (child->got < sizeof child->report || child->report.status != RP_STATUS_OK);
}

/* How one ended that has said nothing. */
static enum rp_status died(const struct parent *p, struct child *child, struct rp_error *err)
{
    char which[32] = "";
    rp_sys_wait_child(child->pid, &child->how);
    child->pid = 0;
    if (p->world.n_ranks > 1)
        snprintf(which, sizeof which, ", its rank %d,", p->world.rank + (int)(child - p->child));
    if (WIFSIGNALED(child->how) && WTERMSIG(child->how) == SIGKILL)
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "the trial%s was killed from outside (signal 9), most likely for its "
                            "memory: lower train.micro_batch, or ask for more",
                            which);
    if (WIFEXITED(child->how) && WEXITSTATUS(child->how) == RP_STATUS_PEER_LOST)
        return rp_error_set(err, RP_STATUS_PEER_LOST, "the trial%s lost another rank", which);
    return rp_error_set(err, RP_STATUS_INTERNAL, "the trial%s ended without a report (signal %d)",
                        which, WIFSIGNALED(child->how) ? WTERMSIG(child->how) : 0);
}

/* The first that died, for the others only miss it; else what rank 0 says, as in a real run. */
static enum rp_status why_failed(struct parent *p, struct rp_error *err)
{
    const struct child *speaker = NULL;
    for (int i = p->n - 1; i >= 0; i--) {
        struct child *child = &p->child[i];
        if (child->heard && child->got < sizeof child->report) {
            enum rp_status status = died(p, child, err);
            if (status != RP_STATUS_PEER_LOST || p->n == 1) return status;
            rp_error_clear(err);
        } else if (has_failed(child)) {
            speaker = child;
        }
    }
    if (!speaker) return rp_error_set(err, RP_STATUS_PEER_LOST, "the trial lost a rank");
    if (speaker->report.told && !leads(p)) rp_log_mute();
    return rp_error_set(err, speaker->report.status, "%s", speaker->report.text);
}

/* Waits until every rank here has reported, or, after one has failed, a while longer. */
static enum rp_status hear_all(struct parent *p, struct rp_error *err)
{
    enum { LOOK_AGAIN_MS = 100 }; /* for signals, which restart a read */
    struct pollfd wait[RP_COMM_MAX_RANKS];
    double until = 0;
    for (;;) {
        bool all = true, failed = false;
        for (int i = 0; i < p->n; i++) {
            struct child *child = &p->child[i];
            wait[i] = (struct pollfd){.fd = child->heard ? -1 : child->pipe, .events = POLLIN};
            all &= child->heard;
            failed |= has_failed(child);
        }
        if (failed && until <= 0) until = rp_sys_clock() + SECONDS_FOR_THE_OTHERS;
        if (failed && (all || rp_sys_clock() > until)) return why_failed(p, err);
        if (all) return RP_STATUS_OK;
        int ready = poll(wait, (nfds_t)p->n, LOOK_AGAIN_MS);
        if (rp_signals_stop_asked())
            return rp_error_set(err, RP_STATUS_STOPPED, "the trial was stopped by a signal");
        for (int i = 0; ready > 0 && i < p->n; i++)
            if (wait[i].revents) hear(&p->child[i]);
    }
}

/* All ranks here have ended, by themselves; after `seconds` (0: never) those that have not are
 * killed. */
static enum rp_status wait_for_ends(struct parent *p, double seconds, struct rp_error *err)
{
    double until = rp_sys_clock() + seconds;
    for (int i = 0; i < p->n; i++) {
        while (!has_ended(&p->child[i])) {
            if (rp_signals_stop_asked())
                return rp_error_set(err, RP_STATUS_STOPPED, "the trial was stopped by a signal");
            if (seconds > 0 && rp_sys_clock() > until) break;
            rp_sys_sleep(0.002);
        }
    }
    return RP_STATUS_OK;
}

/* One has failed: all here tell the others, and end. */
static void let_end(struct parent *p, enum rp_status status)
{
    struct rp_error ignored = {0};
    if (status == RP_STATUS_OK || status == RP_STATUS_STOPPED) return;
    if (wait_for_ends(p, SECONDS_FOR_THE_OTHERS, &ignored) != RP_STATUS_OK)
        rp_error_clear(&ignored);
}

/* ---- the two rounds -------------------------------------------------------------------------- */

static enum rp_status first_round(struct parent *p, struct rp_error *err)
{
    struct rp_trial trial = {.last_step = RP_TRIAL_STEPS, .event_at = RP_TRIAL_STEPS - 1};
    enum rp_status status = start_children(p, &trial, err);
    if (status == RP_STATUS_OK) status = hear_all(p, err);
    if (status == RP_STATUS_OK && leads(p)) end_child(&p->child[0]);
    if (status == RP_STATUS_OK)
        status = wait_for_ends(p, leads(p) ? SECONDS_FOR_THE_OTHERS : 0, err);
    let_end(p, status);
    end_children(p);
    return status;
}

/* What one had to say that did not end in order stands in its pipe. */
static enum rp_status check_end(struct parent *p, struct child *child, struct rp_error *err)
{
    struct rp_trial_report *report = &child->report;
    if (WIFEXITED(child->how) && WEXITSTATUS(child->how) == 0) return RP_STATUS_OK;
    if (read(child->pipe, report, sizeof *report) != (ssize_t)sizeof *report ||
        report->status == RP_STATUS_OK)
        return rp_error_set(err, RP_STATUS_INTERNAL, "the trial did not stop cleanly");
    if (report->told && !leads(p)) rp_log_mute();
    return rp_error_set(err, report->status, "%s", report->text);
}

/* From the signal to the end of the last process, with the save that it asks for. Rank 0's is
 * asked; it tells the others. */
static enum rp_status stop_children(struct parent *p, double *seconds, struct rp_error *err)
{
    double asked = rp_sys_clock();
    if (leads(p)) kill(p->child[0].pid, SIGTERM);
    RP_TRY(wait_for_ends(p, 0, err));
    *seconds = rp_sys_clock() - asked;
    for (int i = 0; i < p->n; i++) RP_TRY(check_end(p, &p->child[i], err));
    return RP_STATUS_OK;
}

static enum rp_status second_round(struct parent *p, const struct rp_trial_report *first,
                                   struct rp_try_result *result, struct rp_error *err)
{
    struct rp_trial trial = {.last_step = first->figures.n_tried, .resumed = true};
    enum rp_status status = start_children(p, &trial, err);
    if (status == RP_STATUS_OK) status = hear_all(p, err);
    result->n_checked = p->child[0].report.n_checked;
    struct rp_sha256 chain = p->child[0].report.chain;
    if (status == RP_STATUS_OK) status = stop_children(p, &result->stop_seconds, err);
    let_end(p, status);
    end_children(p);
    if (status == RP_STATUS_OK && leads(p) && !rp_sha256_equal(&chain, &first->chain))
        status = rp_error_set(err, RP_STATUS_DIFFERENT,
                              "resumed after a kill, step %llu has other bits than before it: "
                              "suspect this machine and try on another",
                              (unsigned long long)first->figures.n_tried);
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

static enum rp_status try_it(struct parent *p, struct rp_try_result *result, struct rp_error *err)
{
    struct rp_trial_report *first = RP_NEW(struct rp_trial_report);
    enum rp_status status;
    RP_TRY_GOTO(status, ask_for_ranks(p, err), out);
    rp_ranks_speak_as(p->world.rank);
    p->child = RP_NEW_ARRAY(struct child, p->n);
    p->folder = trial_folder(p->real, p->spec->name);
    rp_log_info("trying the first steps in %s", p->folder);
    RP_TRY_GOTO(status, first_round(p, err), out);
    *first = p->child[0].report;
    *result = first->figures;
    if (result->was_finished) goto out;
    rp_log_info("%llu steps, an evaluation and a save; killed, resuming",
                (unsigned long long)result->n_tried);
    status = second_round(p, first, result, err);
    result->free_bytes = rp_sys_free_space(p->folder);
    result->quota = rp_sys_quota(p->folder);
out:
    rp_mem_free(first);
    return status;
}

enum rp_status rp_train_try(const struct rp_spec *spec, const struct rp_train_options *options,
                            struct rp_try_result *result, struct rp_error *err)
{
    struct parent p = {.spec = spec, .options = options, .n = 0};
    *result = (struct rp_try_result){0};
    p.real = options->out ? rp_mem_copy_text(options->out) : rp_train_folder(spec);
    enum rp_status status = try_it(&p, result, err);
    if (p.folder && rp_sys_remove(p.folder, status == RP_STATUS_OK ? err : NULL) != RP_STATUS_OK &&
        status == RP_STATUS_OK)
        status = RP_STATUS_STORAGE;
    snprintf(result->run, sizeof result->run, "%s", p.real);
    rp_mem_free(p.child);
    rp_mem_free(p.folder);
    rp_mem_free(p.real);
    return status;
}
