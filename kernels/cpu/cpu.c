/* cpu.c - the CPU as a device: memory, copies, and the choice of the instruction set.
 *
 * The kernels are compiled once per instruction set and give the same bits on each, so the choice
 * is one of speed alone; it is made when the device is opened, by what this machine can run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/cpu_int.h"

enum { ALIGNMENT = 256, HUGE_PAGE = 2 << 20 };

/* In debug builds of a training step, memory that nobody wrote shows up as this NaN. */
static const uint32_t poison_word = 0x7fc0dead;

/* ---- instruction sets ---------------------------------------------------------------------- */

#if defined(RP_HAVE_avx512)
extern const struct rp_cpu_kernels rp_cpu_kernels_avx512;
#endif
#if defined(RP_HAVE_avx2)
extern const struct rp_cpu_kernels rp_cpu_kernels_avx2;
#endif
#if defined(RP_HAVE_neon)
extern const struct rp_cpu_kernels rp_cpu_kernels_neon;
#endif
extern const struct rp_cpu_kernels rp_cpu_kernels_scalar;
#if defined(RP_HAVE_wide)
extern const struct rp_cpu_kernels rp_cpu_kernels_wide;
#endif

#if defined(RP_HAVE_avx512)
static bool runs_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("fma");
}
#endif
#if defined(RP_HAVE_avx2)
static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif
#if defined(__x86_64__)
static bool runs_scalar(void)
{
    return __builtin_cpu_supports("fma"); /* in hardware: libm's fma would be right but slow */
}
#else
static bool runs_always(void)
{
    return true;
}
#define runs_neon   runs_always
#define runs_scalar runs_always
#endif

/* Widest first. `wide` is the 16-float code on AVX2: built with the tests, for machines without
 * AVX-512. */
static const struct path {
    const struct rp_cpu_kernels *kernels;
    const char *name;
    bool (*runs)(void);
} paths[] = {
#if defined(RP_HAVE_avx512)
    {&rp_cpu_kernels_avx512, "avx512", runs_avx512},
#endif
#if defined(RP_HAVE_avx2)
    {&rp_cpu_kernels_avx2, "avx2", runs_avx2},
#endif
#if defined(RP_HAVE_neon)
    {&rp_cpu_kernels_neon, "neon", runs_neon},
#endif
    {&rp_cpu_kernels_scalar, "scalar", runs_scalar},
#if defined(RP_HAVE_wide)
    {&rp_cpu_kernels_wide, "wide", runs_avx2}, /* last: never chosen but by name */
#endif
};

const char *rp_cpu_paths(void)
{
    static char text[64];
    char made[64] = "";
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        if (!paths[i].runs()) continue;
        if (made[0]) strcat(made, " ");
        strcat(made, paths[i].name);
    }
    memcpy(text, made, sizeof text); /* the same bytes each time: safe from any thread */
    return text;
}

static const struct path *find_path(const char *name)
{
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        if (name ? strcmp(name, paths[i].name) == 0 : paths[i].runs()) return &paths[i];
    }
    return NULL;
}

static enum rp_status choose_path(const char *name, const struct rp_cpu_kernels **kernels,
                                  struct rp_error *err)
{
    const struct path *path = find_path(name);
    if (!path && name)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "CPU path '%s': this build and machine have %s", name, rp_cpu_paths());
    if (!path)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "this processor has no fused multiply-add (FMA), which every tier "
                            "needs; use a machine of 2013 or later");
    if (!path->runs())
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "CPU path '%s': this machine cannot run it; it can run: %s", name,
                            rp_cpu_paths());
    *kernels = path->kernels;
    return RP_STATUS_OK;
}

/* ---- the table ------------------------------------------------------------------------------- */

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void cpu_close(struct rp_device *device)
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    if (!cpu) return;
    rp_pool_close(cpu->pool);
    free(cpu->scratch);
    free(cpu);
}

