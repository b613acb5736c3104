/* cross_entropy.c - shapes and gradient of the loss on classes. README.md chapter 10. */
#include "row.h"
#include "shape.h"

const struct rp_grad_rule rp_cross_entropy_rules[] = {
    {RP_OP_cross_entropy_dx, {RP_GRAD_IN, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {0},
};

static enum rp_status check(const char *what, const struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *logits = &call->in[0], *target = &call->in[1];
    float smoothing = call->params.loss.label_smoothing;
    char left[128], right[128];
    RP_TRY(rp_shape_check(what, logits, 2, err));
    RP_TRY(rp_row_check(what, logits, err));
    if (target->dtype != RP_DTYPE_I32 || rp_tensor_elements(target) != rp_tensor_rows(logits))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: the targets %s are not one class number for each row of %s", what,
                            rp_shape_text(target, left), rp_shape_text(logits, right));
    if (!(smoothing >= 0.0f && smoothing < 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: label_smoothing is %g, and must be from 0 to below 1", what,
                            (double)smoothing);
    return RP_STATUS_OK;
}

enum rp_status rp_cross_entropy_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy", call, err));
    int64_t rows = rp_tensor_rows(&call->in[0]);
    rp_shape_set_1d(&call->out[0], RP_DTYPE_F32, rows);
    call->out[0].n_dims = 2;
    call->out[0].dims[1] = 1;
    rp_shape_set_1d(&call->out[1], RP_DTYPE_I32, rows);
    return RP_STATUS_OK;
}

enum rp_status rp_cross_entropy_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("cross_entropy_dx", call, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}
