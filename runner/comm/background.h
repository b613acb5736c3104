/* background.h - private to comm/: the thread that makes exchanges beside other work. */
#ifndef RP_BACKGROUND_H
#define RP_BACKGROUND_H

#include "comm/comm.h"

/* Once the ranks are connected. The thread is for blocks in the machine's memory. */
RP_NODISCARD enum rp_status rp_background_open(struct rp_comm *comm, struct rp_error *err);
/* False when the thread waits for other ranks and does not end: then nothing that it uses may be
 * released. */
bool rp_background_close(struct rp_comm_mover *mover);

#endif
