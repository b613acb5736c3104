/* module.h - what a module (a shared object opened on demand) and the program say to each other.
 *
 * A module exports one function, rp_module_v1. It gets the host's functions, calls nothing else of
 * the program, and answers with its table. Program and module are of the same build: `abi` sums up
 * the structs that cross the border, and another one is refused. */
#ifndef RP_MODULE_H
#define RP_MODULE_H

#include "device.h"

enum { RP_MODULE_VERSION = 1 };

/* Of the program, for the module. */
struct rp_host_v1 {
    int version;
    void (*warn)(const char *text); /* one line for people */
    enum rp_status (*error)(struct rp_error *err, enum rp_status status, const char *text);
};

/* What tests ask of a device module beside its table. */
struct rp_device_checks {
    /* Sum of (u + 1) * mix64(bits of f(u)) over inputs u in [first, first + n): kernels/README.md,
     * chapter 3. `function` is "exp", "sigmoid", "tanh", "erf", "log", "sin" or "cos". */
    enum rp_status (*elementary)(struct rp_device *device, const char *function, uint32_t first,
                                 uint64_t n, uint64_t *digest, struct rp_error *err);
};

/* Of the module, for the program. */
struct rp_module_v1 {
    int version;
    uint64_t abi;
    const char *name;  /* "cuda" */
    const char *build; /* "CUDA 13.0: sm_80 sm_90 sm_100" */
    const struct rp_device_table *device;
    const struct rp_device_checks *checks;
};
typedef const struct rp_module_v1 *(*rp_module_entry)(const struct rp_host_v1 *host);
#define RP_MODULE_SYMBOL "rp_module_v1"

static inline uint64_t rp_module_abi(void)
{
    const uint64_t sizes[] = {sizeof(struct rp_op_call),      sizeof(struct rp_pass),
                              sizeof(struct rp_update),       sizeof(struct rp_control),
                              sizeof(struct rp_error),        sizeof(struct rp_device),
                              sizeof(struct rp_device_table), sizeof(struct rp_device_facts),
                              sizeof(struct rp_module_v1),    RP_OP_COUNT};
    uint64_t sum = RP_MODULE_VERSION;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) sum = sum * 1000003u + sizes[i];
    return sum;
}

/* Opens the module in the file at `path` (absolute). ENVIRONMENT when it is missing, broken, or of
 * another build. It stays open until the program ends. */
RP_NODISCARD enum rp_status rp_module_open(const char *path, const struct rp_host_v1 *host,
                                           const struct rp_module_v1 **module,
                                           struct rp_error *err);

#endif
