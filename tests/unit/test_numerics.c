/* test_numerics.c - rp-num-1, chapters 3 and 4: elementary functions and Philox.
 *
 * Without arguments: a fixed sample of 2^22 inputs per function, on every CPU path of this machine.
 * `--all [THREADS [FUNCTION]]`: all 2^32 inputs; prints the largest error and the digest that
 * kernels/README.md records, and fails when they are not the recorded ones. Takes minutes. */
#include <float.h>
#include <math.h>
#include <unistd.h>

#include "cpu/cpu_int.h"
#include "digest.h"
#include "numerics.h"
#include "test.h"

/* ---- the functions, and what is recorded of them --------------------------------------------- */

static double sigmoid64(double x)
{
    double e = exp(-fabs(x));
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

static const struct function {
    const char *name;
    float (*scalar)(float);
    double (*reference)(double);
    bool symmetric; /* f(-x) is f(x) or -f(x), bit for bit: errors of x >= 0 are enough */
    int vector;     /* enum rp_elementary, or -1 */
    uint64_t sample_digest, all_digest;
    double all_ulp; /* rounded up to 3 decimals */
} functions[] = {
    {"exp", rp_exp, exp, false, RP_ELEMENTARY_EXP, 0x4a0fa29cfb99be9du, 0xd57be4c737e3bc3du, 0.876},
    {"sigmoid", rp_sigmoid, sigmoid64, false, RP_ELEMENTARY_SIGMOID, 0xd9208afdf7a245f0u,
     0x9b422cc600942fd3u, 1.649},
    {"tanh", rp_tanh, tanh, true, RP_ELEMENTARY_TANH, 0x37fafb40f6c40a05u, 0x398a269bf8cf80b3u,
     1.325},
    {"erf", rp_erf, erf, true, RP_ELEMENTARY_ERF, 0xc7ab026b3cf10e1eu, 0x11e4a5e187c0d199u, 1.101},
    {"log", rp_log, log, false, -1, 0xf5565467c8f0aad1u, 0xe43bf1d7b9770bacu, 0.501},
    {"sin", rp_sin, sin, true, -1, 0x7532ec3b09747dd5u, 0xc89d4f29954a9ac7u, 0.501},
    {"cos", rp_cos, cos, true, -1, 0xa6745fe8e9874619u, 0x3696790b8cb61f76u, 0.501},
};

/* The same text with one coefficient of exp an ulp away: the digest must notice. */
static float control_constant(float x)
{
    return x == 0x1.5558acp-5f ? 0x1.5558aep-5f : x;
}
#define RP_E_FN             static
#define RP_E_NAME(x)        control_##x
#define RP_E_F              float
#define RP_E_U              uint32_t
#define RP_E_C(x)           control_constant(x)
#define RP_E_BITS(x)        rp_float_bits(x)
#define RP_E_FLOAT(u)       rp_float_of_bits(u)
#define RP_E_IF(mask, a, b) ((mask) ? (a) : (b))
#define RP_E_FMA            rp_fma
#include "elementary.inc"

/* ---- error and digest of a run of inputs ----------------------------------------------------- */

enum { CHUNK = 4096 };

struct measure {
    double ulp; /* largest error */
    float at;   /* where */
    uint64_t digest;
};

/* In ulps of the true result; subnormal ones have the ulp 2^-149. Both infinite or NaN: 0. */
static double error_in_ulps(float got, double want)
{
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got) ? 0 : INFINITY;
    if (isinf((float)want) || isinf(got)) return got == (float)want ? 0 : INFINITY;
    /* 2^(23 - exponent), from the exponent's bits: this runs 2^32 times. */
    uint64_t exponent = rp_double_bits(want) >> 52 & 0x7ff;
    if (exponent < 1023 - 126) exponent = 1023 - 126;
    return fabs((double)got - want) * rp_double_of_bits((2046 + 23 - exponent) << 52);
}

/* What one result adds: depends on its bits and on the input, not on the order. */
static uint64_t digest_of(uint32_t input, float result)
{
    return ((uint64_t)input + 1) * rp_digest_mix(rp_digest_bits(rp_float_bits(result)));
}

static void measure_add(struct measure *m, const struct function *f, const uint32_t *inputs,
                        const float *results, int n, bool with_error)
{
    for (int i = 0; i < n; i++) {
        m->digest += digest_of(inputs[i], results[i]);
        if (!with_error || (f->symmetric && inputs[i] >> 31)) continue;
        float x = rp_float_of_bits(inputs[i]);
        double ulp = error_in_ulps(results[i], f->reference((double)x));
        if (ulp > m->ulp) {
            m->ulp = ulp;
            m->at = x;
        }
    }
}

