/* apply.c - one checkpoint applied to data: the model of a run folder, opened for reading alone. */
#include "base/mem.h"
#include "env/env.h"
#include "train/apply_int.h"

#include <stdlib.h>
#include <string.h>

/* ---- which checkpoint ------------------------------------------------------------------------ */

enum rp_status rp_train_pick_step(const char *run, const char *at, uint64_t *step,
                                  struct rp_error *err)
{
    *step = UINT64_MAX;
    if (!at || strcmp(at, "last") == 0) return RP_STATUS_OK;
    return rp_checkpoint_pick(run, at, step, err);
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rp_status open_run(struct rp_apply_state *state, const struct rp_apply_options *options,
                               struct rp_error *err)
{
    bool found = false;
    RP_TRY(rp_manifest_read(state->run, &found, &state->manifest, err));
    if (!found)
        return rp_error_set(err, RP_STATUS_USAGE, "%s holds no run (no manifest.json)", state->run);
    RP_TRY(rp_train_load_spec(state->run, &state->manifest, options->data_folder, NULL,
                              &state->spec, err));
    if (rp_facts_shape(&state->manifest, &state->shape)) return RP_STATUS_OK;
    /* Made by a version that did not write it down: its data must be there. */
    return rp_data_describe(state->spec, true, &state->shape, err);
}

/* The averages where the run keeps them, unless the weights that were trained are asked for. */
static enum rp_status pick_weights(struct rp_apply *apply, const char *asked, struct rp_error *err)
{
    bool averages = apply->state->spec->train.ema_decay > 0;
    if (asked && strcmp(asked, "ema") != 0 && strcmp(asked, "trained") != 0)
        return rp_error_set(err, RP_STATUS_USAGE, "--weights %s: expected ema or trained", asked);
    if (asked && strcmp(asked, "ema") == 0 && !averages)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s keeps no averages of its weights: its spec has no train.ema",
                            apply->state->run);
    if (averages) apply->weights = asked ? asked : "ema";
    return RP_STATUS_OK;
}

static enum rp_status open_model(struct rp_apply_state *state, bool trained, uint64_t step,
                                 uint64_t *found_step, struct rp_error *err)
{
    int threads = rp_env_threads(state->spec);
    struct rp_env_device_options device = {.threads = threads, .quiet = true};
    struct rp_data_shape shape = state->shape;
    /* What is measured takes the place of the validation data: the plan makes passes fit it. */
    shape.n_valid = rp_data_samples(state->data, state->split);
    RP_TRY(rp_env_open_device(state->spec, &device, &state->device, err));
    RP_TRY(
        rp_plan_make_for(state->spec, &shape, threads, 1, state->device->table, &state->plan, err));
    RP_TRY(rp_trainer_open_eval(state->spec, state->plan, state->data, state->device,
                                &state->trainer, err));
    state->trainer->trained_weights = trained;
    return rp_weights_restore_model(state->trainer, state->run, step, found_step, err);
}

static void fill(struct rp_apply *apply, const struct rp_apply_options *options)
{
    static const char *const keys[] = {"data.train", "data.valid", "data.test"};
    const struct rp_apply_state *state = apply->state;
    const struct rp_graph *graph = &state->plan->model->eval;
    const json_t *names = json_object_get(state->manifest.root, "classes");
    size_t n = json_array_size(names);
    apply->shape = state->shape;
    apply->n_samples = rp_data_samples(state->data, state->split);
    if (graph->logits != RP_GRAPH_NO_TENSOR)
        apply->width = rp_tensor_elements(&graph->tensor[graph->logits].shape) /
                       state->plan->model->eval_samples;
    apply->what = options->files ? "other data" : keys[options->split];
    apply->n_files = rp_data_files(state->data, &apply->files);
    if (n == 0 || n != (size_t)state->shape.n_classes) return;
    apply->class_names = RP_NEW_ARRAY(char *, n);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        apply->class_names[i] = rp_mem_copy_text(name ? name : "");
    }
}

enum rp_status rp_apply_open(const struct rp_apply_options *options, struct rp_apply **out,
                             struct rp_error *err)
{
    struct rp_apply *apply = RP_NEW(struct rp_apply);
    struct rp_apply_state *state = apply->state = RP_NEW(struct rp_apply_state);
    uint64_t step = 0;
    state->manifest.segment = -1;
    state->run = rp_mem_copy_text(options->run);
    enum rp_status status;
    RP_TRY_GOTO(status, open_run(state, options, err), out);
    RP_TRY_GOTO(status, pick_weights(apply, options->weights, err), out);
    RP_TRY_GOTO(status, rp_train_pick_step(state->run, options->at, &step, err), out);
    RP_TRY_GOTO(status, rp_apply_open_data(state, options, err), out);
    bool trained = apply->weights && strcmp(apply->weights, "trained") == 0;
    RP_TRY_GOTO(status, open_model(state, trained, step, &apply->step, err), out);
    fill(apply, options);
    *out = apply;
    apply = NULL;
out:
    rp_apply_close(apply);
    return status;
}

void rp_apply_close(struct rp_apply *apply)
{
    if (!apply) return;
    struct rp_apply_state *state = apply->state;
    for (int64_t i = 0; apply->class_names && i < apply->shape.n_classes; i++)
        rp_mem_free(apply->class_names[i]);
    rp_mem_free(apply->class_names);
    rp_trainer_close(state->trainer);
    rp_env_close_device(state->device);
    rp_plan_free(state->plan);
    rp_data_free(state->data);
    for (int i = 0; i < RP_SPEC_MAX_FILES; i++) rp_mem_free(state->paths[i]);
    rp_spec_free(state->spec);
    rp_manifest_release(&state->manifest);
    rp_mem_free(state->run);
    rp_mem_free(state);
    rp_mem_free(apply);
}

/* ---- applying -------------------------------------------------------------------------------- */

enum rp_status rp_apply_run(struct rp_apply *apply, rp_apply_visit visit, void *context,
                            struct rp_apply_means *means, struct rp_error *err)
{
    struct rp_apply_state *state = apply->state;
    struct rp_trainer *t = state->trainer;
    struct rp_eval_buffers b;
    struct rp_evaluation e;
    bool classes = state->shape.target == RP_TARGET_CLASSES;
    bool values = state->shape.target == RP_TARGET_VALUES;
    rp_evaluation_begin(t, &e);
    enum rp_status status = rp_eval_buffers_init(t, true, &b, err);
    for (int64_t at = 0; status == RP_STATUS_OK && at < apply->n_samples;) {
        int64_t left = apply->n_samples - at, most = t->model->eval_samples;
        int64_t n = left < most ? left : most;
        status = rp_evaluate_pass(t, state->split, at, n, &b, err);
        if (status != RP_STATUS_OK) break;
        rp_evaluation_add(&e, &b, n);
        struct rp_apply_pass pass = {.first = at,
                                     .n = n,
                                     .output = b.output,
                                     .classes = classes ? b.y : NULL,
                                     .values = values ? b.y : NULL,
                                     .rank = b.rank};
        if (visit) status = visit(context, &pass, err);
        at += n;
    }
    rp_evaluation_end(t, state->split, &e);
    *means = (struct rp_apply_means){.loss = e.loss,
                                     .accuracy = e.accuracy,
                                     .top5 = e.top5,
                                     .targets = e.values,
                                     .perplexity = e.perplexity,
                                     .bits_per_byte = e.bits_per_byte};
    rp_eval_buffers_release(&b);
    return status;
}
