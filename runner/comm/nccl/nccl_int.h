/* nccl_int.h - private to reprise_nccl. */
#ifndef RP_NCCL_INT_H
#define RP_NCCL_INT_H

#include "comm/module.h"
#include "comm/nccl/nccl_abi.h"

/* load.c: opens the library at `path`, NULL or "": where the system keeps it. ENVIRONMENT: it is
 * not there, or too old. */
RP_NODISCARD enum rp_status rp_nccl_load(const char *path, struct rp_nccl *nccl,
                                         char why[RP_COMM_WHY_BYTES]);
/* "2.28.9". */
void rp_nccl_version_text(int version, char text[32]);

#endif
