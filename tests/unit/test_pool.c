/* test_pool.c - the parallel for, the cut, and the self-test of the CPU device. */
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "cpu/pool.h"
#include "device.h"
#include "test.h"

/* ---- every part once, and all of them before the call returns -------------------------------- */

enum { MAX_THREADS = 9, MAX_PARTS = MAX_THREADS * RP_POOL_PARTS, CALLS = 3000 };

struct tally {
    int calls[MAX_PARTS][16]; /* a row per part; who has it writes it */
    atomic_int total;
};

static void count(void *arg, int part)
{
    struct tally *tally = arg;
    tally->calls[part][0]++;
    atomic_fetch_add(&tally->total, 1);
}

static void test_run(int n_threads)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    static struct tally tally;
    int total = 0, expected[MAX_PARTS] = {0};
    tally = (struct tally){0};
    CHECK_OK(rp_pool_open(n_threads, &pool, &err), &err);
    CHECK_INT(rp_pool_threads(pool), n_threads);
    for (int i = 1; i <= CALLS; i++) {
        int n = i % (n_threads * RP_POOL_PARTS + 1); /* now more parts than before, now fewer */
        rp_pool_run(pool, n, count, &tally);
        total += n;
        for (int part = 0; part < n; part++) expected[part]++;
        CHECK_INT(atomic_load(&tally.total), total);
        if (i % 1000 == 0) usleep(2000); /* long enough for the workers to fall asleep */
    }
    for (int part = 0; part < MAX_PARTS; part++) CHECK_INT(tally.calls[part][0], expected[part]);
    rp_pool_close(pool);
}

/* ---- each thread itself ---------------------------------------------------------------------- */

struct roll {
    pthread_t who[MAX_THREADS];
};

static void sign(void *arg, int thread)
{
    struct roll *roll = arg;
    roll->who[thread] = pthread_self();
}

static void test_run_each(int n_threads)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    struct roll roll, first;
    CHECK_OK(rp_pool_open(n_threads, &pool, &err), &err);
    rp_pool_run_each(pool, sign, &first);
    CHECK(pthread_equal(first.who[0], pthread_self()));
    for (int i = 0; i < CALLS; i++) {
        rp_pool_run_each(pool, sign, &roll);
        for (int t = 0; t < n_threads; t++) {
            CHECK(pthread_equal(roll.who[t], first.who[t]));
            for (int other = 0; other < t; other++)
                CHECK(!pthread_equal(roll.who[t], roll.who[other]));
        }
    }
    rp_pool_close(pool);
}

/* ---- who is held up, and who is not ---------------------------------------------------------- */

struct slow {
    atomic_int begun, done;
    int wanted;
};

/* A part of somebody who was called away: it ends when all the others have. */
static void work_until_done(void *arg, int part)
{
    struct slow *slow = arg;
    atomic_fetch_add(&slow->begun, 1);
    if (part != 0)
        atomic_fetch_add(&slow->done, 1);
    else
        while (atomic_load(&slow->done) < slow->wanted) usleep(100);
}

/* The caller stands still in its first part: all the others are done by the workers. With parts
 * that belong to their threads this would never end. */
static void test_slow_caller(int n_threads)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    int n = n_threads * RP_POOL_PARTS;
    struct slow slow = {.wanted = n - 1};
    CHECK_OK(rp_pool_open(n_threads, &pool, &err), &err);
    rp_pool_run(pool, n, work_until_done, &slow);
    CHECK_INT(atomic_load(&slow.begun), n);
    CHECK_INT(atomic_load(&slow.done), n - 1);
    rp_pool_close(pool);
}

static void test_refusals(void)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    CHECK_STATUS(rp_pool_open(0, &pool, &err), RP_STATUS_USAGE, &err);
    CHECK_STATUS(rp_pool_open(100000, &pool, &err), RP_STATUS_USAGE, &err);
    rp_pool_close(NULL);
}

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Idle workers sleep: 50 ms of nothing cost less than 5 ms of processor time. */
static void test_idle(void)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    static struct tally tally;
    CHECK_OK(rp_pool_open(4, &pool, &err), &err);
    rp_pool_run(pool, 4, count, &tally);
    double before = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    usleep(50000);
    CHECK(seconds_of(CLOCK_PROCESS_CPUTIME_ID) - before < 0.005);
    rp_pool_close(pool);
}

