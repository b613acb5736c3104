/* cuda.cu - a CUDA device behind the device table. */
#include "cuda/gpu.h"

#include <stdlib.h>

/* In debug builds of a training step, memory that nobody wrote shows up as this NaN. */
static const uint32_t poison_word = 0x7fc0dead;

typedef enum rp_status (*entry)(struct rp_cuda *cuda, const struct rp_op_call *call,
                                const struct rp_pass *pass, struct rp_error *err);
typedef size_t (*scratch_fn)(const struct rp_op_call *call);

static const entry entries[RP_OP_COUNT] = {
#define RP_OP(name, ...) rp_cuda_##name,
#include "ops.def"
#undef RP_OP
};

static scratch_fn scratch_of(enum rp_op op)
{
    switch (op) {
#define RP_SCRATCH(name)                                                                           \
    case RP_OP_##name:                                                                             \
        return rp_cuda_scratch_##name;
#include "cuda/scratch.def"
#undef RP_SCRATCH
    default:
        return NULL;
    }
}

/* ---- errors ---------------------------------------------------------------------------------- */

#ifndef RP_CUDA_BUILD
#define RP_CUDA_BUILD "simulated"
#endif

/* What is no fault of the GPU, and how to mend it; NULL: it may be. */
static const char *way_out(cudaError_t error)
{
    switch (error) {
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidKernelImage:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidPtx:
    case cudaErrorJitCompilerNotFound:
        return "this build (" RP_CUDA_BUILD
               ") has no code that this GPU and driver take: update the "
               "driver, or build for the GPU (cmake -DRP_CUDA_ARCHS=...)";
    case cudaErrorDevicesUnavailable:
        return "another process has the GPU for itself, or it is in a mode that forbids work "
               "(nvidia-smi -q -d COMPUTE): wait, or take another one with CUDA_VISIBLE_DEVICES";
    case cudaErrorInsufficientDriver:
    case cudaErrorCompatNotSupportedOnDevice:
    case cudaErrorSystemDriverMismatch:
        return "the driver does not fit this build (" RP_CUDA_BUILD "): update it";
    case cudaErrorSystemNotReady:
        return "a service of the GPUs does not run (with NVSwitch: nvidia-fabricmanager): start it";
    default:
        return NULL;
    }
}

enum rp_status rp_cuda_error(struct rp_error *err, const char *what, int code)
{
    cudaError_t error = (cudaError_t)code;
    (void)cudaGetLastError(); /* told: the next launch shall not be blamed for it */
    if (error == cudaErrorMemoryAllocation) {
        size_t free_bytes = 0, total = 0;
        if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) free_bytes = total = 0;
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "%s: the GPU is out of memory (%zu of %zu MiB free); lower "
                            "train.micro_batch, which changes no bit at determinism: portable",
                            what, free_bytes >> 20, total >> 20);
    }
    if (way_out(error))
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "%s: %s (%s): %s; or use `resources: {device: cpu}`, which gives the "
                            "same bits at portable",
                            what, cudaGetErrorString(error), cudaGetErrorName(error),
                            way_out(error));
    return rp_error_set(err, RP_STATUS_HARDWARE,
                        "%s: %s (%s); the GPU or its driver failed, or a kernel is wrong: "
                        "`--no-graph` and CUDA_LAUNCH_BLOCKING=1 name the kernel",
                        what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void (*rp_cuda_warn)(const char *text);

/* ---- opening --------------------------------------------------------------------------------- */

/* A rank that its launcher has bound to a GPU sees that one alone, whatever its number. */
static enum rp_status find_device(struct rp_device_config *config, struct rp_error *err)
{
    int count = 0, driver = 0;
    cudaError_t code = cudaGetDeviceCount(&count);
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    if (driver == 0)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "no NVIDIA driver: looked for libcuda.so.1 and found none; install the "
                            "driver (in a container: start it with GPU support), or use "
                            "`resources: {device: cpu}`, which gives the same bits at portable");
    if (code != cudaSuccess || count == 0)
        return rp_error_set(
            err, RP_STATUS_ENVIRONMENT,
            "no usable NVIDIA GPU: the driver (for CUDA %d.%d) says: %s; look at nvidia-smi and "
            "CUDA_VISIBLE_DEVICES, or use `resources: {device: cpu}`, which gives the same bits "
            "at portable",
            driver / 1000, driver % 1000 / 10,
            code != cudaSuccess ? cudaGetErrorString(code) : "0 devices");
    if (count == 1 || config->share) config->number %= count;
    if (config->number >= count)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "GPU number %d was asked for and %d are visible; start at most as many "
                            "ranks as this host has GPUs, and look at CUDA_VISIBLE_DEVICES",
                            config->number, count);
    return RP_STATUS_OK;
}

