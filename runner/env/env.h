/* env.h - the environment: probed, compared with a lock, recorded before step 0. */
#ifndef RP_ENV_H
#define RP_ENV_H

#include "spec/spec.h"

struct json_t;

/* Everything that could matter, as a JSON object: code, binary and library hashes, compiler and flags,
 * CPU and path, kernel, libc, threads, container. No secret: a fixed list of variables. `threads` is as
 * resolved. Caller decref's. */
struct json_t *rp_env_probe(const struct rp_spec *spec, int threads);
void rp_env_print(const struct json_t *environment, struct rp_text *text);

/* resources.threads: a number, else OMP_NUM_THREADS, else affinity mask and cgroup quota. */
int rp_env_threads(const struct rp_spec *spec);

/* Which variables change a bit or a speed at a tier are refused or recorded: ENVIRONMENT with a table of
 * expected and found, each row saying whether it can touch bits, unless `allow_drift`. `drift` (may be NULL)
 * gets a JSON array of what differed, for the manifest. */
struct rp_data_file;
RP_NODISCARD enum rp_status rp_env_check(const struct rp_spec *spec, const struct json_t *environment,
                                         bool allow_drift, struct json_t **drift, struct rp_error *err);

#endif
