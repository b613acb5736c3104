/* measure.c - what a rank takes for its part of a step, for `plan --ranks`: copies of rank 0, as
 * many as a node has ranks, each a process made by fork, run some steps at the same time. They send
 * each other no sums, but agree after each step as ranks do: a step is over when the slowest has
 * come to its end, and has had its turn on a processor where there are fewer of them. Then, where
 * all ranks will be on this machine, the ranks themselves, connected as in a run.
 *
 * Of the steps the median counts: what else the machine does now and then is not the job's. */
#include "train/measure_int.h"
#include "train/train_int.h"

#include "base/host.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "env/env.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { LEAST_STEPS = 5, MOST_STEPS = 300, MOST_COPIES = 64, MOST_ADDED = 64 << 20 };
static const double SECONDS_TO_MEASURE = 1;

/* What a copy says through its pipe: when it is ready, and when it has measured. */
struct report {
    enum rp_status status;
    char text[RP_ERROR_TEXT_BYTES]; /* what is wrong */
    char where[192];
    bool on_gpu;
    int64_t parameters;
    double step_seconds; /* ready: of the first step */
    double update_seconds, add_seconds, reduce_seconds, gather_seconds;
};

static bool send_all(int pipe, const void *bytes, size_t n)
{
    return rp_sys_write(pipe, bytes, n, "a pipe", NULL) == RP_STATUS_OK;
}

static bool receive_all(int pipe, void *bytes, size_t n)
{
    size_t got = 0;
    return rp_sys_read(pipe, bytes, n, &got, "a pipe", RP_STATUS_INTERNAL, NULL) == RP_STATUS_OK &&
           got == n;
}

/* ---- in a copy ------------------------------------------------------------------------------- */

struct copy {
    const struct rp_spec *spec;
    const struct rp_data *data;
    int ranks, copies, threads; /* of R; that run at once; of each */
    struct rp_device *device;
    struct rp_plan *plan;
    struct rp_trainer *trainer;
    uint64_t step;
    bool connected; /* it is one of R ranks; else it is rank 0, without the others */
    struct rp_comm_world
        world; /* of the copies; of the first until it is known which one this is */
    struct rp_comm comm;
    struct rp_comm channel; /* not connected: to agree with the other copies */
};

static enum rp_status check_memory(const struct copy *c, struct rp_error *err)
{
    uint64_t limit = rp_sys_memory_limit();
    RP_TRY(rp_plan_check_memory(c->plan, err));
    if (c->plan->memory_bytes <= limit / (uint64_t)c->copies) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_MEMORY,
                        "%d ranks on one machine need %.0f MiB each and it gives %.0f MiB in all: "
                        "measure with fewer (--per-node), or where there is more memory",
                        c->copies, (double)c->plan->memory_bytes / 1048576.0,
                        (double)limit / 1048576.0);
}

/* A rank among the others, or one that has only their number. */
static enum rp_status open_comm(struct copy *c, struct rp_error *err)
{
    struct rp_comm_options options = {.peer_timeout = c->spec->resources.timeout_peer,
                                      .step_timeout = c->spec->resources.timeout_step};
    rp_comm_open_alone(&c->comm, c->ranks);
    if (!c->connected) return rp_comm_open(&c->world, &options, &c->channel, err);
    RP_TRY(rp_comm_open(&c->world, &options, &c->comm, err));
    return rp_comm_choose(&c->comm, &c->world, c->spec->resources.comm, c->device, err);
}

static enum rp_status open_copy(struct copy *c, bool no_graph, struct rp_error *err)
{
    struct rp_env_device_options device = {
        .threads = c->threads, .no_graph = no_graph, .quiet = true, .gpu = c->world.local_rank};
    struct rp_weights_origin origin;
    RP_TRY(rp_env_open_device(c->spec, &device, &c->device, err));
    RP_TRY(open_comm(c, err));
    RP_TRY(rp_plan_make_for(c->spec, rp_data_shape(c->data), c->threads, c->ranks, c->device->table,
                            &c->plan, err));
    RP_TRY(check_memory(c, err));
    RP_TRY(rp_trainer_open(c->spec, c->plan, c->data, c->device, &c->comm, &c->trainer, err));
    if (c->connected) RP_TRY(rp_comm_connect(&c->comm, err));
    RP_TRY(rp_comm_reserve(&c->comm, c->plan->owners.incoming, err));
    return rp_weights_begin(c->trainer, "", 0, &origin, err);
}

