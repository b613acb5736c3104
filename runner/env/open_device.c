/* open_device.c - from `resources.device` to an open device. */
#include "env/env.h"

#include "base/extension.h"
#include "base/log.h"
#include "base/sys.h"
#include "module.h"

#include <string.h>

static const char advice[] =
    "a build made where nvcc was not found has none: install the module or name its folder in "
    "REPRISE_MODULES, or take `device: cpu` or `auto`, which give the same bits at portable";

static enum rp_status open_module(const struct rp_device_module **module, struct rp_error *err)
{
    const struct rp_extension *extension = NULL;
    RP_TRY(rp_extension_open(RP_CUDA_MODULE, advice, &extension, err));
    *module = (const struct rp_device_module *)extension;
    if ((*module)->abi == rp_module_abi()) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                        "the module " RP_CUDA_MODULE " is of another build than this program; "
                        "install the modules that came with it");
}

/* ---- devices --------------------------------------------------------------------------------- */

static enum rp_status open_cpu(const struct rp_env_device_options *options,
                               struct rp_device **device, struct rp_error *err)
{
    const char *path = rp_sys_env("REPRISE_CPU_PATH");
    struct rp_device_config config = {.threads = options->threads,
                                      .path = path && path[0] ? path : NULL};
    return rp_device_cpu.open(&config, device, err);
}

static enum rp_status open_gpu(const struct rp_env_device_options *options,
                               struct rp_device **device, struct rp_error *err)
{
    const struct rp_device_module *module = NULL;
    const char *share = rp_sys_env("REPRISE_SHARE_GPU");
    struct rp_device_config config = {.threads = options->threads,
                                      .number = options->gpu,
                                      .share = share && strcmp(share, "1") == 0,
                                      .no_graph = options->no_graph};
    RP_TRY(open_module(&module, err));
    return module->device->open(&config, device, err);
}

/* A GPU that is not to be had leaves the CPU; one that is and fails is an error. */
static enum rp_status open_either(const struct rp_env_device_options *options,
                                  struct rp_device **device, struct rp_error *err)
{
    struct rp_error why = {0};
    if (!rp_extension_is_there(RP_CUDA_MODULE)) return open_cpu(options, device, err);
    enum rp_status status = open_gpu(options, device, &why);
    if (status == RP_STATUS_OK) return status;
    if (status != RP_STATUS_ENVIRONMENT) return rp_error_set(err, status, "%s", why.text);
    if (!options->quiet)
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
    *device = NULL;
    RP_TRY(check_tier(spec, wanted, err));
    if (strcmp(wanted, "cpu") == 0)
        status = open_cpu(options, device, err);
    else if (strcmp(wanted, "cuda") == 0)
        status = open_gpu(options, device, err);
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

int rp_env_count_gpus(const struct rp_spec *spec)
{
    const struct rp_device_module *module = NULL;
    if (strcmp(spec->resources.device, "cpu") == 0) return 0;
    if (!rp_extension_is_there(RP_CUDA_MODULE)) return 0;
    return open_module(&module, NULL) == RP_STATUS_OK ? module->device->count() : 0;
}

const struct rp_device_table *rp_env_planned_device(const struct rp_spec *spec)
{
    const struct rp_env_device_options options = {.threads = 1, .quiet = true};
    const struct rp_device_module *module = NULL;
    struct rp_device *device = NULL;
    if (strcmp(spec->resources.device, "cpu") == 0) return &rp_device_cpu;
    if (!rp_extension_is_there(RP_CUDA_MODULE)) return &rp_device_cpu;
    if (open_module(&module, NULL) != RP_STATUS_OK) return &rp_device_cpu;
    if (strcmp(spec->resources.device, "cuda") == 0) return module->device;
    if (open_gpu(&options, &device, NULL) != RP_STATUS_OK) return &rp_device_cpu;
    rp_env_close_device(device);
    return module->device;
}
