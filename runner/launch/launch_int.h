/* launch_int.h - private to launch/: the targets, and how each puts a file down. */
#ifndef RP_LAUNCH_INT_H
#define RP_LAUNCH_INT_H

#include "launch/launch.h"

extern const struct rp_launcher rp_launcher_local, rp_launcher_slurm, rp_launcher_kubernetes;

RP_NODISCARD enum rp_status rp_launch_put(const struct rp_launch *job, const char *name,
                                          const void *bytes, size_t length,
                                          struct rp_launch_files *files, struct rp_error *err);
/* The spec as spec.yaml: a job that waits in a queue is the one that was written. */
RP_NODISCARD enum rp_status rp_launch_put_spec(const struct rp_launch *job,
                                               struct rp_launch_files *files, struct rp_error *err);
/* "run", spec, --data, --out, --set ...: the words behind the program, each with a space before. */
void rp_launch_add_run(struct rp_text *text, const struct rp_launch *job,
                       const struct rp_launch_member *member);

void rp_launch_add_grace(struct rp_launch_grace graces[RP_LAUNCH_MAX_GRACES], int *n, long seconds,
                         const char *who);

#endif
