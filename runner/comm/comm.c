#include "comm/comm.h"

enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, uint64_t bytes,
                              struct rp_error *err)
{
    return comm->table->reduce(comm, sums, bytes, err);
}

enum rp_status rp_comm_gather(struct rp_comm *comm, void *parameters, uint64_t bytes,
                              struct rp_error *err)
{
    return comm->table->gather(comm, parameters, bytes, err);
}
