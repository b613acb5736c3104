/* lion.c - the update of lion. README.md chapter 11. */
#include "update.h"

enum rp_status rp_lion_shape(struct rp_op_call *call, struct rp_error *err)
{
    return rp_update_shape(call, 1, false, err);
}
