/* self_test.c - does every thread compute as rp-num-1 says? Judged by effect: a handful of
 * additions that show the rounding mode and what becomes of subnormals, then golden vectors. */
#include <string.h>

#include "cpu/cpu_int.h"

enum golden_op { GOLDEN_add, GOLDEN_mul, GOLDEN_div, GOLDEN_fma, GOLDEN_sqrt };

/* Bits in, bits out, each correctly rounded. Made with exact rational arithmetic. */
static const struct golden {
    enum golden_op op;
    uint32_t a, b, c, want;
} goldens[] = {
#define RP_GOLDEN(op, a, b, c, want) {GOLDEN_##op, a, b, c, want},
#include "cpu/golden.def"
#undef RP_GOLDEN
};

static float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t to_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* The operands are volatile: the processor must compute, not the compiler. */
static uint32_t compute(const struct golden *golden)
{
    volatile float a = of_bits(golden->a), b = of_bits(golden->b), c = of_bits(golden->c);
    volatile float result = 0;
    switch (golden->op) {
    case GOLDEN_add:
        result = a + b;
        break;
    case GOLDEN_mul:
        result = a * b;
        break;
    case GOLDEN_div:
        result = a / b;
        break;
    case GOLDEN_fma:
        result = __builtin_fmaf(a, b, c);
        break;
    case GOLDEN_sqrt:
        result = __builtin_sqrtf(a);
        break;
    }
    return to_bits(result);
}

/* ---- floating-point mode, by effect ---------------------------------------------------------- */

static const char *wrong_mode(void)
{
    volatile float tiny = of_bits(0x00000001), half_normal = of_bits(0x00400000);
    volatile float one = 1.0f, small = of_bits(0x33800000), minus = -1.0f; /* small: 2^-24 */
    volatile float above = of_bits(0x33c00000);                            /* 1.5 * 2^-24 */
    volatile float smallest_normal = of_bits(0x00800000), half = 0.5f;
    if (to_bits(tiny + tiny) != 2 || to_bits(half_normal * 1.0f) != 0x00400000)
        return "subnormal numbers are read as zero";
    if (to_bits(smallest_normal * half) != 0x00400000)
        return "subnormal results are written as zero";
    if (to_bits(one + small) != 0x3f800000 || to_bits(minus - small) != 0xbf800000 ||
        to_bits(one + above) != 0x3f800001 || to_bits(minus - above) != 0xbf800001)
        return "rounding is not to nearest even";
    return NULL;
}

/* ---- every thread ---------------------------------------------------------------------------- */

struct verdict {
    const char *mode;            /* NULL: right */
    const struct golden *golden; /* the first that fails, or NULL */
    uint32_t got;
};

struct job {
    struct verdict *verdicts; /* one per thread */
};

static void test_thread(void *arg, int thread)
{
    struct job *job = arg;
    struct verdict *verdict = &job->verdicts[thread];
    verdict->mode = wrong_mode();
    for (size_t i = 0; i < RP_COUNT(goldens) && !verdict->golden; i++) {
        verdict->got = compute(&goldens[i]);
        if (verdict->got != goldens[i].want) verdict->golden = &goldens[i];
    }
}

static enum rp_status judge(const struct verdict *verdict, int thread, struct rp_error *err)
{
    static const char *const names[] = {"add", "mul", "div", "fma", "sqrt"};
    if (verdict->mode)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "floating-point mode of thread %d: %s; something loaded into this "
                            "process changed it (look at LD_PRELOAD and libraries built with "
                            "-ffast-math)",
                            thread, verdict->mode);
    const struct golden *golden = verdict->golden;
    if (golden)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "self-test of thread %d: %s(%08x, %08x, %08x) gave %08x, which must be "
                            "%08x; this machine or build cannot give the promised bits",
                            thread, names[golden->op], golden->a, golden->b, golden->c,
                            verdict->got, golden->want);
    return RP_STATUS_OK;
}

enum rp_status rp_cpu_self_test(struct rp_device *device, struct rp_error *err)
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    enum { MOST = 1024 }; /* rp_pool_open takes no more */
    struct verdict verdicts[MOST] = {0};
    struct job job = {.verdicts = verdicts};
    rp_pool_run_each(cpu->pool, test_thread, &job);
    for (int i = 0; i < rp_pool_threads(cpu->pool); i++) RP_TRY(judge(&verdicts[i], i, err));
    return RP_STATUS_OK;
}
