/* layer_norm.c - normalisation of each row: shapes and gradient. README.md chapter 9. */
#include "row.h"
#include "shape.h"

const struct rp_grad_rule rp_layer_norm_rules[] = {
    {RP_OP_layer_norm_dx,
     {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_IN + 1, RP_GRAD_OUT + 1, RP_GRAD_OUT + 2},
     {RP_GRAD_DIN}},
    {RP_OP_layer_norm_dgb,
     {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_OUT + 1, RP_GRAD_OUT + 2},
     {RP_GRAD_DIN + 1, RP_GRAD_DIN + 2}},
    {0},
};

static enum rp_status check_row(const char *what, const struct rp_tensor *x, struct rp_error *err)
{
    RP_TRY(rp_shape_check(what, x, 2, err));
    return rp_row_check(what, x, err);
}

enum rp_status rp_layer_norm_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    float eps = call->params.norm.eps;
    RP_TRY(check_row("layer_norm", x, err));
    for (int i = 1; i <= (call->in[2].n_dims ? 2 : 1); i++)
        RP_TRY(rp_shape_check_vector("layer_norm", &call->in[i], x->dims[x->n_dims - 1], err));
    if (!(eps > 0.0f && eps <= 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "layer_norm: eps is %g, and must be above 0 and at most 1",
                            (double)eps);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    for (int i = 1; i <= 2; i++) rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, rp_tensor_rows(x));
    return RP_STATUS_OK;
}

enum rp_status rp_layer_norm_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(check_row("layer_norm_dx", dy, err));
    RP_TRY(rp_shape_check_equal("layer_norm_dx", dy, &call->in[1], err));
    RP_TRY(rp_shape_check_vector("layer_norm_dx", &call->in[2], dy->dims[dy->n_dims - 1], err));
    for (int i = 3; i <= 4; i++)
        RP_TRY(rp_shape_check_vector("layer_norm_dx", &call->in[i], rp_tensor_rows(dy), err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, dy);
    return RP_STATUS_OK;
}

enum rp_status rp_layer_norm_dgb_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    RP_TRY(check_row("layer_norm_dgb", dy, err));
    RP_TRY(rp_shape_check_equal("layer_norm_dgb", dy, &call->in[1], err));
    for (int i = 2; i <= 3; i++)
        RP_TRY(rp_shape_check_vector("layer_norm_dgb", &call->in[i], rp_tensor_rows(dy), err));
    for (int i = 0; i <= 1; i++)
        rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, dy->dims[dy->n_dims - 1]);
    return RP_STATUS_OK;
}
