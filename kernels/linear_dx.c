/* linear_dx.c - dx = dy W. README.md chapter 5. */
#include "op_int.h"

#include <inttypes.h>

enum rp_status rp_linear_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *w = &call->in[1];
    if (dy->dtype != RP_DTYPE_F32 || dy->n_dims < 2 || w->dtype != RP_DTYPE_F32 || w->n_dims != 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "linear_dx takes fp32 rows and weights (out, in), not %d and %d "
                            "dimensions",
                            dy->n_dims, w->n_dims);
    if (dy->dims[dy->n_dims - 1] != w->dims[0])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "linear_dx: the weights have %" PRId64
                            " outputs, but a row has %" PRId64,
                            w->dims[0], dy->dims[dy->n_dims - 1]);
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = dy->n_dims;
    for (int i = 0; i + 1 < dy->n_dims; i++) call->out[0].dims[i] = dy->dims[i];
    call->out[0].dims[dy->n_dims - 1] = w->dims[1];
    return RP_STATUS_OK;
}
