/* linear.c - y = x W^T + b. README.md chapter 5. */
#include "op_int.h"

#include <inttypes.h>

const struct rp_grad_rule rp_linear_rules[] = {
    {RP_OP_linear_dx, {RP_GRAD_DOUT, RP_GRAD_IN + 1}, {RP_GRAD_DIN}},
    {RP_OP_linear_dw, {RP_GRAD_DOUT, RP_GRAD_IN}, {RP_GRAD_DIN + 1}},
    {RP_OP_sum_rows, {RP_GRAD_DOUT}, {RP_GRAD_DIN + 2}},
    {0},
};

enum rp_status rp_linear_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1], *b = &call->in[2];
    if (x->dtype != RP_DTYPE_F32 || x->n_dims < 2 || w->dtype != RP_DTYPE_F32 || w->n_dims != 2)
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "linear takes fp32 rows and weights (out, in), not %d and %d dimensions", x->n_dims,
            w->n_dims);
    int64_t k = x->dims[x->n_dims - 1];
    if (w->dims[1] != k)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "linear: the weights take %" PRId64 " inputs, but a row has %" PRId64,
                            w->dims[1], k);
    if (b->n_dims != 0 && (b->n_dims != 1 || b->dims[0] != w->dims[0]))
        return rp_error_set(err, RP_STATUS_USAGE, "linear: the bias is not (%" PRId64 ")",
                            w->dims[0]);
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = x->n_dims;
    for (int i = 0; i + 1 < x->n_dims; i++) call->out[0].dims[i] = x->dims[i];
    call->out[0].dims[x->n_dims - 1] = w->dims[0];
    return RP_STATUS_OK;
}
