/* global_avgpool.c - the mean of each channel over the image. README.md chapter 7. */
#include "op_int.h"

const struct rp_grad_rule rp_global_avgpool_rules[] = {
    {RP_OP_global_avgpool_dx, {RP_GRAD_DOUT}, {RP_GRAD_DIN}},
    {0},
};

enum rp_status rp_global_avgpool_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    if (x->dtype != RP_DTYPE_F32 || x->n_dims != 4)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "global_avgpool takes images (height, width, channels), but here each "
                            "sample has %d dimension%s",
                            x->n_dims - 1, x->n_dims == 2 ? "" : "s");
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = 2;
    call->out[0].dims[0] = x->dims[0];
    call->out[0].dims[1] = x->dims[3];
    return RP_STATUS_OK;
}
