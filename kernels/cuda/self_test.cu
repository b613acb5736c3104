/* self_test.cu - does the device compute as rp-num-1 says? The golden vectors of the CPU, and the
 * additions that show what becomes of subnormals, judged by effect on every processor. */
#include "cuda/gpu.h"

#include <stdlib.h>

enum golden_op { GOLDEN_add, GOLDEN_mul, GOLDEN_div, GOLDEN_fma, GOLDEN_sqrt };

struct golden {
    enum golden_op op;
    uint32_t a, b, c, want;
};
static const struct golden goldens[] = {
#define RP_GOLDEN(op, a, b, c, want) {GOLDEN_##op, a, b, c, want},
#include "cpu/golden.def"
#undef RP_GOLDEN
    /* floating-point mode: subnormals read, written, and products of them */
    {GOLDEN_add, 0x00000001u, 0x00000001u, 0u, 0x00000002u},
    {GOLDEN_mul, 0x00400000u, 0x3f800000u, 0u, 0x00400000u},
    {GOLDEN_mul, 0x00800000u, 0x3f000000u, 0u, 0x00400000u},
    {GOLDEN_add, 0x3f800000u, 0x33800000u, 0u, 0x3f800000u},
    {GOLDEN_add, 0x3f800000u, 0x33c00000u, 0u, 0x3f800001u},
};
enum { N_GOLDENS = sizeof goldens / sizeof goldens[0], THREADS = 128 };

struct verdict {
    uint32_t failed; /* number of a golden that failed, plus 1; 0: none */
    uint32_t got;
};

static __device__ uint32_t compute(const struct golden &g)
{
    float a = rp_float_of_bits(g.a), b = rp_float_of_bits(g.b), c = rp_float_of_bits(g.c);
    switch (g.op) {
    case GOLDEN_add:
        return rp_float_bits(a + b);
    case GOLDEN_mul:
        return rp_float_bits(a * b);
    case GOLDEN_div:
        return rp_float_bits(a / b);
    case GOLDEN_fma:
        return rp_float_bits(rp_fma(a, b, c));
    default:
        return rp_float_bits(rp_sqrt(a));
    }
}

static __global__ void test_goldens(const struct golden *list, int n, struct verdict *verdict)
{
    for (int i = (int)threadIdx.x; i < n; i += THREADS) {
        uint32_t got = compute(list[i]);
        if (got != list[i].want) verdict->got = got, verdict->failed = (uint32_t)i + 1;
    }
}

static enum rp_status run(struct rp_cuda *cuda, unsigned char *block, struct verdict *verdict,
                          struct rp_error *err)
{
    struct rp_device *device = &cuda->device;
    struct verdict *on_device = (struct verdict *)(block + sizeof goldens);
    RP_TRY(rp_cuda_copy_in(device, block, goldens, sizeof goldens, err));
    RP_TRY(rp_cuda_copy_in(device, on_device, verdict, sizeof *verdict, err));
    RP_LAUNCH(cuda, test_goldens, 4 * cuda->n_processors, THREADS, 0, (const struct golden *)block,
              (int)N_GOLDENS, on_device);
    return rp_cuda_copy_out(device, verdict, on_device, sizeof *verdict, err);
}

enum rp_status rp_cuda_self_test(struct rp_device *device, struct rp_error *err)
{
    static const char *const names[] = {"add", "mul", "div", "fma", "sqrt"};
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct verdict verdict = {0, 0};
    void *block = NULL;
    RP_TRY(device->table->alloc(device, sizeof goldens + sizeof verdict, &block, err));
    enum rp_status status = run(cuda, (unsigned char *)block, &verdict, err);
    device->table->free(device, block);
    if (status != RP_STATUS_OK || verdict.failed == 0) return status;
    const struct golden *golden = &goldens[verdict.failed - 1];
    return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                        "self-test of the GPU: %s(%08x, %08x, %08x) gave %08x, which must be %08x; "
                        "this GPU or build cannot give the promised bits",
                        names[golden->op], golden->a, golden->b, golden->c, verdict.got,
                        golden->want);
}
