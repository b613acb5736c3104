/* digest.c - the digest of a tensor that no update writes. README.md chapter 12. */
#include "op_int.h"

enum rp_status rp_digest_shape(struct rp_op_call *call, struct rp_error *err)
{
    if (call->in[0].dtype != RP_DTYPE_F32)
        return rp_error_set(err, RP_STATUS_USAGE, "a digest takes an fp32 tensor");
    call->out[0].dtype = RP_DTYPE_U64;
    call->out[0].n_dims = 1;
    call->out[0].dims[0] = 1;
    return RP_STATUS_OK;
}
