/* lm_loss.c - shapes and gradient of the head of a language model with its loss. README.md
 * chapter 10. */
#include "lm_loss.h"

#include "row.h"
#include "shape.h"

enum { LOGITS_AT_ONCE = 1 << 24, ROWS_LEAST = 256, ROWS_ROUND = 32 };

const struct rp_grad_rule rp_lm_loss_rules[] = {
    {RP_OP_lm_loss_dxw,
     {RP_GRAD_IN, RP_GRAD_IN + 1, RP_GRAD_IN + 2, RP_GRAD_OUT + 2, RP_GRAD_OUT + 3},
     {RP_GRAD_DIN, RP_GRAD_DIN + 1}},
    {0},
};

/* R where nobody has chosen it. */
static int64_t rows_at_once(int64_t rows, int64_t classes)
{
    if (rows <= LOGITS_AT_ONCE / classes) return rows;
    int64_t half = (rows / 2 + rows % 2 + ROWS_ROUND - 1) / ROWS_ROUND * ROWS_ROUND;
    if (half < ROWS_LEAST) half = ROWS_LEAST;
    return half < rows ? half : rows;
}

static enum rp_status check_params(const char *what, const struct rp_loss_params *loss,
                                   struct rp_error *err)
{
    if (!(loss->label_smoothing >= 0.0f && loss->label_smoothing < 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: label_smoothing is %g, and must be from 0 to below 1", what,
                            (double)loss->label_smoothing);
    if (loss->columns < 0 || loss->columns % RP_PANEL != 0)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: %d columns at once are no multiple of %d",
                            what, loss->columns, RP_PANEL);
    return RP_STATUS_OK;
}

/* x (N, T, C), w (V, C), one target for each row of x. */
static enum rp_status check(const char *what, const struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0], *w = &call->in[1], *target = &call->in[2];
    char left[128], right[128];
    RP_TRY(rp_shape_check(what, x, 2, err));
    RP_TRY(rp_shape_check(what, w, 2, err));
    if (w->n_dims != 2 || w->dims[1] != x->dims[x->n_dims - 1])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: a head of shape %s (tokens of the vocabulary, width) does not fit "
                            "rows of shape %s",
                            what, rp_shape_text(w, left), rp_shape_text(x, right));
    if (w->dims[0] > RP_ROW_MAX)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: a vocabulary of %" PRId64 " tokens; %d are the most", what,
                            w->dims[0], RP_ROW_MAX);
    if (target->dtype != RP_DTYPE_I32 || rp_tensor_elements(target) != rp_tensor_rows(x))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: the targets %s are not one token for each row of %s", what,
                            rp_shape_text(target, left), rp_shape_text(x, right));
    return check_params(what, &call->params.loss, err);
}

/* logits must be (R, V) with R of at most all rows. */
static enum rp_status check_logits(const char *what, const struct rp_tensor *logits, int64_t rows,
                                   int64_t classes, struct rp_error *err)
{
    char text[128];
    if (logits->dtype == RP_DTYPE_F32 && logits->n_dims == 2 && logits->dims[0] >= 1 &&
        logits->dims[0] <= rows && logits->dims[1] == classes)
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s: logits of shape %s where up to (%" PRId64 ", %" PRId64 ") are kept",
                        what, rp_shape_text(logits, text), rows, classes);
}

static void set_matrix(struct rp_tensor *tensor, int64_t rows, int64_t columns)
{
    rp_shape_set_1d(tensor, RP_DTYPE_F32, rows);
    tensor->n_dims = 2;
    tensor->dims[1] = columns;
}

enum rp_status rp_lm_loss_shape(struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(check("lm_loss", call, err));
    int64_t rows = rp_tensor_rows(&call->in[0]), classes = call->in[1].dims[0];
    struct rp_tensor *logits = &call->out[3];
    if (logits->n_dims == 0) set_matrix(logits, rows_at_once(rows, classes), classes);
    RP_TRY(check_logits("lm_loss", logits, rows, classes, err));
    set_matrix(&call->out[0], rows, 1);
    rp_shape_set_1d(&call->out[1], RP_DTYPE_I32, rows);
    set_matrix(&call->out[2], rows, 2);
    return RP_STATUS_OK;
}

enum rp_status rp_lm_loss_dxw_shape(struct rp_op_call *call, struct rp_error *err)
{
    const char *what = "lm_loss_dxw";
    RP_TRY(check(what, call, err));
    int64_t rows = rp_tensor_rows(&call->in[0]), classes = call->in[1].dims[0];
    const struct rp_tensor *stats = &call->in[3];
    char text[128];
    if (stats->dtype != RP_DTYPE_F32 || rp_tensor_elements(stats) != 2 * rows)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: stats of shape %s where (%" PRId64 ", 2) are needed", what,
                            rp_shape_text(stats, text), rows);
    RP_TRY(check_logits(what, &call->in[4], rows, classes, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    rp_shape_set(&call->out[1], RP_DTYPE_F32, &call->in[1]);
    return RP_STATUS_OK;
}
