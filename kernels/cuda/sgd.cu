/* sgd.cu - the update of sgd, with and without momentum. README.md chapter 11. */
#include "cuda/update.h"

template <bool has_momentum> struct sgd_rule {
    enum { states = has_momentum };
    float weight_decay, momentum, rest;
    bool nesterov;
    float factor, minus_lr;
    bool first;

    __device__ void prepare(const struct rp_update *update, float clip)
    {
        factor = clip;
        minus_lr = -update->lr;
        first = update->first;
    }
    /* What the buffer holds before the first update is nobody's. */
    __device__ bool reads_states() const { return !first; }
    __device__ float step(float p, float g, float &b, float &) const
    {
        g = g * factor;
        if (weight_decay != 0.0f) g = rp_fma(weight_decay, p, g);
        if (!has_momentum) return rp_fma(minus_lr, g, p);
        b = first ? g : rp_fma(momentum, b, rest * g);
        return rp_fma(minus_lr, nesterov ? rp_fma(momentum, b, g) : b, p);
    }
};

template <bool has_momentum>
static enum rp_status sgd_run(struct rp_cuda *cuda, const struct rp_op_call *call,
                              struct rp_error *err)
{
    const struct rp_optim_params *params = &call->params.optim;
    sgd_rule<has_momentum> rule = {};
    rule.weight_decay = params->weight_decay;
    rule.momentum = params->momentum;
    rule.rest = 1.0f - params->dampening;
    rule.nesterov = params->nesterov;
    return rp_update_launch(cuda, rp_update_begin(cuda, call, 1), rule, err);
}

RP_CUDA_KERNEL(sgd)
{
    (void)pass;
    return call->in[2].data ? sgd_run<true>(cuda, call, err) : sgd_run<false>(cuda, call, err);
}
