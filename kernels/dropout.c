/* dropout.c - elements become zero with probability p, the rest grow by 1 / (1 - p). README.md
 * chapter 8. */
#include "shape.h"

const struct rp_grad_rule rp_dropout_rules[] = {
    {RP_OP_dropout_dx, {RP_GRAD_DOUT}, {RP_GRAD_DIN}},
    {0},
};

enum rp_status rp_dropout_shape(struct rp_op_call *call, struct rp_error *err)
{
    float p = call->params.dropout.p;
    RP_TRY(rp_shape_check("dropout", &call->in[0], 1, err));
    if (!(p >= 0.0f && p < 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE, "dropout: p is %g, and must be from 0 to below 1",
                            (double)p);
    if (call->params.dropout.site >= 1u << 24)
        return rp_error_set(err, RP_STATUS_USAGE, "dropout: more layers than 2^24");
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

enum rp_status rp_dropout_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    return rp_dropout_shape(call, err);
}
