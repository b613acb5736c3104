/* sim_race.cpp - finds accesses that nothing orders, that are in no block of device memory, or that
 * a device would refuse as misaligned; only in builds with RP_SIM_RACE. */
#include "sim_int.h"

#ifdef RP_SIM_RACE

#include <dlfcn.h>
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

/* Small: what the detector costs is the memory that it walks. */
struct Access {
    uint32_t launch, block, epoch, warp_epoch;
    int32_t pc; /* from `here` */
    uint16_t thread;
    uint8_t bytes; /* mask within the 4-byte cell */
    bool atomic;
};

struct Cell {
    Access write, read[2];
};

constexpr unsigned page_bits = 12, page_cells = (1u << page_bits) / 4;

struct Page {
    uint64_t version; /* when `may` was looked up; blocks begin with a page of their own */
    Extent may;       /* what may be touched: of device memory, the block that was handed out */
    Cell cells[page_cells];
};

/* By address, in two steps of 18 and 17 bits. */
constexpr unsigned low_bits = 17, high_bits = 47 - page_bits - low_bits;
Page **pages[1u << high_bits];
char here;

void *zeros(size_t n, size_t bytes)
{
    void *made = calloc(n, bytes);
    if (!made) abort();
    return made;
}

Page &page_of(uintptr_t address)
{
    uintptr_t number = address >> page_bits;
    Page **&low = pages[number >> low_bits & ((1u << high_bits) - 1)];
    if (!low) low = static_cast<Page **>(zeros(1u << low_bits, sizeof *low));
    Page *&page = low[number & ((1u << low_bits) - 1)];
    if (!page) page = static_cast<Page *>(zeros(1, sizeof *page));
    return *page;
}

bool unordered(const Access &a, const Access &b, bool shared)
{
    if (a.launch != b.launch || !(a.bytes & b.bytes) || (a.atomic && b.atomic)) return false;
    if (a.block != b.block) return !shared; /* blocks reuse the addresses of the arena */
    if (a.thread == b.thread || a.epoch != b.epoch) return false;
    return a.thread / 32 != b.thread / 32 || a.warp_epoch == b.warp_epoch;
}

int32_t from_here(const void *pc)
{
    return (int32_t)(static_cast<const char *>(pc) - &here);
}

/* As `addr2line -e PROGRAM` takes it; one back, into the call. */
std::string place(int32_t from_here)
{
    Dl_info info;
    const char *pc = &here + from_here;
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

/* Device memory must be handed out; what a launch brings along lies elsewhere. */
void look_up(Page &page, uintptr_t address)
{
    const void *at = (const void *)address;
    page.may =
        is_device_address(at) ? device_block(at) : Extent{nullptr, (const char *)UINTPTR_MAX};
    page.version = memory_version;
}

void report_outside(Worker &w, uintptr_t first, uintptr_t end, bool write, const Access &now)
{
    bool near =
        device_block((const void *)first).begin || device_block((const void *)(first - 1)).begin;
    fail(w, format("%s of %zu bytes (%s) outside of every block of device memory%s",
                   write ? "write" : "read", (size_t)(end - first), place(now.pc).c_str(),
                   near ? ", across or at the end of one" : ""));
}

} // namespace

void race_access(const void *p, size_t bytes, bool write, bool atomic, const void *pc)
{
    Worker *w = worker;
    if (!w || !w->watched || w->current == &w->main) return;
    const char *c = static_cast<const char *>(p);
    if (c >= w->stacks && c < w->stacks + (max_threads + 1) * stack_bytes)
        return; /* a thread's own */
    bool shared = c >= w->arena && c < w->arena + arena_bytes;
    uintptr_t a = (uintptr_t)p, end = a + bytes;
    Access now{(uint32_t)w->launch->id,
               w->block_id,
               w->epoch,
               w->warp_epoch[w->running / warp_size],
               from_here(pc),
               (uint16_t)w->running,
               0,
               atomic};
    Page *page = &page_of(a);
    if (page->version != memory_version) look_up(*page, a);
    if (a < (uintptr_t)page->may.begin || end > (uintptr_t)page->may.end)
        report_outside(*w, a, end, write, now);
    while (a < end) {
        uintptr_t cell_end = (a & ~(uintptr_t)3) + 4, stop = end < cell_end ? end : cell_end;
        Cell &cell = page->cells[a / 4 % page_cells];
        now.bytes = (uint8_t)(((1u << (stop - a)) - 1) << (a & 3));
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
        if (a < end && a % (1u << page_bits) == 0) page = &page_of(a);
    }
}

/* An access that the compiler takes for aligned: a device refuses it where it is not. */
static inline __attribute__((always_inline)) void aligned_access(const void *p, size_t bytes,
                                                                 bool write, const void *pc)
{
    Worker *w = worker;
    if (w && w->current != &w->main && ((uintptr_t)p & (bytes - 1)) != 0)
        fail(*w, format("misaligned %s of %zu bytes (%s)", write ? "write" : "read", bytes,
                        place(from_here(pc)).c_str()));
    race_access(p, bytes, write, false, pc);
}

#define RP_SIM_TSAN(n)                                                                             \
    extern "C" void __tsan_read##n(void *p)                                                        \
    {                                                                                              \
        aligned_access(p, n, false, __builtin_return_address(0));                                  \
    }                                                                                              \
    extern "C" void __tsan_write##n(void *p)                                                       \
    {                                                                                              \
        aligned_access(p, n, true, __builtin_return_address(0));                                   \
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
