/* update.c - the shape that the optimizer updates share. */
#include "update.h"

#include <string.h>

static bool same_shape(const struct rp_tensor *a, const struct rp_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims &&
           memcmp(a->dims, b->dims, sizeof(a->dims[0]) * (size_t)a->n_dims) == 0;
}

/* Shape and type only: memory stays where the caller put it. */
static void copy_shape(struct rp_tensor *to, const struct rp_tensor *from)
{
    to->dtype = from->dtype;
    to->n_dims = from->n_dims;
    memcpy(to->dims, from->dims, sizeof(to->dims));
}

enum rp_status rp_update_shape(struct rp_op_call *call, int n_states, bool optional,
                               struct rp_error *err)
{
    const struct rp_tensor *p = &call->in[0];
    const struct rp_tensor *control = &call->in[2 + n_states];
    if (p->dtype != RP_DTYPE_F32)
        return rp_error_set(err, RP_STATUS_USAGE, "an update takes fp32 parameters");
    for (int i = 1; i < 2 + n_states; i++) {
        if (i >= 2 && optional && call->in[i].n_dims == 0) continue;
        if (!same_shape(p, &call->in[i]))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "gradient and optimizer states must have the parameter's shape");
    }
    if (control->dtype != RP_DTYPE_U8 || rp_tensor_bytes(control) != sizeof(struct rp_control))
        return rp_error_set(err, RP_STATUS_USAGE, "an update takes the control block of clip");

    copy_shape(&call->out[0], p);
    for (int i = 0; i < n_states; i++) copy_shape(&call->out[1 + i], &call->in[2 + i]);
    struct rp_tensor *digest = &call->out[1 + n_states];
    digest->dtype = RP_DTYPE_U64;
    digest->n_dims = 1;
    digest->dims[0] = 1;
    return RP_STATUS_OK;
}
