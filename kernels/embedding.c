/* embedding.c - rows of a table by token, rows of positions added: shapes and gradients. README.md
 * chapter 6. */
#include "shape.h"

const struct rp_grad_rule rp_embedding_rules[] = {
    {RP_OP_embedding_dw, {RP_GRAD_DOUT, RP_GRAD_IN}, {RP_GRAD_DIN + 1}},
    {RP_OP_position_dw, {RP_GRAD_DOUT}, {RP_GRAD_DIN + 2}},
    {0},
};

enum rp_status rp_embedding_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *tokens = &call->in[0], *w = &call->in[1], *pos = &call->in[2];
    struct rp_tensor *y = &call->out[0];
    char left[128], right[128];
    RP_TRY(rp_shape_check("embedding", w, 2, err));
    if (tokens->dtype != RP_DTYPE_I32 || tokens->n_dims != 2 || rp_tensor_elements(tokens) < 1)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding takes tokens of shape (samples, tokens), not %s",
                            rp_shape_text(tokens, left));
    if (w->n_dims != 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding: a table of shape %s where (vocabulary, width) is needed",
                            rp_shape_text(w, left));
    if (pos->n_dims > 0 &&
        (pos->dtype != RP_DTYPE_F32 || pos->n_dims != 2 || pos->dims[1] != w->dims[1]))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding: positions of shape %s do not fit a table of shape %s",
                            rp_shape_text(pos, left), rp_shape_text(w, right));
    if (pos->n_dims > 0 && pos->dims[0] < tokens->dims[1])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding: %" PRId64 " tokens in a sample, but %" PRId64 " positions",
                            tokens->dims[1], pos->dims[0]);
    rp_shape_set(y, RP_DTYPE_F32, tokens);
    y->n_dims = 3;
    y->dims[2] = w->dims[1];
    return RP_STATUS_OK;
}

enum rp_status rp_embedding_dw_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *tokens = &call->in[1], *dw = &call->out[0];
    char left[128], right[128];
    RP_TRY(rp_shape_check("embedding_dw", dy, 2, err));
    if (tokens->dtype != RP_DTYPE_I32 || rp_tensor_elements(tokens) != rp_tensor_rows(dy))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding_dw: the tokens %s are not one for each row of %s",
                            rp_shape_text(tokens, left), rp_shape_text(dy, right));
    if (rp_tensor_rows(dy) > INT32_MAX)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding_dw: %" PRId64 " tokens in one pass; 2^31 - 1 are the most: "
                            "set train.micro_batch",
                            rp_tensor_rows(dy));
    if (dw->n_dims != 2 || dw->dims[0] < 1 || dw->dims[0] >= INT32_MAX ||
        dw->dims[1] != dy->dims[dy->n_dims - 1])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "embedding_dw: a table of shape %s does not fit a gradient of shape %s",
                            rp_shape_text(dw, left), rp_shape_text(dy, right));
    call->out[0].dtype = RP_DTYPE_F32;
    return RP_STATUS_OK;
}

enum rp_status rp_position_dw_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0];
    char text[128];
    RP_TRY(rp_shape_check("position_dw", dy, 3, err));
    if (dy->n_dims != 3)
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "position_dw takes a gradient of shape (samples, tokens, width), not %s",
            rp_shape_text(dy, text));
    call->out[0].dtype = RP_DTYPE_F32;
    call->out[0].n_dims = 2;
    for (int i = 0; i < 2; i++) call->out[0].dims[i] = dy->dims[i + 1];
    return RP_STATUS_OK;
}
