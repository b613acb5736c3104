/* module.cu - the one symbol that the program looks for in this shared object. */
#include "cuda/gpu.h"

extern "C" {
#include "module.h"
}

#ifndef RP_CUDA_BUILD
#define RP_CUDA_BUILD "simulated"
#endif

const struct rp_extension *rp_module_v1(const struct rp_extension_host *host)
{
    static const struct rp_device_checks checks = {rp_cuda_elementary};
    static struct rp_device_module module;
    if (!host || host->version != RP_EXTENSION_VERSION) return NULL;
    rp_cuda_warn = host->warn;
    module.extension.version = RP_EXTENSION_VERSION;
    module.extension.name = rp_cuda_table.name;
    module.extension.libraries = RP_CUDA_BUILD;
    module.abi = rp_module_abi();
    module.device = &rp_cuda_table;
    module.checks = &checks;
    return &module.extension;
}
