/* pool.c - the threads of the CPU device.
 *
 * One word, `turn`, counts the calls. A worker waits for it to change: it looks at the word for a
 * some hundred microseconds, as the next op of a step usually follows at once, and then sleeps in
 * the kernel on that same word. The caller waits for the workers in the same way, on `busy`. Where
 * there are more threads than processors nobody spins: the one who spins would hold up the one who
 * works.
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

struct worker {
    struct rp_pool *pool;
    pthread_t handle;
    int thread;
    atomic_int asleep; /* its thread id while it is, or is about to be, asleep on `turn`; else 0 */
    bool banned;       /* `home` is to be restored; written before `turn`, read after it */
    cpu_set_t home;
};

struct rp_pool {
    int n_threads, n_started, spins;
    bool closing;
    rp_pool_work work; /* of the present turn; written before `turn`, read after it */
    void *arg;
    struct worker *workers; /* n_threads - 1 */
    _Alignas(CACHE_LINE) atomic_uint turn;
    atomic_int sleepers; /* workers whose `asleep` is set */
    _Alignas(CACHE_LINE) atomic_uint busy;
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
    atomic_store(&worker->asleep, (int)syscall(SYS_gettid));
    atomic_fetch_add(&pool->sleepers, 1);
    unsigned turn;
    while ((turn = atomic_load(&pool->turn)) == seen) sleep_while_equal(&pool->turn, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
    atomic_store(&worker->asleep, 0);
    if (worker->banned) sched_setaffinity(0, sizeof worker->home, &worker->home);
    worker->banned = false;
    return turn;
}

static void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct rp_pool *pool = worker->pool;
    unsigned turn = 0;
    for (;;) {
        turn = wait_for_turn(worker, turn);
        if (pool->closing) break;
        pool->work(pool->arg, worker->thread);
        if (atomic_fetch_sub(&pool->busy, 1) == 1 && atomic_load(&pool->caller_sleeps))
            wake(&pool->busy, 1);
    }
    return NULL;
}

/* Takes the caller's processor from the workers that sleep, where they have another. What fails
 * here costs speed only. */
static void ban_own_processor(struct rp_pool *pool)
{
    int own = sched_getcpu();
    if (own < 0 || own >= CPU_SETSIZE) return;
    for (int i = 0; i < pool->n_started; i++) {
        struct worker *worker = &pool->workers[i];
        pid_t id = atomic_load(&worker->asleep);
        if (id == 0 || sched_getaffinity(id, sizeof worker->home, &worker->home) != 0) continue;
        cpu_set_t others = worker->home;
        CPU_CLR(own, &others);
        if (CPU_COUNT(&others) == 0) continue;
        worker->banned = sched_setaffinity(id, sizeof others, &others) == 0;
    }
}

static void begin_turn(struct rp_pool *pool)
{
    if (pool->spins > 0 && atomic_load(&pool->sleepers) > 0) ban_own_processor(pool);
    atomic_fetch_add(&pool->turn, 1);
    if (atomic_load(&pool->sleepers) > 0) wake(&pool->turn, MAX_THREADS);
}

static void wait_for_workers(struct rp_pool *pool)
{
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load_explicit(&pool->busy, memory_order_acquire) == 0) return;
        PAUSE();
    }
    atomic_store(&pool->caller_sleeps, 1);
    unsigned busy;
    while ((busy = atomic_load(&pool->busy)) != 0) sleep_while_equal(&pool->busy, busy);
    atomic_store(&pool->caller_sleeps, 0);
}

void rp_pool_run(struct rp_pool *pool, rp_pool_work work, void *arg)
{
    if (pool->n_threads == 1) {
        work(arg, 0);
        return;
    }
    pool->work = work;
    pool->arg = arg;
    atomic_store_explicit(&pool->busy, (unsigned)pool->n_threads - 1, memory_order_relaxed);
    begin_turn(pool);
    work(arg, 0);
    wait_for_workers(pool);
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
    if (!made || !workers) {
        free(made);
        free(workers);
        return rp_error_set(err, RP_STATUS_MEMORY, "no memory for a pool of %d threads", n_threads);
    }
    memset(made, 0, sizeof *made);
    made->n_threads = n_threads;
    made->workers = workers;
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
    pool->closing = true;
    begin_turn(pool);
    for (int i = 0; i < pool->n_started; i++) pthread_join(pool->workers[i].handle, NULL);
    free(pool->workers);
    free(pool);
}

int rp_pool_threads(const struct rp_pool *pool)
{
    return pool->n_threads;
}
