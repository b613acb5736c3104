/* sim_schedule.cpp - who runs next: barriers, warp operations, asynchronous copies. */
#include "sim_int.h"

#include <stdlib.h>

__thread uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace rp_sim
{

void fill_poison(char *p, size_t bytes)
{
    for (size_t i = 0; i + 4 <= bytes; i += 4) memcpy(p + i, &poison_word, 4);
    memcpy(p + bytes / 4 * 4, &poison_word, bytes % 4);
}

void resume(Worker &w, unsigned t)
{
    w.running = t;
    threadIdx = w.launch->index[t];
}

void release_barrier(Worker &w)
{
    if (options.strict && w.live != w.count)
        fail(w, format("%u threads returned, the others wait at a barrier", w.count - w.live));
    w.barrier_result = w.predicates;
    w.arrived = 0;
    w.predicates = 0;
    w.epoch++;
    w.stats.barriers++;
    const uint16_t *order = w.launch->order[options.seed > 1 ? w.draw() % orders : 0].data();
    for (unsigned i = 0; i < w.count; i++) {
        unsigned t = order[i];
        if (w.threads[t].waits_at != Op::barrier) continue;
        w.threads[t].waits_at = Op::none;
        w.push_back(t);
    }
}

uint64_t shuffle_result(const Worker &w, unsigned first, unsigned lane, uint32_t lanes)
{
    const Thread &t = w.threads[first + lane];
    unsigned segment = lane & ~(unsigned)(t.width - 1), last = segment + t.width - 1;
    unsigned from = lane;
    switch (t.waits_at) {
    case Op::shfl_idx:
        from = segment + ((unsigned)t.arg & (t.width - 1));
        break;
    case Op::shfl_up:
        from = lane - (unsigned)t.arg < segment || (unsigned)t.arg > lane ? lane : lane - t.arg;
        break;
    case Op::shfl_down:
        from = lane + (unsigned)t.arg > last ? lane : lane + t.arg;
        break;
    case Op::shfl_xor:
        from = (lane ^ (unsigned)t.arg) > last ? lane : lane ^ (unsigned)t.arg;
        break;
    default:
        break;
    }
    if (!(lanes >> from & 1))
        return (uint64_t)poison_word << 32 | poison_word; /* undefined on the device */
    return w.threads[first + from].value;
}

/* Completes the warp operation of `lanes` if all of them have come. */
bool try_warp_op(Worker &w, unsigned warp, uint32_t mask)
{
    Warp &wp = w.warps[warp];
    uint32_t lanes = mask & wp.live;
    if (!lanes || (lanes & ~wp.waiting)) return false;
    unsigned first = warp * warp_size;
    const Thread &head = w.threads[first + __builtin_ctz(lanes)];
    uint64_t results[warp_size], votes = 0;
    for (uint32_t m = lanes; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        const Thread &t = w.threads[first + lane];
        if (t.waits_at != head.waits_at || t.mask != head.mask || t.width != head.width ||
            t.line != head.line || t.file != head.file)
            fail(w, format("the lanes of warp %u named in mask %08x wait at different operations",
                           warp, mask));
        votes |= t.value << lane;
    }
    for (uint32_t m = lanes; m; m &= m - 1) {
        unsigned lane = __builtin_ctz(m);
        results[lane] =
            head.waits_at == Op::ballot ? (uint32_t)votes : shuffle_result(w, first, lane, lanes);
    }
    if (head.waits_at == Op::sync_warp && lanes == wp.live) w.warp_epoch[warp]++;
    w.stats.warp_ops++;
    wp.waiting &= ~lanes;

    /* Lanes go on in a random order, either at once or after everybody else. */
    bool soon = options.seed > 1 ? w.draw() & 1 : false;
    unsigned turn = options.seed > 1 ? w.draw() % warp_size : 0,
             flip = options.seed > 1 ? w.draw() % warp_size : 0;
    if (options.seed == 1) flip = warp_size - 1;
    for (unsigned i = 0; i < warp_size; i++) {
        unsigned lane = ((i + turn) % warp_size) ^ flip;
        if (!(lanes >> lane & 1)) continue;
        Thread &t = w.threads[first + lane];
        t.value = results[lane];
        t.waits_at = Op::none;
        if (soon)
            w.push_front(first + lane);
        else
            w.push_back(first + lane);
    }
    return true;
}

/* The current thread waits: run somebody else until it is released. */
void wait(Worker &w)
{
    unsigned self = w.running;
    Thread &t = w.threads[self];
    t.fiber = w.current;
    t.waited = true;
    bool start = w.started < w.count;
    if (w.queued() && (!start || (options.seed > 1 && w.draw() % 4 == 0))) {
        unsigned next = w.pop();
        if (next == self) return;
        Fiber &from = *w.current;
        w.current = w.threads[next].fiber;
        w.stats.switches++;
        switch_fiber(from, *w.current);
    } else if (start) {
        Fiber &from = *w.current;
        w.current = &take_fiber(w);
        w.stats.switches++;
        switch_fiber(from, *w.current);
    } else {
        fail(w, "no thread can go on");
    }
    resume(w, self);
}

void thread_returned(Worker &w, unsigned t)
{
    Thread &th = w.threads[t];
    if (!th.copies.empty()) {
        if (options.strict) fail(w, "returned with cp.async copies it never waited for");
        th.copies.clear();
    }
    w.stats.plain_threads += !th.waited;
    w.live--;
    Warp &wp = w.warps[t / warp_size];
    wp.live &= ~(1u << t % warp_size);
    if (wp.waiting) /* its return may be what the others of the warp waited for */
        for (uint32_t m = wp.waiting; m; m &= m - 1)
            if (try_warp_op(w, t / warp_size, w.threads[(t & ~31u) + __builtin_ctz(m)].mask)) break;
    if (w.arrived && w.arrived == w.live) release_barrier(w);
}

void fiber_main()
{
#ifdef RP_SIM_ASAN
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    Worker &w = *worker;
    for (;;) {
        while (w.started < w.count) { /* the fast path: no switch between threads that never wait */
            unsigned t = w.order[w.started++];
            resume(w, t);
            w.launch->run(w.launch->call);
            thread_returned(w, w.running);
        }
        /* Nothing left to start: park this fiber and let another one go on. */
        Fiber &self = *w.current;
        if (w.queued()) {
            w.idle.push_back(&self);
            w.current = w.threads[w.pop()].fiber;
            w.stats.switches++;
            switch_fiber(self, *w.current);
        } else {
            if (w.live) fail(w, "no thread can go on");
            w.idle.push_back(&self);
            switch_fiber(self, w.main);
        }
    }
}

/* ---- what kernels call */

int block_barrier(int predicate, const char *file, int line)
{
    Worker &w = *worker;
    Thread &t = w.threads[w.running];
    t.waits_at = Op::barrier;
    t.file = file;
    t.line = line;
    if (w.arrived == 0) {
        w.barrier_file = file;
        w.barrier_line = line;
    } else if (w.barrier_line != line || w.barrier_file != file) {
        fail(w, "threads of one block wait at different barriers");
    }
    w.arrived++;
    w.predicates += predicate;
    if (w.arrived == w.live) release_barrier(w);
    wait(w);
    return w.barrier_result;
}

uint64_t warp_op(Op op, unsigned mask, uint64_t value, int arg, int width, const char *file,
                 int line)
{
    Worker &w = *worker;
    unsigned warp = w.running / warp_size, lane = w.running % warp_size;
    Thread &t = w.threads[w.running];
    t.waits_at = op;
    t.mask = mask;
    t.value = value;
    t.arg = arg;
    t.width = width;
    t.file = file;
    t.line = line;
    if (!(mask >> lane & 1)) fail(w, format("lane %u is not in its own mask %08x", lane, mask));
    if (width < 1 || width > 32 || (width & (width - 1)))
        fail(w, format("shuffle width %d", width));
    w.warps[warp].waiting |= 1u << lane;
    try_warp_op(w, warp, mask);
    wait(w);
    return t.value;
}

void copy_async(void *dst, const void *src, unsigned bytes, unsigned src_bytes)
{
    Worker &w = *worker;
    Thread &t = w.threads[w.running];
    if ((uintptr_t)dst % bytes || (src_bytes && (uintptr_t)src % bytes))
        fail(w, format("cp.async of %u bytes from or to a misaligned address", bytes));
    char *d = static_cast<char *>(dst);
    if (d < w.arena || d + bytes > w.arena + w.arena_used)
        fail(w, "cp.async to an address outside shared memory");
#ifdef RP_SIM_RACE
    race_access(dst, bytes, true, false, __builtin_return_address(0));
    if (src_bytes) race_access(src, bytes, false, false, __builtin_return_address(0));
#endif
    fill_poison(d, bytes);
    t.copies.push_back({dst, src, bytes, src_bytes, t.groups});
}

void copy_async_commit()
{
    worker->threads[worker->running].groups++;
}

void copy_async_wait(unsigned groups_left)
{
    Worker &w = *worker;
    Thread &t = w.threads[w.running];
    size_t done = 0;
    while (done < t.copies.size() && t.copies[done].group + groups_left < t.groups) {
        const PendingCopy &c = t.copies[done++];
#ifdef RP_SIM_RACE
        race_access(c.dst, c.bytes, true, false, __builtin_return_address(0));
#endif
        memset(c.dst, 0, c.bytes);
        memcpy(c.dst, c.src, c.src_bytes);
    }
    t.copies.erase(t.copies.begin(), t.copies.begin() + (long)done);
}

} // namespace rp_sim
