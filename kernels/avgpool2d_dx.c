/* avgpool2d_dx.c - each position gets its share of every window that covers it. README.md
 * chapter 7. */
#include "window.h"

enum rp_status rp_avgpool2d_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dx = &call->out[0];
    return rp_window_check_dx("avgpool2d_dx", &call->in[0], dx, &call->params.pool2d, dx->dims[3],
                              err);
}
