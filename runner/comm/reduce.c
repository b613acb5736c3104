/* reduce.c - sums over ranks: a module moves the bytes, the additions are our own.
 *
 * reduce: a rank sends slice q of its node to rank q, and joins the parts of its own slice that it
 * gets in the order of the tree. With a gather behind it these are the bytes of a ring all-reduce.
 */
#include "comm/control.h"
#include "comm/module.h"
#include "comm/tree.h"

#include "base/mem.h"
#include "device.h"

struct rp_comm_mover {
    const struct rp_comm_module *module;
    void *world;              /* the module's; NULL: not connected */
    struct rp_device *device; /* whose memory holds the blocks, and which adds */
    void *parts;              /* (n_ranks, own slice) of the block that is reduced, or NULL */
    uint64_t bytes;
};

/* ---- opening ------------------------------------------------------------------------------------
 */

static bool store_set(void *context, const char *key, const void *bytes, size_t n)
{
    return rp_control_set(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

static bool store_get(void *context, const char *key, void **bytes, size_t *n)
{
    return rp_control_get(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

enum rp_status rp_comm_find(struct rp_comm *comm, const char *name, const char *advice,
                            struct rp_error *err)
{
    const struct rp_extension *extension = NULL;
    RP_TRY(rp_extension_open(name, advice, &extension, err));
    comm->mover = RP_NEW(struct rp_comm_mover);
    comm->mover->module = (const struct rp_comm_module *)(const void *)extension;
    return RP_STATUS_OK;
}

enum rp_status rp_comm_connect(struct rp_comm *comm, struct rp_device *device, void *stream,
                               struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    if (comm->n_ranks == 1) return RP_STATUS_OK;
    m->device = device;
    struct rp_comm_module_options options = {.rank = comm->rank,
                                             .n_ranks = comm->n_ranks,
                                             .own_address = rp_control_own_address(comm->control),
                                             .store = {comm->control, store_set, store_get},
                                             .stream = stream};
    if (m->module->open(&options, &m->world, why)) return RP_STATUS_OK;
    return rp_control_cause(comm->control, why, err);
}

void rp_comm_disconnect(struct rp_comm *comm)
{
    struct rp_comm_mover *m = comm->mover;
    if (!m) return;
    if (m->world) m->module->close(m->world);
    if (m->parts) m->device->table->free(m->device, m->parts);
    rp_mem_free(m);
    comm->mover = NULL;
}

/* ---- moving -------------------------------------------------------------------------------------
 */

enum rp_status rp_comm_reserve(struct rp_comm *comm, uint64_t bytes, struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    if (comm->n_ranks == 1 || bytes <= m->bytes) return RP_STATUS_OK;
    m->device->table->free(m->device, m->parts);
    m->parts = NULL;
    m->bytes = 0;
    RP_TRY(m->device->table->alloc(m->device, (size_t)bytes, &m->parts, err));
    m->bytes = bytes;
    return RP_STATUS_OK;
}

enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, const uint64_t *border,
                              struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    if (comm->n_ranks == 1 || border[0] == border[comm->n_ranks]) return RP_STATUS_OK;
    uint64_t begin = border[comm->rank], bytes = border[comm->rank + 1] - begin;
    RP_TRY(rp_comm_reserve(comm, bytes * (uint64_t)comm->n_ranks, err));
    if (!m->module->all_to_all(m->world, sums, border, m->parts, why))
        return rp_control_cause(comm->control, why, err);
    return rp_tree_join(m->device, m->parts, comm->n_ranks, bytes / sizeof(float),
                        (float *)(void *)((char *)sums + begin), err);
}

enum rp_status rp_comm_gather(struct rp_comm *comm, void *block, const uint64_t *border,
                              struct rp_error *err)
{
    char why[RP_COMM_WHY_BYTES] = "";
    if (comm->n_ranks == 1 || border[0] == border[comm->n_ranks]) return RP_STATUS_OK;
    if (comm->mover->module->all_gather(comm->mover->world, block, border, why))
        return RP_STATUS_OK;
    return rp_control_cause(comm->control, why, err);
}

void rp_comm_cut(const struct rp_comm *comm, uint64_t begin, uint64_t end, uint64_t *border)
{
    uint64_t pieces = (end - begin) / RP_COMM_ALIGN, n = (uint64_t)comm->n_ranks;
    for (uint64_t r = 0; r <= n; r++) border[r] = begin + pieces * r / n * RP_COMM_ALIGN;
    border[n] = end;
}
