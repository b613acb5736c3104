/* tree.h - private to comm/: the upper levels of the tree over shards, across ranks. */
#ifndef RP_TREE_H
#define RP_TREE_H

#include "comm/comm.h"

/* node (n_ranks, n): the nodes of one slice, in order of rank. node 0 becomes the root of the
 * binary tree (0 + 1), (2 + 3), ...; n_ranks is a power of two. */
void rp_tree_join(float *node, int n_ranks, uint64_t n);

/* Opens the module that moves bytes between CPUs; comm->control is open. */
RP_NODISCARD enum rp_status rp_comm_open_gloo(struct rp_comm *comm, struct rp_error *err);

#endif
