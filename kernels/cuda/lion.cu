/* lion.cu - the update of lion. README.md chapter 11. */
#include "cuda/update.h"

struct lion_rule {
    enum { states = 1 };
    float factor, beta1, rest1, beta2, rest2, minus_lr, minus_lr_decay;

    __device__ void prepare(const struct rp_update *update, float clip)
    {
        factor = clip;
        beta1 = update->beta1, rest1 = update->one_minus_beta1;
        beta2 = update->beta2, rest2 = update->one_minus_beta2;
        minus_lr = -update->lr, minus_lr_decay = -update->lr_decay;
    }
    __device__ bool reads_states() const { return true; }
    __device__ float step(float p, float g, float &m, float &) const
    {
        g = g * factor;
        float c = rp_fma(beta1, m, rest1 * g);
        float sign = c > 0.0f ? 1.0f : c < 0.0f ? -1.0f : 0.0f;
        m = rp_fma(beta2, m, rest2 * g);
        return rp_fma(minus_lr, sign, rp_fma(minus_lr_decay, p, p));
    }
};

RP_CUDA_KERNEL(lion)
{
    (void)pass;
    lion_rule rule = {};
    return rp_update_launch(cuda, rp_update_begin(cuda, call, 1), rule, err);
}
