/* op_int.h - private to kernels/: what every <op>.c defines and op.c joins into the table. */
#ifndef RP_OP_INT_H
#define RP_OP_INT_H

#include "op.h"

/* One shape function per row of ops.def: checks inputs and parameters, sets the outputs. */
#define RP_OP(name, ...)                                                                           \
    enum rp_status rp_##name##_shape(struct rp_op_call *call, struct rp_error *err);
#include "ops.def"
#undef RP_OP

/* The gradient of each forward op; ends with a rule whose out[0] is 0. */
extern const struct rp_grad_rule rp_linear_rules[], rp_conv2d_rules[], rp_maxpool2d_rules[],
    rp_avgpool2d_rules[], rp_global_avgpool_rules[], rp_relu_rules[], rp_gelu_rules[],
    rp_gelu_tanh_rules[], rp_silu_rules[], rp_sigmoid_rules[], rp_tanh_rules[], rp_add_rules[],
    rp_dropout_rules[], rp_batch_norm_rules[], rp_layer_norm_rules[], rp_cross_entropy_rules[],
    rp_cross_entropy_mix_rules[], rp_lm_loss_rules[], rp_mse_rules[], rp_rope_rules[],
    rp_head_norm_rules[], rp_attention_rules[], rp_embedding_rules[], rp_rms_norm_rules[],
    rp_swiglu_rules[];

#endif
