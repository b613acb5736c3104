/* table.c - joins the kernels of one instruction set by ops.def; compiled once per instruction set.
 */
#include "cpu/cpu_int.h"

#define RP_ISA_QUOTE2(isa) #isa
#define RP_ISA_QUOTE(isa)  RP_ISA_QUOTE2(isa)

const struct rp_cpu_kernels RP_ISA_NAME(rp_cpu_kernels) = {
    .path = RP_ISA_QUOTE(RP_ISA),
    .run =
        {
#define RP_OP(name, ...) [RP_OP_##name] = RP_ISA_NAME(rp_cpu_##name),
#include "ops.def"
#undef RP_OP
        },
    .peak = RP_ISA_NAME(rp_cpu_peak),
    .elementary = RP_ISA_NAME(rp_cpu_elementary),
    .scratch =
        {
#define RP_SCRATCH(name) [RP_OP_##name] = RP_ISA_NAME(rp_cpu_scratch_##name),
#include "cpu/scratch.def"
#undef RP_SCRATCH
        },
};
