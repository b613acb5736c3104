/* grad_norm.c - the sum of squares of each chunk of a gradient. README.md chapter 11. */
#include "op_int.h"
#include "digest.h"

enum rp_status rp_grad_norm_shape(struct rp_op_call *call, struct rp_error *err)
{
    if (call->in[0].dtype != RP_DTYPE_F32)
        return rp_error_set(err, RP_STATUS_USAGE, "a gradient norm takes an fp32 tensor");
    int64_t n = rp_tensor_elements(&call->in[0]);
    call->out[0].dtype = RP_DTYPE_F64;
    call->out[0].n_dims = 1;
    call->out[0].dims[0] = (n + RP_DIGEST_CHUNK - 1) / RP_DIGEST_CHUNK;
    return RP_STATUS_OK;
}
