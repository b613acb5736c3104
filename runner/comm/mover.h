/* mover.h - private to comm/: the module that moves the bytes, chosen (choose.c), connected
 * (connect.c), used (reduce.c, background.c). */
#ifndef RP_MOVER_H
#define RP_MOVER_H

#include "comm/comm.h"
#include "comm/module.h"
#include "device.h"

/* CPU ranks: whether to move bytes through memory of the host (shm.h), which only all together can
 * tell, when they are connected. */
enum rp_comm_shm { RP_COMM_SHM_NO, RP_COMM_SHM_TRY, RP_COMM_SHM_DEMAND };

struct rp_comm_mover {
    const struct rp_comm_module *module; /* NULL: not known before they are connected */
    enum rp_comm_shm shm;
    const char *name;         /* "reprise_gloo", "auto" */
    const char *launcher;     /* who started the ranks */
    struct rp_device *device; /* whose memory holds the blocks, and which adds */
    void *world;              /* the module's; NULL: not connected */
    void *parts;              /* (n_ranks, own slice) of the block that is reduced, or NULL */
    uint64_t bytes;
    bool one_after_another; /* exchanges are made when they are waited for, beside nothing */
    struct rp_comm_background *background; /* NULL: nothing was begun yet (background.c) */
};

/* A reduction, where `parts` has room; `device` NULL: this thread adds. False: bytes have not come;
 * *status is that of the additions. */
bool rp_comm_join(const struct rp_comm *comm, struct rp_device *device, void *sums,
                  const uint64_t *border, enum rp_status *status, char why[RP_COMM_WHY_BYTES],
                  struct rp_error *err);
/* reduce and gather without the wait: where the module says that a call only puts its bytes on the
 * device's second stream, all that was started is done when rp_comm_wait returns. */
RP_NODISCARD enum rp_status rp_comm_start_reduce(struct rp_comm *comm, void *sums,
                                                 const uint64_t *border, struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_start_gather(struct rp_comm *comm, void *block,
                                                 const uint64_t *border, struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_wait(struct rp_comm *comm, struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_open_gloo(struct rp_comm_mover *mover, struct rp_error *err);
/* background.c: false when the thread waits for other ranks and does not end. */
bool rp_comm_end_background(struct rp_comm_mover *mover);
/* False when a thread does not come back from the module: nothing is released. */
bool rp_comm_disconnect(struct rp_comm *comm);

#endif
