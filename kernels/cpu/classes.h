/* classes.h - private to kernels/cpu: one row of logits, its loss and rank. README.md chapter 10.
 */
#ifndef RP_CPU_CLASSES_H
#define RP_CPU_CLASSES_H

#include "cpu/rsum.h"
#include "numerics.h"

struct rp_classes {
    const float *x;
    int64_t n;
    float *e; /* keeps exp(x - maximum), or NULL */
    float maximum;
};

/* The greatest element; NaN ones are passed over. A maximum is the same in any order. */
RP_VEC_FN float rp_classes_maximum(const float *x, int64_t n)
{
    rp_vf best = rp_vset(rp_float_of_bits(0xff800000u));
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf v = rp_vload_lanes(x + i, lanes);
        best = rp_vselect((v > best) & rp_vfirst(lanes), v, best);
    }
    float lane[RP_VW];
    rp_vstore(lane, best);
    for (int i = 1; i < RP_VW; i++) lane[0] = lane[i] > lane[0] ? lane[i] : lane[0];
    return lane[0];
}

RP_VEC_FN rp_vf rp_classes_exp_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct rp_classes *row = arg;
    return acc + rp_vexp(rp_vload_lanes(row->x + i, lanes) - rp_vset(row->maximum));
}

RP_VEC_FN rp_vf rp_classes_keep_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct rp_classes *row = arg;
    rp_vf e = rp_vexp(rp_vload_lanes(row->x + i, lanes) - rp_vset(row->maximum));
    rp_vstore_lanes(row->e + i, e, lanes);
    return acc + e;
}

/* Elements that are not below `at`, or with `ties`, not below or equal; a NaN never is. */
RP_VEC_FN int32_t rp_classes_count(const float *x, int64_t n, float at, bool ties)
{
    rp_vi count = rp_vset_i(0);
    rp_vf target = rp_vset(at);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf v = rp_vload_lanes(x + i, lanes);
        rp_vi below = ties ? (rp_vi)(v <= target) : (rp_vi)(v < target);
        count -= ~below & rp_vfirst(lanes);
    }
    int32_t lane[RP_VW], sum = 0;
    rp_vstore_i(lane, count);
    for (int i = 0; i < RP_VW; i++) sum += lane[i];
    return sum;
}

/* Classes that stand before the target. */
RP_VEC_FN int32_t rp_classes_rank(const float *x, int64_t n, int64_t target)
{
    return rp_classes_count(x, target, x[target], false) +
           rp_classes_count(x + target + 1, n - target - 1, x[target], true);
}

/* The loss from the maximum and the sum of the row's exps, and the logit of the target. */
RP_VEC_FN float rp_classes_loss_at(const struct rp_classes *row, float sum, double at_target,
                                   float smoothing)
{
    double lse = (double)row->maximum + rp_log64((double)sum);
    double loss = lse - at_target;
    if (smoothing != 0.0f) {
        double mean = (double)rp_rsum(row->n, rp_rsum_plain_term, row->x) / (double)row->n;
        loss = (1.0 - (double)smoothing) * loss + (double)smoothing * (lse - mean);
    }
    return (float)loss;
}

/* target is in [0, n). */
RP_VEC_FN float rp_classes_loss(const struct rp_classes *row, float sum, int64_t target,
                                float smoothing)
{
    return rp_classes_loss_at(row, sum, (double)row->x[target], smoothing);
}

#endif
