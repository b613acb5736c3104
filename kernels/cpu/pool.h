/* pool.h - a parallel for with a static cut. Threads sleep when idle. No sum ever crosses threads
 * unless it is an integer one, so the number of threads cannot change a bit. */
#ifndef RP_POOL_H
#define RP_POOL_H

#include "base/base.h"

struct rp_pool;
RP_NODISCARD enum rp_status rp_pool_open(int n_threads, struct rp_pool **pool,
                                         struct rp_error *err);
void rp_pool_close(struct rp_pool *pool); /* NULL is fine */
int rp_pool_threads(const struct rp_pool *pool);

/* Calls work(arg, thread) once for each thread 0 .. n-1, thread 0 being the caller, and waits. */
typedef void (*rp_pool_work)(void *arg, int thread);
void rp_pool_run(struct rp_pool *pool, rp_pool_work work, void *arg);

/* The part of [0, n) that falls to `thread` of `n_threads`, borders on multiples of `grain`. */
static inline void rp_pool_cut(int64_t n, int64_t grain, int thread, int n_threads, int64_t *begin,
                               int64_t *end)
{
    int64_t grains = (n + grain - 1) / grain;
    *begin = grains * thread / n_threads * grain;
    *end = grains * (thread + 1) / n_threads * grain;
    if (*begin > n) *begin = n;
    if (*end > n) *end = n;
}

#endif
