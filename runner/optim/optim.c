/* optim.c - what each optimizer keeps, and the scalars of one update. kernels/README.md chapter 11.
 */
#include "numerics.h"
#include "optim/optim.h"

/* The rule of one parameter. */
static enum rp_optimizer rule_of(const struct rp_spec *spec, struct rp_optim_kind kind)
{
    enum rp_optimizer rule = spec->train.optimizer.kind;
    return rule == RP_OPTIMIZER_MUON && !kind.by_muon ? RP_OPTIMIZER_ADAMW : rule;
}

int rp_optim_states(const struct rp_spec *spec, struct rp_optim_kind kind, const char *names[2])
{
    names[0] = names[1] = NULL;
    switch (rule_of(spec, kind)) {
    case RP_OPTIMIZER_MUON:
        names[0] = "momentum";
        return 1;
    case RP_OPTIMIZER_SGD:
        if (spec->train.optimizer.momentum == 0) return 0;
        names[0] = "momentum";
        return 1;
    case RP_OPTIMIZER_LION:
        names[0] = "m";
        return 1;
    case RP_OPTIMIZER_ADAM:
    case RP_OPTIMIZER_ADAMW:
        break;
    }
    names[0] = "m";
    names[1] = "v";
    return 2;
}

void rp_optim_advance(const struct rp_spec *spec, struct rp_optim_state *state)
{
    if (state->t == 0) state->beta1_power = state->beta2_power = 1; /* all zero is a fresh state */
    state->t++;
    state->beta1_power *= spec->train.optimizer.beta1;
    state->beta2_power *= spec->train.optimizer.beta2;
}

/* 1 / (1 - power), and 1 where an optimizer without moments has power 1. */
static float bias_correction(double power)
{
    return power < 1 ? (float)(1.0 / (1.0 - power)) : 1.0f;
}

void rp_optim_update(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                     uint64_t step, const struct rp_optim_state *state, struct rp_optim_kind kind,
                     struct rp_update *update)
{
    bool muon = spec->train.optimizer.kind == RP_OPTIMIZER_MUON;
    double base = muon && !kind.by_muon ? spec->train.optimizer.adamw_lr : spec->train.optimizer.lr;
    double lr = rp_optim_lr_of(spec, schedule, base, step);
    double beta1 = spec->train.optimizer.beta1, beta2 = spec->train.optimizer.beta2;
    if (kind.by_muon) beta1 = spec->train.optimizer.momentum;
    *update = (struct rp_update){
        .lr = (float)lr,
        .lr_decay = kind.decays ? (float)(lr * spec->train.optimizer.weight_decay) : 0.0f,
        .one_over_c1 = bias_correction(state->beta1_power),
        .one_over_c2 = bias_correction(state->beta2_power),
        .first = state->t == 1,
        .beta1 = (float)beta1,
        .one_minus_beta1 = (float)(1.0 - beta1),
        .beta2 = (float)beta2,
        .one_minus_beta2 = (float)(1.0 - beta2),
    };
}

enum rp_op rp_optim_op(const struct rp_spec *spec, struct rp_optim_kind kind)
{
    switch (rule_of(spec, kind)) {
    case RP_OPTIMIZER_MUON:
        return RP_OP_muon;
    case RP_OPTIMIZER_SGD:
        return RP_OP_sgd;
    case RP_OPTIMIZER_LION:
        return RP_OP_lion;
    case RP_OPTIMIZER_ADAM:
    case RP_OPTIMIZER_ADAMW:
        break;
    }
    return RP_OP_adam;
}

/* Of an update of a matrix of (rows, columns). */
static float muon_scale(const struct rp_spec *spec, double rows, double columns)
{
    if (spec->train.optimizer.scale == RP_MUON_RMS)
        return (float)(0.2 * rp_sqrt64(rows > columns ? rows : columns));
    return (float)rp_sqrt64(rows > columns ? rows / columns : 1.0);
}

void rp_optim_params(const struct rp_spec *spec, struct rp_optim_kind kind,
                     const struct rp_tensor *shape, uint32_t tensor_number,
                     struct rp_optim_params *params)
{
    enum rp_optimizer rule = rule_of(spec, kind);
    double rows = (double)shape->dims[0], columns = (double)rp_tensor_elements(shape) / rows;
    *params = (struct rp_optim_params){
        .momentum = (float)spec->train.optimizer.momentum,
        .dampening = (float)spec->train.optimizer.dampening,
        .nesterov = spec->train.optimizer.nesterov,
        .decoupled = rule == RP_OPTIMIZER_ADAMW,
        .scale = rule == RP_OPTIMIZER_MUON ? muon_scale(spec, rows, columns) : 1.0f,
        .weight_decay = kind.decays ? (float)spec->train.optimizer.weight_decay : 0.0f,
        .eps = (float)spec->train.optimizer.eps,
        .tensor_number = tensor_number,
    };
}

void rp_optim_set_parts(const struct rp_spec *spec, const struct rp_tensor *shape, int n_parts,
                        const int64_t end[], struct rp_optim_params *params)
{
    int64_t begin = 0, columns = rp_tensor_elements(shape) / shape->dims[0];
    params->n_parts = n_parts;
    if (n_parts > 0) params->scale = 1.0f;
    for (int i = 0; i < n_parts; begin = end[i++])
        params->part[i] = (struct rp_muon_part){
            .end = end[i], .scale = muon_scale(spec, (double)(end[i] - begin), (double)columns)};
}
