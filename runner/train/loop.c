/* loop.c - steps and what happens between them: digests, logs, evaluation, saves, requests to stop.
 */
#include "train/try_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <math.h>
#include <string.h>

enum { SECONDS_BETWEEN_LINES = 60 };

/* Wall-clock events of one segment. */
struct clock_state {
    double start, last_save, last_line, last_progress, step_seconds;
    double seconds_before; /* of earlier segments */
    uint64_t steps_timed;
};

/* ---- after a step: digest and comparison ----------------------------------------------------- */

static bool log_due(const struct rp_loop *loop, uint64_t done)
{
    uint64_t every = rp_plan_steps(loop->trainer->plan, &loop->trainer->spec->log.every);
    return (every && done % every == 0) || done == loop->trainer->plan->n_steps;
}

static enum rp_status record_step(struct rp_loop *loop, uint64_t done,
                                  const struct rp_step_result *result, struct rp_error *err)
{
    const struct rp_trainer *t = loop->trainer;
    struct rp_digest_line line = {.step = done, .params = result->params};
    struct rp_digest_tensor *tensors = NULL;
    int n = 0;
    memcpy(&line.loss_bits, &result->loss, sizeof line.loss_bits);
    if (log_due(loop, done) && loop->record) {
        tensors = RP_NEW_ARRAY(struct rp_digest_tensor, t->model->n_kept);
        for (; n < t->model->n_kept; n++)
            tensors[n] = (struct rp_digest_tensor){t->model->kept[n].name, t->host_digests[n]};
    }
    loop->last = *result;
    if (!loop->record) {
        loop->state.params_digest = line.params;
        return RP_STATUS_OK;
    }
    enum rp_status status = rp_record_digest(loop->record, &line, tensors, n, err);
    loop->record_differs = status == RP_STATUS_DIFFERENT;
    if (status == RP_STATUS_OK && loop->against)
        status = rp_against_step(loop->against, &line, &loop->n_compared, err);
    if (status == RP_STATUS_OK) {
        loop->state.chain = line.chain;
        loop->state.params_digest = line.params;
    }
    rp_mem_free(tensors);
    return status;
}

/* ---- logs ------------------------------------------------------------------------------------ */

/* What a step takes in, as people count it. */
static double units_of_step(const struct rp_trainer *t)
{
    return (double)t->plan->batch * (double)t->model->rows_per_sample;
}

static const char *units(const struct rp_trainer *t)
{
    return t->plan->data.target == RP_TARGET_TOKENS ? "tokens" : "samples";
}

static void say_progress(struct rp_loop *loop, struct clock_state *clock, uint64_t done,
                         const struct rp_step_result *result)
{
    double now = rp_sys_clock(), rate = (double)clock->steps_timed / (now - clock->start + 1e-9);
    uint64_t total = loop->trainer->plan->n_steps;
    double left = (double)(total - done) / (rate > 0 ? rate : 1);
    if (rp_log_is_terminal()) {
        if (now - clock->last_progress < 0.1 && done != total) return;
        clock->last_progress = now;
        rp_log_progress("step %llu/%llu  loss %.4f  %.0f %s/s  %d:%02d left",
                        (unsigned long long)done, (unsigned long long)total, (double)result->loss,
                        rate * units_of_step(loop->trainer), units(loop->trainer), (int)left / 60,
                        (int)left % 60);
    } else if (now - clock->last_line >= SECONDS_BETWEEN_LINES && log_due(loop, done)) {
        clock->last_line = now;
        rp_log_info("step %llu of %llu, loss %.4f, %.0f samples/s", (unsigned long long)done,
                    (unsigned long long)total, (double)result->loss,
                    rate * (double)loop->trainer->plan->batch);
    }
}

