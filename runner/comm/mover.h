/* mover.h - private to comm/: the module that moves the bytes, chosen (choose.c), connected
 * (connect.c), used (reduce.c, background.c). */
#ifndef RP_MOVER_H
#define RP_MOVER_H

#include "comm/comm.h"
#include "comm/module.h"
#include "device.h"

struct rp_comm_mover {
    const struct rp_comm_module *module;
    const char *name;         /* "reprise_gloo" */
    const char *launcher;     /* who started the ranks */
    struct rp_device *device; /* whose memory holds the blocks, and which adds */
    void *world;              /* the module's; NULL: not connected */
    void *parts;              /* (n_ranks, own slice) of the block that is reduced, or NULL */
    uint64_t bytes;
    struct rp_comm_background *background; /* NULL: nothing was begun yet (background.c) */
};

/* background.c: false when the thread waits for other ranks and does not end. */
bool rp_comm_end_background(struct rp_comm_mover *mover);
/* False when a thread does not come back from the module: nothing is released. */
bool rp_comm_disconnect(struct rp_comm *comm);

#endif
