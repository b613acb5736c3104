/* update.h - private to kernels/: the shape that the optimizer updates share. */
#ifndef RP_UPDATE_H
#define RP_UPDATE_H

#include "op_int.h"

/* in: p, g, n_states states of p's shape, control; out: p, the states, digest. All but control and
 * digest are fp32. An optional state (sgd's momentum) may have no dimensions: not given. */
RP_NODISCARD enum rp_status rp_update_shape(struct rp_op_call *call, int n_states, bool optional,
                                            struct rp_error *err);

#endif