static int cuda_count(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

/* Asked for before any kernel that is wanted, to learn whether there is code for this GPU. */
static __global__ void nothing() {}

static enum rp_status set_up(struct rp_cuda *cuda, struct rp_error *err)
{
    struct cudaDeviceProp properties;
    struct cudaFuncAttributes attributes;
    RP_CUDA_TRY(cudaSetDevice(cuda->device.config.number));
    RP_CUDA_TRY(cudaGetDeviceProperties(&properties, cuda->device.config.number));
    if (properties.major < 8)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "%s is of compute capability %d.%d; 8.0 (A100) is the least; use "
                            "`resources: {device: cpu}`, which gives the same bits at portable",
                            properties.name, properties.major, properties.minor);
    RP_CUDA_TRY(cudaFuncGetAttributes(&attributes, (const void *)nothing));
    cuda->n_processors = properties.multiProcessorCount;
    cuda->shared_most = properties.sharedMemPerBlockOptin;
    RP_CUDA_TRY(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    RP_TRY(rp_cuda_live_open(cuda, err));
    RP_TRY(rp_cuda_staging_open(cuda, err));
    RP_TRY(rp_cuda_save_open(cuda, err));
    RP_TRY(rp_cuda_beside_open(cuda, err));
    rp_cuda_ranges_open(cuda);
    return rp_cuda_graph_open(cuda, err);
}

static void cuda_close(struct rp_device *device)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (!cuda) return;
    rp_cuda_graph_stop(cuda);
    if (cuda->stream) (void)cudaStreamSynchronize(cuda->stream);
    rp_cuda_graph_close(cuda);
    rp_cuda_ranges_close(cuda);
    rp_cuda_beside_close(cuda);
    rp_cuda_save_close(cuda);
    rp_cuda_staging_close(cuda);
    rp_cuda_live_close(cuda);
    (void)cudaFree(cuda->scratch);
    if (cuda->stream) (void)cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static enum rp_status cuda_open(const struct rp_device_config *config, struct rp_device **device,
                                struct rp_error *err)
{
    struct rp_device_config found = *config;
    *device = NULL;
    RP_TRY(find_device(&found, err));
    struct rp_cuda *cuda = (struct rp_cuda *)calloc(1, sizeof *cuda);
    if (!cuda) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    cuda->device.table = &rp_cuda_table;
    cuda->device.config = found;
    cuda->device.config.path = rp_cuda_table.name;
    enum rp_status status = set_up(cuda, err);
    if (status == RP_STATUS_OK)
        *device = &cuda->device;
    else
        cuda_close(&cuda->device);
    return status;
}

/* ---- memory ---------------------------------------------------------------------------------- */

static enum rp_status cuda_alloc(struct rp_device *device, size_t bytes, void **block,
                                 struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    *block = NULL;
    RP_CUDA_TRY(cudaMalloc(block, bytes ? bytes : 1));
    return rp_cuda_fill(cuda, *block, bytes, device->config.poison ? poison_word : 0, err);
}

static void cuda_free(struct rp_device *device, void *block)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (rp_cuda_graph_cut(cuda, NULL) != RP_STATUS_OK) rp_cuda_graph_stop(cuda);
    rp_cuda_save_stop(cuda);
    rp_cuda_beside_stop(cuda);
    (void)cudaStreamSynchronize(cuda->stream);
    rp_cuda_graph_forget(cuda); /* the next block may lie where this one did */
    (void)cudaFree(block);
}

