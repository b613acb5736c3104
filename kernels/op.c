/* op.c - the table of ops, made from ops.def, and what holds for every op: sizes and costs. */
#include "muon.h"
#include "op_int.h"

/* ---- dtypes and tensors --------------------------------------------------------------------- */

size_t rp_dtype_bytes(enum rp_dtype dtype)
{
    static const size_t bytes[RP_DTYPE_COUNT] = {
        [RP_DTYPE_F32] = 4, [RP_DTYPE_F64] = 8, [RP_DTYPE_I32] = 4,
        [RP_DTYPE_U8] = 1,  [RP_DTYPE_U64] = 8,
    };
    return bytes[dtype];
}

int64_t rp_tensor_elements(const struct rp_tensor *tensor)
{
    int64_t n = 1;
    for (int i = 0; i < tensor->n_dims; i++) n *= tensor->dims[i];
    return n;
}

size_t rp_tensor_bytes(const struct rp_tensor *tensor)
{
    return (size_t)rp_tensor_elements(tensor) * rp_dtype_bytes(tensor->dtype);
}

int64_t rp_tensor_rows(const struct rp_tensor *tensor)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < tensor->n_dims; i++) n *= tensor->dims[i];
    return n;
}

/* ---- the table ------------------------------------------------------------------------------ */

