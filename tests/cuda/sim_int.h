/* sim_int.h - private to the simulator: fibers, threads, blocks, launches.
 *
 * One Worker per host thread runs one block at a time. Each CUDA thread runs on a fiber (a stack of
 * its own) until it waits or returns. A fiber whose thread has returned starts the next thread
 * itself, so a kernel that never waits is a plain loop on one stack: no switch at all. */
#ifndef RP_SIM_INT_H
#define RP_SIM_INT_H

#include "sim.h"

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define RP_SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RP_SIM_ASAN 1
#endif
#endif
#ifdef RP_SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) && !defined(RP_SIM_UCONTEXT)
#define RP_SIM_UCONTEXT 1
#endif
#ifdef RP_SIM_UCONTEXT
#include <ucontext.h>
#endif

namespace rp_sim
{

constexpr unsigned max_threads = 1024, warp_size = 32, max_warps = max_threads / warp_size;
constexpr size_t stack_bytes = 64 * 1024; /* per thread; local arrays of kernels live here */
constexpr size_t guard_bytes = 4096;
constexpr size_t arena_bytes = 256 * 1024; /* shared memory plus fences */
constexpr size_t fence_bytes = 64;         /* around every shared array */
constexpr unsigned orders = 16;            /* thread orders drawn once per launch */

struct Fiber {
#ifdef RP_SIM_UCONTEXT
    ucontext_t context;
#else
    void *sp = nullptr;
#endif
    char *stack = nullptr;
    size_t stack_size = 0;
};

struct Limits {
    unsigned max_threads = 0, registers = 0, shared = 0;
};

struct Launch {
    const char *name;
    dim3 grid, block;
    unsigned block_threads;
    size_t dynamic_shared, shared_most;
    uint64_t id;
    void (*run)(const void *);
    const void *call;
    std::vector<uint3> index;            /* threadIdx of every thread */
    std::vector<uint16_t> order[orders]; /* starting orders */
    std::vector<uint32_t> block_order;
    std::atomic<uint32_t> next_block{0};
    std::atomic<bool> failed{false};
};

struct PendingCopy {
    void *dst;
    const void *src;
    unsigned bytes, src_bytes, group;
};

struct Thread {
    Fiber *fiber;
    Op waits_at; /* Op::none while it can run */
    bool waited;
    unsigned mask;
    int arg, width;
    uint64_t value; /* operand of a warp operation, then its result */
    const char *file;
    int line;
    unsigned groups; /* cp.async groups committed */
    std::vector<PendingCopy> copies;
};

struct Warp {
    uint32_t live, waiting; /* lanes that have not returned; lanes at a warp operation */
};

struct SharedArray {
    const void *key;
    char *at;
    size_t bytes;
};

struct Worker {
    Launch *launch = nullptr;
    Fiber main;
    Fiber *current = nullptr;
    std::vector<Fiber *> idle;
    std::vector<Fiber *> fibers;
    char *stacks = nullptr;
    char *arena = nullptr;
    size_t arena_used = 0, shared_bytes = 0;
    char *dynamic = nullptr;
    std::vector<SharedArray> shared;

    Thread threads[max_threads];
    Warp warps[max_warps];
    unsigned running = 0; /* the current thread */
    unsigned count = 0, started = 0, live = 0;
    const uint16_t *order = nullptr;

    uint16_t queue[2 * max_threads]; /* threads that can go on; a ring */
    unsigned head = 0, tail = 0;

    unsigned arrived = 0, epoch = 0;
    int predicates = 0, barrier_result = 0;
    const char *barrier_file = nullptr;
    int barrier_line = 0;
    unsigned warp_epoch[max_warps];
    uint32_t block_id = 0;
    bool watched = true; /* by the race detector */

    uint64_t random = 1;
    bool failed = false;
    Stats stats{};

    Worker();
    ~Worker();
    uint32_t draw()
    {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        return (uint32_t)(random >> 32);
    }
    bool queued() const { return head != tail; }
    void push_back(unsigned t) { queue[tail++ % (2 * max_threads)] = (uint16_t)t; }
    void push_front(unsigned t) { queue[--head % (2 * max_threads)] = (uint16_t)t; }
    unsigned pop() { return queue[head++ % (2 * max_threads)]; }
};

/* ---- shared between the files ---- */
extern __thread Worker *worker; /* of this host thread, while it runs blocks */
extern std::mutex global_lock;
extern Stats total;
extern std::string first_error, reported_error;

uint64_t mix(uint64_t x);
std::string format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* sim_fiber.cpp */
void switch_fiber(Fiber &from, Fiber &to);
void reset_fiber(Fiber &f);
Fiber &take_fiber(Worker &w);
void record_error(const std::string &message);
/* Ends the block: the fibers of its threads are thrown away. */
[[noreturn]] void fail(Worker &w, const std::string &what);

/* sim_schedule.cpp */
void fiber_main();
void fill_poison(char *p, size_t bytes);

/* sim_limits.cpp: what a launch would break of the table of limits, if there is one; or "". */
std::string limits_fault(const Launch &l, const void *kernel);

#ifdef RP_SIM_RACE
/* sim_runtime.cpp: whether an address is of the region in which device memory is handed out; the
 * block that holds it (both NULL: none does); how often blocks were handed out, and 1. */
struct Extent {
    const char *begin, *end;
};
bool is_device_address(const void *address);
Extent device_block(const void *address);
extern uint64_t memory_version;
#endif

/* sim_launch.cpp */
char *carve_shared(Worker &w, size_t bytes);

} // namespace rp_sim

#endif