static void apply(const struct function *f, const struct rp_cpu_kernels *kernels,
                  float (*scalar)(float), const uint32_t *inputs, float *results, int n)
{
    float x[CHUNK];
    memcpy(x, inputs, sizeof(x[0]) * (size_t)n);
    if (kernels)
        kernels->elementary((enum rp_elementary)f->vector, x, results, n);
    else
        for (int i = 0; i < n; i++) results[i] = scalar(x[i]);
}

/* ---- the fixed sample ------------------------------------------------------------------------ */

static const uint32_t edges[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x7f7fffff, 0xff7fffff,
    0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 0xffffffff, 0x3f800000, 0xbf800000, 0x42b17218,
    0x42b17217, 0xc2cff1b4, 0xc2cff1b5, 0xc2d20000, 0x42b40000, 0x3f1fffff, 0x3f200000, 0x3f6c0000,
    0x3f6bffff, 0x40800000, 0x407fffff, 0xbf317218, 0xbf317217, 0x48ffffff, 0x49000000, 0x7f000000,
};
enum { SAMPLE_CHUNKS = 1024 };

/* Chunk c of the sample: one pattern of each 1024, at a place that a mix decides; then the edges.
 */
static int sample_inputs(int chunk, uint32_t inputs[CHUNK])
{
    if (chunk == SAMPLE_CHUNKS) {
        memcpy(inputs, edges, sizeof edges);
        return (int)RP_COUNT(edges);
    }
    for (uint32_t i = 0; i < CHUNK; i++) {
        uint32_t block = (uint32_t)chunk * CHUNK + i;
        inputs[i] = block << 10 | (uint32_t)(rp_digest_mix(block) & 1023);
    }
    return CHUNK;
}

static struct measure measure_sample(const struct function *f, const struct rp_cpu_kernels *kernels,
                                     float (*scalar)(float), bool with_error)
{
    struct measure m = {0};
    uint32_t inputs[CHUNK];
    float results[CHUNK];
    for (int chunk = 0; chunk <= SAMPLE_CHUNKS; chunk++) {
        int n = sample_inputs(chunk, inputs);
        apply(f, kernels, scalar, inputs, results, n);
        measure_add(&m, f, inputs, results, n, with_error);
    }
    return m;
}

/* Calls check for every CPU path that this machine can run. */
static void for_every_path(void (*check)(const struct rp_cpu_kernels *kernels))
{
    char paths[64];
    snprintf(paths, sizeof paths, "%s", rp_cpu_paths());
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " ")) {
        static struct rp_error err;
        struct rp_device_config config = {.threads = 1, .path = path};
        struct rp_device *device = NULL;
        CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
        if (device) check(((struct rp_cpu *)device)->kernels);
        rp_device_cpu.close(device);
    }
}

static void check_path(const struct rp_cpu_kernels *kernels)
{
    for (size_t i = 0; i < RP_COUNT(functions); i++) {
        if (functions[i].vector < 0) continue;
        struct measure m = measure_sample(&functions[i], kernels, NULL, false);
        if (m.digest != functions[i].sample_digest)
            printf("%s on %s:\n", functions[i].name, kernels->path);
        CHECK_HEX(m.digest, functions[i].sample_digest);
    }
}

static void test_sample(void)
{
    for (size_t i = 0; i < RP_COUNT(functions); i++) {
        const struct function *f = &functions[i];
        struct measure m = measure_sample(f, NULL, f->scalar, true);
        printf("%-8s sample: %.3f ulp at %a, digest %016" PRIx64 "\n", f->name, m.ulp, (double)m.at,
               m.digest);
        CHECK(m.ulp <= 2.0);
        CHECK_HEX(m.digest, f->sample_digest);
    }
    struct measure control = measure_sample(&functions[0], NULL, control_exp, false);
    CHECK(control.digest != functions[0].sample_digest);
    CHECK(control_sigmoid(1.0f) > 0 && control_tanh(1.0f) > 0 && control_erf(1.0f) > 0);
}

