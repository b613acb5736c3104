/* memory.c - one block per lifetime, as the plan counted them; nothing is allocated inside the
 * loop. */
#include "train/train_int.h"

#include "base/mem.h"

#include <string.h>

static enum rp_status take(struct rp_trainer *t, uint64_t bytes, void *block, struct rp_error *err)
{
    void *got = NULL;
    RP_TRY(t->device->table->alloc(t->device, bytes ? bytes : RP_PLAN_ALIGN, &got, err));
    memcpy(block, &got, sizeof got);
    return RP_STATUS_OK;
}

static int n_states(const struct rp_trainer *t, int i)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    const char *names[2];
    if (t->eval_only || !rp_model_is_trained(kept)) return 0;
    return rp_optim_states(t->spec, rp_plan_optim_kind(kept), names);
}

static uint64_t own_bytes(const struct rp_trainer *t, int i)
{
    return rp_plan_align((uint64_t)t->own[i].n * sizeof(float));
}

/* The block of the optimizer's states, tensor by tensor, then the averages of train.ema: of what
 * this rank owns. */
static enum rp_status allocate_states(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_model *model = t->model;
    uint64_t at = 0;
    bool averages = !t->eval_only && t->spec->train.ema_decay > 0;
    for (int s = 0; s < 2; s++) t->state[s] = RP_NEW_ARRAY(void *, model->n_kept);
    t->average = RP_NEW_ARRAY(void *, model->n_kept);
    for (int i = 0; i < model->n_kept; i++)
        t->state_bytes += own_bytes(t, i) * (uint64_t)(n_states(t, i) + averages);
    RP_TRY(take(t, t->state_bytes, &t->state_block, err));
    RP_TRY(t->device->table->zero(t->device, t->state_block, t->state_bytes, err));
    for (int i = 0; i < model->n_kept; i++) {
        if (t->own[i].n == 0) continue;
        for (int s = 0; s < n_states(t, i); s++, at += own_bytes(t, i))
            t->state[s][i] = t->state_block + at;
    }
    for (int i = 0; averages && i < model->n_kept; i++) {
        if (t->own[i].n == 0) continue;
        t->average[i] = t->state_block + at;
        at += own_bytes(t, i);
    }
    return RP_STATUS_OK;
}

static enum rp_status allocate_kept(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_model *model = t->model;
    RP_TRY(take(t, t->plan->owners.kept_bytes, &t->kept_block, err));
    t->kept = RP_NEW_ARRAY(void *, model->n_kept);
    t->own = RP_NEW_ARRAY(struct rp_plan_part, model->n_kept);
    for (int i = 0; i < model->n_kept; i++) {
        t->kept[i] = t->kept_block + t->plan->owners.kept_offset[i];
        t->own[i] = rp_plan_owned(t->plan, t->comm.rank, i);
    }
    return allocate_states(t, err);
}

static enum rp_status allocate_sums(struct rp_trainer *t, struct rp_error *err)
{
    uint64_t levels = (uint64_t)(t->plan->n_levels + (t->plan->partial ? 1 : 0));
    uint64_t bytes = t->plan->owners.sum_bytes * levels;
    t->sum_offset = t->plan->owners.sum_offset;
    RP_TRY(take(t, bytes, &t->sums, err));
    return t->device->table->zero(t->device, t->sums, bytes,
                                  err); /* the gaps between tensors are added too */
}

static uint64_t io_bytes(const struct rp_graph *graph)
{
    return rp_plan_align(rp_tensor_bytes(&graph->tensor[graph->input].shape)) +
           rp_plan_align(rp_tensor_bytes(&graph->tensor[graph->target].shape));
}

static void place_io(struct rp_trainer *t, struct rp_bound *bound)
{
    bound->input = t->io;
    bound->target =
        t->io + rp_plan_align(rp_tensor_bytes(&bound->graph->tensor[bound->graph->input].shape));
}

/* With a table of places: what a rank owns of a parameter follows each other in both orders. */
static enum rp_status allocate_chunks(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_plan_owners *o = &t->plan->owners;
    uint64_t n = (uint64_t)o->n_chunks;
    int32_t at = 0;
    RP_TRY(take(t, n * sizeof(double), &t->chunks, err));
    if (!o->reordered) return RP_STATUS_OK;
    RP_TRY(take(t, n * sizeof(double), &t->in_order, err));
    RP_TRY(take(t, n * sizeof(int32_t), &t->chunk_order, err));
    int32_t *order = RP_NEW_ARRAY(int32_t, n);
    for (int i = 0; i < t->model->n_kept; i++) {
        if (!rp_model_is_trained(&t->model->kept[i])) continue;
        for (int r = 0; r < o->ranks; r++) {
            int64_t chunks = rp_plan_chunks(rp_plan_owned(t->plan, r, i).n);
            for (int64_t c = 0; c < chunks; c++)
                order[at++] = (int32_t)(rp_plan_norm_chunk(t->plan, r, i) + c);
        }
    }
    enum rp_status status =
        t->device->table->copy_in(t->device, t->chunk_order, order, n * sizeof *order, err);
    rp_mem_free(order);
    return status;
}

