/* reduce.c - sums over ranks: a module moves the bytes, the additions are our own.
 *
 * reduce: a rank sends slice q of its node to rank q, and joins the parts of its own slice that it
 * gets in the order of the tree: each piece as it comes, or all of them when all are there. With a
 * gather behind it these are the bytes of a ring all-reduce.
 */
#include "comm/control.h"
#include "comm/mover.h"
#include "comm/tree.h"

/* What the device was asked for comes first: a library puts its own work behind that. */
static enum rp_status order_work(const struct rp_comm_mover *m, struct rp_error *err)
{
    void *stream = NULL;
    return m->module->device_memory ? m->device->table->beside_begin(m->device, &stream, err)
                                    : RP_STATUS_OK;
}

enum rp_status rp_comm_wait(struct rp_comm *comm, struct rp_error *err)
{
    const struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    if (!m->module->wait) return RP_STATUS_OK;
    RP_TRY(m->device->table->beside_end(m->device, err));
    if (m->module->wait(m->world, why)) return RP_STATUS_OK;
    return rp_control_cause(comm->control, why, err);
}

enum rp_status rp_comm_reserve(struct rp_comm *comm, uint64_t bytes, struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    if (!m || m->module->show_all_to_all || bytes <= m->bytes) return RP_STATUS_OK;
    m->device->table->free(m->device, m->parts);
    m->parts = NULL;
    m->bytes = 0;
    RP_TRY(m->device->table->alloc(m->device, (size_t)bytes, &m->parts, err));
    m->bytes = bytes;
    return RP_STATUS_OK;
}

/* Additions of what is shown, piece by piece: into the own slice, straight from where it came. */
struct joining {
    struct rp_device *device;
    int n_ranks;
    char *root;
    enum rp_status status;
    struct rp_error *err;
};

static bool join_piece(void *context, void *const *part, uint64_t at, uint64_t bytes)
{
    struct joining *j = context;
    j->status = rp_tree_join_parts(j->device, part, j->n_ranks, bytes / sizeof(float),
                                   (float *)(void *)(j->root + at), j->err);
    return j->status == RP_STATUS_OK;
}

static bool join_shown(const struct rp_comm *comm, struct rp_device *device, void *sums,
                       const uint64_t *border, enum rp_status *status, char why[RP_COMM_WHY_BYTES],
                       struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    struct joining joining = {.device = device,
                              .n_ranks = comm->n_ranks,
                              .root = (char *)sums + border[comm->rank],
                              .err = err};
    const struct rp_comm_taker taker = {&joining, join_piece};
    bool moved = m->module->show_all_to_all(m->world, sums, border, &taker, why);
    *status = joining.status;
    return moved || joining.status != RP_STATUS_OK;
}

bool rp_comm_join(const struct rp_comm *comm, struct rp_device *device, void *sums,
                  const uint64_t *border, enum rp_status *status, char why[RP_COMM_WHY_BYTES],
                  struct rp_error *err)
{
    const struct rp_comm_mover *m = comm->mover;
    uint64_t begin = border[comm->rank], bytes = border[comm->rank + 1] - begin;
    if (m->module->show_all_to_all) return join_shown(comm, device, sums, border, status, why, err);
    *status = RP_STATUS_OK;
    if (!m->module->all_to_all(m->world, sums, border, m->parts, why)) return false;
    *status = rp_tree_join(device, m->parts, comm->n_ranks, bytes / sizeof(float),
                           (float *)(void *)((char *)sums + begin), err);
    return true;
}

enum rp_status rp_comm_start_reduce(struct rp_comm *comm, void *sums, const uint64_t *border,
                                    struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    enum rp_status status = RP_STATUS_OK;
    RP_TRY(order_work(m, err));
    if (rp_comm_join(comm, m->device, sums, border, &status, why, err)) return status;
    return rp_control_cause(comm->control, why, err);
}

enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, const uint64_t *border,
                              struct rp_error *err)
{
    if (!comm->mover || border[0] == border[comm->n_ranks]) return RP_STATUS_OK;
    uint64_t bytes = border[comm->rank + 1] - border[comm->rank];
    RP_TRY(rp_comm_reserve(comm, bytes * (uint64_t)comm->n_ranks, err));
    RP_TRY(rp_comm_start_reduce(comm, sums, border, err));
    return rp_comm_wait(comm, err);
}

enum rp_status rp_comm_start_gather(struct rp_comm *comm, void *block, const uint64_t *border,
                                    struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    RP_TRY(order_work(m, err));
    if (m->module->all_gather(m->world, block, border, why)) return RP_STATUS_OK;
    return rp_control_cause(comm->control, why, err);
}

enum rp_status rp_comm_gather(struct rp_comm *comm, void *block, const uint64_t *border,
                              struct rp_error *err)
{
    if (!comm->mover || border[0] == border[comm->n_ranks]) return RP_STATUS_OK;
    RP_TRY(rp_comm_start_gather(comm, block, border, err));
    return rp_comm_wait(comm, err);
}

void rp_comm_cut(const struct rp_comm *comm, uint64_t begin, uint64_t end, uint64_t *border)
{
    uint64_t pieces = (end - begin) / RP_COMM_ALIGN, n = (uint64_t)comm->n_ranks;
    for (uint64_t r = 0; r <= n; r++) border[r] = begin + pieces * r / n * RP_COMM_ALIGN;
    border[n] = end;
}
