/* mpi.c - a module reprise_mpi_NAME: bytes between ranks through the MPI of a site, for fabrics
 * that Gloo's TCP does not reach. One is built for each MPI that is found: their ABIs differ.
 *
 * Only messages from rank to rank are used, none of MPI's collectives: MPICH's turn a processor
 * over while they wait, which ruins ranks that share one, and nobody could leave them when a rank
 * is lost. */
#include "comm/module.h"

#include <errno.h>
#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_BYTES = 1 << 30 /* of a message: MPI counts in int */ };
enum { SECONDS_TO_SAY_WHY = 10 };
static const uint32_t looks_to_leave = 20000; /* at close: about two seconds of them */

struct world {
    MPI_Comm comm; /* in our order of ranks */
    int rank, n_ranks;
    struct rp_comm_patience patience;
    bool failed;
    MPI_Request *request; /* of the call under way */
    int n_requests, capacity;
};

static const struct rp_extension_host *host;

static bool fail(struct world *w, char why[RP_COMM_WHY_BYTES], const char *format, ...)
    RP_PRINTF(3, 4);
static bool fail(struct world *w, char why[RP_COMM_WHY_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(why, RP_COMM_WHY_BYTES, format, args);
    va_end(args);
    w->failed = true;
    return false;
}

static bool check(struct world *w, int code, const char *what, char why[RP_COMM_WHY_BYTES])
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    if (code == MPI_SUCCESS) return true;
    MPI_Error_string(code, text, &length);
    return fail(w, why, "%s: %.300s", what, text);
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool take_request(struct world *w, MPI_Request **request, char why[RP_COMM_WHY_BYTES])
{
    if (w->n_requests == w->capacity) {
        int capacity = w->capacity ? 2 * w->capacity : 4 * w->n_ranks;
        void *grown = realloc(w->request, sizeof *w->request * (size_t)capacity);
        if (!grown) return fail(w, why, "no memory for the list of messages");
        w->request = grown;
        w->capacity = capacity;
    }
    *request = &w->request[w->n_requests++];
    return true;
}

/* In pieces whose size an int can say; those between two ranks keep their order. */
static bool send_to(struct world *w, int rank, const void *bytes, uint64_t n,
                    char why[RP_COMM_WHY_BYTES])
{
    MPI_Request *request = NULL;
    for (const char *at = bytes; n > 0;) {
        int piece = n < MOST_BYTES ? (int)n : MOST_BYTES;
        if (!take_request(w, &request, why) ||
            !check(w, MPI_Isend(at, piece, MPI_BYTE, rank, 0, w->comm, request), "MPI_Isend", why))
            return false;
        at += piece;
        n -= (uint64_t)piece;
    }
    return true;
}

static bool receive_from(struct world *w, int rank, void *bytes, uint64_t n,
                         char why[RP_COMM_WHY_BYTES])
{
    MPI_Request *request = NULL;
    for (char *at = bytes; n > 0;) {
        int piece = n < MOST_BYTES ? (int)n : MOST_BYTES;
        if (!take_request(w, &request, why) ||
            !check(w, MPI_Irecv(at, piece, MPI_BYTE, rank, 0, w->comm, request), "MPI_Irecv", why))
            return false;
        at += piece;
        n -= (uint64_t)piece;
    }
    return true;
}

/* A look at one message lets MPI get on with all of them. */
static bool finish(struct world *w, char why[RP_COMM_WHY_BYTES])
{
    uint32_t looks = 0;
    for (int i = 0, done = 0; i < w->n_requests; i += done ? 1 : 0) {
        if (!check(w, MPI_Test(&w->request[i], &done, MPI_STATUS_IGNORE), "MPI_Test", why))
            return false;
        if (!done && !w->patience.rest(w->patience.context, looks++))
            return fail(w, why, "gave up waiting for the other ranks");
    }
    w->n_requests = 0;
    return true;
}

static uint64_t slice(const uint64_t *border, int rank)
{
    return border[rank + 1] - border[rank];
}

static bool all_to_all(void *world, const void *block, const uint64_t *border, void *out,
                       char why[RP_COMM_WHY_BYTES])
{
    struct world *w = world;
    uint64_t own = slice(border, w->rank);
    const char *from = block;
    if (own > 0) memcpy((char *)out + own * (uint64_t)w->rank, from + border[w->rank], own);
    for (int i = 1; i < w->n_ranks; i++) {
        int left = (w->rank + w->n_ranks - i) % w->n_ranks, right = (w->rank + i) % w->n_ranks;
        if (!receive_from(w, left, (char *)out + own * (uint64_t)left, own, why) ||
            !send_to(w, right, from + border[right], slice(border, right), why))
            return false;
    }
    return finish(w, why);
}

static bool all_gather(void *world, void *block, const uint64_t *border,
                       char why[RP_COMM_WHY_BYTES])
{
    struct world *w = world;
    char *at = block;
    for (int i = 1; i < w->n_ranks; i++) {
        int left = (w->rank + w->n_ranks - i) % w->n_ranks, right = (w->rank + i) % w->n_ranks;
        if (!receive_from(w, left, at + border[left], slice(border, left), why) ||
            !send_to(w, right, at + border[w->rank], slice(border, w->rank), why))
            return false;
    }
    return finish(w, why);
}

/* ---- a library that aborts ------------------------------------------------------------------- */

/* MPICH's UCX calls abort() on a rank that touches a dead one. The thread that does so is held here
 * until the thread of the control channel has said why and ended the process. */
static void hold_abort(int number)
{
    const struct timespec longest = {.tv_sec = SECONDS_TO_SAY_WHY};
    struct timespec left = longest;
    (void)number;
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
    }
}

