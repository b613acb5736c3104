/* tree.h - private to comm/: the upper levels of the tree over shards, across ranks. */
#ifndef RP_TREE_H
#define RP_TREE_H

#include "comm/comm.h"

/* node (n_ranks, n): the nodes of one slice, in order of rank, which are written over. root (n):
 * gets the root of the binary tree (0 + 1), (2 + 3), ...; n_ranks is a power of two above 1. All
 * on `device`, beside its other work where it can; NULL: added by this thread, in the machine's
 * memory. */
RP_NODISCARD enum rp_status rp_tree_join(struct rp_device *device, float *node, int n_ranks,
                                         uint64_t n, float *root, struct rp_error *err);
/* The same of part[r] (n) of each rank, wherever they lie; root may be one of them. */
RP_NODISCARD enum rp_status rp_tree_join_parts(struct rp_device *device, void *const *part,
                                               int n_ranks, uint64_t n, float *root,
                                               struct rp_error *err);

#endif
