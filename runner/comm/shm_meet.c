/* shm_meet.c - how the ranks of one host come to share memory.
 *
 * The memory has no name: rank 0 says under which number it has it open, and the others find it
 * among the open files of that process. That works for processes of one user that see each other in
 * /proc, and nothing is left behind. Whether they are on one host is first asked of the kernel (the
 * id of its start), then proved by a secret in the memory. */
#include "comm/shm.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

enum { TEXT = 256 };

struct offer {
    char boot[64];
    uint64_t secret[2]; /* rank 0's, like all below: it stands in the memory */
    int32_t pid, fd;
    int32_t status;
    char why[TEXT];
};

struct answer {
    uint8_t has_it;
    char why[TEXT];
};

/* The area of rank 0 is free until all have met. */
static void make(struct offer *offer, int n_ranks, struct rp_sys_shared *memory)
{
    struct rp_error err = {0};
    offer->status = (int32_t)rp_sys_shared_new(rp_comm_shared_bytes(n_ranks), memory, &err);
    snprintf(offer->why, sizeof offer->why, "%.255s", err.text);
    if (offer->status != RP_STATUS_OK) return;
    offer->pid = rp_sys_pid();
    offer->fd = memory->fd;
    for (int i = 0; i < 2; i++) offer->secret[i] = rp_sys_random();
    memcpy(memory->at, offer->secret, sizeof offer->secret);
}

static void find(const struct offer *offer, const struct offer *own, int n_ranks,
                 struct rp_sys_shared *memory, struct answer *answer)
{
    struct rp_error err = {0};
    if (!offer->boot[0] || strcmp(offer->boot, own->boot) != 0) {
        snprintf(answer->why, sizeof answer->why, "it is on another host");
        return;
    }
    if (rp_sys_shared_open(offer->pid, offer->fd, rp_comm_shared_bytes(n_ranks), memory, &err) !=
        RP_STATUS_OK) {
        snprintf(answer->why, sizeof answer->why, "%.255s", err.text);
        return;
    }
    answer->has_it = memcmp(memory->at, offer->secret, sizeof offer->secret) == 0;
    if (!answer->has_it) snprintf(answer->why, sizeof answer->why, "that process is another");
}

static bool all_have_it(const struct rp_comm *comm, const struct answer *all,
                        char why[RP_COMM_WHY_BYTES])
{
    char who[300];
    for (int r = 1; r < comm->n_ranks; r++) {
        if (all[r].has_it) continue;
        rp_comm_rank_text(comm, r, who);
        snprintf(why, RP_COMM_WHY_BYTES, "%.200s cannot share memory with rank 0: %.255s", who,
                 all[r].why);
        return false;
    }
    return true;
}

static enum rp_status exchange(struct rp_comm *comm, struct rp_sys_shared *memory,
                               char why[RP_COMM_WHY_BYTES], bool *met, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    struct offer mine, *offer = RP_NEW_ARRAY(struct offer, comm->n_ranks);
    struct answer own, *all = RP_NEW_ARRAY(struct answer, comm->n_ranks);
    memset(&mine, 0, sizeof mine);
    memset(&own, 0, sizeof own);
    rp_sys_boot(mine.boot);
    if (comm->rank == 0) make(&mine, comm->n_ranks, memory);
    RP_TRY_GOTO(status, rp_comm_agree(comm, &mine, sizeof mine, offer, err), out);
    if (offer->status == RP_STATUS_MEMORY)
        RP_TRY_GOTO(status, rp_error_set(err, RP_STATUS_MEMORY, "%s", offer->why), out);
    if (offer->status != RP_STATUS_OK) {
        snprintf(why, RP_COMM_WHY_BYTES, "%s", offer->why);
        goto out;
    }
    if (comm->rank != 0) find(offer, &mine, comm->n_ranks, memory, &own);
    RP_TRY_GOTO(status, rp_comm_agree(comm, &own, sizeof own, all, err), out);
    *met = all_have_it(comm, all, why);
out:
    rp_mem_free(all);
    rp_mem_free(offer);
    return status;
}

enum rp_status rp_shm_meet(struct rp_comm *comm, const struct rp_comm_patience *patience,
                           struct rp_shm **shm, char why[RP_COMM_WHY_BYTES], struct rp_error *err)
{
    struct rp_sys_shared memory = {.fd = -1};
    bool met = false;
    *shm = NULL;
    enum rp_status status = exchange(comm, &memory, why, &met, err);
    if (status == RP_STATUS_OK && met) {
        rp_sys_shared_forget(&memory);
        *shm = rp_shm_new(&memory, comm->rank, comm->n_ranks, patience);
    } else {
        rp_sys_shared_close(&memory);
    }
    return status;
}
