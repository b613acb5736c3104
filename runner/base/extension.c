/* extension.c - finding and opening modules. */
#include "base/extension.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <dlfcn.h>
#include <string.h>

static void warn(const char *text)
{
    rp_log_warning("%s", text);
}

static const struct rp_extension_host host = {
    .version = RP_EXTENSION_VERSION, .warn = warn, .allocate = rp_mem_try, .release = rp_mem_free};

static bool is_there(const char *path)
{
    struct rp_sys_stat stat = {0};
    return rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file;
}

/* The path of a module that is there; else the first place that was looked at. */
static char *find_module(const char *name, bool *found)
{
    const char *folder = rp_sys_env("REPRISE_MODULES");
    char *self = rp_sys_self(), *own = rp_sys_folder_of(self), *path, *absolute;
    if (folder && folder[0]) {
        path = rp_mem_text("%s/%s.so", folder, name);
    } else {
        path = rp_mem_text("%s/%s.so", own, name);
        if (!is_there(path)) {
            char *installed = rp_mem_text("%s/../lib/reprise/%s.so", own, name);
            if (is_there(installed)) {
                rp_mem_free(path);
                path = installed;
            } else {
                rp_mem_free(installed);
            }
        }
    }
    absolute = rp_sys_absolute(path);
    *found = is_there(absolute);
    rp_mem_free(path);
    rp_mem_free(own);
    rp_mem_free(self);
    return absolute;
}

bool rp_extension_is_there(const char *name)
{
    bool found = false;
    rp_mem_free(find_module(name, &found));
    return found;
}

static enum rp_status enter(void *handle, const char *path, const struct rp_extension **module,
                            struct rp_error *err)
{
    const struct rp_extension *(*entry)(const struct rp_extension_host *) = NULL;
    void *symbol = dlsym(handle, RP_EXTENSION_ENTRY);
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from data to code */
    *module = entry ? entry(&host) : NULL;
    if (*module && (*module)->version == RP_EXTENSION_VERSION) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                        "%s is no module of this reprise: build both from the same source", path);
}

enum rp_status rp_extension_open(const char *name, const char *advice,
                                 const struct rp_extension **module, struct rp_error *err)
{
    bool found = false;
    char *path = find_module(name, &found);
    enum rp_status status = RP_STATUS_OK;
    *module = NULL;
    if (!found) {
        status =
            rp_error_set(err, RP_STATUS_ENVIRONMENT, "there is no module %s: %s", path, advice);
        goto out;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        const char *why = dlerror();
        status = rp_error_set(err, RP_STATUS_ENVIRONMENT, "cannot open the module %s: %s; %s", path,
                              why ? why : "unknown", advice);
        goto out;
    }
    status = enter(handle, path, module, err);
    if (status != RP_STATUS_OK) dlclose(handle);
out:
    rp_mem_free(path);
    return status;
}
