/* measure_agree.c - what the control channel costs a step, for `plan --ranks`: processes made by
 * fork that are ranks in nothing else agree again and again, as a run does after each step. Bytes
 * are few there; most of it is threads that are woken, four in a row, which no network's numbers
 * tell. */
#include "train/measure_int.h"
#include "train/train_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { ROUNDS = 200, WARMING = 20, MOST = 16 /* processes: a node has hardly more GPUs */ };

static enum rp_status agree(const struct rp_comm_world *world, double *seconds,
                            struct rp_error *err)
{
    const struct rp_comm_options options = {.peer_timeout = 60};
    double each[ROUNDS] = {0};
    struct rp_comm comm;
    RP_TRY(rp_comm_open(world, &options, &comm, err));
    enum rp_status status = RP_STATUS_OK;
    for (int i = -WARMING; i < ROUNDS && status == RP_STATUS_OK; i++) {
        struct rp_step_result result = {0};
        struct rp_decision decision = {0};
        double begun = rp_sys_clock();
        status = rp_ranks_decide(&comm, (uint64_t)(i + WARMING), &result, NULL, 0, &decision, err);
        if (i >= 0) each[i] = rp_sys_clock() - begun;
    }
    if (status == RP_STATUS_OK) *seconds = rp_measure_median(each, ROUNDS);
    rp_comm_close(&comm, status, err->text);
    return status;
}

/* Never returns. Rank 0 tells; the others end with it. */
static void be_rank(const struct rp_comm_world *world, int to)
{
    double seconds = 0;
    struct rp_error *err = RP_NEW(struct rp_error);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rp_log_mute();
    enum rp_status status = agree(world, &seconds, err);
    if (status == RP_STATUS_OK && world->rank == 0)
        status = rp_sys_write(to, &seconds, sizeof seconds, "a pipe", err);
    _exit(status == RP_STATUS_OK ? 0 : 1);
}

enum rp_status rp_measure_agree(int beside, double *seconds, struct rp_error *err)
{
    struct rp_comm_world world = {.n_nodes = 1, .listener = -1};
    pid_t pid[MOST] = {0};
    int ends[2], n = beside < 2 ? 2 : beside > MOST ? MOST : beside;
    size_t got = 0;
    RP_TRY(rp_comm_found(&world, n, err));
    if (pipe(ends) != 0) {
        rp_sys_close(world.listener);
        return rp_error_set(err, RP_STATUS_INTERNAL, "no pipe for a rank: %s", strerror(errno));
    }
    for (int r = 0; r < n; r++) {
        world.rank = world.local_rank = r;
        pid[r] = fork();
        if (pid[r] == 0) be_rank(&world, ends[1]);
    }
    close(ends[1]);
    rp_sys_close(world.listener);
    enum rp_status status =
        rp_sys_read(ends[0], seconds, sizeof *seconds, &got, "a pipe", RP_STATUS_INTERNAL, err);
    for (int r = 0; r < n; r++) rp_sys_wait_child(pid[r], NULL);
    close(ends[0]);
    if (status == RP_STATUS_OK && got != sizeof *seconds)
        status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                              "%d processes of this machine cannot agree through its loopback", n);
    return status;
}
