/* facts.cu - what the record of a run says of the GPU. */
#include "cuda/gpu.h"

/* The version of the kernel driver, which names a release better than the CUDA version that it
 * supports; that one where the file is hidden. */
static void driver_version(char text[64])
{
    char line[256] = "";
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (file && !fgets(line, sizeof line, file)) line[0] = '\0';
    if (file) fclose(file);
    /* "NVRM version: NVIDIA UNIX ... Kernel Module  580.159.03  Release Build ..." */
    for (const char *at = line; *at; at++) {
        int major = 0, minor = 0, length = 0;
        bool starts = at != line && at[-1] == ' ' && *at >= '1' && *at <= '9';
        if (!starts || sscanf(at, "%d.%d%n", &major, &minor, &length) != 2) continue;
        int more = 0, last = 0;
        if (sscanf(at + length, ".%d%n", &last, &more) == 1) length += more;
        snprintf(text, 64, "%.*s", length, at);
        return;
    }
    int version = 0;
    if (cudaDriverGetVersion(&version) != cudaSuccess) version = 0;
    snprintf(text, 64, "for CUDA %d.%d", version / 1000, version % 1000 / 10);
}

void rp_cuda_facts(struct rp_device *device, struct rp_device_facts *facts)
{
    struct cudaDeviceProp properties;
    size_t free_bytes = 0, total = 0;
    int runtime = 0;
    memset(facts, 0, sizeof *facts);
    if (cudaGetDeviceProperties(&properties, device->config.number) != cudaSuccess) return;
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) free_bytes = total = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
    snprintf(facts->model, sizeof facts->model, "%.127s", properties.name);
    snprintf(facts->architecture, sizeof facts->architecture, "sm_%d%d", properties.major,
             properties.minor);
    snprintf(facts->runtime, sizeof facts->runtime, "%d.%d", runtime / 1000, runtime % 1000 / 10);
    driver_version(facts->driver);
    const unsigned char *u = (const unsigned char *)properties.uuid.bytes;
    int at = snprintf(facts->id, sizeof facts->id, "GPU");
    for (int i = 0; i < 16; i++) {
        bool dash = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;
        at += snprintf(facts->id + at, sizeof facts->id - (size_t)at, "%s%02x", dash ? "-" : "",
                       u[i]);
    }
    facts->processors = properties.multiProcessorCount;
    facts->memory = total;
    facts->memory_free = free_bytes;
}

void rp_cuda_describe(struct rp_device *device, char text[256])
{
    struct rp_device_facts facts;
    rp_cuda_facts(device, &facts);
    snprintf(text, 256, "%s, driver %s", facts.model, facts.driver);
}
