/* sum_rows.c - sums over all rows of a (rows, C) view: bias gradients, the loss. README.md
 * chapter 6. */
#include "op_int.h"

enum rp_status rp_sum_rows_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    if (x->dtype != RP_DTYPE_F32 || x->n_dims < 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "a sum over rows takes fp32 of at least 2 dimensions, not %d",
                            x->n_dims);
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = 1;
    call->out[0].dims[0] = x->dims[x->n_dims - 1];
    return RP_STATUS_OK;
}
