/* sim_nccl.c - a library that stands in for libnccl.so.2 where devices are simulated: ranks of one
 * machine, through memory that they share. What it does as NCCL does is what a caller can get
 * wrong:
 *
 *   - calls take effect at the end of their group, and of a communicator that does not block only
 *     when its state has been asked for some times; other calls before that are refused;
 *   - bytes move in the order of the stream, while the caller goes on;
 *   - a rank that is gone is never noticed: whoever waits for it waits until ncclCommAbort;
 *   - two ranks on one device of one host (NCCL_HOSTID, if set) are refused.
 *
 * RP_SIM_NCCL_FAIL=N: the Nth group fails, told by the communicator's state; with
 * RP_SIM_NCCL_CODE=1 of CUDA, as where ranks of one host do not see each other's GPU.
 * RP_SIM_NCCL_CUT=1: what a rank sends to come into connection reaches nobody, as where a firewall
 * drops it. */
#include "comm/nccl/nccl_abi.h"
#include "sim_stream.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SHOWN                    __attribute__((visibility("default")))
#define RP_NCCL(name, arguments) SHOWN int nccl##name arguments;
RP_NCCL_FUNCTIONS
#undef RP_NCCL
SHOWN const char *ncclGetErrorString(int result);
SHOWN const char *ncclGetLastError(struct rp_nccl_comm *comm);

enum { MOST_RANKS = 16, PIPE_BYTES = 1 << 16, MOST_OPS = 4 * MOST_RANKS, LOOKS = 3 };
enum { VERSION = 22809, INVALID_ARGUMENT = 4 };

/* One for each pair of ranks and direction. */
struct pipe {
    atomic_ullong written, taken;
    unsigned char bytes[PIPE_BYTES];
};
struct shared {
    atomic_int joined;
    struct {
        char host[64];
        int device;
    } member[MOST_RANKS];
    struct pipe pipe[MOST_RANKS][MOST_RANKS]; /* from, to */
};

struct op {
    bool sends;
    unsigned char *at;
    size_t n, done;
    int peer;
};
struct group {
    struct rp_nccl_comm *comm;
    struct op op[MOST_OPS];
    int n;
    void *stream;
};
struct rp_nccl_comm {
    struct shared *shared;
    int rank, n_ranks, looks, groups, fail_at;
    int result; /* what CommGetAsyncError gives */
    bool joining;
    atomic_bool aborted;
    struct group *pending; /* asked for, not yet on its stream */
};

static struct group *open_group; /* between GroupStart and GroupEnd */
static int depth;
static const char *last_error = "";

/* ---- the simulated device -------------------------------------------------------------------- */

static void *device_symbol(const char *name)
{
    void *device = dlopen("reprise_cuda.so", RTLD_NOW | RTLD_NOLOAD);
    void *symbol = device ? dlsym(device, name) : NULL;
    if (symbol) return symbol;
    fprintf(stderr, "sim_nccl: there is no simulated device with a %s\n", name);
    abort();
}

static void put_on_stream(void *stream, int (*work)(void *context), void *context)
{
    void (*add)(void *, int (*)(void *), void *);
    void *symbol = device_symbol("rp_sim_stream_add");
    memcpy(&add, &symbol, sizeof add);
    add(stream, work, context);
}

