/* muon.c - the update of muon: momentum made orthogonal. README.md chapter 11. */
#include "muon.h"
#include "shape.h"
#include "update.h"

enum rp_status rp_muon_shape(struct rp_op_call *call, struct rp_error *err)
{
    char text[128];
    if (call->in[0].n_dims < 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "muon updates matrices, not a parameter of shape %s",
                            rp_shape_text(&call->in[0], text));
    for (int i = 0; i < rp_muon_parts(call); i++)
        if (rp_muon_end(call, i) <= rp_muon_begin(call, i) ||
            rp_muon_end(call, i) > call->in[0].dims[0])
            return rp_error_set(err, RP_STATUS_USAGE,
                                "muon: part %d of a parameter of shape %s has no rows in it", i,
                                rp_shape_text(&call->in[0], text));
    return rp_update_shape(call, 1, false, err);
}
