/* try.c - `reprise run SPEC --try`: what a trial of the first steps tells about the whole run. */
#include "base/json_text.h"
#include "base/log.h"
#include "cli/grace.h"
#include "cli/run_int.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

enum { MINUTE = 60, HOUR = 3600 };

static double mebibytes(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

/* "1:02:03", rounded up: what a scheduler takes as a time limit. */
static void clock_text(double seconds, char text[32])
{
    long long s = (long long)ceil(seconds);
    snprintf(text, 32, "%lld:%02lld:%02lld", s / HOUR, s % HOUR / MINUTE, s % MINUTE);
}

/* A quarter more than estimated, the stop, and two minutes for a slow start, in whole minutes. */
static double time_limit(const struct rp_try_result *r)
{
    double seconds = 1.25 * r->total_seconds + r->stop_seconds + 2 * MINUTE;
    return ceil(seconds / MINUTE) * MINUTE;
}

static void print_quota(const struct rp_sys_quota *quota)
{
    if (quota->kind == RP_SYS_QUOTA_LIMIT)
        printf("%.0f MiB are left of your quota\n", mebibytes(quota->left));
    else if (quota->kind == RP_SYS_QUOTA_UNKNOWN)
        printf("your quota cannot be read (%s)\n", quota->why);
    else
        printf("no quota\n");
}

static void print_try(const struct rp_try_result *r)
{
    char total[32], limit[32], ranks[32] = "";
    clock_text(r->total_seconds, total);
    clock_text(time_limit(r), limit);
    printf("works   %llu steps, evaluation, save, kill, resume: %llu step%s computed again, the "
           "same bits\n",
           (unsigned long long)r->n_tried, (unsigned long long)r->n_checked,
           r->n_checked == 1 ? "" : "s");
    if (r->n_ranks > 1) snprintf(ranks, sizeof ranks, " on %d ranks", r->n_ranks);
    printf("step    %.4g s, %.0f samples/s%s\n", r->step_seconds,
           (double)r->batch / (r->step_seconds > 0 ? r->step_seconds : 1), ranks);
    printf("whole   %s: %llu steps, %llu evaluation%s of %.3g s, at most %llu saves of %.3g s, "
           "start %.3g s\n",
           total, (unsigned long long)r->n_steps, (unsigned long long)r->n_evals,
           r->n_evals == 1 ? "" : "s", r->eval_seconds, (unsigned long long)r->n_saves,
           r->save_seconds, r->start_seconds);
    printf("memory  %.1f MiB at most%s; plan says %.1f MiB\n", mebibytes(r->peak_bytes),
           r->n_ranks > 1 ? " for a rank" : "", mebibytes(r->plan_bytes));
    printf("disk    %.1f MiB at most for the finished run; %.0f MiB are free, ",
           mebibytes(r->disk_bytes), mebibytes(r->free_bytes));
    print_quota(&r->quota);
    printf("stop    %.3g s from a signal to the end, state saved\n", r->stop_seconds);
    printf("ask for %s, and at least %.0f s between the signal and the kill\n", limit,
           (double)rp_cli_stop_allowance(r->stop_seconds));
}

static void add_json(const struct rp_try_result *r, json_t *json)
{
    char limit[32];
    clock_text(time_limit(r), limit);
    json_object_update_new(
        json, json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I}", "steps",
                        (json_int_t)r->n_steps, "steps_tried", (json_int_t)r->n_tried,
                        "steps_compared", (json_int_t)r->n_checked, "step_seconds", r->step_seconds,
                        "total_seconds", r->total_seconds, "eval_seconds", r->eval_seconds,
                        "save_seconds", r->save_seconds, "start_seconds", r->start_seconds,
                        "stop_seconds", r->stop_seconds, "evaluations", (json_int_t)r->n_evals,
                        "saves", (json_int_t)r->n_saves));
    json_object_set_new(json, "ranks", json_integer(r->n_ranks));
    json_object_update_new(json, json_pack("{s:I, s:I, s:I, s:I, s:s}", "peak_bytes",
                                           (json_int_t)r->peak_bytes, "plan_bytes",
                                           (json_int_t)r->plan_bytes, "disk_bytes",
                                           (json_int_t)r->disk_bytes, "free_bytes",
                                           (json_int_t)r->free_bytes, "time_limit", limit));
    const struct rp_sys_quota *quota = &r->quota;
    json_t *left = quota->kind == RP_SYS_QUOTA_LIMIT     ? json_integer((json_int_t)quota->left)
                   : quota->kind == RP_SYS_QUOTA_UNKNOWN ? json_string("unknown")
                                                         : json_null();
    json_object_set_new(json, "quota_bytes", left);
}

enum rp_status rp_cli_try(const struct rp_spec *spec, const struct rp_train_options *train,
                          bool as_json, json_t *json, struct rp_error *err)
{
    struct rp_try_result *result = RP_NEW(struct rp_try_result);
    enum rp_status status = rp_train_try(spec, train, result, err);
    json_object_set_new(json, "run", rp_json_text(result->run));
    if (status == RP_STATUS_OK && result->was_finished) {
        rp_log_info("%s is finished already: nothing to try", result->run);
    } else if (status == RP_STATUS_OK) {
        add_json(result, json);
        if (!as_json) print_try(result);
        bool over_quota =
            result->quota.kind == RP_SYS_QUOTA_LIMIT && result->disk_bytes > result->quota.left;
        if (over_quota)
            rp_log_warning("your quota will not do: the run would end with code 9; free space, "
                           "keep fewer checkpoints, or use --out elsewhere");
        else if (result->free_bytes && result->disk_bytes > result->free_bytes)
            rp_log_warning("the disk may fill up: the run would end with code 9");
    }
    rp_mem_free(result);
    return status;
}
