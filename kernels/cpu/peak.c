/* peak.c - what this machine can do at most: fused multiply-adds a second, and bytes a second. The
 * floors that `run --profile` and `scripts/bench` print are made from these two. */
#include <stdlib.h>

#include "cpu/cpu_int.h"
#include "cpu/vec.h"

enum { CHAINS = 12, ROUNDS = 1 << 16, STREAM_FLOATS = 8 << 20, REPEATS = 5 };

struct job {
    double (*clock)(void);
    int n_threads;
    float *a, *b;
    float sink[256];
};

/* Enough independent chains to hide the latency of a fma; constants that keep every value normal.
 */
static void run_fmas(void *arg, int thread)
{
    struct job *job = arg;
    rp_vf m = rp_vset(0.999999f), c = rp_vset(1e-6f), sum = rp_vzero();
    /* Each starts from another value: chains that are equal would be computed once. */
    rp_vf x0 = rp_vset(0.0f), x1 = rp_vset(0.1f), x2 = rp_vset(0.2f), x3 = rp_vset(0.3f),
          x4 = rp_vset(0.4f), x5 = rp_vset(0.5f);
    rp_vf x6 = rp_vset(0.6f), x7 = rp_vset(0.7f), x8 = rp_vset(0.8f), x9 = rp_vset(0.9f),
          x10 = rp_vset(1.1f), x11 = rp_vset(1.2f);
    for (int i = 0; i < ROUNDS; i++) {
        x0 = rp_vfma(x0, m, c), x1 = rp_vfma(x1, m, c), x2 = rp_vfma(x2, m, c);
        x3 = rp_vfma(x3, m, c), x4 = rp_vfma(x4, m, c), x5 = rp_vfma(x5, m, c);
        x6 = rp_vfma(x6, m, c), x7 = rp_vfma(x7, m, c), x8 = rp_vfma(x8, m, c);
        x9 = rp_vfma(x9, m, c), x10 = rp_vfma(x10, m, c), x11 = rp_vfma(x11, m, c);
    }
    sum = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11;
    job->sink[thread % 256] = sum[0];
}

/* Reads one array and writes another: the traffic of an elementwise op. */
static void run_stream(void *arg, int thread)
{
    struct job *job = arg;
    int64_t begin, end;
    rp_pool_cut(STREAM_FLOATS, 64, thread, job->n_threads, &begin, &end);
    rp_vf one = rp_vset(1.0f);
    for (int64_t i = begin; i < end; i += RP_VW) rp_vstore(job->b + i, rp_vload(job->a + i) + one);
}

static double best_seconds(struct rp_pool *pool, rp_pool_work work, struct job *job)
{
    double best = 1e9;
    for (int i = 0; i < REPEATS + 1; i++) { /* the first one warms up */
        double start = job->clock();
        rp_pool_run_each(pool, work, job);
        double seconds = job->clock() - start;
        if (i > 0 && seconds < best) best = seconds;
    }
    return best;
}

void RP_ISA_NAME(rp_cpu_peak)(struct rp_pool *pool, double (*clock)(void), double *flops,
                              double *bytes)
{
    struct job job = {.clock = clock, .n_threads = rp_pool_threads(pool)};
    *flops = 2.0 * CHAINS * ROUNDS * RP_VW * job.n_threads / best_seconds(pool, run_fmas, &job);
    *bytes = 1e10;
    job.a = calloc(STREAM_FLOATS, sizeof(float));
    job.b = calloc(STREAM_FLOATS, sizeof(float));
    if (job.a && job.b)
        *bytes = 2.0 * sizeof(float) * STREAM_FLOATS / best_seconds(pool, run_stream, &job);
    free(job.b);
    free(job.a);
}
