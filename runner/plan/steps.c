/* steps.c - how a step is cut into passes, how long training is, and when events fall due. */
#include "plan/plan_int.h"

#include <inttypes.h>

/* ---- passes ---------------------------------------------------------------------------------- */

static int64_t power_of_two_below(int64_t n)
{
    int64_t power = 1;
    while (power <= n / 2) power *= 2;
    return power;
}

static int log_of_two(int64_t power)
{
    int n = 0;
    while (power > 1) power /= 2, n++;
    return n;
}

enum rp_status rp_plan_check_ranks(const struct rp_spec *spec, int64_t ranks, struct rp_error *err)
{
    int64_t shards = spec->train.shards, lower = power_of_two_below(ranks);
    if (lower > shards) lower = shards;
    if (lower == ranks) return RP_STATUS_OK;
    return rp_spec_fail(spec, spec->train.shards_at, RP_STATUS_USAGE, err,
                        "%" PRId64 " ranks cannot share %" PRId64 " shards evenly: use a power "
                        "of two up to the shards; the next lower number is %" PRId64
                        " (resources.ranks)",
                        ranks, shards, lower);
}

static enum rp_status check_cut(const struct rp_plan *plan, const struct rp_spec *spec,
                                struct rp_error *err)
{
    const struct rp_spec_train *train = &spec->train;
    if (train->batch < 1)
        return rp_spec_fail(spec, train->batch_at, RP_STATUS_USAGE, err,
                            "batch must be at least 1 sample");
    if (power_of_two_below(train->shards) != train->shards || train->batch % train->shards)
        return rp_spec_fail(spec, train->shards_at, RP_STATUS_USAGE, err,
                            "shards is %" PRId64 ", and must be a power of two that divides the "
                            "batch of %" PRId64,
                            train->shards, train->batch);
    return rp_plan_check_ranks(spec, plan->ranks, err);
}

/* A pass takes whole shards, a power of two of them, or a part of one that divides it (DESIGN 3).
 */
enum rp_status rp_plan_set_passes(struct rp_plan *plan, const struct rp_spec *spec,
                                  struct rp_error *err)
{
    const struct rp_spec_train *train = &spec->train;
    plan->batch = train->batch;
    plan->shards = train->shards;
    if (plan->ranks == 0) plan->ranks = spec->resources.ranks > 0 ? (int)spec->resources.ranks : 1;
    RP_TRY(check_cut(plan, spec, err));
    plan->max_ranks = (int)plan->shards;
    int64_t per_shard = plan->batch / plan->shards;
    int64_t shards_here = plan->shards / plan->ranks;
    int64_t micro = train->micro_batch;
    plan->samples_per_shard = per_shard;
    plan->partial = micro > 0 && micro < per_shard;
    if (micro > 0 && micro % per_shard && per_shard % micro)
        return rp_spec_fail(spec, train->micro_batch_at, RP_STATUS_USAGE, err,
                            "micro_batch is %" PRId64 ", and must divide batch/shards or be a "
                            "multiple of it; that is %" PRId64 " here (%" PRId64 " / %" PRId64 ")",
                            micro, per_shard, plan->batch, plan->shards);
    int64_t shards_at_once = micro == 0 ? shards_here : power_of_two_below(micro / per_shard);
    if (plan->partial || shards_at_once < 1) shards_at_once = 1;
    if (shards_at_once > shards_here) shards_at_once = shards_here;
    plan->pass_samples = plan->partial ? micro : shards_at_once * per_shard;
    plan->n_passes = (int)(shards_here * per_shard / plan->pass_samples);
    plan->n_levels = 1 + log_of_two(shards_here / shards_at_once);
    return RP_STATUS_OK;
}

