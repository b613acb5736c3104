/* peer.h - what the peers of `scripts/bench ranks` have in common: the job that both do, an
 * all-reduce of N gradients and then an AdamW update of all N parameters on every rank, and how its
 * times are printed. C and C++. */
#ifndef PEER_H
#define PEER_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct job {
    size_t n; /* numbers */
    int rounds;
    float *p, *g, *m, *v;
};

static double clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static float *numbers(size_t n, float value)
{
    float *block = (float *)malloc(n * sizeof(float));
    if (!block) {
        fprintf(stderr, "peer: no memory for %zu numbers\n", n);
        exit(5);
    }
    for (size_t i = 0; i < n; i++) block[i] = value;
    return block;
}

static struct job job_new(const char *n, const char *rounds)
{
    struct job job = {(size_t)strtoull(n, NULL, 10), atoi(rounds), NULL, NULL, NULL, NULL};
    job.p = numbers(job.n, 0.5f);
    job.g = numbers(job.n, 1e-3f);
    job.m = numbers(job.n, 0);
    job.v = numbers(job.n, 0);
    return job;
}

static void job_free(struct job *job)
{
    free(job->v);
    free(job->m);
    free(job->g);
    free(job->p);
}

/* AdamW in one loop, which the compiler makes vectors of: seven streams, as ours. */
static void update(struct job *job)
{
    float *__restrict p = job->p, *__restrict m = job->m, *__restrict v = job->v;
    const float *__restrict g = job->g;
    for (size_t i = 0; i < job->n; i++) {
        m[i] = 0.9f * m[i] + 0.1f * g[i];
        v[i] = 0.999f * v[i] + 0.001f * g[i] * g[i];
        p[i] = p[i] - 1e-6f * (m[i] / (sqrtf(v[i]) + 1e-8f) + 0.01f * p[i]);
    }
}

/* A line for each round: seconds of the all-reduce and of the update on rank 0. */
static void say_round(double reduce, double updated)
{
    printf("%.6f %.6f\n", reduce, updated);
    fflush(stdout);
}

#endif
