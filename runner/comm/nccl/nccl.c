/* nccl.c - the module reprise_nccl: bytes between GPUs through NVIDIA's NCCL, which adds nothing.
 *
 * The communicator does not block: whatever may wait for other ranks is looked at again and again,
 * and given up when the control channel has found one lost; then ncclCommAbort ends what runs on
 * the GPU. A call returns when it is on its stream, where bytes move beside what the GPU computes;
 * `wait` looks until they have moved, and the program asks for that before it waits for the GPU in
 * any other way. So nobody is ever stuck in a wait for the GPU that another rank would have to end.
 *
 * No two ranks wait for each other in a circle. Each issues the same collectives in the same order
 * (compared before step 0), all of them on one stream, and each collective waits on the device for
 * work that was issued before it alone. So take a rank that has issued the fewest: what it has
 * issued all others have too, and the oldest of these that is not done has everything that it waits
 * for. This holds whatever a rank's processor may be held up by on the way (a first launch, memory
 * that NCCL takes), since that can only be the end of what the rank has issued already; and if the
 * GPU should serve both streams by one queue, since in that queue nothing stands before what was
 * issued earlier.
 *
 * Nothing of NCCL is captured in a graph: a communicator that does not block launches on a thread
 * of its own, and what a graph holds cannot be looked at or given up by itself. */
#include "comm/nccl/nccl_int.h"

#include <stdio.h>
#include <string.h>

struct world {
    struct rp_nccl_comm *comm; /* NULL: aborted */
    int rank, n_ranks;
    struct rp_comm_patience patience;
    struct rp_comm_stream stream;
    bool moving; /* something was asked for that nobody has waited for */
};

static const struct rp_extension_host *host;
static struct rp_nccl nccl;
static char libraries[64] = "NCCL";

/* After a failure nothing can be done with the communicator but this. */
static bool give_up(struct world *w, const char *what, const char *why_so,
                    char why[RP_COMM_WHY_BYTES])
{
    snprintf(why, RP_COMM_WHY_BYTES, "NCCL, %s: %.450s", what, why_so);
    if (w->comm) nccl.CommAbort(w->comm);
    w->comm = NULL;
    return false;
}

static bool fail(struct world *w, const char *what, int code, char why[RP_COMM_WHY_BYTES])
{
    static const char alone[] =
        "; where each rank sees one GPU alone (srun --gpus-per-task), let it see all of its host's";
    char text[600];
    const char *last = w->comm ? nccl.GetLastError(w->comm) : NULL;
    snprintf(text, sizeof text, "%.100s%s%.250s%s; NCCL_DEBUG=INFO tells more",
             nccl.GetErrorString(code), last && last[0] ? ": " : "", last ? last : "",
             code == RP_NCCL_CUDA_ERROR ? alone : "");
    return give_up(w, what, text, why);
}

/* Until what was asked of the communicator last is under way. */
static bool finish_call(struct world *w, const char *what, int code, char why[RP_COMM_WHY_BYTES])
{
    if (code != RP_NCCL_SUCCESS && code != RP_NCCL_IN_PROGRESS) return fail(w, what, code, why);
    for (uint32_t looks = 0;; looks++) {
        int asked = nccl.CommGetAsyncError(w->comm, &code);
        if (asked != RP_NCCL_SUCCESS) return fail(w, what, asked, why);
        if (code == RP_NCCL_SUCCESS) return true;
        if (code != RP_NCCL_IN_PROGRESS) return fail(w, what, code, why);
        if (!w->patience.rest(w->patience.context, looks))
            return give_up(w, what, "gave up waiting for the other ranks", why);
    }
}

/* Until the bytes of all calls have moved. */
static bool wait_for_all(void *world, char why[RP_COMM_WHY_BYTES])
{
    static const char what[] = "waiting for its bytes";
    struct world *w = world;
    if (!w->comm) return give_up(w, what, "it was aborted before", why);
    for (uint32_t looks = 0;; looks++) {
        int state = w->stream.state(w->stream.context), code = RP_NCCL_SUCCESS;
        int asked = nccl.CommGetAsyncError(w->comm, &code);
        if (state < 0) return give_up(w, what, "the GPU failed", why);
        if (asked != RP_NCCL_SUCCESS) return fail(w, what, asked, why);
        if (code != RP_NCCL_SUCCESS && code != RP_NCCL_IN_PROGRESS) return fail(w, what, code, why);
        if (state > 0) break;
        if (!w->patience.rest(w->patience.context, looks))
            return give_up(w, what, "gave up waiting for the other ranks", why);
    }
    w->moving = false;
    return true;
}

/* ---- moving ---------------------------------------------------------------------------------- */

static uint64_t slice(const uint64_t *border, int rank)
{
    return border[rank + 1] - border[rank];
}

/* Ends a group in any case; `code` is of the calls in it. */
static bool finish_group(struct world *w, const char *what, int code, char why[RP_COMM_WHY_BYTES])
{
    int ended = nccl.GroupEnd();
    if (code != RP_NCCL_SUCCESS && code != RP_NCCL_IN_PROGRESS) return fail(w, what, code, why);
    w->moving = true;
    return finish_call(w, what, ended, why);
}

static bool is_fine(int code)
{
    return code == RP_NCCL_SUCCESS || code == RP_NCCL_IN_PROGRESS;
}

