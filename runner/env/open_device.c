/* open_device.c - from `resources.device` to an open device. */
#include "env/env.h"

#include "base/log.h"
#include "base/sys.h"
#include "module.h"

#include <string.h>

static const char file_name[] = "reprise_cuda.so";

static void warn(const char *text)
{
    rp_log_warning("%s", text);
}

static enum rp_status keep_error(struct rp_error *err, enum rp_status status, const char *text)
{
    return rp_error_set(err, status, "%s", text);
}

/* ---- the module
 * ---------------------------------------------------------------------------------- */

/* The folders that modules are looked for in, one a line. */
static void list_folders(struct rp_text *folders)
{
    const char *own = rp_sys_env("REPRISE_MODULES");
    if (own && own[0]) {
        char *absolute = rp_sys_absolute(own);
        rp_text_add(folders, "%s\n", absolute);
        rp_mem_free(absolute);
        return;
    }
    char *self = rp_sys_self(), *folder = rp_sys_folder_of(self ? self : "/"),
         *above = rp_sys_folder_of(folder);
    rp_text_add(folders, "%s\n%s/lib/reprise\n", folder, above);
    rp_mem_free(above);
    rp_mem_free(folder);
    rp_mem_free(self);
}

/* The first file of that name; NULL when there is none. Caller frees. */
static char *find_module(const struct rp_text *folders)
{
    for (const char *line = rp_text_get(folders); *line;) {
        size_t length = strcspn(line, "\n");
        char *path = rp_mem_text("%.*s/%s", (int)length, line, file_name);
        struct rp_sys_stat stat;
        if (rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file) return path;
        rp_mem_free(path);
        line += length + 1;
    }
    return NULL;
}

static enum rp_status refuse_missing(const struct rp_text *folders, struct rp_error *err)
{
    struct rp_text list = {0};
    for (const char *line = rp_text_get(folders); *line; line += strcspn(line, "\n") + 1)
        rp_text_add(&list, "%s%.*s", list.length ? ", " : "", (int)strcspn(line, "\n"), line);
    enum rp_status status = rp_error_set(
        err, RP_STATUS_ENVIRONMENT,
        "resources.device: cuda: there is no %s in %s; a build made where nvcc was not found has "
        "none: install the module or name its folder in REPRISE_MODULES, or take `device: cpu` or "
        "`auto`, which give the same bits at portable",
        file_name, rp_text_get(&list));
    rp_text_release(&list);
    return status;
}

/* `found` tells whether there is a file at all. */
static enum rp_status open_module(const struct rp_module_v1 **module, bool *found,
                                  struct rp_error *err)
{
    static const struct rp_host_v1 host = {RP_MODULE_VERSION, warn, keep_error};
    struct rp_text folders = {0};
    list_folders(&folders);
    char *path = find_module(&folders);
    *found = path != NULL;
    enum rp_status status =
        path ? rp_module_open(path, &host, module, err) : refuse_missing(&folders, err);
    rp_mem_free(path);
    rp_text_release(&folders);
    return status;
}

/* ---- devices
 * ------------------------------------------------------------------------------------- */

static enum rp_status open_cpu(const struct rp_env_device_options *options,
                               struct rp_device **device, struct rp_error *err)
{
    const char *path = rp_sys_env("REPRISE_CPU_PATH");
    struct rp_device_config config = {.threads = options->threads,
                                      .path = path && path[0] ? path : NULL};
    return rp_device_cpu.open(&config, device, err);
}

static enum rp_status open_gpu(const struct rp_env_device_options *options, bool *found,
                               struct rp_device **device, struct rp_error *err)
{
    const struct rp_module_v1 *module = NULL;
    struct rp_device_config config = {.threads = options->threads, .no_graph = options->no_graph};
    RP_TRY(open_module(&module, found, err));
    return module->device->open(&config, device, err);
}

/* A GPU that is not to be had leaves the CPU; one that is and fails is an error. */
static enum rp_status open_either(const struct rp_env_device_options *options,
                                  struct rp_device **device, struct rp_error *err)
{
    bool found = false;
    struct rp_error why = {0};
    enum rp_status status = open_gpu(options, &found, device, &why);
    if (status == RP_STATUS_OK) return status;
    if (status != RP_STATUS_ENVIRONMENT) return rp_error_set(err, status, "%s", why.text);
    if (found && !options->quiet)
        rp_log_info("device: auto: %.*s: on the CPU", (int)strcspn(why.text, ";"), why.text);
    return open_cpu(options, device, err);
}

static enum rp_status check_tier(const struct rp_spec *spec, const char *wanted,
                                 struct rp_error *err)
{
    if (!spec || spec->determinism == RP_TIER_PORTABLE || strcmp(wanted, "cpu") == 0)
        return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_ENVIRONMENT,
        "determinism: pinned and fast mean a GPU with CUDA's libraries, and this build has no "
        "module for them (reprise_cudalib); on the CPU, say so (`resources: {device: cpu}`), or "
        "take portable");
}

enum rp_status rp_env_open_device(const struct rp_spec *spec,
                                  const struct rp_env_device_options *options,
                                  struct rp_device **device, struct rp_error *err)
{
    const char *wanted = spec ? spec->resources.device : "auto";
    enum rp_status status = RP_STATUS_OK;
    bool found = false;
    *device = NULL;
    RP_TRY(check_tier(spec, wanted, err));
    if (strcmp(wanted, "cpu") == 0)
        status = open_cpu(options, device, err);
    else if (strcmp(wanted, "cuda") == 0)
        status = open_gpu(options, &found, device, err);
    else
        status = open_either(options, device, err);
    if (status == RP_STATUS_OK) status = (*device)->table->self_test(*device, err);
    if (status == RP_STATUS_OK) return status;
    rp_env_close_device(*device);
    *device = NULL;
    return status;
}

void rp_env_close_device(struct rp_device *device)
{
    if (device) device->table->close(device);
}

const struct rp_device_table *rp_env_planned_device(const struct rp_spec *spec)
{
    const struct rp_env_device_options options = {.threads = 1, .quiet = true};
    const struct rp_module_v1 *module = NULL;
    struct rp_device *device = NULL;
    bool found = false;
    if (strcmp(spec->resources.device, "cpu") == 0) return &rp_device_cpu;
    if (open_module(&module, &found, NULL) != RP_STATUS_OK) return &rp_device_cpu;
    if (strcmp(spec->resources.device, "cuda") == 0) return module->device;
    if (open_gpu(&options, &found, &device, NULL) != RP_STATUS_OK) return &rp_device_cpu;
    rp_env_close_device(device);
    return module->device;
}
