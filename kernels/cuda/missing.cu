/* missing.cu - until every op has a kernel: what is missing says so. */
#include "cuda/gpu.h"

#define RP_OP(name, ...)                                                                           \
    extern "C" __attribute__((weak)) RP_CUDA_KERNEL(name)                                          \
    {                                                                                              \
        (void)cuda, (void)call, (void)pass;                                                        \
        return rp_error_set(err, RP_STATUS_INTERNAL, "op %s has no CUDA kernel yet", #name);       \
    }
#include "ops.def"
#undef RP_OP
