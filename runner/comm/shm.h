/* shm.h - private to comm/: memory that ranks of one host share, and bytes that move through it.
 * No library and no network: it is part of the program, with the table of a module. */
#ifndef RP_SHM_H
#define RP_SHM_H

#include "comm/comm.h"
#include "comm/module.h"

#include "base/sys.h"

struct rp_shm;

/* Collective: rank 0 makes the memory, the others open it. *shm is NULL on all ranks, and `why` the
 * same on all, when one of them cannot. MEMORY: there is none left. */
RP_NODISCARD enum rp_status rp_shm_meet(struct rp_comm *comm,
                                        const struct rp_comm_patience *patience,
                                        struct rp_shm **shm, char why[RP_COMM_WHY_BYTES],
                                        struct rp_error *err);

/* What of it a rank sees: `memory` holds rp_comm_shared_bytes zeroed bytes, and becomes the
 * result's. */
struct rp_shm *rp_shm_new(const struct rp_sys_shared *memory, int rank, int n_ranks,
                          const struct rp_comm_patience *patience);

/* Its world is a struct rp_shm; `open` is NULL. */
extern const struct rp_comm_module rp_shm_module;

#endif
