/* ranks.c - a run of several ranks: how they come together, what they agree on, how they part. */
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "env/env.h"
#include "train/start_int.h"

#include <stdio.h>
#include <string.h>

/* ---- coming together ------------------------------------------------------------------------- */

/* Ranks that a process on each node starts; without nodes those that the spec demands, or one for
 * each GPU. */
static enum rp_status count_local(const struct rp_start *start, int64_t *n, struct rp_error *err)
{
    const struct rp_comm_world *world = &start->world;
    int64_t demanded = start->spec->resources.ranks;
    *n = world->n_local       ? world->n_local
         : demanded == 0      ? rp_ranks_auto(start)
         : world->n_nodes > 1 ? demanded / world->n_nodes
                              : demanded;
    if (demanded == 0 || *n * world->n_nodes == demanded) return RP_STATUS_OK;
    if (world->n_nodes == 1)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "resources.ranks is %lld, but PET_NPROC_PER_NODE is %d: write `ranks: "
                            "auto`, or ask for as many (numProcPerNode)",
                            (long long)demanded, world->n_local);
    return rp_error_set(err, RP_STATUS_USAGE,
                        "resources.ranks is %lld, but %s started %d nodes%s: they cannot share "
                        "them evenly",
                        (long long)demanded, world->launcher, world->n_nodes,
                        world->n_local ? " with their own number of ranks each" : "");
}

static enum rp_status check_number(const struct rp_start *start, struct rp_error *err)
{
    int64_t demanded = start->spec->resources.ranks;
    const struct rp_comm_world *world = &start->world;
    if (world->n_ranks > RP_COMM_MAX_RANKS)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s started %d ranks; this build takes at most %d", world->launcher,
                            world->n_ranks, RP_COMM_MAX_RANKS);
    if (!world->launcher || world->n_nodes > 1 || demanded == 0 || demanded == world->n_ranks)
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "resources.ranks is %lld, but %s started %d: write `ranks: auto`, or start "
                        "as many",
                        (long long)demanded, world->launcher, world->n_ranks);
}

bool rp_ranks_stop_asked(void *comm)
{
    return rp_signals_stop_asked() || rp_comm_is_over(comm);
}

static bool asked(void *context)
{
    (void)context;
    return rp_signals_stop_asked();
}

static void before_end(void *context, enum rp_status status, const char *text)
{
    struct rp_start *start = context;
    struct rp_error err = {0};
    enum rp_status ignored = rp_error_set(&err, status, "%s", text);
    (void)ignored;
    rp_facts_lost(start, status, &err);
}

enum rp_status rp_ranks_find(struct rp_start *start, int *n_local, bool *starts,
                             struct rp_error *err)
{
    struct rp_comm_world *world = &start->world;
    int64_t n = 1;
    rp_comm_open_one(&start->comm);
    RP_TRY(rp_comm_discover(world, err));
    RP_TRY(check_number(start, err));
    *starts = !world->launcher || world->n_nodes > 1;
    if (*starts) RP_TRY(count_local(start, &n, err));
    *n_local = (int)n;
    return rp_plan_check_ranks(start->spec, *starts ? n * world->n_nodes : world->n_ranks, err);
}

enum rp_status rp_ranks_join(struct rp_start *start, struct rp_error *err)
{
    struct rp_comm_options options = {.peer_timeout = start->spec->resources.timeout_peer,
                                      .step_timeout = start->spec->resources.timeout_step,
                                      .stop = asked,
                                      .lost = rp_lost_note,
                                      .before_end = before_end,
                                      .context = start};
    return rp_comm_open(&start->world, &options, &start->comm, err);
}

enum rp_status rp_ranks_open(struct rp_start *start, struct rp_error *err)
{
    struct rp_comm_world *world = &start->world;
    int n_local = 1;
    bool starts = false;
    RP_TRY(rp_ranks_find(start, &n_local, &starts, err));
    if (starts && n_local * world->n_nodes > 1)
        RP_TRY(rp_comm_spawn(world, n_local, start->options->rank_words, err));
    if (world->n_ranks == 1) return RP_STATUS_OK;
    if (!starts && strcmp(start->spec->resources.comm, "mpi") == 0) rp_comm_shield(world->rank);
    rp_ranks_speak_as(world->rank);
    return rp_ranks_join(start, err);
}

void rp_ranks_speak_as(int rank)
{
    char host[256];
    rp_sys_host(host);
    if (rank != 0) rp_log_as_rank(rank, host);
}

int rp_ranks_threads(const struct rp_start *start)
{
    bool ours = start->world.launcher && strcmp(start->world.launcher, "reprise") == 0;
    return rp_env_threads_beside(start->spec, ours ? start->world.local_ranks : 1);
}

/* ---- the start ------------------------------------------------------------------------------- */

struct ready {
    char run[1024]; /* rank 0's folder */
    struct rp_sha256 alike, numeric, exchanges;
    uint8_t go;
};

