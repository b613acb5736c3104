/* sim_race.cpp - finds accesses that nothing orders; only in builds with RP_SIM_RACE. */
#include "sim_int.h"

#ifdef RP_SIM_RACE

#include <dlfcn.h>
#include <map>
#include <stdlib.h>

namespace rp_sim
{

/* ---- race detector ---------------------------------------------------------------------
 * Kernels are compiled with -fsanitize=thread, whose calls on every load and
 * store end here instead of in libtsan.  Two accesses to a byte race if they
 * come from different threads, at least one writes, not both are atomic, and
 *   other block:  always (nothing orders blocks inside a launch);
 *   same block:   no __syncthreads in between, and, within a warp, no
 *                 __syncwarp of the whole warp either.
 * Shuffles and votes order nothing, as on the device. */

namespace
{

struct Access {
    uint64_t launch;
    uint32_t block, thread, epoch, warp_epoch;
    uint8_t bytes; /* mask within the 4-byte cell */
    bool atomic;
    const void *pc;
};

struct Cell {
    Access write, read[2];
};

constexpr size_t cells_per_page = 1024;
std::map<uintptr_t, Cell *> pages;
uintptr_t last_page = ~(uintptr_t)0;
Cell *last_cells;

Cell &cell_of(uintptr_t address)
{
    uintptr_t page = address / 4 / cells_per_page;
    if (page != last_page) {
        Cell *&c = pages[page];
        if (!c) c = static_cast<Cell *>(calloc(cells_per_page, sizeof(Cell)));
        if (!c) abort();
        last_page = page;
        last_cells = c;
    }
    return last_cells[address / 4 % cells_per_page];
}

bool unordered(const Access &a, const Access &b, bool shared)
{
    if (a.launch != b.launch || !(a.bytes & b.bytes) || (a.atomic && b.atomic)) return false;
    if (a.block != b.block) return !shared; /* blocks reuse the addresses of the arena */
    if (a.thread == b.thread || a.epoch != b.epoch) return false;
    return a.thread / 32 != b.thread / 32 || a.warp_epoch == b.warp_epoch;
}

/* As `addr2line -e PROGRAM` takes it; one back, into the call. */
std::string place(const void *pc)
{
    Dl_info info;
    uintptr_t base = dladdr(pc, &info) ? (uintptr_t)info.dli_fbase : 0;
    return format("pc 0x%zx", (size_t)((uintptr_t)pc - base - 1));
}

void report(Worker &w, bool shared, const Access &now, bool now_writes, const Access &before,
            bool before_writes)
{
    fail(w, format("data race on %s memory: %s by this thread (%s), %s by block %u thread %u (%s), "
                   "nothing orders them",
                   shared ? "shared" : "global", now_writes ? "write" : "read",
                   place(now.pc).c_str(), before_writes ? "write" : "read", before.block,
                   before.thread, place(before.pc).c_str()));
}

} // namespace

void race_access(const void *p, size_t bytes, bool write, bool atomic, const void *pc)
{
    Worker *w = worker;
    if (!w || w->current == &w->main) return;
    const char *c = static_cast<const char *>(p);
    if (c >= w->stacks && c < w->stacks + (max_threads + 1) * stack_bytes)
        return; /* a thread's own */
    bool shared = c >= w->arena && c < w->arena + arena_bytes;
    uintptr_t a = (uintptr_t)p, end = a + bytes;
    while (a < end) {
        uintptr_t cell_end = (a & ~(uintptr_t)3) + 4, stop = end < cell_end ? end : cell_end;
        Cell &cell = cell_of(a);
        uint8_t mask = (uint8_t)(((1u << (stop - a)) - 1) << (a & 3));
        Access now{
            w->launch->id, w->block_id, w->running, w->epoch, w->warp_epoch[w->running / warp_size],
            mask,          atomic,      pc};
        if (unordered(cell.write, now, shared)) report(*w, shared, now, write, cell.write, true);
        if (write) {
            for (const Access &r : cell.read)
                if (unordered(r, now, shared)) report(*w, shared, now, true, r, false);
            cell.write = now;
        } else {
            /* The last two readers that differ: one of them is not a later writer. */
            Access &r = cell.read[0];
            if (r.launch != now.launch || r.thread != now.thread || r.block != now.block)
                cell.read[1] = r;
            r = now;
        }
        a = stop;
    }
}

#define RP_SIM_TSAN(n)                                                                             \
    extern "C" void __tsan_read##n(void *p)                                                        \
    {                                                                                              \
        race_access(p, n, false, false, __builtin_return_address(0));                              \
    }                                                                                              \
    extern "C" void __tsan_write##n(void *p)                                                       \
    {                                                                                              \
        race_access(p, n, true, false, __builtin_return_address(0));                               \
    }                                                                                              \
    extern "C" void __tsan_unaligned_read##n(void *p)                                              \
    {                                                                                              \
        race_access(p, n, false, false, __builtin_return_address(0));                              \
    }                                                                                              \
    extern "C" void __tsan_unaligned_write##n(void *p)                                             \
    {                                                                                              \
        race_access(p, n, true, false, __builtin_return_address(0));                               \
    }
RP_SIM_TSAN(1)
RP_SIM_TSAN(2)
RP_SIM_TSAN(4)
RP_SIM_TSAN(8)
RP_SIM_TSAN(16)
extern "C" void __tsan_read_range(void *p, size_t n)
{
    race_access(p, n, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void *p, size_t n)
{
    race_access(p, n, true, false, __builtin_return_address(0));
}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}

} // namespace rp_sim

#endif
