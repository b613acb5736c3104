/* run.c - "make it so": look, prepare, take the folder, run the loop, say how it ended. */
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/start_int.h"

#include <stdio.h>
#include <string.h>

static void say_start(const struct rp_start *start)
{
    char device[256];
    start->device->table->describe(start->device, device);
    rp_log_info("%s: %lld parameters, %llu steps of %lld samples on %s", start->run,
                (long long)start->plan->model->parameter_elements,
                (unsigned long long)start->plan->n_steps, (long long)start->plan->batch, device);
    if (start->origin.restored)
        rp_log_info("goes on from step %llu", (unsigned long long)start->origin.state.step);
}

/* The loop has ended well: what the run is called now, and the digest that proves it. */
static enum rp_status conclude(struct rp_start *start, struct rp_loop *loop,
                               struct rp_train_result *result, struct rp_error *err)
{
    struct rp_sha256 tensors_hash, final;
    rp_comm_note(&start->comm, loop->state.step, "save");
    RP_TRY(rp_saver_wait(start->saver, &tensors_hash, err));
    rp_facts_measured(start, loop);
    if (loop->stopped_why) {
        rp_facts_end(start, RP_STATUS_STOPPED, "stopped", loop->stopped_why, &loop->state, NULL,
                     NULL);
        result->status = "stopped";
        return rp_manifest_write(&start->manifest, err);
    }
    /* Nothing was left to do but this line: the last checkpoint was already there. */
    if (loop->first_step == loop->state.step && start->origin.restored)
        tensors_hash = start->origin.tensors_hash;
    final = rp_record_final(&loop->state.chain, &tensors_hash);
    rp_sha256_hex(&final, result->final);
    result->status = "finished";
    rp_facts_end(start, RP_STATUS_OK, "finished",
                 loop->state.step < start->plan->n_steps ? "early stop" : "end", &loop->state,
                 &final, NULL);
    return rp_manifest_write(&start->manifest, err);
}

/* A recomputed step differs from the record: computed once more from the same checkpoint, on the
 * quiet. Two computations that differ from each other point at the machine; two that agree point at
 * the record. */
static enum rp_status judge_difference(struct rp_start *start, const struct rp_loop *loop,
                                       struct rp_error *err)
{
    struct rp_trainer *t = start->trainer;
    struct rp_step_result again = {0};
    char first_text[RP_ERROR_TEXT_BYTES];
    snprintf(first_text, sizeof first_text, "%s", err->text);
    rp_error_clear(err);
    struct rp_weights_origin origin;
    RP_TRY(rp_saver_wait(start->saver, NULL, err));
    RP_TRY(rp_weights_begin(t, start->run, UINT64_MAX, &origin, err));
    for (uint64_t step = origin.state.step; step <= loop->state.step; step++)
        RP_TRY(rp_step(t, step, &again, err));
    if (again.params == loop->last.params &&
        memcmp(&again.loss, &loop->last.loss, sizeof again.loss) == 0)
        return rp_error_set(err, RP_STATUS_DIFFERENT,
                            "%s. Computed twice from step %llu with the same result, so the record "
                            "or the environment is another one: "
                            "nothing recorded was overwritten. --allow-drift goes on uncompared",
                            first_text, (unsigned long long)origin.state.step);
    return rp_error_set(err, RP_STATUS_HARDWARE,
                        "%s. Computed once more it gave a third result: suspect this machine, take "
                        "it out and run the same command on another",
                        first_text);
}

/* Several ranks do not compute it once more by themselves: who will, and what the answer means. */
static enum rp_status advise(const struct rp_start *start, const struct rp_loop *loop,
                             struct rp_error *err)
{
    char text[RP_ERROR_TEXT_BYTES];
    unsigned long long step = (unsigned long long)loop->state.step + 1;
    snprintf(text, sizeof text, "%s", err->text);
    rp_error_clear(err);
    return rp_error_set(err, RP_STATUS_DIFFERENT,
                        "%.8000s. Nothing recorded was overwritten. `reprise rerun %s --steps "
                        "%llu:%llu` computes it once more: if that is equal, suspect a machine of "
                        "this start, else the record or the environment is another one "
                        "(--allow-drift goes on uncompared)",
                        text, start->run, step, step);
}