static enum rp_status log_step(struct rp_loop *loop, struct clock_state *clock, uint64_t done,
                               const struct rp_step_result *result, struct rp_error *err)
{
    const struct rp_trainer *t = loop->trainer;
    if (!loop->record) return RP_STATUS_OK;
    say_progress(loop, clock, done, result);
    if (!log_due(loop, done)) return RP_STATUS_OK;
    double elapsed = rp_sys_clock() - clock->start;
    bool tokens = t->plan->data.target == RP_TARGET_TOKENS;
    struct rp_metric metrics[] = {
        {"loss", (double)result->loss},
        {"lr", rp_optim_lr(t->spec, &t->plan->schedule, done - 1)},
        {"grad_norm", result->norm},
        {tokens ? "tokens_per_second" : "samples_per_second",
         (double)clock->steps_timed * units_of_step(t) / (elapsed > 0 ? elapsed : 1)},
    };
    return rp_record_metrics(loop->record, done, "train", metrics, (int)RP_COUNT(metrics), err);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

static bool better(double value, double best, double margin, bool larger)
{
    return larger ? value > best + margin : value < best - margin;
}

/* Keeps the best value of checkpoint.keep.best; true when this one is the best. */
static bool note_best(struct rp_loop *loop, const struct rp_evaluation *e)
{
    const char *metric = loop->trainer->spec->checkpoint.keep_best;
    double value;
    bool larger;
    if (!metric || !rp_evaluation_metric(e, metric, &value, &larger)) return false;
    if (loop->state.has_best && !better(value, loop->state.best_value, 0, larger)) return false;
    loop->state.has_best = true;
    loop->state.best_value = value;
    loop->state.best_step = loop->state.step;
    return true;
}

static void note_watched(struct rp_loop *loop, const struct rp_evaluation *e)
{
    const struct rp_spec_eval *eval = &loop->trainer->spec->eval;
    double value;
    bool larger;
    if (!eval->early_stop.given ||
        !rp_evaluation_metric(e, eval->early_stop.metric, &value, &larger))
        return;
    if (!loop->state.has_watched ||
        better(value, loop->state.watched_value, eval->early_stop.min_delta, larger)) {
        loop->state.has_watched = true;
        loop->state.watched_value = value;
        loop->state.bad_evals = 0;
    } else {
        loop->state.bad_evals++;
    }
}

static bool stop_early(const struct rp_loop *loop)
{
    const struct rp_spec_eval *eval = &loop->trainer->spec->eval;
    return eval->early_stop.given && loop->state.has_watched &&
           loop->state.bad_evals >= (uint64_t)eval->early_stop.patience;
}

static bool eval_due(const struct rp_loop *loop)
{
    const struct rp_trainer *t = loop->trainer;
    if (t->plan->data.n_valid <= 0 || loop->state.step == 0 ||
        loop->state.evaluated_step == loop->state.step)
        return false;
    return loop->state.step == t->plan->n_steps || rp_trial_event(loop->trial, loop->state.step) ||
           rp_plan_due(t->plan, &t->spec->eval.every, loop->state.step);
}

/* `best` tells whether this state is to be kept as the best. A stop request leaves the evaluation
 * to the next start. */
static enum rp_status evaluate_if_due(struct rp_loop *loop, bool *best, struct rp_error *err)
{
    struct rp_evaluation e;
    *best = false;
    if (!eval_due(loop)) return RP_STATUS_OK;
    rp_profile_phase(loop->trainer->profile, RP_PHASE_EVALUATE);
    rp_comm_note(&loop->trainer->comm, loop->state.step, "evaluate");
    loop->decided = false;
    double begun = rp_sys_clock();
    RP_TRY(rp_owners_show_averages(loop->trainer, err));
    double shown = rp_sys_clock() - begun;
    RP_TRY(rp_evaluate(loop->trainer, RP_SPLIT_VALID, &e, err));
    loop->longest.evaluation = fmax(loop->longest.evaluation, shown + e.stretch);
    if (e.abandoned) return RP_STATUS_OK;
    struct rp_metric metrics[RP_EVALUATION_METRICS];
    int n = rp_evaluation_metrics(&e, metrics);
    if (loop->record)
        RP_TRY(rp_record_metrics(loop->record, loop->state.step, "valid", metrics, n, err));
    if (e.text && e.bits_per_byte >= 0)
        rp_log_info("step %llu: valid loss %.4f, perplexity %.4g, %.4f bits per byte",
                    (unsigned long long)loop->state.step, e.loss, e.perplexity, e.bits_per_byte);
    else if (e.text)
        rp_log_info("step %llu: valid loss %.4f, perplexity %.4g",
                    (unsigned long long)loop->state.step, e.loss, e.perplexity);
    else if (e.classification)
        rp_log_info("step %llu: valid loss %.4f, accuracy %.2f %%",
                    (unsigned long long)loop->state.step, e.loss, 100 * e.accuracy);
    else
        rp_log_info("step %llu: valid loss %.6g", (unsigned long long)loop->state.step, e.loss);
    loop->state.evaluated_step = loop->state.step;
    *best = note_best(loop, &e);
    note_watched(loop, &e);
    return RP_STATUS_OK;
}

/* ---- saves ----------------------------------------------------------------------------------- */

static bool time_due(const struct rp_loop *loop, const struct clock_state *clock)
{
    const struct rp_spans *spans = &loop->trainer->spec->checkpoint.every;
    for (int i = 0; i < spans->n; i++)
        if (spans->item[i].unit == RP_UNIT_SECONDS &&
            rp_sys_clock() - clock->last_save >= spans->item[i].value)
            return true;
    return false;
}

static enum rp_status save(struct rp_loop *loop, struct clock_state *clock, struct rp_error *err)
{
    rp_profile_phase(loop->trainer->profile, RP_PHASE_SAVE);
    rp_comm_note(&loop->trainer->comm, loop->state.step, "save");
    loop->state.t = loop->trainer->optim.t;
    loop->state.beta1_power = loop->trainer->optim.beta1_power;
    loop->state.beta2_power = loop->trainer->optim.beta2_power;
    loop->state.seconds = clock->seconds_before + rp_sys_clock() - clock->start;
    clock->last_save = rp_sys_clock();
    if (loop->record)
        RP_TRY(rp_record_mark(loop->record, &loop->state.metrics_bytes, &loop->state.digests_bytes,
                              err));
    return rp_saver_save(loop->saver, &loop->state, err);
}

/* ---- what comes next ------------------------------------------------------------------------- */

/* What asks the run to stop, or to save: signals to any rank, and rank 0's clock. With the result
 * of a step (may be NULL) the ranks add up what they answer for, too. */
static enum rp_status decide(struct rp_loop *loop, const struct clock_state *clock, uint64_t step,
                             struct rp_step_result *result, struct rp_error *err)
{
    struct rp_trainer *t = loop->trainer;
    enum rp_request request = rp_signals_request(&loop->signal);
    bool timed = t->comm.rank == 0 && loop->stop_at > 0 && rp_sys_clock() >= loop->stop_at;
    loop->decision = (struct rp_decision){.stop = request == RP_REQUEST_STOP || timed,
                                          .save = request == RP_REQUEST_SAVE ||
                                                  (t->comm.rank == 0 && time_due(loop, clock)),
                                          .signal = loop->signal};
    if (request == RP_REQUEST_STOP)
        loop->decision.asked = rp_sys_clock() - rp_signals_stop_clock();
    else if (timed)
        loop->decision.asked = rp_sys_clock() - loop->stop_at;
    int n = result && log_due(loop, step) ? t->model->n_kept : 0; /* as the record has them */
    RP_TRY(rp_ranks_decide(&t->comm, step, result, t->host_digests, n, &loop->decision, err));
    if (loop->decision.stop && loop->asked_at <= 0)
        loop->asked_at = rp_sys_clock() - loop->decision.asked;
    loop->save_asked |= loop->decision.save; /* a signal asks once, and this may be asked again */
    return RP_STATUS_OK;
}

/* The ranks have decided with the digests of the last step, unless they have evaluated since. */
static enum rp_status ask(struct rp_loop *loop, const struct clock_state *clock, bool over,
                          struct rp_error *err)
{
    if (!loop->decided) RP_TRY(decide(loop, clock, loop->state.step, NULL, err));
    loop->decided = false;
    loop->signal = loop->decision.signal;
    loop->stopped_why = over || !loop->decision.stop ? NULL
                        : loop->decision.signal      ? "signal"
                                                     : "stop-after";
    return RP_STATUS_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static enum rp_status one_step(struct rp_loop *loop, struct clock_state *clock,
                               struct rp_error *err)
{
    struct rp_trainer *t = loop->trainer;
    struct rp_step_result result;
    uint64_t done = loop->state.step + 1;
    RP_TRY(rp_step(t, loop->state.step, &result, err));
    if (!result.applied && t->spec->train.on_nonfinite == RP_NONFINITE_STOP)
        return rp_error_set(err, RP_STATUS_NONFINITE,
                            "step %llu: the loss is %g, the gradient norm %g; nothing was written. "
                            "Lower the learning rate, set "
                            "train.clip_norm, or `on_nonfinite: skip_step`",
                            (unsigned long long)done, (double)result.loss, result.norm);
    if (!result.applied)
        rp_log_warning("step %llu skipped: loss %g, gradient norm %g", (unsigned long long)done,
                       (double)result.loss, result.norm);
    loop->decided = t->comm.n_ranks > 1;
    if (loop->decided) RP_TRY(decide(loop, clock, done, &result, err));
    RP_TRY(record_step(loop, done, &result, err));
    loop->state.step = done;
    clock->steps_timed++;
    return log_step(loop, clock, done, &result, err);
}

enum rp_status rp_loop_run(struct rp_loop *loop, struct rp_error *err)
{
    const struct rp_trainer *t = loop->trainer;
    struct clock_state clock = {.start = rp_sys_clock(), .seconds_before = loop->state.seconds};
    clock.last_save = clock.last_line = clock.start;
    uint64_t saved = loop->state.step;
    loop->first_step = loop->state.step;
    for (;;) {
        bool best = false;
        double begun = rp_sys_clock();
        RP_TRY(evaluate_if_due(loop, &best, err));
        double evaluated = rp_sys_clock();
        bool over = loop->state.step >= t->plan->n_steps || stop_early(loop);
        RP_TRY(ask(loop, &clock, over && !eval_due(loop), err));
        bool due = best || loop->save_asked || over || loop->stopped_why ||
                   rp_plan_due(t->plan, &t->spec->checkpoint.every, loop->state.step) ||
                   rp_trial_event(loop->trial, loop->state.step);
        if (due && (loop->state.step != saved || best) && loop->state.step > 0) {
            RP_TRY(save(loop, &clock, err));
            saved = loop->state.step;
        }
        loop->save_asked = false;
        if (loop->trial) RP_TRY(rp_saver_wait(loop->saver, NULL, err));
        double kept = rp_sys_clock();
        if (over || loop->stopped_why) break;
        RP_TRY(one_step(loop, &clock, err));
        double stepped = rp_sys_clock() - kept;
        loop->longest.step = fmax(loop->longest.step, stepped);
        RP_TRY(rp_trial_note(loop->trial, loop, evaluated - begun, kept - evaluated, stepped, err));
    }
    rp_log_progress_clear();
    loop->state.seconds = clock.seconds_before + rp_sys_clock() - clock.start;
    return RP_STATUS_OK;
}
