/* parallel.h - private to kernels/cpu: when it pays to wake the threads of the pool. */
#ifndef RP_CPU_PARALLEL_H
#define RP_CPU_PARALLEL_H

#include "cpu/cpu_int.h"

/* Below the work of some 16,000 additions, waking the threads costs more than they save. */
static inline int rp_threads_for(struct rp_cpu *cpu, int64_t additions)
{
    return additions < 16384 ? 1 : rp_pool_threads(cpu->pool);
}

static inline void rp_threads_run(struct rp_cpu *cpu, int n_threads, rp_pool_work work, void *arg)
{
    if (n_threads == 1)
        work(arg, 0);
    else
        rp_pool_run(cpu->pool, work, arg);
}

#endif
