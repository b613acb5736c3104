/* try_estimate.c - from three steps to the whole run: time, memory, disk. Where something is not
 * known, it is taken to be the larger. */
#include "train/try_int.h"

#include <string.h>

enum { PLAIN_LINE = 180, TENSOR_TEXT = 24, METRICS_LINE = 190, FIXED_BYTES = 1 << 16 };

/* The steps after the first, which warms up; of one step, that one. */
static double step_seconds(const struct rp_trial *trial, uint64_t n)
{
    double sum = 0;
    if (n < 2) return trial->step_seconds[0];
    for (uint64_t i = 1; i < n; i++) sum += trial->step_seconds[i];
    return sum / (double)(n - 1);
}

static uint64_t count_timed_saves(const struct rp_spec *spec, double seconds)
{
    const struct rp_spans *spans = &spec->checkpoint.every;
    uint64_t n = 0;
    for (int i = 0; i < spans->n; i++)
        if (spans->item[i].unit == RP_UNIT_SECONDS) n += (uint64_t)(seconds / spans->item[i].value);
    return n;
}

static void estimate_time(const struct rp_trial *trial, struct rp_try_result *r)
{
    const struct rp_spec *spec = trial->start->spec;
    const struct rp_plan *plan = trial->start->plan;
    bool evaluates = plan->data.n_valid > 0;
    r->n_evals = evaluates ? 1 + rp_plan_count(plan, &spec->eval.every) : 0;
    r->n_saves = 1 + rp_plan_count(plan, &spec->checkpoint.every);
    if (spec->checkpoint.keep_best) r->n_saves += r->n_evals;
    double steps = (double)r->n_steps * r->step_seconds;
    double evals = (double)r->n_evals * r->eval_seconds;
    r->n_saves += count_timed_saves(spec, steps + evals);
    r->total_seconds = r->start_seconds + steps + evals + (double)r->n_saves * r->save_seconds;
}

/* Checkpoints that are kept, one more while it is written, both logs. */
static void estimate_disk(const struct rp_trial *trial, struct rp_try_result *r)
{
    const struct rp_spec *spec = trial->start->spec;
    const struct rp_plan *plan = trial->start->plan;
    const struct rp_model *model = plan->model;
    uint64_t every = rp_plan_steps(plan, &spec->log.every), names = 0;
    uint64_t keep_every = rp_plan_steps(plan, &spec->checkpoint.keep_every);
    uint64_t kept = (uint64_t)spec->checkpoint.keep_last + (spec->checkpoint.keep_best ? 1 : 0);
    uint64_t logged = every ? r->n_steps / every + 1 : 1;
    for (int i = 0; i < model->n_kept; i++) names += strlen(model->kept[i].name) + TENSOR_TEXT;
    if (keep_every) kept += r->n_steps / keep_every;
    if (kept > r->n_saves) kept = r->n_saves;
    r->disk_bytes = (kept + 1) * plan->checkpoint_bytes + r->n_steps * PLAIN_LINE +
                    logged * (names + METRICS_LINE) + r->n_evals * METRICS_LINE + FIXED_BYTES;
}

void rp_trial_estimate(const struct rp_trial *trial, struct rp_try_result *r)
{
    const struct rp_plan *plan = trial->start->plan;
    r->n_steps = plan->n_steps;
    r->n_tried = trial->last_step;
    r->start_seconds = trial->start_seconds;
    r->step_seconds = step_seconds(trial, trial->last_step);
    r->eval_seconds = trial->eval_seconds;
    r->save_seconds = trial->save_seconds;
    r->batch = plan->batch;
    r->n_ranks = plan->ranks;
    r->peak_bytes = trial->peak_bytes;
    r->plan_bytes = plan->memory_bytes;
    estimate_time(trial, r);
    estimate_disk(trial, r);
}
