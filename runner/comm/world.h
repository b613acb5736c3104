/* world.h - private to comm/: the pieces of rank discovery. */
#ifndef RP_WORLD_H
#define RP_WORLD_H

#include "comm/comm.h"

/* The first host of Slurm's list: "gpu[08-10,12],a1" gives "gpu08". */
bool rp_world_first_host(const char *list, char host[256]);

/* A variable's value; NULL when unset or empty. */
const char *rp_world_value(const char *name);
/* A whole number from `low` to `high` in variable `name`; USAGE names it. */
RP_NODISCARD enum rp_status rp_world_number(const char *name, long low, long high, int *number,
                                            struct rp_error *err);
void rp_world_find_token(struct rp_comm_world *world);

/* Launchers that start one process per host (world_nodes.c); nothing found leaves a world of one.
 * `sagemaker` is the file that tells SageMaker's hosts. */
#define RP_WORLD_SAGEMAKER "/opt/ml/input/config/resourceconfig.json"
RP_NODISCARD enum rp_status rp_world_find_nodes(const char *sagemaker, struct rp_comm_world *world,
                                                struct rp_error *err);

#endif
