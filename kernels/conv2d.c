/* conv2d.c - y = x * W + b over images. README.md chapter 5. */
#include "window.h"

#include <inttypes.h>

const struct rp_grad_rule rp_conv2d_rules[] = {
    {RP_OP_conv2d_dx, {RP_GRAD_DOUT, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {RP_OP_conv2d_dw, {RP_GRAD_DOUT, RP_GRAD_IN}, {RP_GRAD_DIN + 1}},
    {RP_OP_sum_rows, {RP_GRAD_DOUT}, {RP_GRAD_DIN + 2}},
    {0},
};

enum rp_status rp_conv2d_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1], *b = &call->in[2];
    const struct rp_conv2d_params *params = &call->params.conv2d;
    struct rp_pool2d_params window = rp_window_of_conv2d(params);
    int64_t oh = 0, ow = 0;
    RP_TRY(rp_window_check("conv2d", x, &window, &oh, &ow, err));
    int64_t c = x->dims[3], o = w->dims[0];
    if (params->groups < 1 || c % params->groups != 0 || o % params->groups != 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "conv2d: %d groups do not divide %" PRId64 " input and %" PRId64
                            " output channels",
                            params->groups, c, o);
    if (w->dtype != RP_DTYPE_F32 || w->n_dims != 4 || w->dims[1] != params->kernel_h ||
        w->dims[2] != params->kernel_w || w->dims[3] != c / params->groups)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "conv2d: the weights are not (%" PRId64 ", %d, %d, %" PRId64 ")", o,
                            params->kernel_h, params->kernel_w, c / params->groups);
    if (b->n_dims != 0 && (b->n_dims != 1 || b->dims[0] != o))
        return rp_error_set(err, RP_STATUS_USAGE, "conv2d: the bias is not (%" PRId64 ")", o);
    rp_window_set_dims(&call->out[0], RP_DTYPE_F32, x->dims[0], oh, ow, o);
    return RP_STATUS_OK;
}
