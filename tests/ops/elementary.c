/* elementary.c - exp, sigmoid, tanh, erf, log, sin, cos as the device computes them: their digests
 * over a sample of inputs against the scalar functions of this processor, and over all 2^32 inputs
 * against those of kernels/README.md chapter 3. */
#include <inttypes.h>

#include "digest.h"
#include "module.h"
#include "ops_test.h"

static const struct function {
    const char *name;
    float (*scalar)(float);
    uint64_t all; /* digest over all inputs */
} functions[] = {
    {"exp", rp_exp, 0xd57be4c737e3bc3du},   {"sigmoid", rp_sigmoid, 0x9b422cc600942fd3u},
    {"tanh", rp_tanh, 0x398a269bf8cf80b3u}, {"erf", rp_erf, 0x11e4a5e187c0d199u},
    {"log", rp_log, 0xe43bf1d7b9770bacu},   {"sin", rp_sin, 0xc89d4f29954a9ac7u},
    {"cos", rp_cos, 0x3696790b8cb61f76u},
};

/* Runs of inputs where the schedules change: about 1, about 2^19, subnormal, infinite. */
static const uint32_t starts[] = {0x00000000u, 0x3f7ff800u, 0x48fff800u, 0x42c80000u,
                                  0x7f7ff800u, 0xbf7ff800u, 0xc2ae0000u};
enum { RUN = 4096 };

static uint64_t digest_here(const struct function *f, uint32_t first, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t u = first + i;
        uint32_t bits = rp_float_bits(f->scalar(rp_float_of_bits(u)));
        sum += ((uint64_t)u + 1) * rp_digest_mix(rp_digest_bits(bits));
    }
    return sum;
}

static uint64_t digest_there(const struct rp_device_checks *checks, struct rp_device *device,
                             const struct function *f, uint32_t first, uint64_t n)
{
    struct rp_error err = {0};
    uint64_t digest = 0;
    if (checks->elementary(device, f->name, first, n, &digest, &err) != RP_STATUS_OK)
        die(f->name, &err);
    return digest;
}

int mode_elementary(const struct rp_device_checks *checks, bool all)
{
    struct rp_device *device = device_open(NULL, 1);
    int failed = 0;
    for (size_t i = 0; i < RP_COUNT(functions); i++) {
        const struct function *f = &functions[i];
        bool good = true;
        for (size_t k = 0; k < RP_COUNT(starts); k++)
            good = good && digest_there(checks, device, f, starts[k], RUN) ==
                               digest_here(f, starts[k], RUN);
        /* The comparison must see another run of inputs. */
        good = good && digest_there(checks, device, f, starts[1], RUN) !=
                           digest_here(f, starts[1] + 1, RUN);
        uint64_t digest = all ? digest_there(checks, device, f, 0, (uint64_t)1 << 32) : 0;
        if (all) good = good && digest == f->all;
        printf("%-8s %s", f->name, good ? "equal bits" : "FAILED");
        if (all) printf(", digest over all inputs %016" PRIx64, digest);
        printf("\n");
        failed += !good;
    }
    device_close(device);
    return failed != 0;
}