static void hold_aborts(bool on)
{
    struct sigaction action = {.sa_handler = on ? hold_abort : SIG_DFL};
    sigemptyset(&action.sa_mask);
    sigaction(SIGABRT, &action, NULL);
}

/* ---- opening, closing ------------------------------------------------------------------------ */

/* "MPICH 4.0.2" of the long text that an MPI says of itself. */
static void name_library(char name[64])
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "", mpich[16] = "";
    int length = 0;
    MPI_Get_library_version(text, &length);
    if (sscanf(text, "MPICH Version: %15s", mpich) == 1)
        snprintf(name, 64, "MPICH %s", mpich);
    else
        snprintf(name, 64, "%.*s", (int)strcspn(text, ",\n"), text);
}

static char libraries[64];

/* MPI was not told of the others where its launcher is another than the one that started us. */
static enum rp_status check_world(const struct rp_comm_module_options *options,
                                  char why[RP_COMM_WHY_BYTES])
{
    int n = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    if (n == options->n_ranks) return RP_STATUS_OK;
    snprintf(why, RP_COMM_WHY_BYTES,
             "%s started %d ranks, but %s has a world of %d: it was not told of the others. Start "
             "them with the mpirun of that MPI, or under Slurm with `srun --mpi=pmi2` (MPICH) or "
             "`srun --mpi=pmix` (Open MPI); `resources: {comm: gloo}` needs no MPI",
             options->launcher, options->n_ranks, libraries, n);
    return RP_STATUS_USAGE;
}

static enum rp_status start_mpi(const struct rp_comm_module_options *options,
                                char why[RP_COMM_WHY_BYTES])
{
    int given = MPI_THREAD_SINGLE, begun = 0;
    MPI_Initialized(&begun);
    if (!begun && MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &given) != MPI_SUCCESS) {
        snprintf(why, RP_COMM_WHY_BYTES, "MPI_Init_thread failed");
        return RP_STATUS_ENVIRONMENT;
    }
    MPI_Query_thread(&given);
    if (given >= MPI_THREAD_SERIALIZED) return check_world(options, why);
    snprintf(why, RP_COMM_WHY_BYTES,
             "%s was built without threads: calls from more than one (MPI_THREAD_SERIALIZED) are "
             "needed",
             libraries);
    return RP_STATUS_ENVIRONMENT;
}

static enum rp_status open_world(const struct rp_comm_module_options *options, void **world,
                                 char why[RP_COMM_WHY_BYTES])
{
    enum rp_status status = start_mpi(options, why);
    if (status != RP_STATUS_OK) return status;
    struct world *w = host->allocate(sizeof *w);
    if (!w) {
        snprintf(why, RP_COMM_WHY_BYTES, "no memory for the world of MPI");
        return RP_STATUS_MEMORY;
    }
    w->rank = options->rank;
    w->n_ranks = options->n_ranks;
    w->patience = options->patience;
    if (!check(w, MPI_Comm_split(MPI_COMM_WORLD, 0, w->rank, &w->comm), "MPI_Comm_split", why) ||
        !check(w, MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler",
               why)) {
        host->release(w);
        return RP_STATUS_PEER_LOST;
    }
    hold_aborts(true);
    *world = w;
    return RP_STATUS_OK;
}

/* Whether everybody has come here: MPI_Finalize waits for those who have not for ever. */
static bool all_leave(struct world *w)
{
    MPI_Request request;
    int done = 0;
    if (w->failed || MPI_Ibarrier(w->comm, &request) != MPI_SUCCESS) return false;
    for (uint32_t looks = 0; !done && looks < looks_to_leave; looks++) {
        if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS) return false;
        if (!done) (void)w->patience.rest(NULL, looks);
    }
    return done != 0;
}

static void close_world(void *world)
{
    struct world *w = world;
    if (all_leave(w)) {
        MPI_Comm_free(&w->comm);
        MPI_Finalize();
        hold_aborts(false);
    }
    free(w->request);
    host->release(w);
}

static const struct rp_comm_module table = {
    .extension = {RP_EXTENSION_VERSION, "reprise_mpi", libraries},
    .open = open_world,
    .close = close_world,
    .all_to_all = all_to_all,
    .all_gather = all_gather,
};

const struct rp_extension *rp_module_v1(const struct rp_extension_host *from)
{
    if (from->version != RP_EXTENSION_VERSION) return NULL;
    host = from;
    name_library(libraries);
    return &table.extension;
}
