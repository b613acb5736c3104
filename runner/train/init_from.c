/* init_from.c - initial values from another run's checkpoint, a safetensors file, or a folder of
 * Hugging Face. Rank 0 alone has them (init_read.c); the others get them from it, so that much is
 * read once, and need not see the files. */
#include "base/mem.h"
#include "train/huggingface.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rp_weights_skipped(const struct rp_spec *spec, const char *name)
{
    for (int i = 0; i < spec->model.init_from.n_skip; i++)
        if (rp_model_name_matches(spec->model.init_from.skip[i], name)) return true;
    return false;
}

/* From a checkpoint's folder, or the file at `path`. */
static enum rp_status load_tensors(struct rp_trainer *t, struct rp_weights_found *found,
                                   struct rp_error *err)
{
    struct rp_st_file *file = &found->model;
    const struct rp_stop stop = {rp_ranks_stop_asked, &t->comm};
    enum rp_status status = RP_STATUS_OK;
    if (!found->held)
        status = found->folder ? rp_checkpoint_read_kind(found->folder, RP_CHECKPOINT_OF_MODEL,
                                                         &stop, file, NULL, err)
                               : rp_st_read_until(found->path, RP_STATUS_DATA, &stop, file, err);
    for (int i = 0; i < t->model->n_kept && status == RP_STATUS_OK; i++)
        if (!rp_weights_skipped(t->spec, t->model->kept[i].name))
            status = rp_weights_load(t, file, t->model->kept[i].name, i, t->kept[i], RP_STATUS_DATA,
                                     err);
    rp_st_release(file);
    return status;
}

static enum rp_status load_model(struct rp_trainer *t, struct rp_weights_found *found,
                                 struct rp_error *err)
{
    const struct rp_stop stop = {rp_ranks_stop_asked, &t->comm};
    if (!found->of_others) return load_tensors(t, found, err);
    if (!found->hf.folder) RP_TRY(rp_hf_open(found->path, &found->hf, err));
    enum rp_status status = rp_hf_load_model(t, &found->hf, &stop, err);
    rp_hf_close(&found->hf);
    return status;
}

/* ---- to the other ranks ---------------------------------------------------------------------- */

/* What rank 0 has in so many bytes of a block, to everybody. */
static enum rp_status share(struct rp_trainer *t, void *block, uint64_t bytes, struct rp_error *err)
{
    uint64_t border[RP_COMM_MAX_RANKS + 1] = {0};
    for (int r = 1; r <= t->comm.n_ranks; r++) border[r] = bytes;
    return rp_comm_gather(&t->comm, block, border, err);
}

/* The own part of a tensor that lies whole on the device. */
static enum rp_status keep_own(struct rp_trainer *t, int i, const void *whole, void *to,
                               struct rp_error *err)
{
    const struct rp_device_table *device = t->device->table;
    size_t bytes = (size_t)t->own[i].n * sizeof(float);
    if (bytes == 0) return RP_STATUS_OK;
    void *values = rp_mem_new(bytes);
    enum rp_status status =
        device->copy_out(t->device, values, (const float *)whole + t->own[i].first, bytes, err);
    if (status == RP_STATUS_OK) status = device->copy_in(t->device, to, values, bytes, err);
    rp_mem_free(values);
    return status;
}

/* A state or average of kept tensor i, to the ranks that own of it: by way of the memory of its
 * gradient, which is free before the first step. `file` is rank 0's. */
static enum rp_status load_state(struct rp_trainer *t, const struct rp_st_file *file,
                                 const char *name, int i, void *to, struct rp_error *err)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    if (t->comm.n_ranks == 1) return rp_weights_load_own(t, file, name, i, to, RP_STATUS_DATA, err);
    void *whole = kept->statistic ? to : t->sums + t->sum_offset[kept->grad_tensor];
    if (t->comm.rank == 0) RP_TRY(rp_weights_load(t, file, name, i, whole, RP_STATUS_DATA, err));
    RP_TRY(share(t, whole, rp_tensor_bytes(&kept->shape), err));
    return kept->statistic ? RP_STATUS_OK : keep_own(t, i, whole, to, err);
}

/* Which averages of train.ema rank 0's file has, by kept tensor: a run without averages has none to
 * go on with. Caller frees. */
