/* one.c - a world of one rank. */
#include "comm/comm.h"

static void close_one(struct rp_comm *comm)
{
    (void)comm;
}

static enum rp_status keep(struct rp_comm *comm, void *block, uint64_t bytes, struct rp_error *err)
{
    (void)comm, (void)block, (void)bytes, (void)err;
    return RP_STATUS_OK;
}

static const struct rp_comm_table one = {
    .name = "one", .close = close_one, .reduce = keep, .gather = keep};

void rp_comm_open_one(struct rp_comm *comm)
{
    *comm = (struct rp_comm){.table = &one, .n_ranks = 1};
}