/* Other data, or another order of exchanges, which would wait for each other for ever. */
static enum rp_status check_alike(const struct rp_start *start, const struct ready *all,
                                  struct rp_error *err)
{
    char who[300];
    for (int r = 1; r < start->comm.n_ranks; r++) {
        rp_comm_rank_text(&start->comm, r, who);
        if (memcmp(&all[r].alike, &all[0].alike, sizeof all[r].alike) != 0)
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s has another numeric digest than rank 0: its spec or its data "
                                "files are not the same",
                                who);
        if (memcmp(&all[r].exchanges, &all[0].exchanges, sizeof all[r].exchanges) != 0)
            return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                "%s would exchange gradients in other pieces than rank 0: give all "
                                "ranks the same REPRISE_BUCKET_BYTES, or none, and the same build",
                                who);
    }
    return RP_STATUS_OK;
}

enum rp_status rp_ranks_ready(struct rp_start *start, bool *go, struct rp_error *err)
{
    struct ready mine, *all = RP_NEW_ARRAY(struct ready, start->comm.n_ranks);
    memset(&mine, 0, sizeof mine);
    mine.alike = start->alike;
    mine.numeric = start->numeric;
    if (start->plan) mine.exchanges = rp_plan_exchange_digest(start->plan);
    mine.go = *go;
    char *run = rp_sys_absolute(start->run);
    snprintf(mine.run, sizeof mine.run, "%s", run);
    rp_mem_free(run);
    rp_comm_note(&start->comm, 0, "start");
    enum rp_status status = rp_comm_agree(&start->comm, &mine, sizeof mine, all, err);
    if (status != RP_STATUS_OK) goto out;
    *go = all[0].go;
    if (start->comm.rank != 0) {
        rp_mem_free(start->run);
        all[0].run[sizeof all[0].run - 1] = '\0';
        start->run = rp_mem_copy_text(all[0].run);
        start->numeric = all[0].numeric;
    }
    if (*go) status = check_alike(start, all, err);
out:
    rp_mem_free(all);
    return status;
}

void rp_ranks_close(struct rp_start *start, enum rp_status status, const char *text)
{
    rp_comm_close(&start->comm, status, text);
    bool in_order = status == RP_STATUS_OK || status == RP_STATUS_STOPPED;
    if (start->world.local_rank == 0) rp_comm_reap(in_order ? 10 : 1);
}

/* ---- between steps --------------------------------------------------------------------------- */

/* Its digests follow, where there are any. */
struct vote {
    uint64_t step, params;
    struct common {
        uint64_t digest;
        double norm;
        float loss;
        uint32_t applied;
    } common;
    double asked;
    int32_t signal;
    uint8_t stop, save;
};

static void fill_vote(struct vote *vote, uint64_t step, const struct rp_step_result *result,
                      const struct rp_decision *decision)
{
    vote->step = step;
    vote->signal = decision->signal;
    vote->stop = decision->stop;
    vote->asked = decision->asked;
    vote->save = decision->save;
    if (!result) return;
    vote->params = result->params;
    vote->common.digest = result->common;
    vote->common.norm = result->norm;
    vote->common.loss = result->loss;
    vote->common.applied = result->applied;
}

static enum rp_status refuse(struct rp_comm *comm, int rank, uint64_t step, struct rp_error *err)
{
    char who[300];
    rp_comm_rank_text(comm, rank, who);
    return rp_error_set(err, RP_STATUS_HARDWARE,
                        "%s has other sums than rank 0 after step %llu: suspect its machine", who,
                        (unsigned long long)step);
}

enum rp_status rp_ranks_decide(struct rp_comm *comm, uint64_t step, struct rp_step_result *result,
                               uint64_t *digests, int n, struct rp_decision *decision,
                               struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    size_t bytes = sizeof(struct vote) + (size_t)n * sizeof *digests;
    if (comm->n_ranks == 1) return RP_STATUS_OK;
    char *mine = rp_mem_new(bytes), *all = rp_mem_new(bytes * (size_t)comm->n_ranks);
    fill_vote((struct vote *)(void *)mine, step, result, decision);
    if (n > 0) memcpy(mine + sizeof(struct vote), digests, (size_t)n * sizeof *digests);
    if (n > 0) memset(digests, 0, (size_t)n * sizeof *digests);
    if (result) result->params = 0;
    rp_comm_note(comm, step, "agree");
    RP_TRY_GOTO(status, rp_comm_agree(comm, mine, bytes, all, err), out);
    const struct vote *first = (const struct vote *)(const void *)all;
    for (int r = 0; r < comm->n_ranks && status == RP_STATUS_OK; r++) {
        const struct vote *vote = (const struct vote *)(const void *)(all + (size_t)r * bytes);
        const uint64_t *of_rank = (const uint64_t *)(const void *)(vote + 1);
        decision->stop |= vote->stop;
        decision->save |= vote->save;
        if (vote->asked > decision->asked) decision->asked = vote->asked;
        if (!decision->signal) decision->signal = vote->signal;
        if (result) result->params += vote->params;
        for (int i = 0; i < n; i++) digests[i] += of_rank[i];
        if (vote->step != first->step ||
            memcmp(&vote->common, &first->common, sizeof vote->common) != 0)
            status = refuse(comm, r, step, err);
    }
out:
    rp_mem_free(all);
    rp_mem_free(mine);
    return status;
}