static int current_device(void)
{
    int (*device)(void);
    void *symbol = device_symbol("rp_sim_stream_device");
    memcpy(&device, &symbol, sizeof device);
    return device();
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void move_some(struct rp_nccl_comm *comm, struct op *op)
{
    struct pipe *pipe = op->sends ? &comm->shared->pipe[comm->rank][op->peer]
                                  : &comm->shared->pipe[op->peer][comm->rank];
    unsigned long long written = atomic_load(&pipe->written), taken = atomic_load(&pipe->taken);
    unsigned long long at = op->sends ? written : taken;
    size_t room = op->sends ? PIPE_BYTES - (size_t)(written - taken) : (size_t)(written - taken);
    size_t to_edge = PIPE_BYTES - (size_t)(at % PIPE_BYTES), n = op->n - op->done;
    if (n > room) n = room;
    if (n > to_edge) n = to_edge;
    if (op->sends)
        memcpy(pipe->bytes + at % PIPE_BYTES, op->at + op->done, n);
    else
        memcpy(op->at + op->done, pipe->bytes + at % PIPE_BYTES, n);
    atomic_store(op->sends ? &pipe->written : &pipe->taken, at + n);
    op->done += n;
}

/* An earlier operation of the same pipe has to be done first. */
static bool is_next(const struct group *group, int i)
{
    for (int j = 0; j < i; j++) {
        const struct op *a = &group->op[j], *b = &group->op[i];
        if (a->sends == b->sends && a->peer == b->peer && a->done < a->n) return false;
    }
    return true;
}

static int work(void *context)
{
    struct group *group = context;
    bool all = true;
    for (int i = 0; i < group->n; i++) {
        if (group->op[i].done < group->op[i].n && is_next(group, i))
            move_some(group->comm, &group->op[i]);
        all &= group->op[i].done == group->op[i].n;
    }
    if (!all && !atomic_load(&group->comm->aborted)) return RP_SIM_NOT_YET;
    free(group);
    return RP_SIM_DONE;
}

/* ---- groups ---------------------------------------------------------------------------------- */

static int refuse(const char *why)
{
    last_error = why;
    return RP_NCCL_INVALID_USAGE;
}

static int add_op(struct rp_nccl_comm *comm, void *stream, bool sends, void *at, size_t n, int peer)
{
    if (!open_group) return refuse("a call outside of a group, which the stand-in does not know");
    if (comm->result == RP_NCCL_IN_PROGRESS) return refuse("the call before is still in progress");
    if (peer < 0 || peer >= comm->n_ranks || open_group->n == MOST_OPS) return INVALID_ARGUMENT;
    if (open_group->comm && (open_group->comm != comm || open_group->stream != stream))
        return refuse("two communicators or streams in one group");
    open_group->comm = comm;
    open_group->stream = stream;
    open_group->op[open_group->n++] = (struct op){sends, at, n, 0, peer};
    return RP_NCCL_SUCCESS;
}

int ncclGroupStart(void)
{
    if (depth++ == 0) open_group = calloc(1, sizeof *open_group);
    return RP_NCCL_SUCCESS;
}

static void begin_pending(struct rp_nccl_comm *comm)
{
    struct group *group = comm->pending;
    comm->pending = NULL;
    comm->result = RP_NCCL_SUCCESS;
    if (++comm->groups == comm->fail_at) {
        const char *code = getenv("RP_SIM_NCCL_CODE");
        comm->result = code ? atoi(code) : RP_NCCL_REMOTE_ERROR;
        last_error = "RP_SIM_NCCL_FAIL says so";
        free(group);
        return;
    }
    put_on_stream(group->stream, work, group);
}

int ncclGroupEnd(void)
{
    struct group *group = open_group;
    if (depth == 0) return refuse("the end of no group");
    if (--depth > 0) return RP_NCCL_SUCCESS;
    open_group = NULL;
    if (!group->comm) {
        free(group);
        return RP_NCCL_SUCCESS;
    }
    group->comm->pending = group;
    group->comm->result = RP_NCCL_IN_PROGRESS;
    group->comm->looks = 0;
    return RP_NCCL_IN_PROGRESS;
}

int ncclSend(const void *from, size_t n, int type, int peer, struct rp_nccl_comm *comm,
             void *stream)
{
    if (type != RP_NCCL_UINT8) return INVALID_ARGUMENT;
    return add_op(comm, stream, true, (void *)(uintptr_t)from, n, peer);
}

int ncclRecv(void *to, size_t n, int type, int peer, struct rp_nccl_comm *comm, void *stream)
{
    if (type != RP_NCCL_UINT8) return INVALID_ARGUMENT;
    return add_op(comm, stream, false, to, n, peer);
}

int ncclBroadcast(const void *from, void *to, size_t n, int type, int root,
                  struct rp_nccl_comm *comm, void *stream)
{
    int code = RP_NCCL_SUCCESS;
    if (type != RP_NCCL_UINT8 || root < 0 || root >= comm->n_ranks) return INVALID_ARGUMENT;
    if (comm->rank != root) return add_op(comm, stream, false, to, n, root);
    if (from != to) return refuse("the stand-in broadcasts in place alone");
    for (int r = 0; r < comm->n_ranks && code == RP_NCCL_SUCCESS; r++)
        if (r != root) code = add_op(comm, stream, true, to, n, r);
    return code;
}

int ncclAllGather(const void *from, void *to, size_t n, int type, struct rp_nccl_comm *comm,
                  void *stream)
{
    unsigned char *all = to;
    int code = type == RP_NCCL_UINT8 ? RP_NCCL_SUCCESS : INVALID_ARGUMENT;
    if (from != all + (size_t)comm->rank * n) return refuse("the stand-in gathers in place alone");
    for (int r = 0; r < comm->n_ranks && code == RP_NCCL_SUCCESS; r++) {
        if (r == comm->rank) continue;
        code = add_op(comm, stream, true, (void *)(uintptr_t)from, n, r);
        if (code == RP_NCCL_SUCCESS) code = add_op(comm, stream, false, all + (size_t)r * n, n, r);
    }
    return code;
}

/* ---- communicators --------------------------------------------------------------------------- */

int ncclGetVersion(int *version)
{
    const char *other = getenv("RP_SIM_NCCL_VERSION");
    *version = other ? atoi(other) : VERSION;
    return RP_NCCL_SUCCESS;
}

const char *ncclGetErrorString(int result)
{
    return result == RP_NCCL_INVALID_USAGE  ? "invalid usage"
           : result == RP_NCCL_REMOTE_ERROR ? "remote process exited or there was a network error"
                                            : "error of the stand-in";
}

const char *ncclGetLastError(struct rp_nccl_comm *comm)
{
    (void)comm;
    return last_error;
}

/* The id is the place of memory that this process made, which has to live until all have come. */
int ncclGetUniqueId(struct rp_nccl_id *id)
{
    int fd = memfd_create("sim_nccl", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)sizeof(struct shared)) != 0) return INVALID_ARGUMENT;
    memset(id, 0, sizeof *id);
    snprintf(id->bytes, sizeof id->bytes, "/proc/%d/fd/%d", (int)getpid(), fd);
    return RP_NCCL_SUCCESS;
}

