/* open_device.h - which device a job computes on: the CPU, or a GPU through the module reprise_cuda. */
#ifndef RP_ENV_OPEN_DEVICE_H
#define RP_ENV_OPEN_DEVICE_H

#include "device.h"
#include "spec/spec.h"

struct rp_env_device_options {
    int threads;   /* as resolved */
    bool no_graph; /* CUDA: every kernel launched by itself */
    bool quiet;    /* `auto` falls to the CPU without a word */
};

/* Opens what `resources.device` says (`spec` NULL: auto) and lets it test itself. `auto` takes a
 * GPU where the module and one are there, else the CPU, and says why where the module is there.
 * ENVIRONMENT when the device named is not to be had: what was looked for, found, and what to do.
 */
RP_NODISCARD enum rp_status rp_env_open_device(const struct rp_spec *spec,
                                               const struct rp_env_device_options *options,
                                               struct rp_device **device, struct rp_error *err);
void rp_env_close_device(struct rp_device *device); /* NULL is fine */

/* The table of the device that the job would get, for plans: a GPU need not be there when the spec
 * names it, only the module; without that the CPU's. Opens nothing for long. */
const struct rp_device_table *rp_env_planned_device(const struct rp_spec *spec);

/* The same object as rp_env_probe(), its device section that of `device` (NULL: the CPU). */
struct json_t *rp_env_probe_on(const struct rp_spec *spec, int threads, struct rp_device *device);

#endif