static void close_copy(struct copy *c)
{
    rp_trainer_close(c->trainer);
    rp_plan_free(c->plan);
    rp_env_close_device(c->device);
    c->trainer = NULL;
    c->plan = NULL;
    c->device = NULL;
}

static void describe(const struct copy *c, struct report *report)
{
    struct rp_device_facts facts;
    struct rp_host_system system;
    c->device->table->facts(c->device, &facts);
    rp_host_system(&system);
    report->on_gpu = c->device->table != &rp_device_cpu;
    report->parameters = c->plan->model->parameter_elements;
    snprintf(report->where, sizeof report->where, "%s",
             report->on_gpu || !system.cpu[0] ? facts.model : system.cpu);
}

static enum rp_status run_step(struct copy *c, double *seconds, struct rp_error *err)
{
    struct rp_step_result result;
    struct rp_decision decision = {0};
    double begun = rp_sys_clock();
    RP_TRY(rp_step(c->trainer, c->step++, &result, err));
    RP_TRY(rp_ranks_decide(c->connected ? &c->comm : &c->channel, c->step,
                           c->connected ? &result : NULL, NULL, 0, &decision, err));
    *seconds = rp_sys_clock() - begun;
    return RP_STATUS_OK;
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double rp_measure_median(const double *seconds, int n)
{
    double *sorted = RP_NEW_ARRAY(double, n);
    memcpy(sorted, seconds, (size_t)n * sizeof *seconds);
    qsort(sorted, (size_t)n, sizeof *sorted, compare_seconds);
    double middle = sorted[(n - 1) / 2];
    rp_mem_free(sorted);
    return middle;
}

static enum rp_status add_for_a_while(struct rp_device *device, void *left, void *right,
                                      uint64_t bytes, double *seconds, struct rp_error *err)
{
    struct rp_pass pass = {0};
    struct rp_op_call add = rp_op_add_call(left, right, bytes / sizeof(float), left);
    int n = 0;
    double begun = 0;
    do { /* the first one warms up */
        RP_TRY(device->table->run(device, &add, &pass, err));
        RP_TRY(device->table->sync(device, err));
        if (n++ == 0) begun = rp_sys_clock();
    } while (n < 2 || rp_sys_clock() - begun < SECONDS_TO_MEASURE / 10);
    *seconds = (rp_sys_clock() - begun) / (n - 1);
    return RP_STATUS_OK;
}

/* The additions of the tree over ranks, on as much as the sums are or a part of it. */
static enum rp_status measure_add(const struct copy *c, double *seconds, struct rp_error *err)
{
    const struct rp_device_table *device = c->device->table;
    uint64_t whole = c->plan->owners.sum_bytes, bytes = whole < MOST_ADDED ? whole : MOST_ADDED;
    void *left = NULL, *right = NULL;
    enum rp_status status = device->alloc(c->device, bytes, &left, err);
    if (status == RP_STATUS_OK) status = device->alloc(c->device, bytes, &right, err);
    if (status == RP_STATUS_OK) status = device->zero(c->device, left, bytes, err);
    if (status == RP_STATUS_OK) status = device->zero(c->device, right, bytes, err);
    if (status == RP_STATUS_OK)
        status = add_for_a_while(c->device, left, right, bytes, seconds, err);
    *seconds *= (double)whole / (double)bytes;
    if (right) device->free(c->device, right);
    if (left) device->free(c->device, left);
    return status;
}

/* Whole steps; of the one in the middle, what reduces and gathers on this rank. */
static enum rp_status measure_connected(struct copy *c, int n, struct report *report,
                                        struct rp_error *err)
{
    double each[MOST_STEPS] = {0}, reduce[MOST_STEPS + 1] = {0}, gather[MOST_STEPS + 1] = {0};
    struct rp_profile *profile = c->trainer->profile = rp_profile_new(c->device, false);
    for (int i = 0; i < n; i++) {
        RP_TRY(run_step(c, &each[i], err));
        reduce[i + 1] = rp_profile_seconds(profile, RP_PHASE_REDUCE);
        gather[i + 1] = rp_profile_seconds(profile, RP_PHASE_GATHER);
    }
    report->step_seconds = rp_measure_median(each, n);
    for (int i = 0; i < n; i++) {
        if (each[i] < report->step_seconds || each[i] > report->step_seconds) continue;
        report->reduce_seconds = reduce[i + 1] - reduce[i];
        report->gather_seconds = gather[i + 1] - gather[i];
    }
    return RP_STATUS_OK;
}

/* Phases are told apart where no graph holds the whole step. */
static enum rp_status measure_update(struct copy *c, int n, struct report *report,
                                     struct rp_error *err)
{
    double ignored, update[MOST_STEPS] = {0};
    if (report->on_gpu) {
        close_copy(c);
        RP_TRY(open_copy(c, true, err));
        RP_TRY(run_step(c, &ignored, err));
    }
    struct rp_profile *profile = c->trainer->profile = rp_profile_new(c->device, true);
    for (int i = 0; i < n; i++) {
        double before = rp_profile_seconds(profile, RP_PHASE_UPDATE);
        RP_TRY(run_step(c, &ignored, err));
        update[i] = rp_profile_seconds(profile, RP_PHASE_UPDATE) - before;
    }
    report->update_seconds = rp_measure_median(update, n);
    return RP_STATUS_OK;
}

static enum rp_status measure(struct copy *c, int n, struct report *report, struct rp_error *err)
{
    double each[MOST_STEPS] = {0};
    if (c->connected) return measure_connected(c, n, report, err);
    for (int i = 0; i < n; i++) RP_TRY(run_step(c, &each[i], err));
    report->step_seconds = rp_measure_median(each, n);
    RP_TRY(measure_update(c, n / 4 > LEAST_STEPS ? n / 4 : LEAST_STEPS, report, err));
    return measure_add(c, &report->add_seconds, err);
}

/* Those who wait for this copy end with it. */
static void leave(struct copy *c, enum rp_status status, const char *text)
{
    rp_comm_close(c->connected ? &c->comm : &c->channel, status, text);
}

/* The whole of a copy; never returns. A number from the parent is the go and says how many steps.
 */
static void be_copy(struct copy *c, int from_parent, int to_parent)
{
    struct report *report = RP_NEW(struct report);
    struct rp_error *err = RP_NEW(struct rp_error);
    int n = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    rp_log_mute(); /* what is wrong goes to the parent, who says it once */
    report->status = open_copy(c, false, err);
    if (report->status == RP_STATUS_OK) {
        report->status = run_step(c, &report->step_seconds, err);
        describe(c, report);
    }
    snprintf(report->text, sizeof report->text, "%s", err->text);
    if (report->status != RP_STATUS_OK) leave(c, report->status, err->text);
    if (send_all(to_parent, report, sizeof *report) && receive_all(from_parent, &n, sizeof n)) {
        report->status = measure(c, n, report, err);
        snprintf(report->text, sizeof report->text, "%s", err->text);
        send_all(to_parent, report, sizeof *report);
    }
    leave(c, report->status, err->text);
    _exit(0);
}

/* ---- in the parent --------------------------------------------------------------------------- */

struct child {
    pid_t pid;
    int from, to;
};

static enum rp_status start_child(struct copy *copy, struct child *child, struct rp_error *err)
{
    int up[2], down[2];
    if (pipe(up) != 0 || pipe(down) != 0)
        return rp_error_set(err, RP_STATUS_INTERNAL, "no pipe for a copy: %s", strerror(errno));
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) be_copy(copy, down[0], up[1]);
    close(up[1]);
    close(down[0]);
    child->from = up[0];
    child->to = down[1];
    if (child->pid > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_INTERNAL, "no process for a copy: %s", strerror(errno));
}

