/* adam.cu - the update of adam and adamw. README.md chapter 11. */
#include "cuda/update.h"

template <bool decoupled, bool decays> struct adam_rule {
    enum { states = 2 };
    float weight_decay, eps;
    float factor, beta1, rest1, beta2, rest2, over_c1, over_c2, minus_lr, minus_lr_decay;

    __device__ void prepare(const struct rp_update *update, float clip)
    {
        factor = clip;
        beta1 = update->beta1, rest1 = update->one_minus_beta1;
        beta2 = update->beta2, rest2 = update->one_minus_beta2;
        over_c1 = update->one_over_c1, over_c2 = update->one_over_c2;
        minus_lr = -update->lr, minus_lr_decay = -update->lr_decay;
    }
    __device__ bool reads_states() const { return true; }
    __device__ float step(float p, float g, float &m, float &v) const
    {
        g = g * factor;
        if (decays) g = rp_fma(weight_decay, p, g);
        m = rp_fma(beta1, m, rest1 * g);
        v = rp_fma(beta2, v, (rest2 * g) * g);
        float h = m * over_c1;
        float d = rp_sqrt(v * over_c2) + eps;
        float p1 = decoupled ? rp_fma(minus_lr_decay, p, p) : p;
        return rp_fma(minus_lr, h / d, p1);
    }
};

template <bool decoupled, bool decays>
static enum rp_status adam_run(struct rp_cuda *cuda, const struct rp_op_call *call,
                               struct rp_error *err)
{
    adam_rule<decoupled, decays> rule = {};
    rule.weight_decay = call->params.optim.weight_decay;
    rule.eps = call->params.optim.eps;
    return rp_update_launch(cuda, rp_update_begin(cuda, call, 2), rule, err);
}

RP_CUDA_KERNEL(adam)
{
    (void)pass;
    if (call->params.optim.decoupled) return adam_run<true, false>(cuda, call, err);
    if (call->params.optim.weight_decay != 0) return adam_run<false, true>(cuda, call, err);
    return adam_run<false, false>(cuda, call, err);
}
