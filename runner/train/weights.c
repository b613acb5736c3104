/* weights.c - the values that a run begins with: drawn, taken from elsewhere, or restored from a
 * checkpoint. */
#include "train/train_int.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static enum rp_status put(struct rp_trainer *t, void *to, const float *values, int64_t n,
                          struct rp_error *err)
{
    return t->device->table->copy_in(t->device, to, values, (size_t)n * sizeof *values, err);
}

static int64_t largest(const struct rp_model *model)
{
    int64_t most = 1;
    for (int i = 0; i < model->n_kept; i++)
        if (rp_tensor_elements(&model->kept[i].shape) > most)
            most = rp_tensor_elements(&model->kept[i].shape);
    return most;
}

/* In parts: a whole tensor beside everything else would be the peak of a run's memory. */
static enum rp_status draw(struct rp_trainer *t, struct rp_error *err)
{
    enum { PART = 1 << 20 };
    enum rp_status status = RP_STATUS_OK;
    float *values = RP_NEW_ARRAY(float, PART);
    for (int i = 0; i < t->model->n_kept; i++) {
        int64_t elements = rp_tensor_elements(&t->model->kept[i].shape);
        for (int64_t at = 0; at < elements && status == RP_STATUS_OK; at += PART) {
            int64_t n = elements - at < PART ? elements - at : PART;
            rp_model_init_part(t->model, t->spec->seed, i, at, n, values);
            status = t->device->table->copy_in(t->device, (float *)t->kept[i] + at, values,
                                               (size_t)n * sizeof *values, err);
        }
    }
    rp_mem_free(values);
    return status;
}

/* Elements of the part of a stored tensor that has kept tensor i's shape. */
static enum rp_status load_part(struct rp_trainer *t, const struct rp_st_file *file,
                                const char *name, int i, struct rp_plan_part part, void *to,
                                enum rp_status bad, struct rp_error *err)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    const struct rp_st_tensor *stored = rp_st_find(file, name);
    int64_t dims[RP_MAX_DIMS];
    int n_dims = rp_model_file_dims(kept, dims);
    if (!stored)
        return rp_error_set(err, bad, "tensor %s is missing; the file belongs to another model",
                            name);
    bool fits = stored->shape.n_dims == n_dims;
    for (int d = 0; fits && d < n_dims; d++) fits = stored->shape.dims[d] == dims[d];
    if (!fits)
        return rp_error_set(err, bad, "tensor %s has another shape in the file than in the model",
                            name);
    if (kept->layout == RP_LAYOUT_PLAIN)
        return put(t, to, (const float *)stored->shape.data + part.first, part.n, err);
    float *permuted = RP_NEW_ARRAY(float, rp_tensor_elements(&kept->shape));
    rp_model_from_file(kept, stored->shape.data, permuted);
    enum rp_status status = put(t, to, permuted + part.first, part.n, err);
    rp_mem_free(permuted);
    return status;
}

enum rp_status rp_weights_load(struct rp_trainer *t, const struct rp_st_file *file,
                               const char *name, int i, void *to, enum rp_status bad,
                               struct rp_error *err)
{
    struct rp_plan_part all = {0, rp_tensor_elements(&t->model->kept[i].shape)};
    return load_part(t, file, name, i, all, to, bad, err);
}

enum rp_status rp_weights_load_own(struct rp_trainer *t, const struct rp_st_file *file,
                                   const char *name, int i, void *to, enum rp_status bad,
                                   struct rp_error *err)
{
    return load_part(t, file, name, i, t->own[i], to, bad, err);
}

enum rp_status rp_weights_restore_model(struct rp_trainer *t, const char *run, uint64_t step,
                                        uint64_t *found_step, struct rp_error *err)
{
    struct rp_checkpoint checkpoint = {0};
    bool found = false;
    enum rp_status status = rp_checkpoint_load(run, step, &found, &checkpoint, err);
    if (status == RP_STATUS_OK && !found)
        status = rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                              "%s holds no checkpoint yet; `reprise show %s` says why", run, run);
    for (int i = 0; status == RP_STATUS_OK && i < t->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &t->model->kept[i];
        bool average = t->spec->train.ema_decay > 0 && !kept->frozen && !t->trained_weights;
        char name[112];
        snprintf(name, sizeof name, "%s%s", kept->name, average ? ".ema" : "");
        status = rp_weights_load(t, average ? &checkpoint.optimizer : &checkpoint.model, name, i,
                                 t->kept[i], RP_STATUS_NO_CHECKPOINT, err);
    }
    *found_step = checkpoint.state.step;
    rp_checkpoint_release(&checkpoint);
    return status;
}

enum rp_status rp_weights_begin_averages(struct rp_trainer *t, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    const struct rp_device_table *device = t->device->table;
    if (t->spec->train.ema_decay == 0) return RP_STATUS_OK;
    float *values = RP_NEW_ARRAY(float, largest(t->model));
    for (int i = 0; status == RP_STATUS_OK && i < t->model->n_kept; i++) {
        const struct rp_plan_part *own = &t->own[i];
        if (!t->average[i]) continue;
        status = device->copy_out(t->device, values, (const float *)t->kept[i] + own->first,
                                  (size_t)own->n * sizeof *values, err);
        if (status == RP_STATUS_OK) status = put(t, t->average[i], values, own->n, err);
    }
    rp_mem_free(values);
    return status;
}

static enum rp_status begin_anew(struct rp_trainer *t, struct rp_error *err)
{
    t->optim = (struct rp_optim_state){.t = 0, .beta1_power = 1.0, .beta2_power = 1.0};
    RP_TRY(t->device->table->zero(t->device, t->state_block, t->state_bytes, err));
    RP_TRY(draw(t, err));
    return t->spec->model.init_from.given ? rp_weights_init_from(t, err)
                                          : rp_weights_begin_averages(t, err);
}

/* No update writes a frozen tensor, so nothing digests it later. */
static enum rp_status digest_frozen(struct rp_trainer *t, struct rp_error *err)
{
    struct rp_pass pass = {0};
    for (int i = 0; i < t->model->n_kept; i++) {
        if (!t->model->kept[i].frozen) continue;
        struct rp_op_call call = {.op = RP_OP_digest};
        call.in[0] = t->model->kept[i].shape;
        call.in[0].data = t->kept[i];
        call.out[0] =
            (struct rp_tensor){.data = t->digests, .dtype = RP_DTYPE_U64, .n_dims = 1, .dims = {1}};
        call.params.digest.tensor_number = (uint32_t)i;
        RP_TRY(t->device->table->zero(t->device, t->digests, sizeof *t->digests, err));
        RP_TRY(t->device->table->run(t->device, &call, &pass, err));
        RP_TRY(t->device->table->sync(t->device, err));
        RP_TRY(t->device->table->copy_out(t->device, &t->frozen_digests[i], t->digests,
                                          sizeof *t->digests, err));
    }
    return RP_STATUS_OK;
}

enum rp_status rp_weights_begin(struct rp_trainer *t, const char *run, uint64_t step,
                                struct rp_weights_origin *origin, struct rp_error *err)
{
    *origin = (struct rp_weights_origin){0};
    if (step > 0) RP_TRY(rp_weights_restore(t, run, step, origin, err));
    if (!origin->restored) RP_TRY(begin_anew(t, err));
    return digest_frozen(t, err);
}
