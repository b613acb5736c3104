/* swiglu.c - silu of the first half of a row times the second half: shapes and gradient. README.md
 * chapter 8. */
#include "shape.h"

const struct rp_grad_rule rp_swiglu_rules[] = {
    {RP_OP_swiglu_dx, {RP_GRAD_DOUT, RP_GRAD_IN}, {RP_GRAD_DIN}},
    {0},
};

static enum rp_status check(const char *what, const struct rp_tensor *x, struct rp_error *err)
{
    RP_TRY(rp_shape_check(what, x, 1, err));
    if (x->dims[x->n_dims - 1] % 2 == 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s: a row of %" PRId64 " elements is no gate and up of equal length", what,
                        x->dims[x->n_dims - 1]);
}

enum rp_status rp_swiglu_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    RP_TRY(check("swiglu", x, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    call->out[0].dims[x->n_dims - 1] /= 2;
    return RP_STATUS_OK;
}

enum rp_status rp_swiglu_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[1];
    struct rp_tensor half = *x;
    RP_TRY(check("swiglu_dx", x, err));
    half.dims[x->n_dims - 1] /= 2;
    RP_TRY(rp_shape_check_equal("swiglu_dx", &call->in[0], &half, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    return RP_STATUS_OK;
}
