/* rms_norm.c - every row divided by its root mean square: shapes and gradient. README.md chapter 9.
 */
#include "row.h"
#include "shape.h"

const struct rp_grad_rule rp_rms_norm_rules[] = {
    {RP_OP_rms_norm_dx, {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_IN + 1, RP_GRAD_OUT + 1}, {RP_GRAD_DIN}},
    {RP_OP_rms_norm_dg, {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_OUT + 1}, {RP_GRAD_DIN + 1}},
    {0},
};

enum rp_status rp_rms_norm_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    float eps = call->params.norm.eps;
    RP_TRY(rp_shape_check("rms_norm", x, 2, err));
    RP_TRY(rp_row_check("rms_norm", x, err));
    RP_TRY(rp_shape_check_vector("rms_norm", &call->in[1], x->dims[x->n_dims - 1], err));
    if (!(eps > 0.0f && eps <= 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "rms_norm: eps is %g, and must be above 0 and at most 1", (double)eps);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    rp_shape_set_1d(&call->out[1], RP_DTYPE_F32, rp_tensor_rows(x));
    return RP_STATUS_OK;
}

static enum rp_status check_gradient(const char *what, const struct rp_op_call *call, int inv,
                                     struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(rp_shape_check(what, dy, 2, err));
    RP_TRY(rp_row_check(what, dy, err));
    RP_TRY(rp_shape_check_equal(what, dy, &call->in[1], err));
    return rp_shape_check_vector(what, &call->in[inv], rp_tensor_rows(dy), err);
}

enum rp_status rp_rms_norm_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(check_gradient("rms_norm_dx", call, 3, err));
    RP_TRY(rp_shape_check_vector("rms_norm_dx", &call->in[2], dy->dims[dy->n_dims - 1], err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, dy);
    return RP_STATUS_OK;
}

enum rp_status rp_rms_norm_dg_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(check_gradient("rms_norm_dg", call, 2, err));
    rp_shape_set_1d(&call->out[0], RP_DTYPE_F32, dy->dims[dy->n_dims - 1]);
    return RP_STATUS_OK;
}
