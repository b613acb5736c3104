/* linear_dw.c - dW = dy^T x, summed over the rows of each shard and over the shards. README.md
 * chapter 5. */
#include "op_int.h"

#include <inttypes.h>

enum rp_status rp_linear_dw_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *x = &call->in[1];
    if (dy->dtype != RP_DTYPE_F32 || dy->n_dims < 2 || x->dtype != RP_DTYPE_F32 || x->n_dims < 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "linear_dw takes fp32 rows, not %d and %d dimensions", dy->n_dims,
                            x->n_dims);
    if (rp_tensor_rows(dy) != rp_tensor_rows(x))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "linear_dw: %" PRId64 " rows of dy and %" PRId64 " of x",
                            rp_tensor_rows(dy), rp_tensor_rows(x));
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = 2;
    call->out[0].dims[0] = dy->dims[dy->n_dims - 1];
    call->out[0].dims[1] = x->dims[x->n_dims - 1];
    return RP_STATUS_OK;
}