static enum rp_status allocate(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_model *model = t->model;
    uint64_t arena = t->plan->train_place.bytes, io = io_bytes(&model->train);
    if (t->plan->eval_place.bytes > arena) arena = t->plan->eval_place.bytes;
    if (io_bytes(&model->eval) > io) io = io_bytes(&model->eval);
    RP_TRY(allocate_kept(t, err));
    RP_TRY(allocate_sums(t, err));
    RP_TRY(take(t, arena, &t->arena, err));
    RP_TRY(take(t, io, &t->io, err));
    RP_TRY(allocate_chunks(t, err));
    RP_TRY(take(t, sizeof *t->control, &t->control, err));
    RP_TRY(take(t, (uint64_t)model->n_kept * sizeof(uint64_t), &t->digests, err));
    t->host_digests = RP_NEW_ARRAY(uint64_t, model->n_kept);
    t->frozen_digests = RP_NEW_ARRAY(uint64_t, model->n_kept);
    place_io(t, &t->train);
    place_io(t, &t->eval);
    return RP_STATUS_OK;
}

static enum rp_status allocate_eval(struct rp_trainer *t, struct rp_error *err)
{
    RP_TRY(allocate_kept(t, err));
    RP_TRY(take(t, t->plan->eval_place.bytes, &t->arena, err));
    RP_TRY(take(t, io_bytes(&t->model->eval), &t->io, err));
    place_io(t, &t->eval);
    return RP_STATUS_OK;
}

static enum rp_status open_loader(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_plan *plan = t->plan;
    RP_TRY(rp_loader_open(t->data, plan->pass_samples, plan->loader_depth, plan->loader_threads,
                          &t->loader, err));
    size_t bytes = 0;
    void *batches = rp_loader_block(t->loader, &bytes);
    t->device->table->pin(t->device, batches, bytes);
    return RP_STATUS_OK;
}

static struct rp_trainer *new_trainer(const struct rp_spec *spec, const struct rp_plan *plan,
                                      const struct rp_data *data, struct rp_device *device)
{
    struct rp_trainer *t = RP_NEW(struct rp_trainer);
    *t = (struct rp_trainer){
        .spec = spec, .plan = plan, .model = plan->model, .device = device, .data = data};
    t->train.graph = &plan->model->train;
    t->eval.graph = &plan->model->eval;
    rp_comm_open_one(&t->comm);
    return t;
}

enum rp_status rp_trainer_open_eval(const struct rp_spec *spec, const struct rp_plan *plan,
                                    const struct rp_data *data, struct rp_device *device,
                                    struct rp_trainer **trainer, struct rp_error *err)
{
    struct rp_trainer *t = new_trainer(spec, plan, data, device);
    t->eval_only = true;
    enum rp_status status = device->table->reserve(device, plan->scratch_bytes, err);
    if (status == RP_STATUS_OK) status = allocate_eval(t, err);
    if (status == RP_STATUS_OK) status = rp_trainer_bind(t, err);
    if (status == RP_STATUS_OK)
        *trainer = t;
    else
        rp_trainer_close(t);
    return status;
}

enum rp_status rp_trainer_open(const struct rp_spec *spec, const struct rp_plan *plan,
                               const struct rp_data *data, struct rp_device *device,
                               const struct rp_comm *comm, struct rp_trainer **trainer,
                               struct rp_error *err)
{
    struct rp_trainer *t = new_trainer(spec, plan, data, device);
    enum rp_status status = RP_STATUS_OK;
    if (comm) t->comm = *comm;
    if (t->comm.n_ranks != plan->ranks)
        RP_TRY_GOTO(status,
                    rp_error_set(err, RP_STATUS_INTERNAL, "a plan for %d ranks, but there are %d",
                                 plan->ranks, t->comm.n_ranks),
                    out);
    t->optim = (struct rp_optim_state){.t = 0, .beta1_power = 1.0, .beta2_power = 1.0};
    RP_TRY_GOTO(status, device->table->reserve(device, plan->scratch_bytes, err), out);
    RP_TRY_GOTO(status, allocate(t, err), out);
    RP_TRY_GOTO(status, rp_trainer_bind(t, err), out);
    if (plan->loader_depth > 0) RP_TRY_GOTO(status, open_loader(t, err), out);
    *trainer = t;
    t = NULL;
out:
    rp_trainer_close(t);
    return status;
}

void rp_trainer_close(struct rp_trainer *t)
{
    if (!t) return;
    void *blocks[] = {t->kept_block, t->state_block, t->sums,        t->arena,   t->io,
                      t->chunks,     t->in_order,    t->chunk_order, t->control, t->digests};
    if (t->loader) {
        size_t bytes = 0;
        t->device->table->unpin(t->device, rp_loader_block(t->loader, &bytes));
    }
    rp_loader_close(t->loader);
    for (size_t i = RP_COUNT(blocks); i-- > 0;) t->device->table->free(t->device, blocks[i]);
    rp_mem_free(t->update_end);
    rp_mem_free(t->update_call);
    rp_mem_free(t->norm_call);
    rp_mem_free(t->tie_call);
    rp_mem_free(t->eval.call);
    rp_mem_free(t->train.call);
    rp_mem_free(t->frozen_digests);
    rp_mem_free(t->host_digests);
    rp_mem_free(t->average);
    for (int s = 0; s < 2; s++) rp_mem_free(t->state[s]);
    rp_mem_free(t->own);
    rp_mem_free(t->kept);
    rp_mem_free(t);
}
