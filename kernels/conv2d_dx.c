/* conv2d_dx.c - the gradient of the image. README.md chapter 5. */
#include "window.h"

#include <inttypes.h>

enum rp_status rp_conv2d_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *w = &call->in[1], *dx = &call->out[0];
    const struct rp_conv2d_params *params = &call->params.conv2d;
    struct rp_pool2d_params window = rp_window_of_conv2d(params);
    RP_TRY(rp_window_check_dx("conv2d_dx", dy, dx, &window, w->dims[0], err));
    if (params->groups < 1 || w->n_dims != 4 || w->dims[0] % params->groups != 0 ||
        w->dims[3] * params->groups != dx->dims[3] || w->dims[1] != params->kernel_h ||
        w->dims[2] != params->kernel_w)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "conv2d_dx: weights of %" PRId64 " outputs and %" PRId64
                            " inputs in %d groups do not fit an image of %" PRId64 " channels",
                            w->dims[0], w->dims[3], params->groups, dx->dims[3]);
    return RP_STATUS_OK;
}
