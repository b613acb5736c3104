/* clip.c - global norm, clip factor and finite flag from the chunks of all gradients. README.md 11.
 */
#include "op_int.h"

_Static_assert(sizeof(struct rp_control) == 16, "the control block is 16 bytes on every device");

enum rp_status rp_clip_shape(struct rp_op_call *call, struct rp_error *err)
{
    if (call->in[0].dtype != RP_DTYPE_F64)
        return rp_error_set(err, RP_STATUS_USAGE, "clip takes the fp64 chunks of grad_norm");
    const struct rp_tensor *loss = &call->in[1];
    if (loss->n_dims > 0 && (loss->dtype != RP_DTYPE_F32 || rp_tensor_elements(loss) != 1))
        return rp_error_set(err, RP_STATUS_USAGE, "clip takes one fp32 number as the loss");
    if (!(call->params.clip.max_norm >= 0))
        return rp_error_set(err, RP_STATUS_USAGE, "the clip norm must be 0 (off) or more, not %g",
                            call->params.clip.max_norm);
    call->out[0].dtype = RP_DTYPE_U8;
    call->out[0].n_dims = 1;
    call->out[0].dims[0] = (int64_t)sizeof(struct rp_control);
    return RP_STATUS_OK;
}
