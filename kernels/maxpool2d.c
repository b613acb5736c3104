/* maxpool2d.c - the largest value of each window, and which tap it came from. README.md chapter 7.
 */
#include "window.h"

enum { TAPS = 256 }; /* a tap is stored in a byte */

const struct rp_grad_rule rp_maxpool2d_rules[] = {
    {RP_OP_maxpool2d_dx, {RP_GRAD_DOUT, RP_GRAD_OUT + 1}, {RP_GRAD_DIN}},
    {0},
};

enum rp_status rp_maxpool2d_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    const struct rp_pool2d_params *window = &call->params.pool2d;
    int64_t oh = 0, ow = 0;
    RP_TRY(rp_window_check("maxpool2d", x, window, &oh, &ow, err));
    if (window->kernel_h * window->kernel_w > TAPS)
        return rp_error_set(err, RP_STATUS_USAGE, "maxpool2d: a window of %dx%d; the most is %d",
                            window->kernel_h, window->kernel_w, TAPS);
    /* Then every window holds at least one position of the image. */
    if (window->pad_h >= window->kernel_h || window->pad_w >= window->kernel_w)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "maxpool2d: padding %dx%d must be smaller than the kernel %dx%d",
                            window->pad_h, window->pad_w, window->kernel_h, window->kernel_w);
    rp_window_set_dims(&call->out[0], RP_DTYPE_F32, x->dims[0], oh, ow, x->dims[3]);
    rp_window_set_dims(&call->out[1], RP_DTYPE_U8, x->dims[0], oh, ow, x->dims[3]);
    return RP_STATUS_OK;
}
