/* plan.c - a plan from a spec and the shape of its data; and the digest that data completes. */
#include "plan/plan_int.h"

/* Evaluation takes as many samples at once as fit beside nothing else in the memory that a training
 * pass needs anyway, at most twice its samples and RP_PLAN_EVAL_SAMPLES. Evaluation keeps less per
 * sample than training, so the pass size of training always fits. */
static int64_t choose_eval_samples(const struct rp_plan *plan)
{
    uint64_t train = plan->train_place.bytes, eval = plan->eval_place.bytes;
    int64_t n = plan->pass_samples;
    if (eval > 0) n = (int64_t)((double)n * ((double)train / (double)eval));
    if (n > 2 * plan->pass_samples) n = 2 * plan->pass_samples; /* kernel scratch grows with it */
    if (n > RP_PLAN_EVAL_SAMPLES) n = RP_PLAN_EVAL_SAMPLES;
    if (n > plan->data.n_valid && plan->data.n_valid >= 0) n = plan->data.n_valid;
    return n < 1 ? 1 : n;
}

static enum rp_status build(struct rp_plan *plan, const struct rp_spec *spec, struct rp_error *err)
{
    struct rp_rows rows;
    uint64_t slot;
    rp_plan_pass(plan, 0, &rows, &slot);
    RP_TRY(rp_model_build(spec, &plan->data, &rows, plan->eval_samples, plan->device->logits_kept,
                          &plan->model, err));
    rp_plan_place_init(&plan->train_place, &plan->model->train);
    rp_plan_place_init(&plan->eval_place, &plan->model->eval);
    return RP_STATUS_OK;
}

static void forget(struct rp_plan *plan)
{
    rp_plan_place_release(&plan->eval_place);
    rp_plan_place_release(&plan->train_place);
    rp_model_free(plan->model);
    plan->model = NULL;
}

/* Both graphs and their arenas: once to learn how much a sample costs, once with the size chosen.
 */
static enum rp_status build_both(struct rp_plan *plan, const struct rp_spec *spec,
                                 struct rp_error *err)
{
    plan->eval_samples = plan->pass_samples;
    RP_TRY(build(plan, spec, err));
    int64_t chosen = choose_eval_samples(plan);
    if (chosen == plan->eval_samples) return RP_STATUS_OK;
    forget(plan);
    plan->eval_samples = chosen;
    return build(plan, spec, err);
}

static enum rp_status check_batch_norm(const struct rp_plan *plan, const struct rp_spec *spec,
                                       struct rp_error *err)
{
    if (!plan->partial || !plan->model->has_batch_norm) return RP_STATUS_OK;
    return rp_spec_fail(spec, spec->train.micro_batch_at, RP_STATUS_USAGE, err,
                        "with batch norm, micro_batch must be a multiple of batch/shards, which is "
                        "%lld here: its statistics are over a whole shard",
                        (long long)plan->samples_per_shard);
}

enum rp_status rp_plan_make(const struct rp_spec *spec, const struct rp_data_shape *data,
                            int threads, struct rp_plan **plan, struct rp_error *err)
{
    return rp_plan_make_for(spec, data, threads, 0, &rp_device_cpu, plan, err);
}

enum rp_status rp_plan_make_for(const struct rp_spec *spec, const struct rp_data_shape *data,
                                int threads, int ranks, const struct rp_device_table *device,
                                struct rp_plan **plan, struct rp_error *err)
{
    enum rp_status status;
    struct rp_plan *made = RP_NEW(struct rp_plan);
    *plan = NULL;
    made->data = *data;
    made->threads = threads;
    made->ranks = ranks;
    made->device = device;
    RP_TRY_GOTO(status, rp_plan_set_passes(made, spec, err), done);
    RP_TRY_GOTO(status, rp_plan_set_steps(made, spec, err), done);
    RP_TRY_GOTO(status, build_both(made, spec, err), done);
    RP_TRY_GOTO(status, check_batch_norm(made, spec, err), done);
    RP_TRY_GOTO(status, rp_plan_set_owners(made, spec, err), done);
    rp_plan_set_memory(made, spec);
    *plan = made;
    made = NULL;
done:
    rp_plan_free(made);
    return status;
}

void rp_plan_free(struct rp_plan *plan)
{
    if (!plan) return;
    rp_plan_release_owners(&plan->owners);
    forget(plan);
    rp_mem_free(plan);
}

struct rp_sha256 rp_plan_numeric_digest(const struct rp_spec *spec, const struct rp_data *data,
                                        const struct rp_sha256 *init_from)
{
    struct rp_text text = {0};
    rp_spec_canonical(spec, RP_SECTION_NUMERIC, &text);
    rp_data_canonical(data, spec->eval.early_stop.given, &text);
    if (init_from) {
        char hex[RP_SHA256_HEX];
        rp_sha256_hex(init_from, hex);
        rp_text_add(&text, "model.init_from.sha256=%s\n", hex);
    }
    struct rp_sha256 digest = rp_sha256_of(rp_text_get(&text), text.length);
    rp_text_release(&text);
    return digest;
}
