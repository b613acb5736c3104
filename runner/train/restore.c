/* restore.c - the state of a checkpoint into memory, by all ranks together: each reads the model
 * and what it owns of the optimizer's state, and between them they read and hash every byte
 * (../checkpoint/parts.c). One that is damaged for anybody is skipped by everybody. */
#include "base/log.h"
#include "base/mem.h"
#include "train/train_int.h"

#include <stdio.h>
#include <string.h>

enum { MOST_STATES = 2 };

/* Where the tensors of a checkpoint belong. */
struct restoring {
    struct rp_trainer *t;
    bool *found;     /* (n_kept, 2 + MOST_STATES): the tensor, its average, its states */
    char unfit[160]; /* the first tensor with another shape than the model's */
    float *rows;     /* one whose file has another layout: as read so far */
    float *permuted; /* ... and as it lies in memory */
    int64_t most;    /* numbers that both hold */
    const char *names[MOST_STATES];
};
enum { TENSOR, AVERAGE, STATES, SLOTS = STATES + MOST_STATES };

/* ---- what a stored tensor is ----------------------------------------------------------------- */

/* "conv1.weight.exp_avg": a name of the model, and behind it what is kept beside it. */
static bool find_place(const struct rp_trainer *t, enum rp_checkpoint_kind kind, const char *name,
                       int *kept, int *slot)
{
    const struct rp_model *model = t->model;
    for (int i = 0; i < model->n_kept; i++) {
        size_t length = strlen(model->kept[i].name);
        if (strncmp(name, model->kept[i].name, length) != 0) continue;
        *kept = i;
        *slot = TENSOR;
        if (kind == RP_CHECKPOINT_OF_MODEL && name[length] == '\0') return true;
        if (kind == RP_CHECKPOINT_OF_MODEL || name[length] != '.') continue;
        const char *names[MOST_STATES];
        int n = rp_model_is_trained(&model->kept[i])
                    ? rp_optim_states(t->spec, rp_plan_optim_kind(&model->kept[i]), names)
                    : 0;
        *slot = AVERAGE;
        if (t->spec->train.ema_decay > 0 && !model->kept[i].frozen &&
            strcmp(name + length + 1, "ema") == 0)
            return true;
        for (int s = 0; s < n; s++) {
            *slot = STATES + s;
            if (strcmp(name + length + 1, names[s]) == 0) return true;
        }
    }
    return false;
}

static bool fits(const struct rp_model_tensor *kept, const struct rp_tensor *stored)
{
    int64_t dims[RP_MAX_DIMS];
    int n = rp_model_file_dims(kept, dims);
    bool same = stored->n_dims == n;
    for (int d = 0; same && d < n; d++) same = stored->dims[d] == dims[d];
    return same;
}

/* What `rank` keeps of it, in memory's order. */
static struct rp_plan_part kept_part(const struct rp_trainer *t, int rank, int kept, int slot)
{
    if (slot != TENSOR) return rp_plan_owned(t->plan, rank, kept);
    return (struct rp_plan_part){0, rp_tensor_elements(&t->model->kept[kept].shape)};
}

/* The same in the file's order: the rows that it lies in. */
static struct rp_checkpoint_part rows_of(const struct rp_model_tensor *kept,
                                         struct rp_plan_part part)
{
    int64_t row = rp_model_file_row(kept), end = part.first + part.n;
    if (part.n == 0) return (struct rp_checkpoint_part){0, 0};
    int64_t first = part.first / row * row;
    return (struct rp_checkpoint_part){first, (end + row - 1) / row * row - first};
}

static struct rp_checkpoint_part want(void *context, int rank, enum rp_checkpoint_kind kind,
                                      const struct rp_st_tensor *tensor)
{
    struct restoring *r = context;
    int i, slot;
    if (!find_place(r->t, kind, tensor->name, &i, &slot)) return (struct rp_checkpoint_part){0, 0};
    const struct rp_model_tensor *kept = &r->t->model->kept[i];
    if (!fits(kept, &tensor->shape)) {
        if (!r->unfit[0]) snprintf(r->unfit, sizeof r->unfit, "%s", tensor->name);
        return (struct rp_checkpoint_part){0, 0};
    }
    r->found[i * SLOTS + slot] = true;
    return rows_of(kept, kept_part(r->t, rank, i, slot));
}

static float *place_of(const struct rp_trainer *t, int i, int slot)
{
    return slot == TENSOR    ? t->kept[i]
           : slot == AVERAGE ? t->average[i]
                             : t->state[slot - STATES][i];
}

