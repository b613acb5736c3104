/* window_cpu.h - private to kernels/cpu: the windows of the poolings, as plain index ranges. Loops
 * over channels are left to the compiler to vectorise: no sum runs along them. */
#ifndef RP_WINDOW_CPU_H
#define RP_WINDOW_CPU_H

#include "cpu/cpu_int.h"

/* Of the `kernel` taps of the window at output `at`, those inside the image: [*begin, *end). */
static inline void rp_window_taps(int64_t at, int64_t size, int kernel, int stride, int pad,
                                  int *begin, int *end)
{
    int64_t first = at * stride - pad;
    *begin = first < 0 ? (int)-first : 0;
    if (*begin > kernel) *begin = kernel;
    *end = first + kernel > size ? (int)(size - first) : kernel;
    if (*end < *begin) *end = *begin;
}

/* The outputs whose window covers image position `at`: [*begin, *end); the tap of output i is
 * at + pad - i stride. Called for every position: divisions of 32 bits take half the time. */
static inline void rp_window_outputs(int64_t at, int64_t outputs, int kernel, int stride, int pad,
                                     int64_t *begin, int64_t *end)
{
    int64_t first = at + pad - kernel + 1;
    *begin = first > 0 ? (uint32_t)(first + stride - 1) / (uint32_t)stride : 0;
    *end = (uint32_t)(at + pad) / (uint32_t)stride + 1;
    if (*end > outputs) *end = outputs;
    if (*begin > *end) *begin = *end;
}

/* A job over rows, cut among the threads of the pool. */
struct rp_rows_job {
    const struct rp_op_call *call;
    int64_t n_rows;
    int n_threads;
    void (*row)(const struct rp_op_call *call, int64_t row);
};

static inline void rp_rows_part(void *arg, int thread)
{
    const struct rp_rows_job *job = arg;
    int64_t begin, end;
    rp_pool_cut(job->n_rows, 1, thread, job->n_threads, &begin, &end);
    for (int64_t row = begin; row < end; row++) job->row(job->call, row);
}

static inline void rp_rows_run(struct rp_cpu *cpu, const struct rp_op_call *call, int64_t n_rows,
                               void (*row)(const struct rp_op_call *call, int64_t row))
{
    struct rp_rows_job job = {
        .call = call, .n_rows = n_rows, .n_threads = rp_pool_threads(cpu->pool), .row = row};
    rp_pool_run(cpu->pool, rp_pool_threads(cpu->pool), rp_rows_part, &job);
}

#endif
