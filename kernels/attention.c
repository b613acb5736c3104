/* attention.c - causal attention, its gradient, and attention over cached keys: shapes and rules.
 * README.md chapter 14. */
#include "attention.h"

const struct rp_grad_rule rp_attention_rules[] = {
    {RP_OP_attention_dx, {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_OUT, RP_GRAD_OUT + 1}, {RP_GRAD_DIN}},
    {0},
};

/* ---- checks that rope and head_norm share ---------------------------------------------------- */

static enum rp_status check_heads(const char *what, const struct rp_attention_params *p,
                                  struct rp_error *err)
{
    if (p->heads < 1 || p->kv_heads < 1)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: %d heads and %d kv_heads; 1 is the least",
                            what, p->heads, p->kv_heads);
    if (p->heads % p->kv_heads != 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: %d heads cannot share %d kv_heads evenly; kv_heads must divide "
                            "heads",
                            what, p->heads, p->kv_heads);
    if (p->head_dim < 1 || p->head_dim > RP_ATTENTION_HEAD_MAX)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: a head is %d wide (width / heads), and must be from 1 to %d", what,
                            p->head_dim, RP_ATTENTION_HEAD_MAX);
    return RP_STATUS_OK;
}

enum rp_status rp_attention_check(const char *what, const struct rp_tensor *qkv,
                                  const struct rp_attention_params *p, struct rp_error *err)
{
    char text[128];
    RP_TRY(check_heads(what, p, err));
    RP_TRY(rp_shape_check(what, qkv, 3, err));
    if (qkv->n_dims != 3 || qkv->dims[2] != rp_attention_width(p))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: shape %s where (samples, tokens, %" PRId64 ") is needed: %d heads "
                            "and 2 x %d kv_heads, each %d wide",
                            what, rp_shape_text(qkv, text), rp_attention_width(p), p->heads,
                            p->kv_heads, p->head_dim);
    if (qkv->dims[1] > RP_ATTENTION_PLACES_MAX)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: %" PRId64 " tokens; %d are the most", what,
                            qkv->dims[1], RP_ATTENTION_PLACES_MAX);
    return RP_STATUS_OK;
}

enum rp_status rp_attention_check_dims(const char *what, const char *name,
                                       const struct rp_tensor *tensor, int n_dims,
                                       const int64_t *dims, struct rp_error *err)
{
    char got[128], want[128];
    struct rp_tensor needed = {.dtype = RP_DTYPE_F32, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) needed.dims[i] = dims[i];
    if (tensor->dtype == RP_DTYPE_F32 && rp_shape_equal(tensor, &needed)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s: %s of shape %s where fp32 %s is needed", what,
                        name, rp_shape_text(tensor, got), rp_shape_text(&needed, want));
}

/* ---- attention ------------------------------------------------------------------------------- */

static void set_y(struct rp_tensor *y, const struct rp_tensor *qkv,
                  const struct rp_attention_params *p)
{
    rp_shape_set(y, RP_DTYPE_F32, qkv);
    y->dims[2] = (int64_t)p->heads * p->head_dim;
}

static void set_stats(struct rp_tensor *stats, const struct rp_tensor *qkv,
                      const struct rp_attention_params *p)
{
    stats->dtype = RP_DTYPE_F32;
    stats->n_dims = 4;
    stats->dims[0] = qkv->dims[0];
    stats->dims[1] = p->heads;
    stats->dims[2] = qkv->dims[1];
    stats->dims[3] = 2;
}

/* Each weight has an index of its own below 2^34 in the draws of its sample. */
static enum rp_status check_dropout(const char *what, const struct rp_tensor *qkv,
                                    const struct rp_attention_params *p, struct rp_error *err)
{
    if (!(p->p >= 0.0f && p->p < 1.0f))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: dropout is %g, and must be from 0 to below 1", what, (double)p->p);
    if (p->site >= 1u << 24)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: more layers than 2^24", what);
    double weights = (double)p->heads * (double)qkv->dims[1] * (double)qkv->dims[1];
    if (p->p > 0.0f && weights > 0x1p34)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: dropout of %d heads x %" PRId64 "^2 weights; 2^34 of a sample are "
                            "the most: shorten the context or set this dropout to 0",
                            what, p->heads, qkv->dims[1]);
    return RP_STATUS_OK;
}

enum rp_status rp_attention_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    RP_TRY(rp_attention_check("attention", &call->in[0], p, err));
    RP_TRY(check_dropout("attention", &call->in[0], p, err));
    set_y(&call->out[0], &call->in[0], p);
    set_stats(&call->out[1], &call->in[0], p);
    return RP_STATUS_OK;
}

enum rp_status rp_attention_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    const struct rp_tensor *qkv = &call->in[1];
    struct rp_tensor y = {0}, stats = {0};
    RP_TRY(rp_attention_check("attention_dx", qkv, p, err));
    RP_TRY(check_dropout("attention_dx", qkv, p, err));
    set_y(&y, qkv, p);
    set_stats(&stats, qkv, p);
    RP_TRY(rp_attention_check_dims("attention_dx", "dy", &call->in[0], 3, y.dims, err));
    RP_TRY(rp_attention_check_dims("attention_dx", "y", &call->in[2], 3, y.dims, err));
    RP_TRY(rp_attention_check_dims("attention_dx", "stats", &call->in[3], 4, stats.dims, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, qkv);
    return RP_STATUS_OK;
}

enum rp_status rp_attention_cached_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_attention_params *p = &call->params.attention;
    const struct rp_tensor *qkv = &call->in[0], *vcache = &call->in[2];
    RP_TRY(rp_attention_check("attention_cached", qkv, p, err));
    RP_TRY(rp_shape_check("attention_cached", vcache, 4, err));
    int64_t places = vcache->dims[2];
    if (places > RP_ATTENTION_PLACES_MAX || places < qkv->dims[1])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "attention_cached: a cache of %" PRId64 " places; %" PRId64 " tokens "
                            "are asked for at once, and %d places are the most",
                            places, qkv->dims[1], RP_ATTENTION_PLACES_MAX);
    const int64_t keys[] = {qkv->dims[0], p->kv_heads, p->head_dim, places};
    const int64_t values[] = {qkv->dims[0], p->kv_heads, places, p->head_dim};
    RP_TRY(rp_attention_check_dims("attention_cached", "kcache", &call->in[1], 4, keys, err));
    RP_TRY(rp_attention_check_dims("attention_cached", "vcache", vcache, 4, values, err));
    set_y(&call->out[0], qkv, p);
    for (int i = 1; i <= 2; i++) rp_shape_set(&call->out[i], RP_DTYPE_F32, &call->in[i]);
    return RP_STATUS_OK;
}
