/* step.c - one step: spec -> data -> model (forward, backward) -> comm (reduce) -> optim (update).
 */
#include "train/train_int.h"

/* model: forward, loss, backward. The sums over samples go into buffer `level` of the tree; in the
 * last pass they leave for their owners as soon as they are complete. */
static enum rp_status run_graph(struct rp_trainer *t, const struct rp_pass *pass, int level,
                                bool last, struct rp_error *err)
{
    rp_profile_phase(t->profile, RP_PHASE_MODEL);
    rp_trainer_point_sums(t, level);
    for (int i = 0; i < t->model->train.n_nodes; i++) {
        RP_TRY(rp_trainer_run(t, &t->train.call[i], pass, err));
        if (last) RP_TRY(rp_owners_begin(t, i, level, pass, err));
    }
    return RP_STATUS_OK;
}

/* The tree over shards, as a binary counter: node `n` (from 0) has just been written into buffer
 * *level; while it is a right child, it is added to its left sibling, one buffer below. What has
 * left already has been added already. */
static enum rp_status join_nodes(struct rp_trainer *t, int n, int *level,
                                 const struct rp_pass *pass, struct rp_error *err)
{
    uint64_t begin = t->n_begun > 0 ? t->plan->owners.shared_sums : 0;
    for (; n & 1; n >>= 1, --*level)
        RP_TRY(rp_trainer_join_level(t, *level, begin, t->plan->owners.sum_bytes, pass, err));
    return RP_STATUS_OK;
}

static enum rp_status run_passes(struct rp_trainer *t, uint64_t step, struct rp_pass *pass,
                                 struct rp_error *err)
{
    const struct rp_plan *plan = t->plan;
    int level = 0, node = 0;
    pass->seed = t->spec->seed;
    t->loss_values = rp_data_loss_values(t->data, step * (uint64_t)plan->batch, plan->batch);
    if (t->loss_values < 1) t->loss_values = 1; /* no target at all: loss and gradients are +0 */
    pass->grad_scale = (float)(1.0 / (double)t->loss_values);
    for (int i = 0; i < plan->n_passes; i++) {
        uint64_t slot = 0;
        rp_plan_pass(plan, i, &pass->rows, &slot);
        pass->rows.first_shard += (int)(t->comm.rank * (plan->shards / plan->ranks));
        slot += (uint64_t)(t->comm.rank * (plan->batch / plan->ranks));
        pass->position = step * (uint64_t)plan->batch + slot;
        RP_TRY(rp_batch_take(t, pass->position, err));
        RP_TRY(run_graph(t, pass, level, i + 1 == plan->n_passes, err));
        bool open = pass->rows.first_sample + pass->rows.n_samples < pass->rows.samples_per_shard;
        if (open) continue; /* the rest of the shard goes on in the same buffer */
        RP_TRY(join_nodes(t, node++, &level, pass, err));
        level++;
    }
    return RP_STATUS_OK;
}

/* optim: norm and clip factor on the device, then every update, each of which digests what it
 * writes. */
static enum rp_status update(struct rp_trainer *t, uint64_t step, const struct rp_pass *pass,
                             struct rp_error *err)
{
    struct rp_optim_state after = t->optim;
    rp_profile_phase(t->profile, RP_PHASE_SAVE);
    rp_comm_note(&t->comm, step + 1, "save"); /* a slow disk is no slow step */
    rp_saver_wait_read(t->saver);
    if (t->device->table->save_fence) RP_TRY(t->device->table->save_fence(t->device, err));
    rp_comm_note(&t->comm, step + 1, "reduce");
    rp_profile_phase(t->profile, RP_PHASE_UPDATE);
    rp_optim_advance(t->spec, &after);
    for (int i = 0; i < 4; i++) {
        struct rp_optim_kind kind = {.by_muon = i / 2 == 1, .decays = i % 2 == 1};
        rp_optim_update(t->spec, &t->plan->schedule, step, &after, kind, &t->update[i]);
    }
    RP_TRY(t->device->table->zero(t->device, t->digests,
                                  (size_t)t->model->n_kept * sizeof(uint64_t), err));
    for (int i = 0; i < t->n_tie_calls; i++) RP_TRY(rp_trainer_run(t, &t->tie_call[i], pass, err));
    for (int i = 0; i < t->n_norm_calls; i++)
        RP_TRY(rp_trainer_run(t, &t->norm_call[i], pass, err));
    RP_TRY(rp_owners_join_norm(t, pass, err));
    RP_TRY(rp_trainer_run(t, &t->clip_call, pass, err));
    for (int i = 0; i < t->n_update_calls; i++) {
        RP_TRY(rp_trainer_run(t, &t->update_call[i], pass, err));
        RP_TRY(rp_owners_begin_gather(t, i, err));
    }
    return RP_STATUS_OK;
}

static enum rp_status read_result(struct rp_trainer *t, struct rp_step_result *result,
                                  struct rp_error *err)
{
    const struct rp_device_table *device = t->device->table;
    struct rp_control control;
    float sum = 0;
    const struct rp_device_copy copies[] = {
        {&sum, t->sums + t->sum_offset[t->model->train.loss_sum], sizeof sum},
        {&control, t->control, sizeof control},
        {t->host_digests, t->digests, (size_t)t->model->n_kept * sizeof(uint64_t)}};
    RP_TRY(device->copy_out_many(t->device, copies, (int)RP_COUNT(copies), err));
    result->loss = sum / (float)t->loss_values;
    result->norm = control.norm;
    result->applied = control.apply != 0;
    result->params = result->common = 0;
    for (int i = 0; i < t->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &t->model->kept[i];
        t->host_digests[i] += t->frozen_digests[i];
        if (!rp_model_is_trained(kept)) { /* everybody's, and rank 0 answers for it */
            result->common += t->host_digests[i];
            if (t->comm.rank != 0) t->host_digests[i] = 0;
        }
        result->params += t->host_digests[i];
    }
    return RP_STATUS_OK;
}

enum rp_status rp_step(struct rp_trainer *t, uint64_t step, struct rp_step_result *result,
                       struct rp_error *err)
{
    struct rp_pass pass = {0};
    rp_comm_note(&t->comm, step + 1, "step");
    RP_TRY(t->device->table->step_begin(t->device, err));
    RP_TRY(run_passes(t, step, &pass, err));
    rp_profile_phase(t->profile, RP_PHASE_REDUCE);
    rp_comm_note(&t->comm, step + 1, "reduce");
    RP_TRY(rp_owners_reduce(t, err));
    RP_TRY(update(t, step, &pass, err));
    rp_profile_phase(t->profile, RP_PHASE_GATHER);
    rp_comm_note(&t->comm, step + 1, "gather");
    RP_TRY(rp_owners_gather(t, err));
    RP_TRY(t->device->table->step_end(t->device, err));
    RP_TRY(rp_batch_look_ahead(t, step + 1, err));
    RP_TRY(read_result(t, result, err));
    rp_profile_phase(t->profile, RP_PHASE_RECORD);
    if (result->applied) rp_optim_advance(t->spec, &t->optim);
    return RP_STATUS_OK;
}
