/* probe.c - the environment as one JSON object. */
#include "env/env.h"
#include "env/env_int.h"

#include "base/host.h"
#include "base/sys.h"
#include "device.h"
#include "rp_build_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 4096 };

int rp_env_threads(const struct rp_spec *spec)
{
    if (spec && spec->resources.threads > 0)
        return spec->resources.threads > MAX_THREADS ? MAX_THREADS : (int)spec->resources.threads;
    const char *text = rp_sys_env("OMP_NUM_THREADS");
    if (text) {
        /* "4" or "4,2": the first number is the outermost level. Anything else is passed over, as
         * the OpenMP libraries do. */
        char *end;
        long n = strtol(text, &end, 10);
        if (end != text && (*end == '\0' || *end == ',') && n >= 1)
            return n > MAX_THREADS ? MAX_THREADS : (int)n;
    }
    return rp_sys_cpus();
}

int rp_env_threads_beside(const struct rp_spec *spec, int ranks)
{
    int threads = rp_env_threads(spec);
    if (ranks < 2 || spec->resources.threads > 0 || rp_sys_env("OMP_NUM_THREADS")) return threads;
    return threads / ranks > 1 ? threads / ranks : 1;
}

/* The text, or null for "". */
static json_t *text_or_null(const char *text)
{
    json_t *value = text[0] ? json_string(text) : NULL;
    return value ? value : json_null();
}

static json_t *probe_code(void)
{
    json_t *code = json_object();
    json_object_set_new(code, "version", json_string(RP_BUILD_VERSION));
    json_object_set_new(code, "commit", text_or_null(RP_BUILD_COMMIT));
    json_object_set_new(code, "dirty",
                        RP_BUILD_COMMIT[0] ? json_boolean(RP_BUILD_DIRTY) : json_null());
    json_object_set_new(code, "source_sha256", json_string(RP_BUILD_SOURCE_SHA256));
    return code;
}

static json_t *probe_build(void)
{
    json_t *build = json_object();
    json_object_set_new(build, "compiler", json_string(RP_BUILD_COMPILER));
    json_object_set_new(build, "flags", json_string(RP_BUILD_FLAGS));
    json_object_set_new(build, "type", text_or_null(RP_BUILD_TYPE));
    return build;
}

/* Whether `path` is one of the words of `paths`. */
static bool is_listed(const char *path, const char *paths)
{
    size_t length = strlen(path);
    for (const char *at = strstr(paths, path); length && at; at = strstr(at + 1, path))
        if ((at == paths || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return true;
    return false;
}

/* The path taken is the one asked for, else the widest of those that run here. */
static json_t *probe_device(const struct rp_host_system *system)
{
    const char *paths = rp_cpu_paths(), *wanted = rp_sys_env("REPRISE_CPU_PATH");
    char path[32];
    if (wanted && is_listed(wanted, paths))
        snprintf(path, sizeof path, "%s", wanted);
    else
        snprintf(path, sizeof path, "%.*s", (int)strcspn(paths, " "), paths);

    json_t *device = json_object();
    json_object_set_new(device, "kind", json_string(rp_device_cpu.name));
    json_object_set_new(device, "model", text_or_null(system->cpu));
    json_object_set_new(device, "path", text_or_null(path));
    json_object_set_new(device, "paths", text_or_null(paths));
    return device;
}

/* The module behind it stands among the libraries, with its hash. */
static json_t *probe_gpu(struct rp_device *opened)
{
    struct rp_device_facts facts;
    json_t *device = json_object();
    opened->table->facts(opened, &facts);
    json_object_set_new(device, "kind", json_string(opened->table->name));
    json_object_set_new(device, "model", text_or_null(facts.model));
    json_object_set_new(device, "path", text_or_null(facts.architecture));
    json_object_set_new(device, "id", text_or_null(facts.id));
    json_object_set_new(device, "processors", json_integer(facts.processors));
    json_object_set_new(device, "memory", json_integer((json_int_t)facts.memory));
    json_object_set_new(device, "driver", text_or_null(facts.driver));
    json_object_set_new(device, "runtime", text_or_null(facts.runtime));
    return device;
}

static json_t *probe_system(const struct rp_host_system *system)
{
    json_t *object = json_object();
    json_object_set_new(object, "kernel", text_or_null(system->kernel));
    json_object_set_new(object, "machine", text_or_null(system->machine));
    json_object_set_new(object, "libc", text_or_null(system->libc));
    return object;
}

/* null outside of a container. */
static json_t *probe_container(void)
{
    struct rp_host_container container;
    bool apptainer = rp_sys_env("APPTAINER_CONTAINER") || rp_sys_env("SINGULARITY_CONTAINER");
    rp_host_container(rp_sys_env("REPRISE_CONTAINER_DIGEST"),
                      rp_sys_env("KUBERNETES_SERVICE_HOST") != NULL, apptainer, &container);
    if (!container.kind[0] && !container.image[0]) return json_null();
    json_t *object = json_object();
    json_object_set_new(object, "kind", text_or_null(container.kind));
    json_object_set_new(object, "image", text_or_null(container.image));
    json_object_set_new(object, "id", text_or_null(container.id));
    return object;
}

json_t *rp_env_probe(const struct rp_spec *spec, int threads)
{
    return rp_env_probe_on(spec, threads, NULL);
}

json_t *rp_env_probe_on(const struct rp_spec *spec, int threads, struct rp_device *device)
{
    bool on_gpu = device && device->table != &rp_device_cpu;
    struct rp_host_system system;
    json_t *binary, *libraries;
    json_t *environment = json_object();
    rp_env_begin();
    rp_host_system(&system);

    json_object_set_new(environment, "numerics", json_integer(spec ? spec->numerics : 1));
    json_object_set_new(environment, "code", probe_code());
    json_object_set_new(environment, "build", probe_build());
    json_object_set_new(environment, "device", on_gpu ? probe_gpu(device) : probe_device(&system));
    json_object_set_new(environment, "threads", json_integer(threads));
    json_object_set_new(environment, "system", probe_system(&system));
    json_object_set_new(environment, "container", probe_container());
    json_object_set_new(environment, "variables", rp_env_variables());
    rp_env_hashes(&binary, &libraries);
    json_object_set_new(environment, "binary", binary);
    json_object_set_new(environment, "libraries", libraries);
    return environment;
}