/* ---- where woken workers run ----------------------------------------------------------------- */

enum { WAKES = 60 };

struct places {
    int processor[MAX_THREADS];
    cpu_set_t allowed[MAX_THREADS];
};

static void note_place(void *arg, int thread)
{
    struct places *places = arg;
    places->processor[thread] = sched_getcpu();
    CPU_ZERO(&places->allowed[thread]);
    sched_getaffinity(0, sizeof(cpu_set_t), &places->allowed[thread]);
}

/* A worker that slept runs beside the caller, and in its work may run wherever the process may.
 * The kernel moves threads as it likes, so the place is counted, and leaves room for that. */
static void test_wake(void)
{
    struct rp_error err = {0};
    struct rp_pool *pool;
    struct places places;
    cpu_set_t whole, one;
    int beside = 0;
    CHECK_INT(sched_getaffinity(0, sizeof whole, &whole), 0);
    if (CPU_COUNT(&whole) < 2) return;
    CHECK_OK(rp_pool_open(2, &pool, &err), &err);
    for (int i = 0; i < WAKES; i++) {
        rp_pool_run_each(pool, note_place, &places);
        usleep(3000);
        /* The hard case: the caller goes to where the worker was. */
        CPU_ZERO(&one);
        CPU_SET(places.processor[1], &one);
        CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
        CHECK_INT(sched_setaffinity(0, sizeof whole, &whole), 0);
        rp_pool_run_each(pool, note_place, &places);
        CHECK(CPU_EQUAL(&places.allowed[0], &whole));
        CHECK(CPU_EQUAL(&places.allowed[1], &whole));
        beside += places.processor[0] != places.processor[1];
    }
    CHECK(beside > WAKES / 2);
    rp_pool_close(pool);

    /* With one processor for all there is none to give: the work is done there. */
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    test_run(2);
    CHECK_INT(sched_setaffinity(0, sizeof whole, &whole), 0);
}

static void pass(void *arg, int part)
{
    (void)arg;
    (void)part;
}

/* One of several pools: the pauses go up and down around the time that a worker waits awake. */
static void *fall_asleep_often(void *kept)
{
    enum { TURNS = 1200, LONGEST = 600 };
    struct rp_error err = {0};
    struct rp_pool *pool;
    struct places places;
    cpu_set_t whole;
    sched_getaffinity(0, sizeof whole, &whole);
    if (rp_pool_open(2, &pool, &err) != RP_STATUS_OK) return kept;
    for (int i = 0; i < TURNS; i++) {
        double until = seconds_of(CLOCK_MONOTONIC) + 1e-6 * (i % LONGEST);
        while (seconds_of(CLOCK_MONOTONIC) < until) continue;
        rp_pool_run(pool, 2, pass, NULL);
        rp_pool_run_each(pool, note_place, &places);
        *(int *)kept += !CPU_EQUAL(&places.allowed[1], &whole);
    }
    rp_pool_close(pool);
    return NULL;
}

/* A worker that is called away as it falls asleep runs for one turn while the next would wake it:
 * it must not keep the ban. Pools that want the same processors call each other away. */
static void test_wake_on_a_busy_machine(void)
{
    enum { POOLS = 6 };
    pthread_t callers[POOLS];
    int kept[POOLS] = {0};
    void *refused;
    for (int i = 0; i < POOLS; i++)
        CHECK_INT(pthread_create(&callers[i], NULL, fall_asleep_often, &kept[i]), 0);
    for (int i = 0; i < POOLS; i++) {
        pthread_join(callers[i], &refused);
        CHECK(!refused);
        CHECK_INT(kept[i], 0);
    }
}

/* ---- the cut --------------------------------------------------------------------------------- */