static bool all_to_all(void *world, const void *block, const uint64_t *border, void *out,
                       char why[RP_COMM_WHY_BYTES])
{
    struct world *w = world;
    uint64_t own = slice(border, w->rank);
    if (!w->comm) return give_up(w, "all-to-all", "it was aborted before", why);
    int code = nccl.GroupStart();
    for (int i = 0; i < w->n_ranks && is_fine(code); i++) {
        int to = (w->rank + i) % w->n_ranks, from = (w->rank + w->n_ranks - i) % w->n_ranks;
        if (slice(border, to) > 0)
            code = nccl.Send((const char *)block + border[to], slice(border, to), RP_NCCL_UINT8, to,
                             w->comm, w->stream.stream);
        if (own > 0 && is_fine(code))
            code = nccl.Recv((char *)out + own * (uint64_t)from, own, RP_NCCL_UINT8, from, w->comm,
                             w->stream.stream);
    }
    return finish_group(w, "all-to-all", code, why);
}

static bool even(const uint64_t *border, int n_ranks)
{
    for (int r = 1; r < n_ranks; r++)
        if (slice(border, r) != slice(border, 0)) return false;
    return true;
}

static bool all_gather(void *world, void *block, const uint64_t *border,
                       char why[RP_COMM_WHY_BYTES])
{
    struct world *w = world;
    char *at = block;
    if (!w->comm) return give_up(w, "all-gather", "it was aborted before", why);
    int code = nccl.GroupStart();
    if (is_fine(code) && even(border, w->n_ranks)) {
        code = nccl.AllGather(at + border[w->rank], at + border[0], slice(border, 0), RP_NCCL_UINT8,
                              w->comm, w->stream.stream);
        return finish_group(w, "all-gather", code, why);
    }
    for (int r = 0; r < w->n_ranks && is_fine(code); r++)
        if (slice(border, r) > 0)
            code = nccl.Broadcast(at + border[r], at + border[r], slice(border, r), RP_NCCL_UINT8,
                                  r, w->comm, w->stream.stream);
    return finish_group(w, "all-gather", code, why);
}

/* ---- opening, closing ------------------------------------------------------------------------ */

static enum rp_status look(const char *path, char why[RP_COMM_WHY_BYTES])
{
    char version[32];
    if (nccl.version) return RP_STATUS_OK;
    enum rp_status status = rp_nccl_load(path, &nccl, why);
    if (status != RP_STATUS_OK) return status;
    rp_nccl_version_text(nccl.version, version);
    snprintf(libraries, sizeof libraries, "NCCL %s", version);
    return RP_STATUS_OK;
}

/* Rank 0 makes the id, the others get it over the control channel. */
static bool share_id(const struct rp_comm_module_options *options, struct rp_nccl_id *id,
                     char why[RP_COMM_WHY_BYTES])
{
    const struct rp_comm_store *store = &options->store;
    static const char key[] = "nccl";
    void *bytes = NULL;
    size_t n = 0;
    if (options->rank == 0) {
        int code = nccl.GetUniqueId(id);
        if (code == RP_NCCL_SUCCESS) return store->set(store->context, key, id, sizeof *id);
        snprintf(why, RP_COMM_WHY_BYTES, "NCCL, unique id: %.200s: %.200s",
                 nccl.GetErrorString(code), nccl.GetLastError(NULL));
        return false;
    }
    bool got = store->get(store->context, key, &bytes, &n) && n == sizeof *id;
    if (got) memcpy(id, bytes, sizeof *id);
    host->release(bytes);
    if (!got) snprintf(why, RP_COMM_WHY_BYTES, "rank 0 did not give NCCL's unique id");
    return got;
}

static enum rp_status open_world(const struct rp_comm_module_options *options, void **world,
                                 char why[RP_COMM_WHY_BYTES])
{
    struct rp_nccl_config config = {.size = sizeof config,
                                    .magic = (unsigned)RP_NCCL_MAGIC,
                                    .version = RP_NCCL_OLDEST,
                                    .blocking = 0};
    struct rp_nccl_id id;
    if (!share_id(options, &id, why)) return RP_STATUS_PEER_LOST;
    struct world *w = host->allocate(sizeof *w);
    if (!w) {
        snprintf(why, RP_COMM_WHY_BYTES, "no memory for the world of NCCL");
        return RP_STATUS_MEMORY;
    }
    w->rank = options->rank;
    w->n_ranks = options->n_ranks;
    w->patience = options->patience;
    w->stream = options->stream;
    int code = nccl.CommInitRankConfig(&w->comm, w->n_ranks, id, w->rank, &config);
    if (finish_call(w, "start", code, why)) {
        *world = w;
        return RP_STATUS_OK;
    }
    host->release(w);
    return RP_STATUS_PEER_LOST;
}

/* Everybody who ends in order comes here; where somebody does not, patience is over. */
static bool finalize(struct world *w)
{
    static const uint32_t looks_to_leave = 40000; /* some seconds of them */
    int code = nccl.CommFinalize(w->comm);
    for (uint32_t looks = 0; is_fine(code) && looks < looks_to_leave; looks++) {
        if (nccl.CommGetAsyncError(w->comm, &code) != RP_NCCL_SUCCESS) return false;
        if (code != RP_NCCL_IN_PROGRESS) break;
        (void)w->patience.rest(NULL, looks);
    }
    return code == RP_NCCL_SUCCESS;
}

/* A rank that fails while bytes are on the way cannot count on the others. */
static void close_world(void *world)
{
    struct world *w = world;
    if (w->comm && !w->moving && finalize(w))
        nccl.CommDestroy(w->comm);
    else if (w->comm)
        nccl.CommAbort(w->comm);
    host->release(w);
}

static const struct rp_comm_module table = {
    .extension = {RP_EXTENSION_VERSION, "reprise_nccl", libraries},
    .device_memory = true,
    .look = look,
    .open = open_world,
    .close = close_world,
    .all_to_all = all_to_all,
    .all_gather = all_gather,
    .wait = wait_for_all,
};

const struct rp_extension *rp_module_v1(const struct rp_extension_host *from)
{
    if (from->version != RP_EXTENSION_VERSION) return NULL;
    host = from;
    return &table.extension;
}