static void join(struct rp_nccl_comm *comm)
{
    const char *host = getenv("NCCL_HOSTID");
    snprintf(comm->shared->member[comm->rank].host, 64, "%s", host ? host : "this host");
    comm->shared->member[comm->rank].device = current_device();
    const char *cut = getenv("RP_SIM_NCCL_CUT");
    if (!cut || !cut[0]) atomic_fetch_add(&comm->shared->joined, 1);
}

int ncclCommInitRankConfig(struct rp_nccl_comm **comm, int n_ranks, struct rp_nccl_id id, int rank,
                           struct rp_nccl_config *config)
{
    const char *fail = getenv("RP_SIM_NCCL_FAIL");
    *comm = NULL;
    if (n_ranks < 1 || n_ranks > MOST_RANKS || rank < 0 || rank >= n_ranks) return INVALID_ARGUMENT;
    if (config->magic != (unsigned)RP_NCCL_MAGIC || config->size != sizeof *config ||
        config->version < RP_NCCL_OLDEST)
        return INVALID_ARGUMENT;
    if (config->blocking != 0) return refuse("the stand-in has no communicators that block");
    int fd = open(id.bytes, O_RDWR | O_CLOEXEC);
    void *block =
        fd < 0 ? MAP_FAILED
               : mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    if (block == MAP_FAILED) return INVALID_ARGUMENT;
    struct rp_nccl_comm *c = calloc(1, sizeof *c);
    c->shared = block;
    c->rank = rank;
    c->n_ranks = n_ranks;
    c->fail_at = fail ? atoi(fail) : -1;
    c->joining = true;
    c->result = RP_NCCL_IN_PROGRESS;
    *comm = c;
    join(c);
    return RP_NCCL_IN_PROGRESS;
}

static int check_members(const struct rp_nccl_comm *comm)
{
    for (int r = 0; r < comm->n_ranks; r++)
        for (int q = 0; q < r; q++)
            if (comm->shared->member[r].device == comm->shared->member[q].device &&
                strcmp(comm->shared->member[r].host, comm->shared->member[q].host) == 0)
                return refuse("Duplicate GPU detected");
    return RP_NCCL_SUCCESS;
}

int ncclCommGetAsyncError(struct rp_nccl_comm *comm, int *result)
{
    if (comm->joining && atomic_load(&comm->shared->joined) == comm->n_ranks &&
        comm->looks++ == LOOKS) {
        comm->joining = false;
        comm->result = check_members(comm);
    }
    if (comm->pending && comm->looks++ == LOOKS) begin_pending(comm);
    *result = comm->result;
    return RP_NCCL_SUCCESS;
}

int ncclCommFinalize(struct rp_nccl_comm *comm)
{
    if (comm->result != RP_NCCL_SUCCESS) return refuse("the end of a communicator that is busy");
    return RP_NCCL_SUCCESS;
}

static void release(struct rp_nccl_comm *comm)
{
    munmap(comm->shared, sizeof(struct shared));
    free(comm->pending);
    free(comm);
}

int ncclCommDestroy(struct rp_nccl_comm *comm)
{
    release(comm);
    return RP_NCCL_SUCCESS;
}

/* What is on a stream still looks at the communicator once: it stays. */
int ncclCommAbort(struct rp_nccl_comm *comm)
{
    atomic_store(&comm->aborted, true);
    return RP_NCCL_SUCCESS;
}
