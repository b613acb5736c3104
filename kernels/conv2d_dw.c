/* conv2d_dw.c - the gradient of the weights, summed over the positions of each shard and over the
 * shards. README.md chapter 5. */
#include "window.h"

#include <inttypes.h>

enum rp_status rp_conv2d_dw_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1];
    const struct rp_conv2d_params *params = &call->params.conv2d;
    struct rp_pool2d_params window = rp_window_of_conv2d(params);
    int64_t o = dy->dims[3];
    RP_TRY(rp_window_check_dx("conv2d_dw", dy, x, &window, o, err));
    if (params->groups < 1 || o % params->groups != 0 || x->dims[3] % params->groups != 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "conv2d_dw: %d groups do not divide %" PRId64 " input and %" PRId64
                            " output channels",
                            params->groups, x->dims[3], o);
    rp_window_set_dims(&call->out[0], RP_DTYPE_F32, o, params->kernel_h, params->kernel_w,
                       x->dims[3] / params->groups);
    return RP_STATUS_OK;
}
