/* module.h - the table of a module that is a device (base/extension.h says how it is opened).
 *
 * Program and module are of the same build: `abi` sums up the structs that cross the border, and
 * another one is refused. */
#ifndef RP_MODULE_H
#define RP_MODULE_H

#include "base/extension.h"
#include "device.h"

/* What tests ask of a device module beside its table. */
struct rp_device_checks {
    /* Sum of (u + 1) * mix64(bits of f(u)) over inputs u in [first, first + n): kernels/README.md,
     * chapter 3. `function` is "exp", "sigmoid", "tanh", "erf", "log", "sin" or "cos". */
    enum rp_status (*elementary)(struct rp_device *device, const char *function, uint32_t first,
                                 uint64_t n, uint64_t *digest, struct rp_error *err);
};

struct rp_device_module {
    struct rp_extension extension; /* first: "cuda", "CUDA 13.0, sm_80 sm_90 sm_100" */
    uint64_t abi;
    const struct rp_device_table *device;
    const struct rp_device_checks *checks;
};
#define RP_CUDA_MODULE "reprise_cuda"

static inline uint64_t rp_module_abi(void)
{
    const uint64_t sizes[] = {sizeof(struct rp_op_call),       sizeof(struct rp_pass),
                              sizeof(struct rp_update),        sizeof(struct rp_control),
                              sizeof(struct rp_error),         sizeof(struct rp_device),
                              sizeof(struct rp_device_table),  sizeof(struct rp_device_facts),
                              sizeof(struct rp_device_module), RP_OP_COUNT};
    uint64_t sum = RP_EXTENSION_VERSION;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) sum = sum * 1000003u + sizes[i];
    return sum;
}

#endif