void rp_plan_pass(const struct rp_plan *plan, int i, struct rp_rows *rows, uint64_t *first_slot)
{
    int64_t first = (int64_t)i * plan->pass_samples;
    *rows = (struct rp_rows){
        .samples_per_shard = plan->samples_per_shard,
        .first_shard = (int)(first / plan->samples_per_shard),
        .n_shards = plan->partial ? 1 : (int)(plan->pass_samples / plan->samples_per_shard),
        .first_sample = first % plan->samples_per_shard,
        .n_samples = plan->pass_samples};
    *first_slot = (uint64_t)first;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static uint64_t times(uint64_t a, uint64_t b)
{
    return b && a > UINT64_MAX / b ? UINT64_MAX : a * b;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

/* `percent` of `n`, rounded up; a product that is whole but for rounding counts as whole. */
static double percent_of(double percent, double n)
{
    double exact = percent * n / 100.0;
    double whole = (double)(uint64_t)(exact + 0.5);
    double gap = exact > whole ? exact - whole : whole - exact;
    if (gap <= 1e-9 * (whole + 1.0)) return whole;
    return (double)(uint64_t)exact + 1.0;
}

/* Tokens that a sample is counted as: those of its window, which all are predicted from. */
static uint64_t tokens_of_sample(const struct rp_plan *plan)
{
    return plan->data.target == RP_TARGET_TOKENS ? (uint64_t)plan->data.dims[0] : 0;
}

/* Samples in a span of epochs or samples; 0 for other units. */
static uint64_t samples_of(const struct rp_plan *plan, const struct rp_span *span)
{
    if (span->unit == RP_UNIT_EPOCHS)
        return times((uint64_t)span->value, (uint64_t)plan->data.n_train);
    if (span->unit == RP_UNIT_SAMPLES) return (uint64_t)span->value;
    return 0;
}

uint64_t rp_plan_steps(const struct rp_plan *plan, const struct rp_span *span)
{
    switch (span->unit) {
    case RP_UNIT_STEPS:
        return (uint64_t)span->value;
    case RP_UNIT_EPOCHS:
    case RP_UNIT_SAMPLES:
        return divide_up(samples_of(plan, span), (uint64_t)plan->batch);
    case RP_UNIT_TOKENS: {
        uint64_t in_step = times((uint64_t)plan->batch, tokens_of_sample(plan));
        return in_step ? divide_up((uint64_t)span->value, in_step) : 0;
    }
    case RP_UNIT_PERCENT:
        return (uint64_t)percent_of(span->value, (double)plan->n_steps);
    case RP_UNIT_NONE:
    case RP_UNIT_SECONDS:
        break;
    }
    return 0;
}

enum rp_status rp_plan_set_steps(struct rp_plan *plan, const struct rp_spec *spec,
                                 struct rp_error *err)
{
    const struct rp_span *duration = &spec->train.duration;
    if (plan->data.n_train < 1)
        return rp_error_set(err, RP_STATUS_INTERNAL,
                            "a plan was asked for before the samples had been counted");
    if (duration->unit == RP_UNIT_TOKENS && tokens_of_sample(plan) == 0)
        return rp_spec_fail(spec, duration->at, RP_STATUS_USAGE, err,
                            "train.for counts tokens, but this data has samples: write epochs, "
                            "steps or samples");
    plan->n_steps = rp_plan_steps(plan, duration);
    if (plan->n_steps == 0)
        return rp_spec_fail(spec, duration->at, RP_STATUS_USAGE, err,
                            "train.for is no step at all: write for example `for: 5 epochs`");
    /* Positions are 64 bits, and one epoch more must not overflow either. */
    if (plan->n_steps > (UINT64_MAX >> 1) / (uint64_t)plan->batch)
        return rp_spec_fail(spec, duration->at, RP_STATUS_USAGE, err,
                            "train.for is longer than 2^63 samples");
    plan->schedule =
        (struct rp_optim_schedule){.total = plan->n_steps,
                                   .warmup = rp_plan_steps(plan, &spec->train.schedule.warmup),
                                   .every = rp_plan_steps(plan, &spec->train.schedule.every),
                                   .decay = rp_plan_steps(plan, &spec->train.schedule.decay)};
    return RP_STATUS_OK;
}

/* ---- events ---------------------------------------------------------------------------------- */

/* How many times a span has been completed after `steps` steps. */
static uint64_t completed(const struct rp_plan *plan, const struct rp_span *span, uint64_t steps)
{
    if (span->unit == RP_UNIT_PERCENT) {
        if (!(span->value > 0.0)) return 0;
        double share = (double)steps * 100.0 / (span->value * (double)plan->n_steps);
        return (uint64_t)(share * (1.0 + 1e-9));
    }
    if (span->unit == RP_UNIT_STEPS) return span->value >= 1.0 ? steps / (uint64_t)span->value : 0;
    if (span->unit == RP_UNIT_TOKENS && span->value >= 1.0)
        return times(times(steps, (uint64_t)plan->batch), tokens_of_sample(plan)) /
               (uint64_t)span->value;
    uint64_t samples = samples_of(plan, span);
    return samples ? times(steps, (uint64_t)plan->batch) / samples : 0;
}

bool rp_plan_due(const struct rp_plan *plan, const struct rp_spans *spans, uint64_t steps_done)
{
    if (steps_done == 0) return false;
    for (int i = 0; i < spans->n; i++)
        if (completed(plan, &spans->item[i], steps_done) >
            completed(plan, &spans->item[i], steps_done - 1))
            return true;
    return false;
}

uint64_t rp_plan_count(const struct rp_plan *plan, const struct rp_spans *spans)
{
    uint64_t n = 0;
    for (int i = 0; i < spans->n; i++) n += completed(plan, &spans->item[i], plan->n_steps);
    return n;
}
