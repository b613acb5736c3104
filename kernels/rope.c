/* rope.c - q and k heads turned by the place of their token: shapes and rules. README.md chapter
 * 14. */
#include "attention.h"

const struct rp_grad_rule rp_rope_rules[] = {
    {RP_OP_rope_dx, {RP_GRAD_DOUT}, {RP_GRAD_DIN}},
    {0},
};

static enum rp_status shape(const char *what, struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    RP_TRY(rp_attention_check(what, &call->in[0], p, err));
    if (p->head_dim % 2 != 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s turns pairs of values, and a head is %d wide: make width / heads "
                            "even",
                            what, p->head_dim);
    if (!(p->rope_base >= 1.0f && p->rope_base <= 1e30f))
        return rp_error_set(err, RP_STATUS_USAGE, "%s: rope_base is %g, and must be from 1 to 1e30",
                            what, (double)p->rope_base);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

enum rp_status rp_rope_shape(struct rp_op_call *call, struct rp_error *err)
{
    return shape("rope", call, err);
}

enum rp_status rp_rope_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    return shape("rope_dx", call, err);
}
