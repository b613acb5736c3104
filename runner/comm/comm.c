/* comm.c - opening and closing a world; what a rank says of itself. */
#include "comm/control.h"
#include "comm/mover.h"

#include "base/log.h"

#include <string.h>
#include <unistd.h>

void rp_comm_open_one(struct rp_comm *comm)
{
    *comm = (struct rp_comm){.n_ranks = 1};
}

void rp_comm_open_alone(struct rp_comm *comm, int n_ranks)
{
    *comm = (struct rp_comm){.n_ranks = n_ranks};
}

enum rp_status rp_comm_open(const struct rp_comm_world *world,
                            const struct rp_comm_options *options, struct rp_comm *comm,
                            struct rp_error *err)
{
    rp_comm_open_one(comm);
    if (world->n_ranks == 1) return RP_STATUS_OK;
    comm->rank = world->rank;
    comm->n_ranks = world->n_ranks;
    return rp_control_open(world, options, &comm->control, err);
}

bool rp_comm_ends_together(enum rp_status status)
{
    return status == RP_STATUS_OK || status == RP_STATUS_STOPPED || status == RP_STATUS_NONFINITE ||
           status == RP_STATUS_DIFFERENT;
}

void rp_comm_close(struct rp_comm *comm, enum rp_status status, const char *text)
{
    rp_control_close(comm->control, status, text);
    if (!rp_comm_disconnect(comm)) { /* its memory is still in use: this is the end */
        rp_log_error(text);
        rp_comm_reap(1);
        _exit((int)status);
    }
    rp_comm_open_one(comm);
}

enum rp_status rp_comm_agree(struct rp_comm *comm, const void *mine, size_t bytes, void *all,
                             struct rp_error *err)
{
    if (comm->control) return rp_control_agree(comm->control, mine, bytes, all, err);
    memcpy(all, mine, bytes);
    return RP_STATUS_OK;
}

enum rp_status rp_comm_post(struct rp_comm *comm, const char *key, const void *bytes, size_t n,
                            struct rp_error *err)
{
    return rp_control_post(comm->control, key, bytes, n, err);
}

enum rp_status rp_comm_take(struct rp_comm *comm, int rank, const char *key, void **bytes,
                            size_t *n, struct rp_error *err)
{
    return rp_control_take(comm->control, rank, key, bytes, n, err);
}

void rp_comm_note(struct rp_comm *comm, uint64_t step, const char *phase)
{
    if (comm->control) rp_control_note(comm->control, step, phase);
}

bool rp_comm_is_over(const struct rp_comm *comm)
{
    return comm->control && rp_control_is_over(comm->control);
}

enum rp_status rp_comm_failure(struct rp_comm *comm, struct rp_error *err)
{
    return rp_control_cause(comm->control, "the run is over", err);
}

void rp_comm_settle(struct rp_comm *comm)
{
    if (comm->control) rp_control_settle(comm->control);
}

void rp_comm_rank_text(const struct rp_comm *comm, int rank, char text[300])
{
    if (comm->control)
        rp_control_rank_text(comm->control, rank, text);
    else
        text[0] = '\0';
}
