/* cpu_int.h - private to kernels/cpu: what a CPU kernel gets, and the table of one instruction set.
 *
 * Every <op>.c here is compiled once per instruction set with RP_ISA defined (avx512, avx2, neon,
 * scalar); its kernels are named RP_ISA_NAME(rp_cpu_<op>), and table.c joins them by ops.def. */
#ifndef RP_CPU_INT_H
#define RP_CPU_INT_H

#include "cpu/pool.h"
#include "device.h"

struct rp_cpu {
    struct rp_device device; /* first: a rp_device is a rp_cpu */
    struct rp_pool *pool;
    const struct rp_cpu_kernels *kernels;
    unsigned char *scratch; /* 256-byte aligned; at least what rp_cpu_scratch_<op> asked for */
    size_t scratch_bytes;
};

typedef enum rp_status (*rp_cpu_kernel)(struct rp_cpu *cpu, const struct rp_op_call *call,
                                        const struct rp_pass *pass, struct rp_error *err);
/* The vector forms of elementary.inc (elementary.c). */
enum rp_elementary {
    RP_ELEMENTARY_EXP,
    RP_ELEMENTARY_SIGMOID,
    RP_ELEMENTARY_TANH,
    RP_ELEMENTARY_ERF
};
struct rp_cpu_kernels {
    const char *path;
    rp_cpu_kernel run[RP_OP_COUNT];
    /* Scratch bytes of a call with n threads; NULL: none. */
    size_t (*scratch[RP_OP_COUNT])(const struct rp_op_call *call, int n_threads);
    void (*peak)(struct rp_pool *pool, double (*clock)(void), double *flops, double *bytes);
    void (*elementary)(enum rp_elementary which, const float *x, float *y, int64_t n);
};

/* The device's self_test (self_test.c). */
RP_NODISCARD enum rp_status rp_cpu_self_test(struct rp_device *device, struct rp_error *err);

#define RP_ISA_JOIN2(name, isa) name##_##isa
#define RP_ISA_JOIN(name, isa)  RP_ISA_JOIN2(name, isa)
#define RP_ISA_NAME(name)       RP_ISA_JOIN(name, RP_ISA)
/* Head of a kernel: RP_CPU_KERNEL(relu) { ... return RP_STATUS_OK; } */
#define RP_CPU_KERNEL(op)                                                                          \
    enum rp_status RP_ISA_NAME(rp_cpu_##op)(struct rp_cpu * cpu, const struct rp_op_call *call,    \
                                            const struct rp_pass *pass, struct rp_error *err)

#ifdef RP_ISA
void RP_ISA_NAME(rp_cpu_peak)(struct rp_pool *pool, double (*clock)(void), double *flops,
                              double *bytes);
void RP_ISA_NAME(rp_cpu_elementary)(enum rp_elementary which, const float *x, float *y, int64_t n);
#define RP_OP(name, ...) RP_CPU_KERNEL(name);
#include "ops.def"
#undef RP_OP
/* Scratch functions: a line in scratch.def for each op that has one. */
#define RP_SCRATCH(op)                                                                             \
    size_t RP_ISA_NAME(rp_cpu_scratch_##op)(const struct rp_op_call *call, int n_threads);
#include "cpu/scratch.def"
#undef RP_SCRATCH
extern const struct rp_cpu_kernels RP_ISA_NAME(rp_cpu_kernels); /* table.c */
#endif

#endif
