/* pool.c - the threads of the CPU device.
 *
 * One word, `turn`, counts the calls. A worker waits for it to change: it looks at the word for a
 * some hundred microseconds, as the next op of a step usually follows at once, and then sleeps in
 * the kernel on that same word. The caller waits for the parts that workers have begun in the same
 * way, on `undone`. Where there are more threads than processors nobody spins: the one who spins
 * would hold up the one who works.
 *
 * A part is taken by writing the turn into its word; only who finds the turn before in it may. So a
 * worker that comes late finds nothing to do, and nobody has waited for it.
 *
 * A sleeper is often woken onto the waker's own processor, where it waits for milliseconds until
 * the kernel moves it to the idle one. So the caller forbids a sleeper its own processor before it
 * wakes it, and the worker lifts the ban as soon as it runs. */
#include "cpu/pool.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("yield")
#endif

enum { SPINS = 20000, MAX_THREADS = 1024, CACHE_LINE = 64 };

/* What `asleep` says beside the id of a thread. */
enum { AWAKE = 0, BEING_ROUSED = -1 };

struct worker {
    struct rp_pool *pool;
    pthread_t handle;
    int thread;
    /* Its thread id from before it sleeps on `turn` until it runs again or is being woken. The
     * two below belong to the caller while this is BEING_ROUSED, else to the worker. */
    atomic_int asleep;
    bool banned; /* `home` is to be restored */
    cpu_set_t home;
};

struct rp_pool {
    int n_threads, n_started, spins;
    atomic_bool closing;
    /* Of the present turn: written before the words of its parts, read after one was taken. */
    rp_pool_work work;
    void *arg;
    bool each;              /* a thread takes its own part only */
    struct worker *workers; /* n_threads - 1 */
    atomic_uint *taken; /* RP_POOL_PARTS * n_threads: the turn in which the part was last taken */
    _Alignas(CACHE_LINE) atomic_uint turn;
    atomic_int n_parts;
    atomic_int sleepers;                     /* workers whose `asleep` is set */
    _Alignas(CACHE_LINE) atomic_uint undone; /* parts */
    atomic_int caller_sleeps;
};

static void sleep_while_equal(atomic_uint *word, unsigned value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake(atomic_uint *word, int n)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Returns the number of the turn that follows `seen`. */
static unsigned wait_for_turn(struct worker *worker, unsigned seen)
{
    struct rp_pool *pool = worker->pool;
    for (int i = 0; i < pool->spins; i++) {
        unsigned turn = atomic_load_explicit(&pool->turn, memory_order_acquire);
        if (turn != seen) return turn;
        PAUSE();
    }
    /* Either the caller sees our entry in `sleepers` and wakes us, or we see its turn and do not
     * sleep: both sides write first and read then, sequentially consistent. */
    int id = (int)syscall(SYS_gettid);
    atomic_store(&worker->asleep, id);
    atomic_fetch_add(&pool->sleepers, 1);
    unsigned turn;
    while ((turn = atomic_load(&pool->turn)) == seen) sleep_while_equal(&pool->turn, seen);
    /* We may have found a turn that did not see us, while the caller, at the next, rouses us. */
    if (atomic_compare_exchange_strong(&worker->asleep, &id, AWAKE))
        atomic_fetch_sub(&pool->sleepers, 1);
    else
        while (atomic_load(&worker->asleep) == BEING_ROUSED) sched_yield();
    if (worker->banned) sched_setaffinity(0, sizeof worker->home, &worker->home);
    worker->banned = false;
    return turn;
}

/* Runs parts that nobody has begun, the thread's own first; how many. */
static int run_parts(struct rp_pool *pool, unsigned turn, int thread)
{
    int done = 0, n = atomic_load_explicit(&pool->n_parts, memory_order_acquire);
    int first = (int)((int64_t)n * thread / pool->n_threads);
    for (int i = 0; i < n; i++) {
        int part = first + i < n ? first + i : first + i - n;
        unsigned before = turn - 1;
        if (atomic_load_explicit(&pool->taken[part], memory_order_relaxed) != before) continue;
        if (!atomic_compare_exchange_strong(&pool->taken[part], &before, turn)) continue;
        pool->work(pool->arg, part);
        done++;
        if (pool->each) break;
    }
    return done;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct rp_pool *pool = worker->pool;
    unsigned turn = 0;
    for (;;) {
        turn = wait_for_turn(worker, turn);
        if (atomic_load(&pool->closing)) break;
        unsigned done = (unsigned)run_parts(pool, turn, worker->thread);
        if (done == 0) continue;
        if (atomic_fetch_sub(&pool->undone, done) == done && atomic_load(&pool->caller_sleeps))
            wake(&pool->undone, 1);
    }
    return NULL;
}

/* Keeps a sleeper that is to be woken from the caller's processor, where it has another. What fails
 * here costs speed only. */
static void ban_from(int processor, struct worker *worker, pid_t id)
{
    if (processor < 0 || processor >= CPU_SETSIZE) return;
    if (sched_getaffinity(id, sizeof worker->home, &worker->home) != 0) return;
    cpu_set_t others = worker->home;
    CPU_CLR(processor, &others);
    if (CPU_COUNT(&others) == 0) return;
    worker->banned = sched_setaffinity(id, sizeof others, &others) == 0;
}

/* Marks those that sleep as woken; whether there are any. */
static bool rouse(struct rp_pool *pool)
{
    bool any = false;
    int own = pool->spins > 0 ? sched_getcpu() : -1;
    for (int i = 0; i < pool->n_started; i++) {
        struct worker *worker = &pool->workers[i];
        pid_t id = atomic_load(&worker->asleep);
        if (id == AWAKE) continue;
        if (!atomic_compare_exchange_strong(&worker->asleep, &id, BEING_ROUSED)) continue;
        atomic_fetch_sub(&pool->sleepers, 1);
        ban_from(own, worker, id);
        atomic_store(&worker->asleep, AWAKE);
        any = true;
    }
    return any;
}

static unsigned begin_turn(struct rp_pool *pool)
{
    bool roused = atomic_load(&pool->sleepers) > 0 && rouse(pool);
    unsigned turn = atomic_fetch_add(&pool->turn, 1) + 1;
    if (roused || atomic_load(&pool->sleepers) > 0) wake(&pool->turn, MAX_THREADS);
    return turn;
}

static void wait_for_workers(struct rp_pool *pool)
{
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load_explicit(&pool->undone, memory_order_acquire) == 0) return;
        PAUSE();
    }
    atomic_store(&pool->caller_sleeps, 1);
    unsigned undone;
    while ((undone = atomic_load(&pool->undone)) != 0) sleep_while_equal(&pool->undone, undone);
    atomic_store(&pool->caller_sleeps, 0);
}

