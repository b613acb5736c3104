/* spawn.h - private to comm/: the ranks that this process started. */
#ifndef RP_SPAWN_H
#define RP_SPAWN_H

/* The number of a rank that has ended, with its exit code, each once; 0: none. */
int rp_spawn_ended(int *code);

#endif