static void test_cut(void)
{
    static const int64_t sizes[] = {0, 1, 5, 6, 7, 64, 1000, 1001}, grains[] = {1, 6, 64};
    for (size_t s = 0; s < RP_COUNT(sizes); s++) {
        for (size_t g = 0; g < RP_COUNT(grains); g++) {
            for (int n = 1; n <= MAX_THREADS; n++) {
                int64_t expected = 0, begin, end;
                for (int t = 0; t < n; t++) {
                    rp_pool_cut(sizes[s], grains[g], t, n, &begin, &end);
                    CHECK_INT(begin, expected);
                    CHECK(end >= begin);
                    CHECK(end == sizes[s] || end % grains[g] == 0);
                    expected = end;
                }
                CHECK_INT(expected, sizes[s]);
            }
        }
    }
}

/* ---- the device and its self-test ------------------------------------------------------------ */

static void test_device(void)
{
    struct rp_error err = {0};
    struct rp_device_config config = {.threads = 3, .poison = true};
    struct rp_device *device;
    void *block;
    char text[256];
    CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
    CHECK_OK(rp_device_cpu.self_test(device, &err), &err);
    rp_device_cpu.describe(device, text);
    CHECK(strstr(text, device->config.path) != NULL);
    CHECK(strstr(text, "3 threads") != NULL);
    CHECK_OK(rp_device_cpu.alloc(device, 1000, &block, &err), &err);
    CHECK_INT((uintptr_t)block % 256, 0);
    float poison = *(float *)block;
    CHECK(poison != poison);
    CHECK_OK(rp_device_cpu.zero(device, block, 1000, &err), &err);
    CHECK_INT(((char *)block)[999], 0);
    rp_device_cpu.free(device, block);
    rp_device_cpu.close(device);
    rp_device_cpu.close(NULL);

    config.path = "mmx";
    CHECK_STATUS(rp_device_cpu.open(&config, &device, &err), RP_STATUS_ENVIRONMENT, &err);
    config.path = NULL;
    config.threads = 0;
    CHECK_STATUS(rp_device_cpu.open(&config, &device, &err), RP_STATUS_USAGE, &err);
}

/* A thread inherits the mode of its maker: a device opened under a wrong mode must be refused, also
 * when only its workers have it. */
static void test_wrong_mode(void (*spoil)(void), bool caller_too)
{
    struct rp_error err = {0};
    struct rp_device_config config = {.threads = 2};
    struct rp_device *device;
    fenv_t mode;
    fegetenv(&mode);
    spoil();
    CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
    if (!caller_too) fesetenv(&mode);
    enum rp_status status = rp_device_cpu.self_test(device, &err);
    fesetenv(&mode);
    CHECK_INT(status, RP_STATUS_ENVIRONMENT);
    CHECK(strstr(err.text, caller_too ? "thread 0" : "thread 1") != NULL);
    rp_device_cpu.close(device);
}

static void spoil_rounding(void)
{
    fesetround(FE_UPWARD);
}

#if defined(__x86_64__)
static void flush_results(void)
{
    _mm_setcsr(_mm_getcsr() | 0x8000u);
}
static void flush_operands(void)
{
    _mm_setcsr(_mm_getcsr() | 0x0040u);
}
#endif

int main(void)
{
    static const int threads[] = {1, 2, 3, MAX_THREADS};
    for (size_t i = 0; i < RP_COUNT(threads); i++) test_run(threads[i]);
    for (size_t i = 0; i < RP_COUNT(threads); i++) test_run_each(threads[i]);
    for (size_t i = 1; i < RP_COUNT(threads); i++) test_slow_caller(threads[i]);
    test_refusals();
    test_idle();
    test_wake();
    test_wake_on_a_busy_machine();
    test_cut();
    test_device();
    for (int caller_too = 0; caller_too < 2; caller_too++) {
        test_wrong_mode(spoil_rounding, caller_too);
#if defined(__x86_64__)
        test_wrong_mode(flush_results, caller_too);
        test_wrong_mode(flush_operands, caller_too);
#endif
    }
    return test_result();
}