static enum rp_status take(void *context, enum rp_checkpoint_kind kind,
                           const struct rp_st_tensor *tensor, int64_t first, int64_t n,
                           const float *values, struct rp_error *err)
{
    struct restoring *r = context;
    struct rp_trainer *t = r->t;
    int i, slot;
    if (!find_place(t, kind, tensor->name, &i, &slot)) return RP_STATUS_OK;
    const struct rp_model_tensor *kept = &t->model->kept[i];
    struct rp_plan_part part = kept_part(t, t->comm.rank, i, slot);
    struct rp_checkpoint_part rows = rows_of(kept, part);
    int64_t row = rp_model_file_row(kept);
    float *to = place_of(t, i, slot);
    if (row == 1)
        return t->device->table->copy_in(t->device, to + (first - part.first), values,
                                         (size_t)n * sizeof *values, err);
    memcpy(r->rows + (first - rows.first), values, (size_t)n * sizeof *values);
    if (first + n < rows.first + rows.n) return RP_STATUS_OK;
    struct rp_model_tensor some = *kept;
    some.shape.dims[0] = rows.n / row;
    rp_model_from_file(&some, r->rows, r->permuted);
    return t->device->table->copy_in(t->device, to, r->permuted + (part.first - rows.first),
                                     (size_t)part.n * sizeof *values, err);
}

/* ---- what the ranks say ---------------------------------------------------------------------- */

struct verdict {
    int32_t status;
    char text[1024]; /* why not */
    uint64_t bytes;
    struct rp_checkpoint_proof proof;
};

/* A failure that every rank has come to: rank 0 tells it. */
static enum rp_status fail_together(const struct rp_comm *comm, enum rp_status status)
{
    if (comm->rank != 0) rp_log_mute();
    return status;
}

static bool is_damage(enum rp_status status)
{
    return status == RP_STATUS_DATA || status == RP_STATUS_STORAGE;
}

/* `why` is empty when it may be used. A failure that is no damage ends all. */
static enum rp_status judge(struct rp_comm *comm, const struct verdict *all, uint64_t step,
                            char why[1024], struct rp_error *err)
{
    const struct rp_checkpoint_proof *proof[RP_COMM_MAX_RANKS];
    int judge = 0, reader = 0;
    char who[300];
    why[0] = '\0';
    for (int r = comm->n_ranks - 1; r >= 0; r--) {
        proof[r] = &all[r].proof;
        if (is_damage((enum rp_status)all[r].status)) snprintf(why, 1024, "%s", all[r].text);
    }
    for (int r = 0; r < comm->n_ranks; r++) {
        enum rp_status status = (enum rp_status)all[r].status;
        if (status == RP_STATUS_OK || is_damage(status)) continue;
        rp_comm_rank_text(comm, r, who);
        return fail_together(
            comm, rp_error_set(err, status, r ? "%s: %s" : "%s%s", r ? who : "", all[r].text));
    }
    if (why[0] || rp_checkpoint_proofs_agree(proof, comm->n_ranks, &judge, &reader))
        return RP_STATUS_OK;
    rp_comm_rank_text(comm, reader, who);
    snprintf(why, 1024,
             "%s has read other bytes of step %llu than rank %d: a file has changed meanwhile, or "
             "its host gives other bytes",
             who, (unsigned long long)step, judge);
    return RP_STATUS_OK;
}

/* Every rank sees every header, so all come to the same. */
static enum rp_status check_complete(const struct restoring *r, struct rp_error *err)
{
    const struct rp_trainer *t = r->t;
    if (r->unfit[0])
        return rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                            "tensor %s has another shape in the file than in the model", r->unfit);
    for (int i = 0; i < t->model->n_kept; i++) {
        const struct rp_model_tensor *kept = &t->model->kept[i];
        const char *names[MOST_STATES], *missing = NULL;
        const bool *found = &r->found[i * SLOTS];
        int n = rp_model_is_trained(kept)
                    ? rp_optim_states(t->spec, rp_plan_optim_kind(kept), names)
                    : 0;
        for (int s = n - 1; s >= 0; s--)
            if (!found[STATES + s]) missing = names[s];
        if (t->spec->train.ema_decay > 0 && !kept->frozen && !found[AVERAGE]) missing = "ema";
        if (!found[TENSOR]) missing = "";
        if (missing)
            return rp_error_set(err, RP_STATUS_NO_CHECKPOINT,
                                "tensor %s%s%s is missing; the file belongs to another model",
                                kept->name, missing[0] ? "." : "", missing);
    }
    return RP_STATUS_OK;
}

/* ---- one checkpoint, and which --------------------------------------------------------------- */