static enum rp_status cuda_reserve(struct rp_device *device, size_t bytes, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (bytes <= cuda->scratch_bytes) return RP_STATUS_OK;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    rp_cuda_graph_forget(cuda);
    RP_CUDA_TRY(cudaStreamSynchronize(cuda->stream));
    (void)cudaFree(cuda->scratch);
    cuda->scratch = NULL;
    cuda->scratch_bytes = 0;
    RP_CUDA_TRY(cudaMalloc(&cuda->scratch, bytes));
    cuda->scratch_bytes = bytes;
    return RP_STATUS_OK;
}

static size_t cuda_scratch_bytes(const struct rp_device_config *config,
                                 const struct rp_op_call *call)
{
    (void)config;
    scratch_fn scratch = scratch_of(call->op);
    return scratch ? (scratch(call) + 255) / 256 * 256 : 0;
}

/* ---- work ------------------------------------------------------------------------------------ */

enum rp_status rp_cuda_run_now(struct rp_cuda *cuda, const struct rp_op_call *call,
                               const struct rp_pass *pass, struct rp_error *err)
{
    cuda->last = rp_op_info(call->op)->name;
    if (!cuda->ranges) return entries[call->op](cuda, call, pass, err);
    rp_cuda_range_begin(cuda, cuda->last);
    enum rp_status status = entries[call->op](cuda, call, pass, err);
    rp_cuda_range_end(cuda);
    return status;
}

static enum rp_status cuda_run(struct rp_device *device, const struct rp_op_call *call,
                               const struct rp_pass *pass, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    size_t scratch = cuda_scratch_bytes(&device->config, call);
    RP_TRY(cuda_reserve(device, scratch, err));
    if (device->config.poison && scratch > 0)
        RP_TRY(rp_cuda_fill(cuda, cuda->scratch, scratch, poison_word, err));
    return rp_cuda_graph_do(cuda, call, pass, NULL, 0, err);
}

static enum rp_status cuda_zero(struct rp_device *device, void *block, size_t bytes,
                                struct rp_error *err)
{
    return rp_cuda_graph_do((struct rp_cuda *)device, NULL, NULL, block, bytes, err);
}

static enum rp_status cuda_sync(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    cudaError_t code = cudaStreamSynchronize(cuda->stream);
    if (code == cudaSuccess) return RP_STATUS_OK;
    return rp_cuda_error(err, cuda->last ? cuda->last : "waiting for the GPU", (int)code);
}

const struct rp_device_table rp_cuda_table = {
    .name = "cuda",
    .logits_kept = INT64_C(1) << 29, /* 2 GiB */
    .count = cuda_count,
    .open = cuda_open,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .copy_in = rp_cuda_copy_in,
    .pin = rp_cuda_pin,
    .unpin = rp_cuda_unpin,
    .copies_wait = rp_cuda_copies_wait,
    .copy_ahead = rp_cuda_copy_ahead,
    .copy_out = rp_cuda_copy_out,
    .copy_out_many = rp_cuda_copy_out_many,
    .save_start = rp_cuda_save_start,
    .save_fence = rp_cuda_save_fence,
    .save_wait = rp_cuda_save_wait,
    .zero = cuda_zero,
    .run = cuda_run,
    .sync = cuda_sync,
    .beside_begin = rp_cuda_beside_begin,
    .beside_run = rp_cuda_beside_run,
    .beside_end = rp_cuda_beside_end,
    .beside_state = rp_cuda_beside_state,
    .step_begin = rp_cuda_step_begin,
    .step_end = rp_cuda_step_end,
    .mark = rp_cuda_mark,
    .reserve = cuda_reserve,
    .self_test = rp_cuda_self_test,
    .describe = rp_cuda_describe,
    .facts = rp_cuda_facts,
    .peak = rp_cuda_peak,
    .scratch_bytes = cuda_scratch_bytes,
};
