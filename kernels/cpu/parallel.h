/* parallel.h - private to kernels/cpu: when it pays to wake the threads of the pool. */
#ifndef RP_CPU_PARALLEL_H
#define RP_CPU_PARALLEL_H

#include "cpu/cpu_int.h"

/* Below the work of some 16,000 additions, waking the threads costs more than they save. */
static inline int rp_threads_for(struct rp_cpu *cpu, int64_t additions)
{
    return additions < 16384 ? 1 : rp_pool_threads(cpu->pool);
}

/* Parts for work that nobody needs room of their own for: several for each thread where they are
 * long enough, so that one that is slow leaves some to the others. */
static inline int rp_parts_for(struct rp_cpu *cpu, int64_t additions)
{
    int threads = rp_threads_for(cpu, additions);
    int64_t parts = additions / 65536;
    if (threads == 1 || parts < threads) return threads;
    return parts < threads * RP_POOL_PARTS ? (int)parts : threads * RP_POOL_PARTS;
}

#endif