static void run(struct rp_pool *pool, int n_parts, bool each, rp_pool_work work, void *arg)
{
    unsigned before = atomic_load_explicit(&pool->turn, memory_order_relaxed);
    pool->work = work;
    pool->arg = arg;
    pool->each = each;
    atomic_store_explicit(&pool->undone, (unsigned)n_parts, memory_order_relaxed);
    for (int i = 0; i < n_parts; i++)
        atomic_store_explicit(&pool->taken[i], before, memory_order_release);
    atomic_store_explicit(&pool->n_parts, n_parts, memory_order_release);
    unsigned turn = begin_turn(pool), done = (unsigned)run_parts(pool, turn, 0);
    if (atomic_fetch_sub(&pool->undone, done) != done) wait_for_workers(pool);
}

void rp_pool_run(struct rp_pool *pool, int n_parts, rp_pool_work work, void *arg)
{
    if (pool->n_threads > 1 && n_parts > 1) {
        run(pool, n_parts, false, work, arg);
        return;
    }
    for (int i = 0; i < n_parts; i++) work(arg, i);
}

void rp_pool_run_each(struct rp_pool *pool, rp_pool_work work, void *arg)
{
    if (pool->n_threads > 1)
        run(pool, pool->n_threads, true, work, arg);
    else
        work(arg, 0);
}

static int usable_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return CPU_COUNT(&set);
}

enum rp_status rp_pool_open(int n_threads, struct rp_pool **pool, struct rp_error *err)
{
    *pool = NULL;
    if (n_threads < 1 || n_threads > MAX_THREADS)
        return rp_error_set(err, RP_STATUS_USAGE, "%d threads: give 1 to %d", n_threads,
                            MAX_THREADS);
    struct rp_pool *made = aligned_alloc(CACHE_LINE, sizeof *made);
    struct worker *workers = calloc((size_t)n_threads, sizeof *workers);
    atomic_uint *taken = calloc((size_t)n_threads * RP_POOL_PARTS, sizeof *taken);
    if (!made || !workers || !taken) {
        free(made);
        free(workers);
        free(taken);
        return rp_error_set(err, RP_STATUS_MEMORY, "no memory for a pool of %d threads", n_threads);
    }
    memset(made, 0, sizeof *made);
    made->n_threads = n_threads;
    made->workers = workers;
    made->taken = taken;
    made->spins = n_threads <= usable_processors() ? SPINS : 0;
    for (int i = 0; i < n_threads - 1; i++) {
        workers[i].pool = made;
        workers[i].thread = i + 1;
        int code = pthread_create(&workers[i].handle, NULL, worker_main, &workers[i]);
        if (code != 0) {
            rp_pool_close(made);
            return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                "cannot start thread %d of %d: %s; lower resources.threads or "
                                "raise the limit on processes",
                                i + 2, n_threads, strerror(code));
        }
        made->n_started++;
    }
    *pool = made;
    return RP_STATUS_OK;
}

void rp_pool_close(struct rp_pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->closing, true);
    begin_turn(pool);
    for (int i = 0; i < pool->n_started; i++) pthread_join(pool->workers[i].handle, NULL);
    free(pool->taken);
    free(pool->workers);
    free(pool);
}

int rp_pool_threads(const struct rp_pool *pool)
{
    return pool->n_threads;
}
