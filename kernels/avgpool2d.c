/* avgpool2d.c - the mean of each window; positions outside the image count as 0. README.md
 * chapter 7. */
#include "window.h"

const struct rp_grad_rule rp_avgpool2d_rules[] = {
    {RP_OP_avgpool2d_dx, {RP_GRAD_DOUT}, {RP_GRAD_DIN}},
    {0},
};

enum rp_status rp_avgpool2d_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    int64_t oh = 0, ow = 0;
    RP_TRY(rp_window_check("avgpool2d", x, &call->params.pool2d, &oh, &ow, err));
    rp_window_set_dims(&call->out[0], RP_DTYPE_F32, x->dims[0], oh, ow, x->dims[3]);
    return RP_STATUS_OK;
}
