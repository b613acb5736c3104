/* pool.h - a parallel for. Threads sleep when idle. No sum ever crosses parts unless it is an
 * integer one, so neither the number of threads nor who takes which part can change a bit. */
#ifndef RP_POOL_H
#define RP_POOL_H

#include "base/base.h"

struct rp_pool;
RP_NODISCARD enum rp_status rp_pool_open(int n_threads, struct rp_pool **pool,
                                         struct rp_error *err);
void rp_pool_close(struct rp_pool *pool); /* NULL is fine */
int rp_pool_threads(const struct rp_pool *pool);

/* Parts of a call for each thread, at most. */
enum { RP_POOL_PARTS = 4 };

/* Calls work(arg, part) once for each part 0 .. n_parts - 1, and returns when all are done. Of n
 * threads, thread t begins with part t n_parts / n, the caller being thread 0, and goes on with the
 * next that nobody has begun: a thread that comes late, or is slow, leaves parts to the others.
 * n_parts is at most RP_POOL_PARTS times the threads. */
typedef void (*rp_pool_work)(void *arg, int part);
void rp_pool_run(struct rp_pool *pool, int n_parts, rp_pool_work work, void *arg);

/* The same with one part for each thread, which it takes itself. */
void rp_pool_run_each(struct rp_pool *pool, rp_pool_work work, void *arg);

/* Part `part` of [0, n) in n_parts, borders on multiples of `grain`. */
static inline void rp_pool_cut(int64_t n, int64_t grain, int part, int n_parts, int64_t *begin,
                               int64_t *end)
{
    int64_t grains = (n + grain - 1) / grain;
    *begin = grains * part / n_parts * grain;
    *end = grains * (part + 1) / n_parts * grain;
    if (*begin > n) *begin = n;
    if (*end > n) *end = n;
}

#endif
