/* module.c - opens a module: the one place that calls dlopen. */
#include "module.h"

#include <dlfcn.h>
#include <string.h>

enum rp_status rp_module_open(const char *path, const struct rp_host_v1 *host,
                              const struct rp_module_v1 **module, struct rp_error *err)
{
    rp_module_entry entry;
    *module = NULL;
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT, "module %s cannot be opened: %s", path,
                            dlerror());
    void *symbol = dlsym(handle, RP_MODULE_SYMBOL);
    if (!symbol)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "%s is no module of reprise: it has no %s; install the modules that "
                            "came with this program",
                            path, RP_MODULE_SYMBOL);
    memcpy(&entry, &symbol, sizeof entry);
    const struct rp_module_v1 *found = entry(host);
    if (!found || found->version != RP_MODULE_VERSION || found->abi != rp_module_abi())
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "module %s is of another build than this program; install the modules "
                            "that came with it",
                            path);
    *module = found;
    return RP_STATUS_OK;
}
