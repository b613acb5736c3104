/* ranks_auto.c - `ranks: auto` where nobody started ranks: one for each GPU. */
#include "base/log.h"
#include "env/env.h"
#include "train/start_int.h"

#include <string.h>

/* Several GPUs cannot be used without NCCL: then one is, as if the others were not there. */
static bool can_connect(const struct rp_start *start, int gpus)
{
    struct rp_error why = {0};
    if (rp_comm_has_nccl(&why)) return true;
    if (strcmp(start->spec->resources.comm, "nccl") == 0) return true; /* said when it is opened */
    rp_log_info("%d GPUs are here and one is used: %s", gpus, why.text);
    return false;
}

int rp_ranks_auto(const struct rp_start *start)
{
    int gpus = rp_env_count_gpus(start->spec), n = 1;
    int most = (int)start->spec->train.shards / start->world.n_nodes;
    while (2 * n <= gpus && 2 * n <= most && 2 * n <= RP_COMM_MAX_RANKS) n *= 2;
    return n > 1 && can_connect(start, gpus) ? n : 1;
}
