/* head_norm.c - each q and k head normalised by itself: shapes and rules. README.md chapter 14. */
#include "attention.h"

const struct rp_grad_rule rp_head_norm_rules[] = {
    {RP_OP_head_norm_dx,
     {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_IN + 1, RP_GRAD_IN + 2, RP_GRAD_OUT + 1},
     {RP_GRAD_DIN}},
    {RP_OP_head_norm_dg,
     {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_OUT + 1},
     {RP_GRAD_DIN + 1, RP_GRAD_DIN + 2}},
    {0},
};

static void set_inv(struct rp_tensor *inv, const struct rp_tensor *qkv,
                    const struct rp_attention_params *p)
{
    rp_shape_set(inv, RP_DTYPE_F32, qkv);
    inv->dims[2] = (int64_t)p->heads + p->kv_heads;
}

enum rp_status rp_head_norm_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    RP_TRY(rp_attention_check("head_norm", &call->in[0], p, err));
    for (int i = 1; i <= 2; i++)
        RP_TRY(rp_shape_check_vector("head_norm", &call->in[i], p->head_dim, err));
    if (!(p->eps > 0.0f && p->eps <= 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "head_norm: eps is %g, and must be above 0 and at most 1",
                            (double)p->eps);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    set_inv(&call->out[1], &call->in[0], p);
    return RP_STATUS_OK;
}

enum rp_status rp_head_norm_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    struct rp_tensor inv = {0};
    RP_TRY(rp_attention_check("head_norm_dx", &call->in[0], p, err));
    RP_TRY(rp_shape_check_equal("head_norm_dx", &call->in[0], &call->in[1], err));
    for (int i = 2; i <= 3; i++)
        RP_TRY(rp_shape_check_vector("head_norm_dx", &call->in[i], p->head_dim, err));
    set_inv(&inv, &call->in[0], p);
    RP_TRY(rp_attention_check_dims("head_norm_dx", "inv", &call->in[4], 3, inv.dims, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

enum rp_status rp_head_norm_dg_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    struct rp_tensor inv = {0};
    RP_TRY(rp_attention_check("head_norm_dg", &call->in[0], p, err));
    RP_TRY(rp_shape_check_equal("head_norm_dg", &call->in[0], &call->in[1], err));
    set_inv(&inv, &call->in[0], p);
    RP_TRY(rp_attention_check_dims("head_norm_dg", "inv", &call->in[2], 3, inv.dims, err));
    for (int i = 0; i <= 1; i++) rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, p->head_dim);
    return RP_STATUS_OK;
}
