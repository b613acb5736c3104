/* batch_norm.c - batch normalisation per logical shard: shapes and gradient. README.md chapter 9.
 */
#include "shape.h"

const struct rp_grad_rule rp_batch_norm_rules[] = {
    {RP_OP_batch_norm_dx,
     {RP_GRAD_DOUT, RP_GRAD_IN, RP_GRAD_IN + 1, RP_GRAD_OUT + 1, RP_GRAD_OUT + 2},
     {RP_GRAD_DIN, RP_GRAD_DIN + 1, RP_GRAD_DIN + 2}},
    {0},
};

static int64_t channels_of(const struct rp_tensor *x)
{
    return x->dims[x->n_dims - 1];
}

static enum rp_status check_eps(const char *what, float eps, struct rp_error *err)
{
    if (eps > 0.0f && eps <= 1.0f) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s: eps is %g, and must be above 0 and at most 1",
                        what, (double)eps);
}

/* mean and inv are (shards, C). The shards of a pass are not known here: the caller gives the first
 * dimension of out[1]; where it is not given it is 1. */
enum rp_status rp_batch_norm_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    RP_TRY(rp_shape_check("batch_norm", x, 2, err));
    int64_t n = channels_of(x);
    for (int i = 1; i <= 2; i++) RP_TRY(rp_shape_check_vector("batch_norm", &call->in[i], n, err));
    RP_TRY(check_eps("batch_norm", call->params.norm.eps, err));
    int64_t shards =
        call->out[1].n_dims == 2 && call->out[1].dims[0] > 0 ? call->out[1].dims[0] : 1;
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    for (int i = 1; i <= 2; i++) {
        rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, shards);
        call->out[i].n_dims = 2;
        call->out[i].dims[1] = n;
    }
    for (int i = 3; i <= 4; i++) rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, n);
    return RP_STATUS_OK;
}

enum rp_status rp_batch_norm_dx_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *dy = &call->in[0], *mean = &call->in[3];
    RP_TRY(rp_shape_check("batch_norm_dx", dy, 2, err));
    RP_TRY(rp_shape_check_equal("batch_norm_dx", dy, &call->in[1], err));
    int64_t n = channels_of(dy);
    RP_TRY(rp_shape_check_vector("batch_norm_dx", &call->in[2], n, err));
    RP_TRY(rp_shape_check("batch_norm_dx", mean, 2, err));
    RP_TRY(rp_shape_check_equal("batch_norm_dx", mean, &call->in[4], err));
    if (mean->dims[1] != n)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "batch_norm_dx: statistics of %" PRId64 " channels for %" PRId64,
                            mean->dims[1], n);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, dy);
    for (int i = 1; i <= 2; i++) rp_shape_set_1d(&call->out[i], RP_DTYPE_F32, n);
    return RP_STATUS_OK;
}

enum rp_status rp_batch_norm_eval_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *x = &call->in[0];
    RP_TRY(rp_shape_check("batch_norm", x, 2, err));
    for (int i = 1; i <= 4; i++)
        RP_TRY(rp_shape_check_vector("batch_norm", &call->in[i], channels_of(x), err));
    RP_TRY(check_eps("batch_norm", call->params.norm.eps, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, x);
    return RP_STATUS_OK;
}

enum rp_status rp_running_update_shape(struct rp_op_call *call, struct rp_error *err)
{
    const struct rp_tensor *running = &call->in[0], *control = &call->in[2];
    RP_TRY(rp_shape_check("running_update", running, 1, err));
    RP_TRY(rp_shape_check_equal("running_update", running, &call->in[1], err));
    if (control->dtype != RP_DTYPE_U8 || rp_tensor_bytes(control) != sizeof(struct rp_control))
        return rp_error_set(err, RP_STATUS_USAGE, "running_update: control is not a rp_control");
    if (call->params.running.shards < 1)
        return rp_error_set(err, RP_STATUS_USAGE, "running_update: %d shards",
                            call->params.running.shards);
    rp_shape_set(&call->out[0], RP_DTYPE_F32, running);
    rp_shape_set_1d(&call->out[1], RP_DTYPE_U64, 1);
    return RP_STATUS_OK;
}