static void end_child(struct child *child)
{
    if (child->pid <= 0) return;
    kill(child->pid, SIGKILL);
    rp_sys_wait_child(child->pid, NULL);
    close(child->from);
    close(child->to);
}

/* The slowest of all copies: the others would wait for it. One that is lost to the others has been
 * killed like one that says nothing. */
static enum rp_status hear_all(const struct child *child, int n, struct report *slowest,
                               struct rp_error *err)
{
    struct report *said = RP_NEW(struct report);
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; i < n && status == RP_STATUS_OK; i++) {
        if (!receive_all(child[i].from, said, sizeof *said) || said->status == RP_STATUS_PEER_LOST)
            status = rp_error_set(err, RP_STATUS_MEMORY,
                                  "a copy of the job was killed while it was measured, most likely "
                                  "for its memory: measure with fewer (--per-node)");
        else if (said->status != RP_STATUS_OK)
            status = rp_error_set(err, said->status, "%s", said->text);
        else if (i == 0 || said->step_seconds > slowest->step_seconds)
            *slowest = *said;
    }
    rp_mem_free(said);
    return status;
}

static int steps_to_run(double seconds)
{
    double n = SECONDS_TO_MEASURE / (seconds > 1e-6 ? seconds : 1e-6);
    return n < LEAST_STEPS ? LEAST_STEPS : n > MOST_STEPS ? MOST_STEPS : (int)n;
}

