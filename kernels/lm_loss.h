/* lm_loss.h - private to kernels/: how the head of a language model is cut into blocks of logits.
 */
#ifndef RP_LM_LOSS_H
#define RP_LM_LOSS_H

#include "row.h"

enum { RP_LM_NO_TARGET = -1 };

/* Columns of logits that the backward makes at once: whole panels of the sum over the classes, in
 * blocks of about equal size, of which all rows take at most `room` floats, or one panel. */
static inline int64_t rp_lm_columns(const struct rp_op_call *call, int64_t room)
{
    int64_t rows = rp_tensor_rows(&call->in[0]), n = call->in[1].dims[0];
    int64_t all = (n + RP_PANEL - 1) / RP_PANEL, panels = room / (rows * RP_PANEL);
    if (panels < 1) panels = 1;
    int64_t blocks = (all + panels - 1) / panels;
    panels = (all + blocks - 1) / blocks;
    if (call->params.loss.columns) panels = call->params.loss.columns / RP_PANEL;
    return panels * RP_PANEL < n ? panels * RP_PANEL : n;
}

#endif
