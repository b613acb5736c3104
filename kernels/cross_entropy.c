/* cross_entropy.c - shapes and gradient of the loss on classes. README.md chapter 10. */
#include "row.h"
#include "shape.h"

const struct rp_grad_rule rp_cross_entropy_rules[] = {
    {RP_OP_cross_entropy_dx, {RP_GRAD_IN, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {0},
};
const struct rp_grad_rule rp_cross_entropy_mix_rules[] = {
    {RP_OP_cross_entropy_mix_dx, {RP_GRAD_IN, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {0},
};

/* `width`: numbers of a target, a class or two with the weight of the first. */
static enum rp_status check(const char *what, const struct rp_op_call *call, int width,
                            struct rp_error *err)
{
    const struct rp_tensor *logits = &call->in[0], *target = &call->in[1];
    float smoothing = call->params.loss.label_smoothing;
    char left[128], right[128];
    RP_TRY(rp_shape_check(what, logits, 2, err));
    RP_TRY(rp_row_check(what, logits, err));
    if (target->dtype != RP_DTYPE_I32 ||
        rp_tensor_elements(target) != width * rp_tensor_rows(logits))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: the targets %s are not %s for each row of %s", what,
                            rp_shape_text(target, left),
                            width == 1 ? "one class number" : "two classes and a weight",
                            rp_shape_text(logits, right));
    if (!(smoothing >= 0.0f && smoothing < 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: label_smoothing is %g, and must be from 0 to below 1", what,
                            (double)smoothing);
    return RP_STATUS_OK;
}

static void set_loss(struct rp_op_call *call)
{
    rp_shape_set_1d(&call->out[0], RP_DTYPE_F32, rp_tensor_rows(&call->in[0]));
    call->out[0].n_dims = 2;
    call->out[0].dims[1] = 1;
}

enum rp_status rp_cross_entropy_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy", call, 1, err));
    set_loss(call);
    rp_shape_set_1d(&call->out[1], RP_DTYPE_I32, rp_tensor_rows(&call->in[0]));
    return RP_STATUS_OK;
}

enum rp_status rp_cross_entropy_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy_dx", call, 1, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

enum rp_status rp_cross_entropy_mix_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy_mix", call, 3, err));
    set_loss(call);
    return RP_STATUS_OK;
}

enum rp_status rp_cross_entropy_mix_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy_mix_dx", call, 3, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}
