/* adam.c - the update of adam and adamw. README.md chapter 11. */
#include "update.h"

enum rp_status rp_adam_shape(struct rp_op_call *call, struct rp_error *err)
{
    return rp_update_shape(call, 2, false, err);
}