/* The failure is told in the manifest as far as the storage still takes it. */
static void note_failure(struct rp_start *start, const struct rp_loop *loop, enum rp_status status,
                         const struct rp_error *err)
{
    struct rp_error ignored = {0};
    if (start->saver && rp_saver_wait(start->saver, NULL, &ignored) != RP_STATUS_OK)
        rp_error_clear(&ignored);
    if (!start->manifest.root || start->manifest.segment < 0) return;
    if (start->saver) rp_facts_measured(start, loop);
    rp_facts_end(start, status, "failed", rp_status_name(status), &loop->state, NULL, err);
    if (rp_manifest_write(&start->manifest, &ignored) != RP_STATUS_OK)
        rp_log_warning("the manifest could not be updated: %s", ignored.text);
    rp_log_to_file(-1);
}

static enum rp_status print_profile(const struct rp_start *start, struct rp_error *err)
{
    double flops = 1, bytes = 1;
    struct rp_text text = {0};
    char *path = rp_sys_join(start->run, "trace.json");
    start->device->table->peak(start->device, rp_sys_clock, &flops, &bytes);
    rp_profile_print(start->profile, flops, bytes, &text);
    printf("%s\ntrace: %s\n", rp_text_get(&text), path);
    enum rp_status status = rp_profile_write(start->profile, path, err);
    rp_mem_free(path);
    rp_text_release(&text);
    return status;
}

static enum rp_status run_loop(struct rp_start *start, struct rp_train_result *result,
                               struct rp_error *err)
{
    struct rp_loop loop = {.trainer = start->trainer,
                           .record = start->record,
                           .saver = start->saver,
                           .against = start->options->against,
                           .state = start->origin.state};
    if (start->options->stop_after > 0) loop.stop_at = start->begun + start->options->stop_after;
    say_start(start);
    if (start->options->profile || start->device->table->mark)
        start->profile = start->trainer->profile =
            rp_profile_new(start->device, start->options->profile);
    enum rp_status status = RP_STATUS_OK;
    if (loop.against)
        status =
            rp_against_recorded(loop.against, start->run, loop.state.step, &loop.n_compared, err);
    if (status == RP_STATUS_OK) status = rp_loop_run(&loop, err);
    if (status == RP_STATUS_OK && start->options->profile) status = print_profile(start, err);
    if (status == RP_STATUS_DIFFERENT && loop.record_differs)
        status = start->comm.n_ranks == 1 ? judge_difference(start, &loop, err)
                                          : advise(start, &loop, err);
    if (status == RP_STATUS_OK) status = conclude(start, &loop, result, err);
    result->step = loop.state.step;
    result->signal = loop.signal;
    result->n_compared = loop.n_compared;
    if (status != RP_STATUS_OK) {
        result->status = "failed";
        note_failure(start, &loop, status, err);
    }
    return status;
}

static enum rp_status finish_result(const struct rp_start *start, struct rp_train_result *result,
                                    struct rp_error *err)
{
    if (result->signal || strcmp(result->status, "stopped") == 0)
        return rp_error_set(
            err, RP_STATUS_STOPPED,
            "stopped at step %llu of %llu, state saved in %s; run the same command again to go on",
            (unsigned long long)result->step, (unsigned long long)start->plan->n_steps, start->run);
    return RP_STATUS_OK;
}

static enum rp_status tell_finished(const struct rp_start *start, struct rp_train_result *result,
                                    struct rp_error *err)
{
    const char *final = rp_facts_text(&start->manifest, "digests", "final"),
               *numeric = rp_facts_text(&start->manifest, "digests", "numeric");
    result->status = "finished";
    result->step = (uint64_t)json_integer_value(json_object_get(start->manifest.root, "step"));
    snprintf(result->final, sizeof result->final, "%s", final ? final : "");
    snprintf(result->numeric, sizeof result->numeric, "%s", numeric ? numeric : "");
    if (!start->options->against) return RP_STATUS_OK;
    return rp_against_recorded(start->options->against, start->run, UINT64_MAX, &result->n_compared,
                               err);
}