static enum rp_status cpu_open(const struct rp_device_config *config, struct rp_device **device,
                               struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    struct rp_cpu *cpu = calloc(1, sizeof *cpu);
    *device = NULL;
    if (!cpu) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CPU device");
    cpu->device.table = &rp_device_cpu;
    cpu->device.config = *config;
    RP_TRY_GOTO(status, choose_path(config->path, &cpu->kernels, err), done);
    cpu->device.config.path = cpu->kernels->path;
    RP_TRY_GOTO(status, rp_pool_open(config->threads, &cpu->pool, err), done);
    *device = &cpu->device;
    cpu = NULL;
done:
    if (cpu) cpu_close(&cpu->device);
    return status;
}

/* Large blocks begin on the border of a huge page and ask for such pages: a product walks over many
 * rows at once, each on a page of its own otherwise. NULL: no memory. */
static void *allocate(size_t bytes)
{
    bool large = bytes >= HUGE_PAGE;
    void *block = NULL; /* aligned_alloc would want whole huge pages */
    if (posix_memalign(&block, large ? HUGE_PAGE : ALIGNMENT, bytes) != 0) return NULL;
    if (large) madvise(block, bytes, MADV_HUGEPAGE); /* refused: slower, no harm */
    return block;
}

static enum rp_status cpu_alloc(struct rp_device *device, size_t bytes, void **block,
                                struct rp_error *err)
{
    size_t rounded = round_up(bytes ? bytes : 1);
    *block = allocate(rounded);
    if (!*block)
        return rp_error_set(err, RP_STATUS_MEMORY, "cannot allocate %zu bytes of memory", bytes);
    memset(*block, 0, rounded);
    if (device->config.poison) {
        for (size_t i = 0; i < rounded / sizeof poison_word; i++)
            ((uint32_t *)*block)[i] = poison_word;
    }
    return RP_STATUS_OK;
}

static void cpu_free(struct rp_device *device, void *block)
{
    (void)device;
    free(block);
}

static enum rp_status cpu_copy_in(struct rp_device *device, void *to, const void *host,
                                  size_t bytes, struct rp_error *err)
{
    (void)device, (void)err;
    memcpy(to, host, bytes);
    return RP_STATUS_OK;
}

static void cpu_pin(struct rp_device *device, void *block, size_t bytes)
{
    (void)device, (void)block, (void)bytes;
}

static void cpu_unpin(struct rp_device *device, void *block)
{
    (void)device, (void)block;
}

static enum rp_status cpu_copy_out(struct rp_device *device, void *host, const void *from,
                                   size_t bytes, struct rp_error *err)
{
    (void)device, (void)err;
    memcpy(host, from, bytes);
    return RP_STATUS_OK;
}

static enum rp_status cpu_copy_out_many(struct rp_device *device,
                                        const struct rp_device_copy *copies, int n,
                                        struct rp_error *err)
{
    (void)device, (void)err;
    for (int i = 0; i < n; i++) memcpy(copies[i].host, copies[i].from, copies[i].bytes);
    return RP_STATUS_OK;
}

static enum rp_status cpu_zero(struct rp_device *device, void *block, size_t bytes,
                               struct rp_error *err)
{
    (void)device, (void)err;
    memset(block, 0, bytes);
    return RP_STATUS_OK;
}

static enum rp_status grow_scratch(struct rp_cpu *cpu, size_t bytes, struct rp_error *err)
{
    if (bytes <= cpu->scratch_bytes) return RP_STATUS_OK;
    free(cpu->scratch);
    cpu->scratch_bytes = 0;
    cpu->scratch = allocate(round_up(bytes));
    if (!cpu->scratch)
        return rp_error_set(err, RP_STATUS_MEMORY, "cannot allocate %zu bytes of working memory",
                            bytes);
    cpu->scratch_bytes = round_up(bytes);
    memset(cpu->scratch, 0,
           cpu->scratch_bytes); /* resident now, as plan counts it, not in a step */
    return RP_STATUS_OK;
}

