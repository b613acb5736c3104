/* ops_test.h - shared by the files of rp_test_ops: cases, their data, references, modes.
 *
 * A case is an op call without memory. The modes give it memory: `compare` runs it on every path
 * and against a naive reference written from kernels/README.md, `grad` checks gradient rules
 * against differences of an fp64 forward, `perf` times, `support` lists. */
#ifndef OPS_TEST_H
#define OPS_TEST_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "numerics.h"

/* What an input is filled with. */
enum fill {
    FILL_RANDOM,   /* (-2, 2) */
    FILL_POSITIVE, /* (1/8, 2): variances, second moments, inverse deviations */
    FILL_DISTINCT, /* multiples of 2^-6, all different, none 0: no ties and no kinks within 2^-7 */
    FILL_TARGETS,  /* i32 classes below `classes` */
    FILL_MIXES,    /* i32 (class, class, weight in 2^-24) */
    FILL_TOKENS,   /* the same, some of them -1: no target */
    FILL_TAPS,     /* u8 taps of a pooling window that lie in the image */
    FILL_CHUNKS,   /* f64, not negative */
    FILL_CONTROL   /* struct rp_control */
};

struct op_case {
    struct rp_op_call call; /* data NULL; outputs get their dims from rp_op_shape */
    struct rp_pass pass;
    struct rp_update update;
    enum fill fill[RP_OP_MAX_IN];
    struct rp_control control;
    int64_t classes;
    int parts;         /* passes that one shard is cut into; 1: a pass holds all */
    bool large;        /* for perf alone */
    bool for_gpu;      /* a large one for perf on a GPU alone */
    bool slow;         /* left out where RP_LEVELS is 1: under other orders and the race detector */
    unsigned unwanted; /* bit i: output i is not given (its gradient is not wanted) */
    unsigned whole;    /* bit i: input i has no samples, and is not cut into parts */
};

struct op_cases {
    struct op_case *item;
    int n;
};
void cases_make(struct op_cases *cases); /* every case; outputs get their shapes later */
void cases_free(struct op_cases *cases);
/* "conv2d (2,5,5,3) (8,3,3,3) kernel 3x3 ... shards 2". */
void case_text(const struct op_case *c, char *text, size_t size);

/* Host memory of a case: inputs filled, outputs poisoned (digests hold a number, they are added
 * to). */
struct op_values {
    void *in[RP_OP_MAX_IN], *out[RP_OP_MAX_OUT];
    int n_out; /* with open chains when the case has parts */
};
/* `level` 0: plain numbers; 1: also zeros, subnormals, huge ones; 2: also infinities, NaN, bad
 * targets. */
void values_make(const struct op_case *c, uint64_t seed, int level, struct op_values *values);
void values_free(struct op_values *values);
/* Fills `data` as input i, whose dims may be others than when the case was made. */
void values_fill_input(const struct op_case *c, int i, void *data, uint64_t seed, int level);
/* A pseudo-random word of (seed, i). */
uint64_t random_word(uint64_t seed, uint64_t i);

/* The naive reference of each op. `control`: compute it slightly wrong, in the way a wrong kernel
 * would (another order of additions, another rounding); false where there is no such way. */
typedef bool (*reference_fn)(const struct op_case *c, void *const in[], void *const out[],
                             bool control);
#define RP_OP(name, ...)                                                                           \
    bool reference_##name(const struct op_case *c, void *const in[], void *const out[],            \
                          bool control);
#include "ops.def"
#undef RP_OP

/* The forward of an op in fp64: inputs in[i] (doubles; i32 targets as doubles) to out[0]; false:
 * the op has no gradient. */
bool forward64(const struct op_case *c, double *const in[], double *out);

/* Modes: 0 passed, 1 failed. `filter` is part of an op's name, or NULL. */
int mode_compare(const struct op_cases *cases, const char *filter);
int mode_grad(const struct op_cases *cases, const char *filter);
int mode_perf(const struct op_cases *cases, const char *filter);
int mode_perf_gpu(const struct op_cases *cases, const char *filter);
int mode_support(const struct op_cases *cases);
int mode_replay(const struct op_cases *cases, const char *filter, int n);
struct rp_device_checks;
int mode_elementary(const struct rp_device_checks *checks, bool all); /* a module's device */

bool case_matches(const struct op_case *c, const char *filter);
/* "avx2 scalar": the CPU paths to test, or the name of the module's device. */
const char *device_paths(void);
bool device_is_cpu(void);
/* Opens one of them, or exits with its message (77: a module without its hardware). */
struct rp_device *device_open(const char *path, int threads);
void device_close(struct rp_device *device);
void die(const char *what, const struct rp_error *err);

#endif
