/* comm.h - what ranks say to each other: the comm table, and the world of one behind it.
 *
 * Only bytes move between ranks; sums are made by our own tree (DESIGN 1.2, 8). A rank holds one
 * aligned node of the tree over shards; reduce() completes the tree, gather() gives everybody the
 * owners' parameters. */
#ifndef RP_COMM_H
#define RP_COMM_H

#include "base/base.h"

struct rp_comm;

/* One of the program's four tables of function pointers. Every call is collective. */
struct rp_comm_table {
    const char *name;                    /* "one", "gloo", "nccl", "mpi" */
    void (*close)(struct rp_comm *comm); /* NULL is fine */
    /* Completes the tree over shards for a block of fp32 sums in device memory, in place. */
    enum rp_status (*reduce)(struct rp_comm *comm, void *sums, uint64_t bytes,
                             struct rp_error *err);
    /* After the owners' update: every rank gets every parameter. */
    enum rp_status (*gather)(struct rp_comm *comm, void *parameters, uint64_t bytes,
                             struct rp_error *err);
};

struct rp_comm {
    const struct rp_comm_table *table;
    int rank, n_ranks;
};

/* The world of one: the rank's node is the root already, so nothing moves. */
void rp_comm_open_one(struct rp_comm *comm);

RP_NODISCARD enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, uint64_t bytes,
                                           struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_gather(struct rp_comm *comm, void *parameters, uint64_t bytes,
                                           struct rp_error *err);

#endif