static enum rp_status find_averages(struct rp_trainer *t, const struct rp_st_file *file, bool **has,
                                    struct rp_error *err)
{
    size_t n = (size_t)t->model->n_kept;
    bool *mine = RP_NEW_ARRAY(bool, n), *all = RP_NEW_ARRAY(bool, n *(size_t)t->comm.n_ranks);
    for (size_t i = 0; i < n && t->comm.rank == 0; i++) {
        char name[112];
        snprintf(name, sizeof name, "%s.ema", t->model->kept[i].name);
        mine[i] = t->spec->train.ema_decay > 0 && !t->model->kept[i].frozen &&
                  rp_st_find(file, name) != NULL;
    }
    enum rp_status status = rp_comm_agree(&t->comm, mine, n * sizeof *mine, all, err);
    rp_mem_free(mine);
    *has = all;
    return status;
}

static enum rp_status load_states(struct rp_trainer *t, const struct rp_st_file *file,
                                  const bool *has_average, struct rp_error *err)
{
    for (int i = 0; i < t->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &t->model->kept[i];
        char name[112];
        const char *names[2];
        if (rp_weights_skipped(t->spec, kept->name)) continue;
        int n = rp_model_is_trained(kept)
                    ? rp_optim_states(t->spec, rp_plan_optim_kind(kept), names)
                    : 0;
        for (int s = 0; s < n; s++) {
            snprintf(name, sizeof name, "%s.%s", kept->name, names[s]);
            RP_TRY(load_state(t, file, name, i, t->state[s][i], err));
        }
        snprintf(name, sizeof name, "%s.ema", kept->name);
        if (has_average[i]) RP_TRY(load_state(t, file, name, i, t->average[i], err));
    }
    return RP_STATUS_OK;
}

/* `found` is rank 0's. */
static enum rp_status load_optimizer(struct rp_trainer *t, struct rp_weights_found *found,
                                     struct rp_error *err)
{
    const struct rp_stop stop = {rp_ranks_stop_asked, &t->comm};
    struct rp_st_file *file = &found->optimizer;
    bool *has_average = NULL;
    enum rp_status status = RP_STATUS_OK;
    if (t->comm.rank == 0 && !found->held)
        status = rp_checkpoint_read_kind(found->folder, RP_CHECKPOINT_OF_OPTIMIZER, &stop, file,
                                         NULL, err);
    if (status == RP_STATUS_OK) status = find_averages(t, file, &has_average, err);
    if (status == RP_STATUS_OK) status = load_states(t, file, has_average, err);
    rp_mem_free(has_average);
    rp_st_release(file);
    return status;
}

/* load: all goes on with the optimizer's time too, from the state beside its file. */
static enum rp_status load_time(struct rp_trainer *t, const struct rp_weights_found *found,
                                struct rp_error *err)
{
    struct rp_optim_state mine = {0}, all[RP_COMM_MAX_RANKS];
    if (t->comm.rank == 0) {
        char *run = rp_weights_run(found);
        struct rp_checkpoint_state state = {0};
        uint64_t step = strtoull(strrchr(found->folder, '-') + 1, NULL, 10);
        enum rp_status status = rp_checkpoint_read_state(run, step, &state, err);
        rp_mem_free(run);
        RP_TRY(status);
        mine = (struct rp_optim_state){
            .t = state.t, .beta1_power = state.beta1_power, .beta2_power = state.beta2_power};
    }
    RP_TRY(rp_comm_agree(&t->comm, &mine, sizeof mine, all, err));
    t->optim = all[0];
    return RP_STATUS_OK;
}

/* Rank 0's part: the weights, that is. The others wait for it here, where a request to stop is
 * heard, and not in the gather. */
static enum rp_status load_first(struct rp_trainer *t, struct rp_weights_found *found,
                                 struct rp_error *err)
{
    uint8_t ready = 1, all[RP_COMM_MAX_RANKS];
    if (t->comm.rank == 0) {
        if (!found->given) RP_TRY(rp_weights_find(t->spec, found, err));
        RP_TRY(load_model(t, found, err));
    }
    return rp_comm_agree(&t->comm, &ready, sizeof ready, all, err);
}

enum rp_status rp_weights_init_from(struct rp_trainer *t, struct rp_error *err)
{
    struct rp_weights_found own = {0}, *found = t->weights ? t->weights : &own;
    if (!t->spec->model.init_from.given) return RP_STATUS_OK;
    enum rp_status status = load_first(t, found, err);
    if (status == RP_STATUS_OK) status = share(t, t->kept_block, t->plan->owners.kept_bytes, err);
    if (status == RP_STATUS_OK) status = rp_weights_begin_averages(t, err);
    if (status == RP_STATUS_OK && t->spec->model.init_from.load == RP_INIT_LOAD_ALL) {
        status = load_optimizer(t, found, err);
        if (status == RP_STATUS_OK) status = load_time(t, found, err);
    }
    rp_weights_release(found);
    return status;
}
