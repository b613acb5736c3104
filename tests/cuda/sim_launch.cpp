/* sim_launch.cpp - blocks, launches and their limits. */
#include "sim_int.h"

#include <map>
#include <memory>
#include <pthread.h>
#include <stdio.h>
#include <thread>

namespace rp_sim
{

Options options;

namespace
{

std::map<const void *, size_t> allowed_shared;
std::atomic<uint64_t> launches{0};

} // namespace

/* Space in the shared arena, poisoned, with a fence after it. */
char *carve_shared(Worker &w, size_t bytes)
{
    size_t rounded = (bytes + 15) / 16 * 16;
    w.shared_bytes += rounded;
    if (w.shared_bytes > w.launch->shared_most ||
        w.arena_used + rounded + fence_bytes > arena_bytes)
        fail(w, format("%zu bytes of shared memory, static and dynamic, the limit is %zu",
                       w.shared_bytes, w.launch->shared_most));
    char *p = w.arena + w.arena_used;
    w.arena_used += rounded + fence_bytes;
#ifdef RP_SIM_ASAN
    __asan_unpoison_memory_region(p, bytes);
#endif
    fill_poison(p, bytes);
    return p;
}

void run_block(Worker &w, Launch &l, uint32_t b)
{
    w.block_id = b;
    w.watched = b < options.watch || b + options.watch >= l.block_order.size();
    blockIdx = {b % l.grid.x, b / l.grid.x % l.grid.y, b / l.grid.x / l.grid.y};
    w.random = mix(options.seed * 0x100000001b3u + mix(l.id) + b) | 1;
    w.count = w.live = l.block_threads;
    w.started = 0;
    w.head = w.tail = 0;
    w.arrived = w.epoch = 0;
    w.predicates = 0;
    w.order = l.order[options.seed > 1 ? w.draw() % orders : 0].data();
    for (unsigned i = 0; i * warp_size < w.count; i++) {
        unsigned lanes = w.count - i * warp_size;
        w.warps[i] = {lanes >= warp_size ? 0xffffffffu : (1u << lanes) - 1, 0};
        w.warp_epoch[i] = 0;
    }
    for (unsigned t = 0; t < w.count; t++) {
        w.threads[t].waits_at = Op::none;
        w.threads[t].waited = false;
        w.threads[t].groups = 0;
    }
#ifdef RP_SIM_ASAN
    __asan_poison_memory_region(w.arena, arena_bytes);
#endif
    w.shared.clear();
    w.arena_used = fence_bytes;
    w.shared_bytes = 0;
    w.dynamic = nullptr;
    w.current = &take_fiber(w);
    if (l.dynamic_shared) w.dynamic = carve_shared(w, l.dynamic_shared);
    switch_fiber(w.main, *w.current);

    if (w.failed) { /* throw away every fiber: some are stopped in the middle of a thread */
        w.failed = false;
        w.idle.clear();
        for (Fiber *f : w.fibers) {
            reset_fiber(*f);
            w.idle.push_back(f);
        }
        for (Thread &t : w.threads) t.copies.clear();
    }
    w.stats.blocks++;
    w.stats.threads += w.count;
    if (w.shared_bytes > w.stats.max_shared) w.stats.max_shared = w.shared_bytes;
}

void run_blocks(Worker &w, Launch &l)
{
    worker = &w;
    w.launch = &l;
#ifdef RP_SIM_ASAN /* it must know the stack that the last fiber returns to */
    pthread_attr_t attr;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstack(&attr, (void **)&w.main.stack, &w.main.stack_size);
    pthread_attr_destroy(&attr);
#endif
    blockDim = {l.block.x, l.block.y, l.block.z};
    gridDim = {l.grid.x, l.grid.y, l.grid.z};
    uint32_t blocks = (uint32_t)l.block_order.size(), i;
    while (!l.failed && (i = l.next_block++) < blocks) run_block(w, l, l.block_order[i]);
    worker = nullptr;
}

template <class T> void put_in_order(std::vector<T> &v, uint64_t seed, uint64_t salt)
{
    for (size_t i = 0; i < v.size(); i++) v[i] = (T)(seed == 1 ? v.size() - 1 - i : i);
    if (seed <= 1) return;
    uint64_t r = mix(seed ^ mix(salt));
    for (size_t i = v.size(); i > 1; i--) {
        r = mix(r);
        std::swap(v[i - 1], v[r % i]);
    }
}

/* Static and dynamic together: 48 KiB, unless the kernel has been allowed so much dynamic. */
size_t shared_most(const void *kernel, size_t dynamic)
{
    auto a = allowed_shared.find(kernel);
    return a != allowed_shared.end() && a->second >= dynamic ? options.shared_limit : 48 * 1024;
}

/* What a launch on the device would refuse.  Returns the reason, or "". */
std::string launch_fault(const Launch &l, size_t param_bytes)
{
    uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
    if (!threads || threads > 1024 || l.block.z > 64)
        return format("block of %ux%ux%u threads", l.block.x, l.block.y, l.block.z);
    if (!l.grid.x || !l.grid.y || !l.grid.z || l.grid.x > 0x7fffffffu || l.grid.y > 65535 ||
        l.grid.z > 65535)
        return format("grid of %ux%ux%u blocks", l.grid.x, l.grid.y, l.grid.z);
    if ((uint64_t)l.grid.x * l.grid.y * l.grid.z > 0xffffffffu)
        return "grid too large for the harness";
    if (param_bytes > 4096) return format("%zu bytes of parameters", param_bytes);
    if (l.dynamic_shared > l.shared_most)
        return format("%zu bytes of dynamic shared memory without RP_ALLOW_SHARED",
                      l.dynamic_shared);
    return "";
}

void add(Stats &to, Stats &from)
{
    to.blocks += from.blocks;
    to.threads += from.threads;
    to.plain_threads += from.plain_threads;
    to.switches += from.switches;
    to.barriers += from.barriers;
    to.warp_ops += from.warp_ops;
    if (from.max_shared > to.max_shared) to.max_shared = from.max_shared;
    from = Stats{};
}

/* ---- interface */

Stats stats(bool reset)
{
    std::lock_guard<std::mutex> hold(global_lock);
    Stats s = total;
    if (reset) total = Stats{};
    return s;
}

const char *last_error()
{
    std::lock_guard<std::mutex> hold(global_lock);
    reported_error.swap(first_error);
    first_error.clear();
    return reported_error.empty() ? nullptr : reported_error.c_str();
}

void allow_shared(const void *kernel, size_t bytes)
{
    std::lock_guard<std::mutex> hold(global_lock);
    allowed_shared[kernel] = bytes;
}

void *shared_array(const void *key, size_t bytes)
{
    Worker &w = *worker;
    for (const SharedArray &a : w.shared)
        if (a.key == key) return a.at;
    w.shared.push_back({key, carve_shared(w, bytes), bytes});
    return w.shared.back().at;
}

void *shared_dynamic()
{
    if (!worker->dynamic) fail(*worker, "uses dynamic shared memory, launched with none");
    return worker->dynamic;
}

int launch_erased(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                  size_t param_bytes, void (*run)(const void *), const void *call)
{
    static std::vector<std::unique_ptr<Worker>> workers;
    Launch l;
    l.name = name;
    l.grid = grid;
    l.block = block;
    l.block_threads = block.x * block.y * block.z;
    l.dynamic_shared = shared;
    l.shared_most = shared_most(kernel, shared);
    l.id = ++launches;
    l.run = run;
    l.call = call;
    std::string fault = launch_fault(l, param_bytes);
    if (fault.empty()) fault = limits_fault(l, kernel);
    if (!fault.empty()) {
        record_error(format("%s: launch refused: ", name) + fault);
        return 1;
    }
    if ((uint64_t)grid.x * grid.y * grid.z * l.block_threads > options.run_most) return 0;
    for (unsigned i = 0; i < l.block_threads; i++)
        l.index.push_back({i % block.x, i / block.x % block.y, i / block.x / block.y});
    for (unsigned i = 0; i < (options.seed > 1 ? orders : 1); i++) {
        l.order[i].resize(l.block_threads);
        put_in_order(l.order[i], options.seed, l.id * orders + i);
    }
    l.block_order.resize((size_t)grid.x * grid.y * grid.z);
    put_in_order(l.block_order, options.seed, ~l.id);

    size_t n = (size_t)options.host_threads;
#ifdef RP_SIM_RACE
    n = 1; /* the shadow memory has no locks */
#endif
    if (n > l.block_order.size()) n = l.block_order.size();
    if (n < 1) n = 1;
    while (workers.size() < n) workers.push_back(std::make_unique<Worker>());
    std::vector<std::thread> helpers;
    for (size_t i = 1; i < n; i++)
        helpers.emplace_back(run_blocks, std::ref(*workers[i]), std::ref(l));
    run_blocks(*workers[0], l);
    for (std::thread &h : helpers) h.join();

    std::lock_guard<std::mutex> hold(global_lock);
    total.launches++;
    for (size_t i = 0; i < n; i++) add(total, workers[i]->stats);
    return l.failed ? 1 : 0;
}

} // namespace rp_sim
