/* owners.c - every sum goes to its owner, who updates what it owns; then everybody gets what has
 * been updated (DESIGN 8). Who owns what stands in plan->owners. */
#include "train/train_int.h"

#include "base/mem.h"

enum { PIECE = 1 << 20 };

enum rp_status rp_owners_begin(struct rp_trainer *t, int node, int level,
                               const struct rp_pass *pass, struct rp_error *err)
{
    const struct rp_plan_owners *o = &t->plan->owners;
    for (; t->n_begun < o->n_exchanges && o->exchange[t->n_begun].after <= node; t->n_begun++) {
        const uint64_t *border = o->exchange[t->n_begun].border;
        for (int l = level; l > 0; l--)
            RP_TRY(rp_trainer_join_level(t, l, border[0], border[o->ranks], pass, err));
        RP_TRY(rp_comm_begin_reduce(&t->comm, t->sums, border, err));
    }
    return RP_STATUS_OK;
}

enum rp_status rp_owners_reduce(struct rp_trainer *t, struct rp_error *err)
{
    const struct rp_plan_owners *o = &t->plan->owners;
    uint64_t border[RP_COMM_MAX_RANKS + 1];
    t->n_begun = 0;
    if (!t->comm.mover) return RP_STATUS_OK;
    rp_comm_cut(&t->comm, o->shared_sums, o->sum_bytes, border);
    RP_TRY(rp_comm_begin_reduce(&t->comm, t->sums, border, err));
    RP_TRY(rp_comm_begin_gather(&t->comm, t->sums, border, err));
    return rp_comm_finish(&t->comm, err);
}

enum rp_status rp_owners_join_norm(struct rp_trainer *t, const struct rp_pass *pass,
                                   struct rp_error *err)
{
    RP_TRY(rp_comm_gather(&t->comm, t->chunks, t->plan->owners.norm, err));
    return t->in_order ? rp_trainer_run(t, &t->order_call, pass, err) : RP_STATUS_OK;
}

enum rp_status rp_owners_begin_gather(struct rp_trainer *t, int call, struct rp_error *err)
{
    const struct rp_plan_owners *o = &t->plan->owners;
    for (; t->n_begun < o->n_buckets && t->update_end[t->n_begun] <= call + 1; t->n_begun++)
        RP_TRY(rp_comm_begin_gather(&t->comm, t->kept_block, o->bucket[t->n_begun].kept, err));
    return RP_STATUS_OK;
}

enum rp_status rp_owners_gather(struct rp_trainer *t, struct rp_error *err)
{
    RP_TRY(rp_owners_begin_gather(t, t->n_update_calls, err)); /* of which nothing is its own */
    t->n_begun = 0;
    return rp_comm_finish(&t->comm, err);
}

/* ---- evaluation by averages ------------------------------------------------------------------ */

void *rp_trainer_shown(const struct rp_trainer *t, int i)
{
    const struct rp_model_tensor *kept = &t->model->kept[i];
    bool averaged = !t->eval_only && t->spec->train.ema_decay > 0 && !kept->frozen;
    if (!averaged) return t->kept[i];
    if (t->comm.n_ranks == 1 || kept->statistic) return t->average[i];
    return t->sums + t->sum_offset[kept->grad_tensor];
}

/* Within the device's memory, by way of the host: between evaluations lie many steps. */
static enum rp_status copy(struct rp_device *device, unsigned char *to, const unsigned char *from,
                           uint64_t bytes, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    void *piece = rp_mem_new(PIECE);
    for (uint64_t at = 0; at < bytes && status == RP_STATUS_OK; at += PIECE) {
        size_t n = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        status = device->table->copy_out(device, piece, from + at, n, err);
        if (status == RP_STATUS_OK) status = device->table->copy_in(device, to + at, piece, n, err);
    }
    rp_mem_free(piece);
    return status;
}

enum rp_status rp_owners_show_averages(struct rp_trainer *t, struct rp_error *err)
{
    if (t->comm.n_ranks == 1 || t->spec->train.ema_decay == 0) return RP_STATUS_OK;
    for (int i = 0; i < t->model->n_parameters; i++) {
        const struct rp_plan_part *own = &t->own[i];
        if (own->n == 0) continue;
        unsigned char *to =
            (unsigned char *)rp_trainer_shown(t, i) + (uint64_t)own->first * sizeof(float);
        RP_TRY(copy(t->device, to, t->average[i], (uint64_t)own->n * sizeof(float), err));
    }
    for (int j = 0; j < t->plan->owners.n_buckets; j++)
        RP_TRY(rp_comm_gather(&t->comm, t->sums, t->plan->owners.bucket[j].gradient, err));
    return RP_STATUS_OK;
}

/* ---- whole tensors for a checkpoint ---------------------------------------------------------- */

/* Where the parts of a parameter begin in its memory at `base`, by rank. */
static void part_borders(const struct rp_trainer *t, int i, uint64_t base, uint64_t *border)
{
    const struct rp_plan *plan = t->plan;
    uint64_t end = base;
    for (int r = 0; r < plan->ranks; r++) {
        struct rp_plan_part part = rp_plan_owned(plan, r, i);
        border[r] = end;
        end += (uint64_t)part.n * sizeof(float);
    }
    border[plan->ranks] = end;
}

enum rp_status rp_owners_join(struct rp_trainer *t, int i, const void *mine, const void **whole,
                              struct rp_error *err)
{
    uint64_t border[RP_COMM_MAX_RANKS + 1];
    uint64_t base = t->sum_offset[t->model->kept[i].grad_tensor];
    *whole = t->sums + base;
    part_borders(t, i, base, border);
    if (mine)
        RP_TRY(copy(t->device, t->sums + border[t->comm.rank], mine,
                    (uint64_t)t->own[i].n * sizeof(float), err));
    return rp_comm_gather(&t->comm, t->sums, border, err);
}
