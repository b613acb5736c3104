/* activation.c - shapes and gradients of the elementwise ops. README.md chapter 8. */
#include "shape.h"

/* Gradient from the input x, or from the output y where that is enough (x need not be kept then).
 */
#define RULES_OF_X(name)                                                                           \
    const struct rp_grad_rule rp_##name##_rules[] = {                                              \
        {RP_OP_##name##_dx, {RP_GRAD_DOUT, RP_GRAD_IN}, {RP_GRAD_DIN}},                            \
        {0},                                                                                       \
    };
#define RULES_OF_Y(name)                                                                           \
    const struct rp_grad_rule rp_##name##_rules[] = {                                              \
        {RP_OP_##name##_dx, {RP_GRAD_DOUT, RP_GRAD_OUT}, {RP_GRAD_DIN}},                           \
        {0},                                                                                       \
    };
RULES_OF_Y(relu)
RULES_OF_X(gelu)
RULES_OF_X(gelu_tanh)
RULES_OF_X(silu)
RULES_OF_Y(sigmoid)
RULES_OF_Y(tanh)

/* The gradient of a + b is dy for both: the model shares it, no op runs. */
const struct rp_grad_rule rp_add_rules[] = {{0}};

static enum rp_status one_input(const char *name, struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(rp_shape_check(name, &call->in[0], 1, err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

static enum rp_status two_inputs(const char *name, struct rp_op_call *call, struct rp_error *err)
{
    RP_TRY(rp_shape_check(name, &call->in[0], 1, err));
    RP_TRY(rp_shape_check_equal(name, &call->in[0], &call->in[1], err));
    rp_shape_set(&call->out[0], RP_DTYPE_F32, &call->in[0]);
    return RP_STATUS_OK;
}

#define SHAPE(name, check)                                                                         \
    enum rp_status rp_##name##_shape(struct rp_op_call *call, struct rp_error *err)                \
    {                                                                                              \
        return check(#name, call, err);                                                            \
    }
SHAPE(relu, one_input)
SHAPE(gelu, one_input)
SHAPE(gelu_tanh, one_input)
SHAPE(silu, one_input)
SHAPE(sigmoid, one_input)
SHAPE(tanh, one_input)
SHAPE(relu_dx, two_inputs)
SHAPE(gelu_dx, two_inputs)
SHAPE(gelu_tanh_dx, two_inputs)
SHAPE(silu_dx, two_inputs)
SHAPE(sigmoid_dx, two_inputs)
SHAPE(tanh_dx, two_inputs)
SHAPE(add, two_inputs)