/* Results that follow from the definition, whatever the polynomial. */
static void test_edges(void)
{
    CHECK_HEX(rp_float_bits(rp_exp(0.0f)), 0x3f800000);
    CHECK_HEX(rp_float_bits(rp_exp(-INFINITY)), 0);
    CHECK_HEX(rp_float_bits(rp_exp(INFINITY)), 0x7f800000);
    CHECK_HEX(rp_float_bits(rp_exp(-103.9f)), 1);
    CHECK(isnan(rp_exp(NAN)) && isnan(rp_sigmoid(NAN)) && isnan(rp_tanh(NAN)) &&
          isnan(rp_erf(NAN)));
    CHECK_HEX(rp_float_bits(rp_sigmoid(0.0f)), 0x3f000000);
    CHECK_HEX(rp_float_bits(rp_sigmoid(-INFINITY)), 0);
    CHECK_HEX(rp_float_bits(rp_sigmoid(INFINITY)), 0x3f800000);
    CHECK_HEX(rp_float_bits(rp_tanh(-0.0f)), 0x80000000);
    CHECK_HEX(rp_float_bits(rp_tanh(-INFINITY)), 0xbf800000);
    CHECK_HEX(rp_float_bits(rp_erf(-0.0f)), 0x80000000);
    CHECK_HEX(rp_float_bits(rp_erf(INFINITY)), 0x3f800000);
    CHECK(isnan(rp_log(-1.0f)) && isnan(rp_log(NAN)) && rp_log(0.0f) == -INFINITY);
    CHECK_HEX(rp_float_bits(rp_log(1.0f)), 0);
    CHECK(isnan(rp_sin(INFINITY)) && isnan(rp_cos(NAN)));
    CHECK_HEX(rp_float_bits(rp_sin(-0.0f)), 0x80000000);
}

/* fp64 scalars against libm: a few ulps of fp64, absolute near the zeros of sin and cos. */
static void test_fp64(void)
{
    double worst_log = 0, worst_sin = 0, worst_cos = 0, worst_exp = 0;
    for (uint32_t i = 0; i < 1u << 20; i++) {
        double x = rp_double_of_bits((rp_digest_mix(i) >> 2) | 1);
        worst_log = fmax(worst_log, fabs(rp_log64(x) - log(x)) / fmax(fabs(log(x)), DBL_MIN));
        double power = (double)(rp_digest_mix(i) >> 11) * 0x1p-44 * 2.7 - 690;
        worst_exp = fmax(worst_exp, fabs(rp_exp64(power) - exp(power)) / exp(power));
        double angle = (double)(rp_digest_mix(i) >> 11) * 0x1p-33 - 0x1p19;
        worst_sin = fmax(worst_sin, fabs(rp_sin64(angle) - sin(angle)));
        worst_cos = fmax(worst_cos, fabs(rp_cos64(angle) - cos(angle)));
    }
    printf("fp64: log %.2g, exp %.2g relative, sin %.2g, cos %.2g absolute\n", worst_log, worst_exp,
           worst_sin, worst_cos);
    CHECK(worst_exp < 2 * DBL_EPSILON && rp_exp64(0) == 1);
    CHECK(worst_log < 4 * DBL_EPSILON);
    CHECK(worst_sin < 2 * DBL_EPSILON && worst_cos < 2 * DBL_EPSILON);
}

/* ---- Philox ---------------------------------------------------------------------------------- */

/* The known answers that the authors of Philox publish with Random123. */
static void test_philox_known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], want[4];
    } known[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < RP_COUNT(known); i++) {
        struct rp_draw draw = rp_philox_block(known[i].counter, known[i].key[0], known[i].key[1]);
        for (int j = 0; j < 4; j++) CHECK_HEX(draw.u[j], known[i].want[j]);
    }
}

static void test_draws(void)
{
    /* Every part of the address changes the draw. */
    uint32_t base = rp_draw_block(1, RP_PURPOSE_TEST, 2, 3, 4).u[0];
    CHECK(base != rp_draw_block(2, RP_PURPOSE_TEST, 2, 3, 4).u[0]);
    CHECK(base != rp_draw_block(1ull << 32 | 1, RP_PURPOSE_TEST, 2, 3, 4).u[0]);
    CHECK(base != rp_draw_block(1, RP_PURPOSE_INIT, 2, 3, 4).u[0]);
    CHECK(base != rp_draw_block(1, RP_PURPOSE_TEST, 3, 3, 4).u[0]);
    CHECK(base != rp_draw_block(1, RP_PURPOSE_TEST, 2, 4, 4).u[0]);
    CHECK(base != rp_draw_block(1, RP_PURPOSE_TEST, 2, 1ull << 32 | 3, 4).u[0]);
    CHECK(base != rp_draw_block(1, RP_PURPOSE_TEST, 2, 3, 5).u[0]);

    CHECK(rp_uniform(0) == 0.0f && rp_uniform(0xffffffffu) == 1.0f - 0x1p-24f);
    CHECK_HEX(rp_threshold(0.0f), 0);
    CHECK_HEX(rp_threshold(0.5f), 0x80000000);
    CHECK_HEX(rp_threshold(0x1.fffffep-1f), 0xffffff00);
}

