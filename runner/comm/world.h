/* world.h - private to comm/: pieces of rank discovery that tests look at. */
#ifndef RP_WORLD_H
#define RP_WORLD_H

#include "comm/comm.h"

/* The first host of Slurm's list: "gpu[08-10,12],a1" gives "gpu08". */
bool rp_world_first_host(const char *list, char host[256]);

#endif
