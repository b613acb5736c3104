/* schedule.c - the learning rate of a step: fp64, + - * / and a polynomial cosine, so that it is
 * the same number on every machine. kernels/README.md chapter 11 has the formulas. */
#include "numerics.h"
#include "optim/optim.h"

/* base^k by squaring: one order of products, and short for any k. */
static double power(double base, uint64_t k)
{
    double result = 1;
    for (; k; k >>= 1, base *= base)
        if (k & 1) result *= base;
    return result;
}

/* How far `step` is on the way from `begin` to `end`; 1 when there is no way or it lies behind. */
static double part_done(uint64_t step, uint64_t begin, uint64_t end)
{
    if (step >= end || begin >= end) return 1;
    return (double)(step - begin) / (double)(end - begin);
}

/* The factor of the learning rate after the warm-up; step >= schedule->warmup. */
static double factor_after_warmup(const struct rp_spec *spec,
                                  const struct rp_optim_schedule *schedule, uint64_t step)
{
    const double pi = 0x1.921fb54442d18p+1;
    double r = spec->train.schedule.final_ratio;
    double x = part_done(step, schedule->warmup, schedule->total);
    uint64_t total = schedule->total, decay = schedule->decay;

    switch (spec->train.schedule.kind) {
    case RP_SCHEDULE_CONSTANT:
        break;
    case RP_SCHEDULE_LINEAR:
        return 1 - (1 - r) * x;
    case RP_SCHEDULE_COSINE:
        return r + (1 - r) * (0.5 * (1 + rp_cos64(pi * x)));
    case RP_SCHEDULE_STEP:
        if (schedule->every == 0) break;
        return power(spec->train.schedule.gamma, (step - schedule->warmup) / schedule->every);
    case RP_SCHEDULE_WSD: {
        uint64_t start = total > decay ? total - decay : 0;
        if (step < start || decay == 0) break;
        return 1 - (1 - r) * part_done(step, start, total);
    }
    }
    return 1;
}

double rp_optim_lr(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                   uint64_t step)
{
    return rp_optim_lr_of(spec, schedule, spec->train.optimizer.lr, step);
}

double rp_optim_lr_of(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                      double base, uint64_t step)
{
    if (step < schedule->warmup) return base * ((double)(step + 1) / (double)schedule->warmup);
    return base * factor_after_warmup(spec, schedule, step);
}