static enum rp_status new_buffers(struct restoring *r, struct rp_error *err)
{
    const struct rp_model *model = r->t->model;
    for (int i = 0; i < model->n_kept; i++) {
        int64_t n = rp_tensor_elements(&model->kept[i].shape);
        if (rp_model_file_row(&model->kept[i]) > 1 && n > r->most) r->most = n;
    }
    r->found = RP_NEW_ARRAY(bool, model->n_kept *SLOTS);
    r->rows = rp_mem_try((size_t)r->most * sizeof(float));
    r->permuted = rp_mem_try((size_t)r->most * sizeof(float));
    if (r->rows && r->permuted) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_MEMORY, "no memory to read a checkpoint with");
}

static void free_buffers(struct restoring *r)
{
    rp_mem_free(r->permuted);
    rp_mem_free(r->rows);
    rp_mem_free(r->found);
}

/* STOPPED at once: the others are told by the end of this rank. */
static enum rp_status try_step(struct restoring *r, const char *run, uint64_t step, bool *usable,
                               struct rp_weights_origin *origin, struct rp_error *err)
{
    struct rp_comm *comm = &r->t->comm;
    const struct rp_stop stop = {rp_ranks_stop_asked, comm};
    struct rp_checkpoint_reader reader = {comm->rank, comm->n_ranks, want, take, r, &stop};
    struct rp_checkpoint_reading *reading = RP_NEW(struct rp_checkpoint_reading);
    struct verdict *mine = RP_NEW(struct verdict);
    struct verdict *all = RP_NEW_ARRAY(struct verdict, comm->n_ranks);
    struct rp_error why = {0};
    enum rp_status status = rp_checkpoint_read(run, step, &reader, reading, &why);
    *usable = false;
    if (status == RP_STATUS_STOPPED) {
        status = rp_error_set(err, status, "%s", why.text);
        goto out;
    }
    *mine = (struct verdict){.status = (int32_t)status, .bytes = reading->bytes};
    mine->proof = reading->proof;
    snprintf(mine->text, sizeof mine->text, "%.1000s", why.text);
    RP_TRY_GOTO(status, rp_comm_agree(comm, mine, sizeof *mine, all, err), out);
    char text[1024];
    RP_TRY_GOTO(status, judge(comm, all, step, text, err), out);
    if (text[0] && comm->rank == 0) rp_checkpoint_warn_damaged(run, step, text);
    *usable = !text[0];
    if (!*usable) goto out;
    status = check_complete(r, err);
    if (status != RP_STATUS_OK) status = fail_together(comm, status);
    origin->restored = true;
    origin->state = reading->state;
    origin->tensors_hash = reading->tensors_hash;
    for (int q = 0; q < comm->n_ranks; q++) origin->bytes[q] = all[q].bytes;
out:
    rp_mem_free(all);
    rp_mem_free(mine);
    rp_mem_free(reading);
    return status;
}

/* Rank 0 says which comes next; UINT64_MAX: none is left. */
static enum rp_status next_step(struct rp_comm *comm, const uint64_t *steps, int *left,
                                uint64_t only, uint64_t *step, struct rp_error *err)
{
    uint64_t mine = UINT64_MAX, all[RP_COMM_MAX_RANKS];
    while (*left > 0 && mine == UINT64_MAX) {
        mine = steps[--*left];
        if (only != UINT64_MAX && mine != only) mine = UINT64_MAX;
    }
    RP_TRY(rp_comm_agree(comm, &mine, sizeof mine, all, err));
    *step = all[0];
    return RP_STATUS_OK;
}

enum rp_status rp_weights_restore(struct rp_trainer *t, const char *run, uint64_t only,
                                  struct rp_weights_origin *origin, struct rp_error *err)
{
    struct restoring r = {.t = t};
    uint64_t *steps = NULL, step = 0;
    int left = 0, tried = 0;
    bool usable = false;
    enum rp_status status = new_buffers(&r, err);
    if (status == RP_STATUS_OK && t->comm.rank == 0)
        status = rp_checkpoint_list_all(run, &steps, &left, err);
    while (status == RP_STATUS_OK && !usable) {
        RP_TRY_GOTO(status, next_step(&t->comm, steps, &left, only, &step, err), out);
        if (step == UINT64_MAX) break;
        tried++;
        r.unfit[0] = '\0';
        memset(r.found, 0, (size_t)t->model->n_kept * SLOTS * sizeof *r.found);
        status = try_step(&r, run, step, &usable, origin, err);
    }
    if (status == RP_STATUS_OK && tried && !usable)
        status = fail_together(&t->comm, rp_checkpoint_none_usable(run, tried, err));
    t->optim = (struct rp_optim_state){.t = origin->state.t,
                                       .beta1_power = origin->state.beta1_power,
                                       .beta2_power = origin->state.beta2_power};
out:
    rp_mem_free(steps);
    free_buffers(&r);
    return status;
}
