/* connect.c - the ranks' module brings them together, and lets them go. */
#include "comm/control.h"
#include "comm/mover.h"
#include "comm/shm.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* ---- what a module asks of us ---------------------------------------------------------------- */

static bool store_set(void *context, const char *key, const void *bytes, size_t n)
{
    return rp_control_set(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

static bool store_get(void *context, const char *key, void **bytes, size_t *n)
{
    return rp_control_get(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

/* Others may need this processor to do what we wait for: soon it is theirs altogether. */
static bool rest(void *context, uint32_t looks)
{
    if (looks < 2000)
        sched_yield();
    else
        rp_sys_sleep(50e-6);
    return !context || looks % 64 != 0 || !rp_control_is_over(context);
}

static int stream_state(void *context)
{
    struct rp_device *device = context;
    return device->table->beside_state(device);
}

/* ---- all alike ------------------------------------------------------------------------------- */

struct sign {
    char module[32], device[64]; /* device: "" where it has no name of its own */
    uint8_t shares;
};

static enum rp_status compare(const struct rp_comm *comm, const struct sign *all,
                              struct rp_error *err)
{
    char who[300], other[300];
    for (int r = 1; r < comm->n_ranks; r++) {
        rp_comm_rank_text(comm, r, who);
        if (strcmp(all[r].module, all[0].module) != 0)
            return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                "%s would move bytes with %s, rank 0 with %s: give all ranks the "
                                "same kind of device (resources.device) and the same build",
                                who, all[r].module, all[0].module);
        for (int q = 0; q < r; q++) {
            if (!all[r].device[0] || strcmp(all[r].device, all[q].device) != 0) continue;
            if (all[r].shares && all[q].shares) continue;
            rp_comm_rank_text(comm, q, other);
            return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                "%s and %s are both on the GPU %s: a rank needs a GPU of its own. "
                                "Start as many ranks as a host has GPUs, and let every rank see "
                                "all of them or one each (CUDA_VISIBLE_DEVICES)",
                                other, who, all[r].device);
        }
    }
    return RP_STATUS_OK;
}

static enum rp_status check_alike(struct rp_comm *comm, struct rp_error *err)
{
    const struct rp_comm_mover *m = comm->mover;
    struct rp_device_facts facts;
    struct sign mine, *all = RP_NEW_ARRAY(struct sign, comm->n_ranks);
    memset(&mine, 0, sizeof mine);
    m->device->table->facts(m->device, &facts);
    snprintf(mine.module, sizeof mine.module, "%s", m->name);
    snprintf(mine.device, sizeof mine.device, "%s", facts.id);
    mine.shares = m->device->config.share;
    enum rp_status status = rp_comm_agree(comm, &mine, sizeof mine, all, err);
    if (status == RP_STATUS_OK) status = compare(comm, all, err);
    rp_mem_free(all);
    return status;
}

/* ---- opening, closing ------------------------------------------------------------------------ */

/* Memory of the host where every rank can have it; else, if that may be, Gloo. */
static enum rp_status share_memory(struct rp_comm *comm, struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    const struct rp_comm_patience patience = {comm->control, rest};
    char why[RP_COMM_WHY_BYTES] = "";
    struct rp_shm *shm = NULL;
    RP_TRY(rp_shm_meet(comm, &patience, &shm, why, err));
    if (shm) {
        m->module = &rp_shm_module;
        m->name = m->module->extension.name;
        m->world = shm;
        return RP_STATUS_OK;
    }
    if (m->shm == RP_COMM_SHM_DEMAND)
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "resources.comm is shm, but %s: write `comm: auto`", why);
    if (comm->rank == 0) rp_log_info("bytes move between ranks through Gloo: %s", why);
    return rp_comm_open_gloo(m, err);
}

enum rp_status rp_comm_connect(struct rp_comm *comm, struct rp_error *err)
{
    struct rp_comm_mover *m = comm->mover;
    char why[RP_COMM_WHY_BYTES] = "";
    if (comm->n_ranks == 1) return RP_STATUS_OK;
    RP_TRY(check_alike(comm, err));
    if (m->shm != RP_COMM_SHM_NO) RP_TRY(share_memory(comm, err));
    if (m->world) return RP_STATUS_OK;
    struct rp_comm_module_options options = {.rank = comm->rank,
                                             .n_ranks = comm->n_ranks,
                                             .launcher = m->launcher,
                                             .own_address = rp_control_own_address(comm->control),
                                             .store = {comm->control, store_set, store_get},
                                             .patience = {comm->control, rest},
                                             .stream = {NULL, m->device, stream_state}};
    if (m->module->device_memory)
        RP_TRY(m->device->table->beside_begin(m->device, &options.stream.stream, err));
    rp_comm_note(comm, 0, "connect"); /* all are here: what follows takes no more than its time */
    enum rp_status status = m->module->open(&options, &m->world, why);
    if (status == RP_STATUS_OK) rp_comm_note(comm, 0, "start");
    if (status == RP_STATUS_OK) return status;
    if (status == RP_STATUS_PEER_LOST) return rp_control_cause(comm->control, why, err);
    return rp_error_set(err, status, "%s", why);
}

bool rp_comm_disconnect(struct rp_comm *comm)
{
    struct rp_comm_mover *m = comm->mover;
    if (!m) return true;
    if (!rp_comm_end_background(m)) return false;
    if (m->world) m->module->close(m->world);
    if (m->parts) m->device->table->free(m->device, m->parts);
    rp_mem_free(m);
    comm->mover = NULL;
    return true;
}