/* Rank 0, which has the folder and speaks for all. */
static enum rp_status lead(struct rp_start *start, struct rp_train_result *result,
                           struct rp_error *err)
{
    bool go = true;
    RP_TRY(rp_start_look(start, &result->was_finished, err));
    if (result->was_finished) {
        go = false;
        RP_TRY(rp_ranks_ready(start, &go, err));
        return tell_finished(start, result, err);
    }
    if (rp_hold_is_held(start->run)) {
        RP_TRY(rp_hold_take(start->run, &start->hold, err)); /* says who; or it has just ended */
        rp_hold_release(start->hold);
        start->hold = NULL;
    }
    RP_TRY(rp_start_prepare(start, err));
    rp_sha256_hex(&start->numeric, result->numeric);
    RP_TRY(rp_start_take(start, err));
    RP_TRY(rp_ranks_ready(start, &go, err));
    RP_TRY(rp_start_lead(start, err));
    RP_TRY(run_loop(start, result, err));
    return finish_result(start, result, err);
}

/* Every other rank: the same steps on its own shards; its part of checkpoints, and nothing else, is
 * written. */
static enum rp_status follow(struct rp_start *start, struct rp_train_result *result,
                             struct rp_error *err)
{
    bool go = true;
    RP_TRY(rp_start_prepare(start, err));
    RP_TRY(rp_ranks_ready(start, &go, err));
    rp_lost_begin(start->run, start->comm.rank);
    result->was_finished = !go;
    result->status = "finished";
    if (!go) return RP_STATUS_OK;
    RP_TRY(rp_start_follow(start, err));
    struct rp_loop loop = {
        .trainer = start->trainer, .saver = start->saver, .state = start->origin.state};
    enum rp_status status = rp_loop_run(&loop, err);
    struct rp_error ignored = {0};
    /* Before the control channel is closed: rank 0 waits for what this save has to say. */
    enum rp_status saved =
        rp_saver_wait(start->saver, NULL, status == RP_STATUS_OK ? err : &ignored);
    RP_TRY(status != RP_STATUS_OK ? status : saved);
    result->step = loop.state.step;
    result->signal = loop.signal;
    if (loop.stopped_why) result->status = "stopped";
    return finish_result(start, result, err);
}

/* While it was starting: by a signal to this process, or because the run is over for another rank,
 * which says why. */
static enum rp_status stopped_early(struct rp_start *start, struct rp_train_result *result,
                                    struct rp_error *err)
{
    if (strcmp(result->status, "stopped") == 0) return RP_STATUS_STOPPED; /* by --stop-after */
    char what[RP_ERROR_TEXT_BYTES];
    snprintf(what, sizeof what, "%s", err->text);
    (void)rp_signals_request(&result->signal);
    if (!result->signal && !rp_comm_is_over(&start->comm)) return RP_STATUS_STOPPED;
    rp_error_clear(err);
    if (!result->signal) {
        enum rp_status status = rp_comm_failure(&start->comm, err);
        result->status = status == RP_STATUS_STOPPED ? "stopped" : "failed";
        return status;
    }
    result->status = "stopped";
    return rp_error_set(err, RP_STATUS_STOPPED,
                        "%.900s, before the first step of this start: nothing is lost; run the "
                        "same command again to go on",
                        what);
}

enum rp_status rp_train_run(const struct rp_spec *spec, const struct rp_train_options *options,
                            struct rp_train_result *result, struct rp_error *err)
{
    struct rp_start start = {.spec = spec,
                             .options = options,
                             .begun = rp_sys_clock(),
                             .log_fd = -1,
                             .manifest = {.segment = -1}};
    *result = (struct rp_train_result){.status = "failed"};
    start.run = options->out ? rp_mem_copy_text(options->out) : rp_train_folder(spec);
    result->run = rp_mem_copy_text(start.run);
    enum rp_status status = rp_ranks_open(&start, err);
    if (status == RP_STATUS_OK)
        status = start.world.rank == 0 ? lead(&start, result, err) : follow(&start, result, err);
    if (status == RP_STATUS_STOPPED && !result->signal) status = stopped_early(&start, result, err);
    if (start.world.rank != 0 && rp_comm_ends_together(status)) rp_log_mute();
    rp_ranks_close(&start, status, err->text);
    rp_start_close(&start);
    return status;
}

void rp_train_result_release(struct rp_train_result *result)
{
    rp_mem_free(result->run);
    result->run = NULL;
}
