/* module.cu - the one symbol that the program looks for in this shared object. */
#include "cuda/gpu.h"

#include <stdarg.h>

extern "C" {
#include "module.h"
__attribute__((visibility("default"))) const struct rp_module_v1 *
rp_module_v1(const struct rp_host_v1 *host);
}

#ifndef RP_CUDA_BUILD
#define RP_CUDA_BUILD "simulated"
#endif

static const struct rp_host_v1 *the_host;

/* What the ops call; the program's own keeps the message. */
extern "C" enum rp_status rp_error_set(struct rp_error *err, enum rp_status status,
                                       const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return the_host->error(err, status, text);
}

const struct rp_module_v1 *rp_module_v1(const struct rp_host_v1 *host)
{
    static const struct rp_device_checks checks = {rp_cuda_elementary};
    static struct rp_module_v1 module;
    if (!host || host->version != RP_MODULE_VERSION) return NULL;
    the_host = host;
    module.version = RP_MODULE_VERSION;
    module.abi = rp_module_abi();
    module.name = "cuda";
    module.build = RP_CUDA_BUILD;
    module.device = &rp_cuda_table;
    module.checks = &checks;
    return &module;
}
