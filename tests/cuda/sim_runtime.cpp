/* sim_runtime.cpp - streams, memory and graphs of the simulated device.
 *
 * RP_SIM_SEED and RP_SIM_THREADS choose the order of execution and the host threads; RP_SIM_MEMORY
 * is the size of the device in bytes, RP_SIM_DEVICES the number of devices (0: a machine without
 * one), RP_SIM_PINNED so many bytes of the host's memory may be pinned. RP_SIM_LATE: what another
 * thread than the first waits for takes so many milliseconds more. RP_SIM_DEAF=OF or
 * OF:WHO: no stream, or stream WHO, waits for stream OF, counted from 1 as they are made; a
 * control. RP_SIM_REFUSE=CALL:CODE: that call fails so. RP_SIM_RUN: launches of more threads than
 * that are looked at and not run, and memory is not filled: jobs of any size, whose numbers mean
 * nothing. RP_SIM_WATCH: the race detector sees so many blocks at either end of a grid. */
#include "sim_int.h"
#include "sim_stream.h"

#include <deque>
#include <map>
#include <sched.h>
#include <set>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <thread>
#include <time.h>
#include <unistd.h>

using rp_sim::options;

struct rp_sim_graph {
    std::vector<std::function<int()>> work;
};
/* Seed 0: everything is done as late as it may be, when somebody waits for it; 1: at once; any
 * other: now one, now the other. Who reads or refills memory too early, and a stream that does not
 * wait for another, show in the results. */
struct rp_sim_stream {
    rp_sim_graph *capturing = nullptr;
    bool spoilt = false; /* the capture: what may not be done during one was done */
    int device = 0;
    std::deque<std::function<int()>> late;
    uint64_t done = 0; /* things done; `late` are those after */
    uint64_t number = 0;
};
/* A thread that captures a stream may not wait for any, ask how far one is, nor take or pin memory
 * (cudaThreadExchangeStreamCaptureMode, thread-local mode): refused, and the capture is lost. */
static thread_local rp_sim_stream *capturing = nullptr;

struct rp_sim_event {
    double at = 0;
    rp_sim_stream *stream = nullptr;
    uint64_t upto = 0; /* things on that stream before it */
    int device = 0;
};

namespace
{

struct block {
    size_t bytes;
    int device;
};

cudaError_t last_code, fault;
thread_local int current_device; /* each thread's own, 0 before it chooses */
std::set<rp_sim_stream *> streams;
uint64_t things;                      /* asked for so far */
std::map<const char *, block> blocks; /* device memory handed out */
std::map<const char *, size_t> pinned;
size_t used, pinned_bytes;
std::thread::id first_thread;
/* One thread at a time, whichever does what is late: kernels too. */
std::recursive_mutex lock;
typedef std::lock_guard<std::recursive_mutex> hold;

uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && text[0] ? strtoull(text, nullptr, 10) : otherwise;
}

size_t memory_bytes()
{
    return (size_t)number_of("RP_SIM_MEMORY", (uint64_t)8 << 30);
}

bool runs_all()
{
    return options.run_most == UINT64_MAX;
}

/* Device memory lies in addresses of its own, far from the host's, so that an address tells whose
 * it is also where it is of no block: kernels are given where a padded image would begin. Blocks
 * that are gone cannot be read. AddressSanitizer wants to know the blocks. */
#ifdef RP_SIM_ASAN
constexpr size_t near_bytes = 1 << 20;
#else
constexpr size_t near_bytes = 64 << 20;
char *const region = (char *)(uintptr_t)0x100000000000, *region_end = region;
bool apart = true;                          /* false: this machine has not got those addresses */
std::map<size_t, std::vector<char *>> gone; /* by their size in pages */

size_t whole_pages(size_t bytes)
{
    return (bytes + 4095) / 4096 * 4096;
}
#endif

