/* maxpool2d_dx.c - the gradient goes to the position that was the largest. README.md chapter 7. */
#include "window.h"

enum rp_status rp_maxpool2d_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dx = &call->out[0];
    if (call->in[1].dtype != RP_DTYPE_U8)
        return rp_error_set(err, RP_STATUS_USAGE, "maxpool2d_dx: the taps are not bytes");
    return rp_window_check_dx("maxpool2d_dx", &call->in[0], dx, &call->params.pool2d, dx->dims[3],
                              err);
}
