/* sim_runtime.cpp - streams, memory and graphs of the simulated device.
 *
 * RP_SIM_SEED and RP_SIM_THREADS choose the order of execution and the host threads; RP_SIM_MEMORY
 * is the size of the device in bytes, RP_SIM_DEVICES 0 makes a machine without one, RP_SIM_PINNED 0
 * one that pins no memory. */
#include "sim_int.h"

#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

using rp_sim::options;

struct rp_sim_graph {
    std::vector<std::function<int()>> work;
};
struct rp_sim_stream {
    rp_sim_graph *capturing = nullptr;
};
struct rp_sim_event {
    double at = 0;
};

namespace
{

cudaError_t last_code;
std::map<void *, size_t> blocks; /* device memory handed out */
size_t used;
std::mutex lock;

uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && text[0] ? strtoull(text, nullptr, 10) : otherwise;
}

size_t memory_bytes()
{
    return (size_t)number_of("RP_SIM_MEMORY", (uint64_t)8 << 30);
}

cudaError_t fails(cudaError_t code)
{
    if (code != cudaSuccess) last_code = code;
    return code;
}

} // namespace

namespace rp_sim
{

int enqueue(void *stream, std::function<int()> what)
{
    rp_sim_stream *s = static_cast<rp_sim_stream *>(stream);
    if (s && s->capturing) {
        s->capturing->work.push_back(std::move(what));
        return cudaSuccess;
    }
    return what() == 0 ? cudaSuccess : fails(cudaErrorLaunchFailure);
}

} // namespace rp_sim

/* ---- the device ------------------------------------------------------------------------------ */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = (int)number_of("RP_SIM_DEVICES", 1);
    return *count > 0 ? cudaSuccess : fails(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    options.seed = number_of("RP_SIM_SEED", 2);
    options.host_threads = (int)number_of("RP_SIM_THREADS", 1);
    options.limits_file = getenv("RP_SIM_LIMITS");
    return device == 0 ? cudaSuccess : fails(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    (void)device;
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "simulated device");
    memcpy(properties->uuid.bytes, "reprise-simulate", 16);
    properties->totalGlobalMem = memory_bytes();
    properties->sharedMemPerBlockOptin = options.shared_limit;
    properties->major = 8;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = memory_bytes();
    *free_bytes = *total > used ? *total - used : 0;
    return cudaSuccess;
}

cudaError_t cudaGetLastError()
{
    cudaError_t code = last_code;
    last_code = cudaSuccess;
    return code;
}

const char *cudaGetErrorString(cudaError_t code)
{
    const char *text = code == cudaErrorLaunchFailure ? rp_sim::last_error() : nullptr;
    if (text) return text;
    switch (code) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure:
        return "unspecified launch failure";
    default:
        return "invalid argument";
    }
}

const char *cudaGetErrorName(cudaError_t code)
{
    return code == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}

/* ---- memory ---------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **block, size_t bytes)
{
    std::lock_guard<std::mutex> hold(lock);
    *block = nullptr;
    if (used + bytes > memory_bytes()) return fails(cudaErrorMemoryAllocation);
    if (posix_memalign(block, 256, bytes ? bytes : 1)) return fails(cudaErrorMemoryAllocation);
    rp_sim::fill_poison(static_cast<char *>(*block), bytes);
    blocks[*block] = bytes;
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *block)
{
    std::lock_guard<std::mutex> hold(lock);
    auto found = blocks.find(block);
    if (!block) return cudaSuccess;
    if (found == blocks.end()) return fails(cudaErrorInvalidValue);
    used -= found->second;
    blocks.erase(found);
    free(block);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned flags)
{
    (void)flags;
    *block = malloc(bytes ? bytes : 1);
    return *block ? cudaSuccess : fails(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *block)
{
    free(block);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *block, size_t bytes, unsigned flags)
{
    (void)block, (void)bytes, (void)flags;
    return number_of("RP_SIM_PINNED", 1) ? cudaSuccess : fails(cudaErrorMemoryAllocation);
}

cudaError_t cudaHostUnregister(void *block)
{
    (void)block;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind;
    return rp_sim::enqueue(stream, [=] {
        memcpy(to, from, bytes);
        return 0;
    });
}

cudaError_t cudaMemsetAsync(void *block, int value, size_t bytes, cudaStream_t stream)
{
    return rp_sim::enqueue(stream, [=] {
        memset(block, value, bytes);
        return 0;
    });
}

/* ---- streams, events, graphs ----------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = new rp_sim_stream;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return stream->capturing ? fails(cudaErrorInvalidValue) : cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new rp_sim_event;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    timespec now;
    (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)(1e3 * (to->at - from->at));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode;
    if (stream->capturing) return fails(cudaErrorInvalidValue);
    stream->capturing = new rp_sim_graph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capturing;
    stream->capturing = nullptr;
    return *graph ? cudaSuccess : fails(cudaErrorInvalidValue);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    *exec = new rp_sim_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    for (auto &work : exec->work) {
        cudaError_t code = rp_sim::enqueue(stream, work);
        if (code != cudaSuccess) return code;
    }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