/* Zeros that take no memory until they are written; where kernels run, poisoned. */
bool take(void **block, size_t bytes)
{
    *block = nullptr;
#ifdef RP_SIM_ASAN
    if (posix_memalign(block, 256, bytes)) return false;
#else
    size_t size = whole_pages(bytes);
    std::vector<char *> &free_blocks = gone[size];
    if (!free_blocks.empty()) {
        *block = free_blocks.back();
        free_blocks.pop_back();
        mprotect(*block, size, PROT_READ | PROT_WRITE);
    } else {
        void *got = mmap(region_end, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (got == MAP_FAILED) return false;
        *block = got;
        apart = apart && got == region_end;
        region_end += size + near_bytes;
    }
#endif
    if (runs_all()) rp_sim::fill_poison(static_cast<char *>(*block), bytes);
#ifdef RP_SIM_RACE
    rp_sim::memory_version++;
#endif
    return true;
}

void give_back(void *block, size_t bytes)
{
#ifdef RP_SIM_ASAN
    (void)bytes;
    free(block);
#else
    size_t size = whole_pages(bytes);
    madvise(block, size, MADV_DONTNEED);
    mprotect(block, size, PROT_NONE);
    gone[size].push_back(static_cast<char *>(block));
#endif
}

/* The block of device memory that holds this address, or NULL. */
const std::pair<const char *const, block> *block_at(const void *address)
{
    const char *at = static_cast<const char *>(address);
    auto next = blocks.upper_bound(at);
    if (next == blocks.begin()) return nullptr;
    --next;
    return at < next->first + next->second.bytes ? &*next : nullptr;
}

/* All of it is device memory; none of it is. */
bool is_device(const void *address, size_t bytes)
{
    auto *found = block_at(address);
    return found &&
           static_cast<const char *>(address) + bytes <= found->first + found->second.bytes;
}
bool is_host(const void *address, size_t bytes)
{
    auto next = blocks.lower_bound(static_cast<const char *>(address));
    return !block_at(address) &&
           (next == blocks.end() || next->first >= static_cast<const char *>(address) + bytes);
}

/* Something lies there, and it is no device's memory. */
bool is_mapped_host(uint64_t address)
{
    static const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), canonical = UINT64_C(1) << 47;
    unsigned char there;
    if (address < page || address >= canonical) return false;
#ifdef RP_SIM_ASAN
    /* The sanitizer's own notes on every byte below 2^47 take up much of what numbers look like. */
    size_t shift, notes;
    __asan_get_shadow_mapping(&shift, &notes);
    if (address >= notes && address < notes + (canonical >> shift)) return false;
    for (auto &block : blocks)
        if (address + near_bytes >= (uint64_t)block.first &&
            address < (uint64_t)block.first + block.second.bytes + near_bytes)
            return false;
#else
    if (!apart || (address + near_bytes >= (uint64_t)region && address < (uint64_t)region_end))
        return false;
#endif
    return mincore((void *)(address / page * page), 1, &there) == 0;
}

bool is_pinned(const void *block)
{
    const char *at = static_cast<const char *>(block);
    auto next = pinned.upper_bound(at);
    if (next == pinned.begin()) return false;
    --next;
    return at < next->first + next->second;
}

cudaError_t fails(cudaError_t code)
{
    if (code != cudaSuccess) last_code = code;
    return code;
}

/* RP_SIM_REFUSE names this call. */
bool refused(const char *call)
{
    const char *text = getenv("RP_SIM_REFUSE");
    size_t n = strlen(call);
    if (!text || strncmp(text, call, n) != 0 || text[n] != ':') return false;
    (void)fails(atoi(text + n + 1));
    return true;
}

/* What may not be done while this thread captures a stream. */
bool spoils_capture()
{
    if (!capturing) return false;
    capturing->spoilt = true;
    (void)fails(cudaErrorStreamCaptureUnsupported);
    return true;
}

/* Does what is late on a stream up to number `upto`; a fault stays, as on a device. What has to
 * wait for another process is tried again until it is done, or (`wait` false) left for later. */
cudaError_t catch_up(rp_sim_stream *stream, uint64_t upto, bool wait = true)
{
    hold held(lock);
    while (stream && !stream->late.empty() && stream->done < upto) {
        int code = stream->late.front()();
        if (code == RP_SIM_NOT_YET && !wait) return cudaErrorNotReady;
        if (code == RP_SIM_NOT_YET) {
            sched_yield();
            continue;
        }
        stream->late.pop_front();
        stream->done++;
        if (code != 0) fault = fails(cudaErrorLaunchFailure);
    }
    return fault;
}

} // namespace

namespace rp_sim
{

#ifdef RP_SIM_RACE
uint64_t memory_version = 1;

bool is_device_address(const void *address)
{
    return address >= region && address < region_end;
}

Extent device_block(const void *address)
{
    auto *found = block_at(address);
    return found ? Extent{found->first, found->first + found->second.bytes} : Extent{};
}
#endif

/* A word of a parameter that is the address of what the host keeps, or another device: in the
 * kernel it would be a fault. `stream` NULL: a test's own launch, whose memory is the host's. */
int check_parameter(void *stream, const char *name, const void *parameter, size_t bytes)
{
    rp_sim_stream *s = static_cast<rp_sim_stream *>(stream);
    hold held(lock);
    if (!s) return cudaSuccess;
    if (s->device != current_device) return fails(cudaErrorInvalidResourceHandle);
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
        uint64_t word;
        memcpy(&word, static_cast<const char *>(parameter) + at, 8);
        auto *block = block_at((const void *)word);
        if (block ? block->second.device == s->device : !is_mapped_host(word)) continue;
        record_error(format("%s: byte %zu of a parameter is an address %s", name, at,
                            block ? "on another device" : "in the host's memory"));
        return fails(cudaErrorLaunchFailure);
    }
    return cudaSuccess;
}