/* A later row of ops.def cannot outgrow a call. */
#define RP_OP(row, in, out, sums, place, text)                                                     \
    _Static_assert((in) <= RP_OP_MAX_IN && (out) + (sums) <= RP_OP_MAX_OUT,                        \
                   #row " has more tensors than a call holds");
#include "ops.def"
#undef RP_OP

static const struct rp_op_info op_infos[RP_OP_COUNT] = {
#define RP_OP(row, in, out, sums, place, text)                                                     \
    [RP_OP_##row] = {.name = #row,                                                                 \
                     .n_in = (in),                                                                 \
                     .n_out = (out),                                                               \
                     .n_sums = (sums),                                                             \
                     .in_place = (place),                                                          \
                     .shape = rp_##row##_shape},
#include "ops.def"
#undef RP_OP
    /* The forward ops, which have a gradient. */
    [RP_OP_linear].rules = rp_linear_rules,
    [RP_OP_conv2d].rules = rp_conv2d_rules,
    [RP_OP_maxpool2d].rules = rp_maxpool2d_rules,
    [RP_OP_avgpool2d].rules = rp_avgpool2d_rules,
    [RP_OP_global_avgpool].rules = rp_global_avgpool_rules,
    [RP_OP_relu].rules = rp_relu_rules,
    [RP_OP_gelu].rules = rp_gelu_rules,
    [RP_OP_gelu_tanh].rules = rp_gelu_tanh_rules,
    [RP_OP_silu].rules = rp_silu_rules,
    [RP_OP_sigmoid].rules = rp_sigmoid_rules,
    [RP_OP_tanh].rules = rp_tanh_rules,
    [RP_OP_add].rules = rp_add_rules,
    [RP_OP_dropout].rules = rp_dropout_rules,
    [RP_OP_batch_norm].rules = rp_batch_norm_rules,
    [RP_OP_layer_norm].rules = rp_layer_norm_rules,
    [RP_OP_cross_entropy].rules = rp_cross_entropy_rules,
    [RP_OP_cross_entropy_mix].rules = rp_cross_entropy_mix_rules,
    [RP_OP_lm_loss].rules = rp_lm_loss_rules,
    [RP_OP_mse].rules = rp_mse_rules,
    [RP_OP_rope].rules = rp_rope_rules,
    [RP_OP_head_norm].rules = rp_head_norm_rules,
    [RP_OP_attention].rules = rp_attention_rules,
    [RP_OP_embedding].rules = rp_embedding_rules,
    [RP_OP_rms_norm].rules = rp_rms_norm_rules,
    [RP_OP_swiglu].rules = rp_swiglu_rules,
};

const struct rp_op_info *rp_op_info(enum rp_op op)
{
    return &op_infos[op];
}

enum rp_status rp_op_shape(struct rp_op_call *call, struct rp_error *err)
{
    return op_infos[call->op].shape(call, err);
}

/* ---- costs ---------------------------------------------------------------------------------- */

/* Operations per element of the largest tensor for the ops that are not products. Elementary
 * functions are counted by their schedule, so the figures are a guide and not a promise. */
static double flops_per_element(enum rp_op op)
{
    switch (op) {
    case RP_OP_gelu:
    case RP_OP_gelu_tanh:
    case RP_OP_silu:
    case RP_OP_sigmoid:
    case RP_OP_tanh:
    case RP_OP_cross_entropy:
    case RP_OP_cross_entropy_dx:
    case RP_OP_cross_entropy_mix:
    case RP_OP_cross_entropy_mix_dx:
    case RP_OP_swiglu:
        return 30;
    case RP_OP_gelu_dx:
    case RP_OP_gelu_tanh_dx:
    case RP_OP_silu_dx:
    case RP_OP_swiglu_dx:
        return 40;
    case RP_OP_dropout:
    case RP_OP_dropout_dx:
        return 25;
    case RP_OP_batch_norm:
    case RP_OP_layer_norm:
        return 7;
    case RP_OP_batch_norm_dx:
    case RP_OP_layer_norm_dx:
        return 10;
    case RP_OP_rope:
    case RP_OP_rope_dx:
    case RP_OP_head_norm:
        return 4;
    case RP_OP_head_norm_dx:
        return 8;
    case RP_OP_batch_norm_eval:
    case RP_OP_head_norm_dg:
    case RP_OP_layer_norm_dgb:
    case RP_OP_rms_norm:
    case RP_OP_mse:
        return 4;
    case RP_OP_rms_norm_dx:
        return 8;
    case RP_OP_adam:
        return 16;
    case RP_OP_sgd:
    case RP_OP_lion:
        return 10;
    case RP_OP_grad_norm:
    case RP_OP_sigmoid_dx:
    case RP_OP_tanh_dx:
    case RP_OP_rms_norm_dg:
        return 3;
    case RP_OP_digest:
        return 2;
    default:
        return 1;
    }
}

static double product_flops(const struct rp_op_call *call)
{
    /* Every output element of the forward product meets one row of the weights: w elements / O. */
    bool weights_out = call->op == RP_OP_linear_dw || call->op == RP_OP_conv2d_dw;
    const struct rp_tensor *w = weights_out ? &call->out[0] : &call->in[1];
    const struct rp_tensor *y =
        call->op == RP_OP_linear || call->op == RP_OP_conv2d ? &call->out[0] : &call->in[0];
    double row = (double)rp_tensor_elements(w) / (double)(w->dims[0] ? w->dims[0] : 1);
    return 2.0 * row * (double)rp_tensor_elements(y);
}

/* The head of a language model: forward one product; backward one for each gradient, and the rows
 * whose logits are made again. */
static double head_flops(const struct rp_op_call *call)
{
    double rows = (double)rp_tensor_rows(&call->in[0]), products = rows;
    if (call->op == RP_OP_lm_loss_dxw)
        products = rows * ((call->out[0].n_dims != 0) + (call->out[1].n_dims != 0)) + rows -
                   (double)call->in[4].dims[0];
    return 2.0 * products * (double)rp_tensor_elements(&call->in[1]);
}

/* Each query meets its own key and those before it: two products forward, five backward, and about
 * thirty operations for each weight. */
static double attention_flops(const struct rp_op_call *call)
{
    const struct rp_tensor *qkv = &call->in[call->op == RP_OP_attention_dx ? 1 : 0];
    const struct rp_attention_params *p = &call->params.attention;
    double queries = (double)(qkv->dims[0] * qkv->dims[1] * p->heads);
    double keys = (double)(qkv->dims[1] + 1) / 2;
    if (call->op == RP_OP_attention_cached) keys = (double)call->in[2].dims[2];
    return queries * keys * ((call->op == RP_OP_attention_dx ? 10.0 : 4.0) * p->head_dim + 30);
}

/* Of each matrix five times: M M^T, A A, B M. */
static double muon_flops(const struct rp_op_call *call)
{
    double flops = 0;
    struct rp_muon whole = rp_muon_layout(call, NULL);
    for (int i = 0; i < rp_muon_parts(call); i++) {
        struct rp_muon m = rp_muon_part_of(&whole, call, i);
        double n = (double)m.n, side = (double)m.side;
        flops += 5 * (4 * side * n + 2 * side * side * side);
    }
    return flops;
}

void rp_op_cost(const struct rp_op_call *call, double *flops, double *bytes)
{
    double most = 0;
    *bytes = 0;
    for (int i = 0; i < RP_OP_MAX_IN + RP_OP_MAX_OUT; i++) {
        const struct rp_tensor *tensor =
            i < RP_OP_MAX_IN ? &call->in[i] : &call->out[i - RP_OP_MAX_IN];
        if (tensor->n_dims == 0) continue; /* not given */
        double n = (double)rp_tensor_elements(tensor);
        if (n > most) most = n;
        *bytes += (double)rp_tensor_bytes(tensor);
    }
    switch (call->op) {
    case RP_OP_embedding: /* of the table no more rows than there are tokens */
        *flops = (double)rp_tensor_elements(&call->out[0]);
        if (rp_tensor_rows(&call->out[0]) < call->in[1].dims[0])
            *bytes -=
                (double)rp_tensor_bytes(&call->in[1]) - (double)rp_tensor_bytes(&call->out[0]);
        break;
    case RP_OP_muon:
        *flops = muon_flops(call);
        break;
    case RP_OP_embedding_dw:
        *flops = (double)rp_tensor_elements(&call->in[0]);
        break;
    case RP_OP_linear:
    case RP_OP_linear_dx:
    case RP_OP_linear_dw:
    case RP_OP_conv2d:
    case RP_OP_conv2d_dx:
    case RP_OP_conv2d_dw:
        *flops = product_flops(call);
        break;
    case RP_OP_lm_loss:
    case RP_OP_lm_loss_dxw:
        *flops = head_flops(call);
        break;
    case RP_OP_attention:
    case RP_OP_attention_dx:
    case RP_OP_attention_cached:
        *flops = attention_flops(call);
        break;
    case RP_OP_avgpool2d:
    case RP_OP_avgpool2d_dx:
    case RP_OP_maxpool2d:
    case RP_OP_maxpool2d_dx:
        *flops = (double)rp_tensor_elements(
                     call->op == RP_OP_avgpool2d || call->op == RP_OP_maxpool2d ? &call->out[0]
                                                                                : &call->in[0]) *
                 call->params.pool2d.kernel_h * call->params.pool2d.kernel_w;
        break;
    default:
        *flops = most * flops_per_element(call->op);
        break;
    }
}

struct rp_op_call rp_op_add_call(const void *left, const void *right, uint64_t n, void *sum)
{
    struct rp_op_call call = {.op = RP_OP_add};
    struct rp_tensor block = {.dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {(int64_t)n}};
    call.in[0] = call.in[1] = call.out[0] = block;
    call.in[0].data = (void *)(uintptr_t)left; /* inputs are read alone */
    call.in[1].data = (void *)(uintptr_t)right;
    call.out[0].data = sum;
    return call;
}