static enum rp_status measure_one(struct copy *copy, struct report *slowest, struct rp_error *err)
{
    struct child child[MOST_COPIES] = {{0}};
    enum rp_status status = RP_STATUS_OK;
    int started = 0;
    copy->world = (struct rp_comm_world){.n_nodes = 1, .n_ranks = 1, .listener = -1};
    if (copy->copies > 1) RP_TRY(rp_comm_found(&copy->world, copy->copies, err));
    for (; started < copy->copies && status == RP_STATUS_OK; started++) {
        copy->world.rank = copy->world.local_rank = started;
        status = start_child(copy, &child[started], err);
    }
    rp_sys_close(copy->world.listener);
    if (status == RP_STATUS_OK) status = hear_all(child, started, slowest, err);
    int n = steps_to_run(slowest->step_seconds);
    for (int i = 0; i < started && status == RP_STATUS_OK; i++)
        if (!send_all(child[i].to, &n, sizeof n))
            status = rp_error_set(err, RP_STATUS_INTERNAL, "a copy of the job ended by itself");
    if (status == RP_STATUS_OK) status = hear_all(child, started, slowest, err);
    for (int i = 0; i < started; i++) end_child(&child[i]);
    return status;
}

/* All ranks at once, on this machine. */
static enum rp_status measure_together(struct copy *copy, struct rp_plan_time *time,
                                       struct rp_error *err)
{
    struct report *slowest = RP_NEW(struct report);
    struct copy ranks = *copy;
    ranks.connected = true;
    ranks.copies = ranks.ranks;
    enum rp_status status = measure_one(&ranks, slowest, err);
    time->step_seconds = slowest->step_seconds;
    time->reduce_seconds = slowest->reduce_seconds;
    time->gather_seconds = slowest->gather_seconds;
    rp_mem_free(slowest);
    return status;
}

static enum rp_status measure_all(struct copy *copy, int most_ranks,
                                  const struct rp_plan_network *network,
                                  struct rp_plan_times *times, struct report *slowest,
                                  struct rp_error *err)
{
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
        int beside = ranks < network->per_node ? ranks : network->per_node;
        copy->ranks = ranks;
        copy->copies = slowest->on_gpu ? 1 : beside; /* one rank, on any device, comes first */
        copy->threads = rp_env_threads_beside(copy->spec, beside);
        if (copy->copies > MOST_COPIES || (network->local && ranks > MOST_COPIES))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "--per-node %d: at most %d ranks of a node can be measured",
                                network->per_node, MOST_COPIES);
        rp_log_progress("measuring a rank of %d", ranks);
        RP_TRY(measure_one(copy, slowest, err));
        struct rp_plan_time *time = &times->time[times->n++];
        *time = (struct rp_plan_time){.ranks = ranks,
                                      .beside = beside,
                                      .threads = copy->threads,
                                      .compute_seconds =
                                          slowest->step_seconds - slowest->update_seconds,
                                      .update_seconds = slowest->update_seconds,
                                      .add_seconds = slowest->add_seconds};
        if (ranks > 1 && copy->copies == 1)
            RP_TRY(rp_measure_agree(beside, &time->agree_seconds, err));
        if (network->local && ranks > 1) RP_TRY(measure_together(copy, time, err));
    }
    return RP_STATUS_OK;
}

enum rp_status rp_train_measure(const struct rp_spec *spec, int most_ranks,
                                const struct rp_plan_network *network, struct rp_plan_times *times,
                                struct rp_error *err)
{
    struct rp_data *data = NULL;
    struct report *slowest = RP_NEW(struct report);
    struct copy copy = {.spec = spec};
    *times = (struct rp_plan_times){.batch = spec->train.batch, .shards = spec->train.shards};
    enum rp_status status = rp_data_open(spec, &(struct rp_data_options){0}, &data, err);
    copy.data = data;
    if (status == RP_STATUS_OK)
        status = measure_all(&copy, most_ranks, network, times, slowest, err);
    memcpy(times->where, slowest->where, sizeof times->where);
    times->parameters = slowest->parameters;
    rp_log_progress_clear();
    rp_data_free(data);
    rp_mem_free(slowest);
    return status;
}