/* Mean, variance, fourth moment and share beyond 2 of 2^21 normals, each within 5 standard errors.
 */
static void test_normals(void)
{
    enum { PAIRS = 1 << 20 };
    double n = 2.0 * PAIRS, sum = 0, square = 0, fourth = 0, tail = 0;
    uint64_t digest = 0;
    for (uint32_t i = 0; i < PAIRS; i++) {
        float z[2];
        struct rp_draw draw = rp_draw_block(7, RP_PURPOSE_TEST, 0, 0, i);
        rp_normal_pair(draw.u[0], draw.u[1], z);
        for (int j = 0; j < 2; j++) {
            double v = (double)z[j];
            sum += v, square += v * v, fourth += v * v * v * v, tail += fabs(v) > 2;
            digest += digest_of(2 * i + (uint32_t)j, z[j]);
        }
    }
    CHECK(fabs(sum / n) < 5 / sqrt(n));
    CHECK(fabs(square / n - 1) < 5 * sqrt(2 / n));
    CHECK(fabs(fourth / n - 3) < 5 * sqrt(96 / n));
    CHECK(fabs(tail / n - erfc(sqrt(2))) < 5 * sqrt(0.0455 * 0.9545 / n));
    CHECK_HEX(digest, 0x4dcb0f14f3dc2e48u);
}

/* ---- all 2^32 inputs ------------------------------------------------------------------------- */

struct all_job {
    const struct function *f;
    const struct rp_cpu_kernels *kernels; /* of the path measured, or NULL: scalar */
    int n_threads;
    struct measure made[1024];
};

static void all_work(void *arg, int thread)
{
    struct all_job *job = arg;
    struct measure m = {0};
    uint32_t inputs[CHUNK];
    float results[CHUNK];
    /* Threads take every n-th chunk, since inputs differ in cost by range. */
    for (uint64_t base = (uint64_t)thread * CHUNK; base < 1ull << 32;
         base += (uint64_t)job->n_threads * CHUNK) {
        for (uint32_t i = 0; i < CHUNK; i++) inputs[i] = (uint32_t)base + i;
        apply(job->f, job->kernels, job->f->scalar, inputs, results, CHUNK);
        measure_add(&m, job->f, inputs, results, CHUNK, true);
    }
    job->made[thread] = m;
}

static void measure_all(struct rp_cpu *cpu, const struct function *f)
{
    static struct all_job job;
    struct measure m = {0};
    job = (struct all_job){.f = f,
                           .kernels = f->vector >= 0 ? cpu->kernels : NULL,
                           .n_threads = rp_pool_threads(cpu->pool)};
    rp_pool_run(cpu->pool, job.n_threads, all_work, &job);
    for (int i = 0; i < job.n_threads; i++) {
        m.digest += job.made[i].digest;
        if (job.made[i].ulp <= m.ulp) continue;
        m.ulp = job.made[i].ulp;
        m.at = job.made[i].at;
    }
    printf("%-8s all: %.4f ulp at %a, digest %016" PRIx64 "\n", f->name, m.ulp, (double)m.at,
           m.digest);
    fflush(stdout);
    CHECK(m.ulp <= f->all_ulp);
    CHECK_HEX(m.digest, f->all_digest);
}

static void test_all(int n_threads, const char *name)
{
    static struct rp_error err;
    struct rp_device_config config = {.threads = n_threads};
    struct rp_device *device = NULL;
    CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
    if (!device) return;
    for (size_t i = 0; i < RP_COUNT(functions); i++)
        if (!name || strcmp(name, functions[i].name) == 0)
            measure_all((struct rp_cpu *)device, &functions[i]);
    rp_device_cpu.close(device);
}

int main(int n_args, char **args)
{
    if (n_args > 1 && strcmp(args[1], "--all") == 0) {
        int n_threads = n_args > 2 ? atoi(args[2]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
        test_all(n_threads < 1      ? 1
                 : n_threads > 1024 ? 1024
                                    : n_threads,
                 n_args > 3 ? args[3] : NULL);
        return test_result();
    }
    test_philox_known_answers();
    test_draws();
    test_normals();
    test_edges();
    test_fp64();
    test_sample();
    for_every_path(check_path);
    return test_result();
}