int enqueue(void *stream, std::function<int()> what)
{
    rp_sim_stream *s = static_cast<rp_sim_stream *>(stream);
    hold held(lock);
    if (!s) return what() == 0 ? cudaSuccess : cudaErrorLaunchFailure;
    if (s->capturing)
        s->capturing->work.push_back(std::move(what));
    else
        s->late.push_back(std::move(what));
    bool now = options.seed == 1 || (options.seed > 1 && mix(options.seed ^ mix(++things)) & 1);
    cudaError_t code = now && !s->capturing ? catch_up(s, UINT64_MAX, false) : cudaSuccess;
    return code == cudaErrorNotReady ? cudaSuccess : code;
}

} // namespace rp_sim

void rp_sim_stream_add(void *stream, int (*work)(void *context), void *context)
{
    rp_sim::enqueue(stream, [=] { return work(context); });
}

int rp_sim_stream_device()
{
    return current_device;
}

/* ---- the device ------------------------------------------------------------------------------ */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = (int)number_of("RP_SIM_DEVICES", 1);
    return *count > 0 ? cudaSuccess : fails(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    hold held(lock);
    if (refused("cudaSetDevice")) return last_code;
    if (first_thread == std::thread::id()) first_thread = std::this_thread::get_id();
    options.seed = number_of("RP_SIM_SEED", 2);
    options.host_threads = (int)number_of("RP_SIM_THREADS", 1);
    options.limits_file = getenv("RP_SIM_LIMITS");
    options.run_most = number_of("RP_SIM_RUN", UINT64_MAX);
    options.watch = (uint32_t)number_of("RP_SIM_WATCH", UINT32_MAX);
    if (device < 0 || device >= (int)number_of("RP_SIM_DEVICES", 1))
        return fails(cudaErrorInvalidValue);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "simulated device");
    memcpy(properties->uuid.bytes, "reprise-simulate", 16);
    properties->uuid.bytes[15] = (char)(properties->uuid.bytes[15] + device);
    properties->totalGlobalMem = memory_bytes();
    properties->sharedMemPerBlockOptin = options.shared_limit;
    properties->major = 8;
    properties->multiProcessorCount = 4;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    (void)kernel;
    attributes->numRegs = 8;
    return refused("cudaFuncGetAttributes") ? last_code : cudaSuccess;
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
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
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
    hold held(lock);
    *block = nullptr;
    if (spoils_capture()) return last_code;
    if (used + bytes > memory_bytes()) return fails(cudaErrorMemoryAllocation);
    if (!take(block, bytes ? bytes : 1)) return fails(cudaErrorMemoryAllocation);
    blocks[static_cast<char *>(*block)] = {bytes ? bytes : 1, current_device};
    used += bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *block)
{
    hold held(lock);
    auto found = blocks.find(static_cast<char *>(block));
    if (!block) return cudaSuccess;
    if (spoils_capture()) return last_code;
    for (rp_sim_stream *stream : streams) catch_up(stream, UINT64_MAX);
    if (found == blocks.end()) return fails(cudaErrorInvalidValue);
    used -= found->second.bytes;
    give_back(block, found->second.bytes);
    blocks.erase(found);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **block, size_t bytes, unsigned flags)
{
    (void)flags;
    *block = nullptr;
    if (spoils_capture()) return last_code;
    if (bytes > number_of("RP_SIM_PINNED", SIZE_MAX)) return fails(cudaErrorMemoryAllocation);
    *block = malloc(bytes ? bytes : 1);
    if (*block) pinned[static_cast<char *>(*block)] = bytes;
    return *block ? cudaSuccess : fails(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *block)
{
    if (spoils_capture()) return last_code;
    pinned.erase(static_cast<char *>(block));
    free(block);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *block, size_t bytes, unsigned flags)
{
    hold held(lock);
    (void)flags;
    if (spoils_capture()) return last_code;
    if (!bytes || !is_host(block, bytes)) return fails(cudaErrorInvalidValue);
    if (pinned_bytes + bytes > number_of("RP_SIM_PINNED", SIZE_MAX))
        return fails(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(block)] = bytes;
    pinned_bytes += bytes;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *block)
{
    hold held(lock);
    auto found = pinned.find(static_cast<char *>(block));
    if (spoils_capture()) return last_code;
    if (found == pinned.end()) return fails(cudaErrorInvalidValue);
    pinned_bytes -= found->second;
    pinned.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    hold held(lock);
    bool to_host = kind == cudaMemcpyDeviceToHost, from_host = kind == cudaMemcpyHostToDevice;
    if (!(to_host ? is_host(to, bytes) : is_device(to, bytes)) ||
        !(from_host ? is_host(from, bytes) : is_device(from, bytes)))
        return fails(cudaErrorInvalidValue);
    bool is_late =
        kind == cudaMemcpyDeviceToDevice || is_pinned(kind == cudaMemcpyDeviceToHost ? to : from);
    if (is_late || stream->capturing)
        return rp_sim::enqueue(stream, [=] {
            memcpy(to, from, bytes);
            return 0;
        });
    if (kind == cudaMemcpyDeviceToHost) {
        catch_up(stream, UINT64_MAX);
        memcpy(to, from, bytes);
        return fault;
    }
    std::vector<char> taken(static_cast<const char *>(from),
                            static_cast<const char *>(from) + bytes);
    return rp_sim::enqueue(stream, [=] {
        memcpy(to, taken.data(), bytes);
        return 0;
    });
}

cudaError_t cudaMemsetAsync(void *block, int value, size_t bytes, cudaStream_t stream)
{
    hold held(lock);
    if (!is_device(block, bytes)) return fails(cudaErrorInvalidValue);
    if (!runs_all() && bytes > options.run_most) return cudaSuccess;
    return rp_sim::enqueue(stream, [=] {
        memset(block, value, bytes);
        return 0;
    });
}

/* ---- streams, events, graphs ----------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    static uint64_t made;
    hold held(lock);
    (void)flags;
    *stream = new rp_sim_stream;
    (*stream)->number = ++made;
    (*stream)->device = current_device;
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    return priority == 0 || priority == -1 ? cudaStreamCreateWithFlags(stream, flags)
                                           : fails(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -1;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    catch_up(stream, UINT64_MAX);
    streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (spoils_capture()) return last_code;
    return catch_up(stream, UINT64_MAX);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (spoils_capture()) return last_code;
    return catch_up(stream, UINT64_MAX, false);
}

static bool is_deaf(const rp_sim_stream *who, const rp_sim_stream *of)
{
    const char *text = getenv("RP_SIM_DEAF");
    char *end = nullptr;
    if (!text || !text[0] || !of || strtoull(text, &end, 10) != of->number) return false;
    return *end != ':' || strtoull(end + 1, nullptr, 10) == who->number;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    rp_sim_stream *of = event->stream;
    hold held(lock);
    uint64_t upto = event->upto; /* of now: the event may be recorded again */
    (void)flags;
    if (stream->capturing && spoils_capture())
        return last_code; /* the event is not of the capture */
    if (is_deaf(stream, of)) return cudaSuccess;
    return rp_sim::enqueue(stream, [=]() -> int {
        return catch_up(of, upto, false) == cudaErrorNotReady ? RP_SIM_NOT_YET : RP_SIM_DONE;
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new rp_sim_event;
    (*event)->device = current_device;
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
    hold held(lock);
    if (stream->device != event->device) return fails(cudaErrorInvalidResourceHandle);
    if (stream->capturing && spoils_capture())
        return last_code; /* whoever waited would be captured */
    event->stream = stream;
    event->upto = stream->done + stream->late.size();
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->at = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (spoils_capture()) return last_code;
    if (std::this_thread::get_id() != first_thread)
        std::this_thread::sleep_for(std::chrono::milliseconds(number_of("RP_SIM_LATE", 0)));
    hold held(lock);
    return catch_up(event->stream, event->upto);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = (float)(1e3 * (to->at - from->at));
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode; /* whatever it allows, here nothing is */
    if (stream->capturing || capturing) return fails(cudaErrorInvalidValue);
    stream->capturing = new rp_sim_graph;
    stream->spoilt = false;
    capturing = stream;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    bool spoilt = stream->spoilt;
    *graph = nullptr;
    if (!stream->capturing || capturing != stream) return fails(cudaErrorInvalidValue);
    if (spoilt)
        delete stream->capturing;
    else
        *graph = stream->capturing;
    stream->capturing = nullptr;
    capturing = nullptr;
    return spoilt ? fails(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    if (refused("cudaGraphInstantiate")) return last_code;
    *exec = new rp_sim_graph(*graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (stream->capturing && spoils_capture()) return last_code;
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
