/* mse.c - shapes and gradient of the squared error. README.md chapter 10. */
#include "row.h"
#include "shape.h"

const struct rp_grad_rule rp_mse_rules[] = {
    {RP_OP_mse_dx, {RP_GRAD_IN, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {0},
};

static enum rp_status check(const char *what, const struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(rp_shape_check(what, &call->in[0], 2, err));
    RP_TRY(rp_row_check(what, &call->in[0], err));
    return rp_shape_check_equal(what, &call->in[0], &call->in[1], err);
}

enum rp_status rp_mse_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("mse", call, err));
    rp_shape_set_1d(&call->out[0], RP_DTYPE_F32, rp_tensor_rows(&call->in[0]));
    call->out[0].n_dims = 2;
    call->out[0].dims[1] = 1;
    return RP_STATUS_OK;
}

enum rp_status rp_mse_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("mse_dx", call, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}