static enum rp_status cpu_run(struct rp_device *device, const struct rp_op_call *call,
                              const struct rp_pass *pass, struct rp_error *err)
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    rp_cpu_kernel run = cpu->kernels->run[call->op];
    if (!run)
        return rp_error_set(err, RP_STATUS_INTERNAL, "op %s has no CPU kernel",
                            rp_op_info(call->op)->name);
    if (cpu->kernels->scratch[call->op]) {
        size_t bytes = cpu->kernels->scratch[call->op](call, device->config.threads);
        RP_TRY(grow_scratch(cpu, bytes, err));
    }
    return run(cpu, call, pass, err);
}

static enum rp_status cpu_sync(struct rp_device *device, struct rp_error *err)
{
    (void)device, (void)err;
    return RP_STATUS_OK; /* run() returns when the op is done */
}

static enum rp_status cpu_step(struct rp_device *device, struct rp_error *err)
{
    (void)device, (void)err;
    return RP_STATUS_OK; /* nothing is recorded: a call costs next to nothing here */
}

static enum rp_status cpu_reserve(struct rp_device *device, size_t bytes, struct rp_error *err)
{
    return grow_scratch((struct rp_cpu *)device, bytes, err);
}

/* The processor's own name, from the identification leaves; "" where there are none. */
static void processor_name(char name[64])
{
    name[0] = '\0';
#if defined(__x86_64__)
    unsigned words[12];
    for (unsigned i = 0; i < 3; i++) {
        unsigned *w = words + 4 * i;
        __asm__("cpuid"
                : "=a"(w[0]), "=b"(w[1]), "=c"(w[2]), "=d"(w[3])
                : "a"(0x80000002u + i), "c"(0u));
    }
    memcpy(name, words, sizeof words);
    name[sizeof words] = '\0';
    size_t length = strlen(name);
    while (length > 0 && name[length - 1] == ' ') name[--length] = '\0';
#endif
}

static void cpu_describe(struct rp_device *device, char text[256])
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    int threads = rp_pool_threads(cpu->pool);
    char name[64];
    processor_name(name);
    snprintf(text, 256, "%s, %s, %d thread%s", name[0] ? name : "CPU", cpu->kernels->path, threads,
             threads == 1 ? "" : "s");
}

static void cpu_facts(struct rp_device *device, struct rp_device_facts *facts)
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    char name[64];
    *facts = (struct rp_device_facts){.processors = rp_pool_threads(cpu->pool)};
    processor_name(name);
    snprintf(facts->model, sizeof facts->model, "%s", name);
    snprintf(facts->architecture, sizeof facts->architecture, "%s", cpu->kernels->path);
}

static void cpu_peak(struct rp_device *device, double (*clock)(void), double *flops, double *bytes)
{
    struct rp_cpu *cpu = (struct rp_cpu *)device;
    cpu->kernels->peak(cpu->pool, clock, flops, bytes);
}

static size_t cpu_scratch_bytes(const struct rp_device_config *config,
                                const struct rp_op_call *call)
{
    const struct path *path = find_path(config->path);
    if (!path || !path->kernels->scratch[call->op]) return 0;
    return round_up(path->kernels->scratch[call->op](call, config->threads));
}

static void cpu_on_threads(struct rp_device *device, void (*work)(void *arg, int part), void *arg)
{
    struct rp_pool *pool = ((struct rp_cpu *)device)->pool;
    rp_pool_run(pool, rp_pool_threads(pool), work, arg);
}

const struct rp_device_table rp_device_cpu = {
    .name = "cpu",
    .logits_kept = INT64_C(1) << 26, /* 256 MiB */
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy_in = cpu_copy_in,
    .pin = cpu_pin,
    .unpin = cpu_unpin,
    .copies_wait = cpu_sync,
    .copy_out = cpu_copy_out,
    .copy_out_many = cpu_copy_out_many,
    .zero = cpu_zero,
    .run = cpu_run,
    .sync = cpu_sync,
    .on_threads = cpu_on_threads,
    .step_begin = cpu_step,
    .step_end = cpu_step,
    .reserve = cpu_reserve,
    .self_test = rp_cpu_self_test,
    .describe = cpu_describe,
    .facts = cpu_facts,
    .peak = cpu_peak,
    .scratch_bytes = cpu_scratch_bytes,
};
