/* global_avgpool_dx.c - every position of a channel gets the same share. README.md chapter 7. */
#include "op_int.h"

enum rp_status rp_global_avgpool_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *dx = &call->out[0];
    if (dx->n_dims != 4 || dy->n_dims != 2 || dy->dims[0] != dx->dims[0] ||
        dy->dims[1] != dx->dims[3])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "global_avgpool_dx: dy (N, C) does not fit dx (N, H, W, C)");
    return RP_STATUS_OK;
}
