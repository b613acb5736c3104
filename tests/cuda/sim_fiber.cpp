/* sim_fiber.cpp - stacks, the switch between them, and errors. */
#include "sim_int.h"

#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

namespace rp_sim
{

__thread Worker *worker;
std::mutex global_lock;
Stats total{};
std::string first_error, reported_error;

#ifndef RP_SIM_UCONTEXT
extern "C" void rp_sim_switch(void **save_sp, void *load_sp);
asm(R"(
    .text
    .globl rp_sim_switch
    .type rp_sim_switch, @function
rp_sim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size rp_sim_switch, .-rp_sim_switch
)");
#endif

void switch_fiber(Fiber &from, Fiber &to)
{
#ifdef RP_SIM_ASAN
    void *fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, to.stack, to.stack_size);
#endif
#ifdef RP_SIM_UCONTEXT
    swapcontext(&from.context, &to.context);
#else
    rp_sim_switch(&from.sp, to.sp);
#endif
#ifdef RP_SIM_ASAN
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

/* Prepares `f` so that the next switch to it enters fiber_main(). */
void reset_fiber(Fiber &f)
{
#ifdef RP_SIM_ASAN
    __asan_unpoison_memory_region(f.stack, f.stack_size);
#endif
#ifdef RP_SIM_UCONTEXT
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack;
    f.context.uc_stack.ss_size = f.stack_size;
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
#else
    void **top = reinterpret_cast<void **>(f.stack + f.stack_size);
    *--top = nullptr; /* where the caller of fiber_main would return to */
    *--top = nullptr; /* keeps the address of the entry 16-byte aligned */
    *top = reinterpret_cast<void *>(fiber_main);
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f.sp = top;
#endif
}

uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

Worker::Worker()
{
    stacks =
        static_cast<char *>(mmap(nullptr, (max_threads + 1) * stack_bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    arena = static_cast<char *>(aligned_alloc(4096, arena_bytes));
    if (stacks == MAP_FAILED || !arena) abort();
}

Worker::~Worker()
{
    for (Fiber *f : fibers) delete f;
    free(arena);
    munmap(stacks, (max_threads + 1) * stack_bytes);
}

/* Fibers are made when first needed.  Their stacks start at staggered offsets:
 * with equal offsets all of them would compete for the same cache sets. */
Fiber &take_fiber(Worker &w)
{
    if (!w.idle.empty()) {
        Fiber *f = w.idle.back();
        w.idle.pop_back();
        return *f;
    }
    size_t n = w.fibers.size();
    if (n > max_threads) abort();
    Fiber *f = new Fiber;
    char *base = w.stacks + n * stack_bytes;
    mprotect(base, guard_bytes,
             PROT_NONE); /* a stack overflow faults instead of hitting a neighbour */
    f->stack = base + guard_bytes;
    f->stack_size = stack_bytes - guard_bytes - (n * 7 % 61) * 64;
    w.fibers.push_back(f);
    reset_fiber(*f);
    return *f;
}

/* ---- errors */

void record_error(const std::string &message)
{
    std::lock_guard<std::mutex> hold(global_lock);
    if (first_error.empty()) first_error = message;
}

const char *op_name(Op op)
{
    switch (op) {
    case Op::none:
        return "nothing";
    case Op::barrier:
        return "__syncthreads";
    case Op::sync_warp:
        return "__syncwarp";
    case Op::ballot:
        return "a vote";
    default:
        return "a shuffle";
    }
}

std::string format(const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return text;
}

/* Says where every thread of the block stands, in groups. */
std::string who_waits_where(const Worker &w)
{
    std::map<std::string, std::pair<unsigned, unsigned>> groups; /* place -> count, first thread */
    for (unsigned t = 0; t < w.count; t++) {
        const Thread &th = w.threads[t];
        std::string place =
            th.waits_at != Op::none
                ? format("%s %s:%d", op_name(th.waits_at), th.file, th.line)
                : (w.warps[t / warp_size].live >> t % warp_size & 1 ? "not waiting" : "returned");
        auto &g = groups[place];
        if (g.first++ == 0) g.second = t;
    }
    std::string out;
    for (auto &g : groups)
        out += format("\n    %u threads: %s (first: thread %u)", g.second.first, g.first.c_str(),
                      g.second.second);
    return out;
}

/* Ends the block: the fibers of its threads are thrown away. */
[[noreturn]] void fail(Worker &w, const std::string &what)
{
    record_error(format("%s, block (%u,%u,%u), thread %u: ", w.launch->name, blockIdx.x, blockIdx.y,
                        blockIdx.z, w.running) +
                 what + who_waits_where(w));
    w.failed = true;
    w.launch->failed = true;
    switch_fiber(*w.current, w.main);
    abort(); /* a dead fiber is never resumed */
}

} // namespace rp_sim
