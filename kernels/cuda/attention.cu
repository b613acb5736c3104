/* attention.cu - attention on the GPU. */
#include "cuda/gpu.h"

#define RP_NOT_YET(op)                                                                             \
    RP_CUDA_KERNEL(op)                                                                             \
    {                                                                                              \
        (void)cuda, (void)call, (void)pass;                                                        \
        return rp_error_set(err, RP_STATUS_INTERNAL, #op " has no CUDA kernel yet");               \
    }
RP_NOT_YET(rope)
RP_NOT_YET(rope_dx)
RP_NOT_YET(head_norm)
RP_NOT_YET(head_norm_dx)
RP_NOT_YET(head_norm_dg)
RP_NOT_YET(attention)
RP_NOT_YET(attention_dx)
RP_NOT_YET(attention_cached)
