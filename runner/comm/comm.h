/* comm.h - what ranks say to each other: which rank this process is, the control channel, and the
 * sums over ranks.
 *
 * Only bytes move between ranks; sums are made by our own tree (DESIGN 1.2, 8). A rank holds one
 * aligned node of the tree over shards; reduce completes the tree, for each sum at its owner. */
#ifndef RP_COMM_H
#define RP_COMM_H

#include "base/base.h"

enum { RP_COMM_MAX_RANKS = 64, RP_COMM_TOKEN_BYTES = 65, RP_COMM_PATIENCE = 120 };

/* ---- which rank this process is (world.c) ---------------------------------------------------- */

struct rp_comm_world {
    const char *launcher; /* who started the ranks, or a process on each of several hosts:
                           * "torchrun", "Slurm", ...; NULL: nobody did */
    int node, n_nodes;    /* above 1: the launcher started a process per host, `node` among them,
                           * and each starts its ranks itself */
    int n_local;          /* as many on each host; 0: not said */
    int rank, n_ranks;
    int local_rank, local_ranks; /* on this host; 0 of 1 where nobody says */
    char address[256];           /* where rank 0 listens */
    int port;
    int patience; /* seconds that ranks wait for each other to come; 0: RP_COMM_PATIENCE */
    char token[RP_COMM_TOKEN_BYTES]; /* what a rank must show to be let in */
    int listener;                    /* rank 0: a socket that listens already, or -1 */
};
/* From the environment, in the order of DESIGN 8; without a launcher a world of one. USAGE names
 * the variables that contradict each other or are missing. */
RP_NODISCARD enum rp_status rp_comm_discover(struct rp_comm_world *world, struct rp_error *err);

/* All its ranks are known to be on this host; without a launcher they would be started here. */
bool rp_comm_is_one_host(const struct rp_comm_world *world);
/* Rank 0 of `n` on this host, which it listens for; what the others need stands in the same world.
 */
RP_NODISCARD enum rp_status rp_comm_found(struct rp_comm_world *world, int n, struct rp_error *err);
/* Starts the other n - 1 ranks of this host: this program with `words` (NULL: the same arguments;
 * else the first is its name). This process becomes rank 0, or of a later node its first. They end
 * with it. */
RP_NODISCARD enum rp_status rp_comm_spawn(struct rp_comm_world *world, int n,
                                          const char *const *words, struct rp_error *err);
/* For a rank that a launcher of MPI started, before it has any thread: from here on a child is the
 * rank, and the process itself keeps that launcher from ending the others at once when it dies. */
void rp_comm_shield(int rank);
/* Waits for the ranks that spawn started and kills those that have not ended after `seconds`. */
void rp_comm_reap(double seconds);

/* ---- comm ------------------------------------------------------------------------------------ */

struct rp_control;
struct rp_comm_mover;
struct rp_device;

/* Every call on it is collective. */
struct rp_comm {
    int rank, n_ranks;
    struct rp_control *control;  /* NULL: a world of one */
    struct rp_comm_mover *mover; /* the module that moves bytes (module.h); NULL: a world of one */
};

/* The world of one: the rank's node is the root already, so nothing moves. */
void rp_comm_open_one(struct rp_comm *comm);
/* Rank 0 of `n_ranks` without the others, whose part of the work is measured: nothing moves. */
void rp_comm_open_alone(struct rp_comm *comm, int n_ranks);

struct rp_comm_options {
    double peer_timeout; /* seconds of silence after which a rank is lost */
    double step_timeout; /* seconds without a step after which a rank is stuck; 0: the larger of 60
                          * and 10 times the slowest step so far */
    /* Whether this process is asked to stop, which ends its waiting for others until rp_comm_settle
     * (STOPPED); may be NULL. */
    bool (*stop)(void *context);
    /* Called at once by whoever finds out that a rank is lost; may be NULL. */
    void (*lost)(void *context, const char *text);
    /* Called on rank 0 by the control thread when a rank is lost and this process is about to end
     * without its main thread; may be NULL. */
    void (*before_end)(void *context, enum rp_status status, const char *text);
    void *context;
};
/* Connects every rank to rank 0, which waits until all are there. ENVIRONMENT: no module to move
 * bytes with; PEER_LOST: a rank did not come. */
RP_NODISCARD enum rp_status rp_comm_open(const struct rp_comm_world *world,
                                         const struct rp_comm_options *options,
                                         struct rp_comm *comm, struct rp_error *err);
/* Ends that every rank comes to by itself at the same step, and that rank 0 tells. */
bool rp_comm_ends_together(enum rp_status status);
/* Tells the others how this rank ended; `status` other than OK ends them too. */
void rp_comm_close(struct rp_comm *comm, enum rp_status status, const char *text);

/* Every rank gives `bytes` bytes and gets those of all, in order of rank: all (n_ranks, bytes). */
RP_NODISCARD enum rp_status rp_comm_agree(struct rp_comm *comm, const void *mine, size_t bytes,
                                          void *all, struct rp_error *err);
/* Beside what the main thread does, from any thread: every rank but 0 posts some bytes, rank 0
 * takes them (and frees them). PEER_LOST when they will not come. */
RP_NODISCARD enum rp_status rp_comm_post(struct rp_comm *comm, const char *key, const void *bytes,
                                         size_t n, struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_take(struct rp_comm *comm, int rank, const char *key,
                                         void **bytes, size_t *n, struct rp_error *err);
/* What this rank is doing, for messages and for the clock that finds the stuck; `phase` is a
 * constant. */
void rp_comm_note(struct rp_comm *comm, uint64_t step, const char *phase);
/* Somebody is lost, or has stopped while all were starting: what takes long should end now, by
 * rp_comm_failure. */
bool rp_comm_is_over(const struct rp_comm *comm);
RP_NODISCARD enum rp_status rp_comm_failure(struct rp_comm *comm, struct rp_error *err);
/* The start is over, on rank 0 for all: who stops from here on has agreed on it with the others.
 * Until then a rank that is asked to stop does not wait for them, and stops all at once. */
void rp_comm_settle(struct rp_comm *comm);
/* "rank 3 (node7)". */
void rp_comm_rank_text(const struct rp_comm *comm, int rank, char text[300]);

/* ---- moving bytes ---------------------------------------------------------------------------- */

enum { RP_COMM_ALIGN = 256 }; /* of the borders of sums */

/* Opens the module that will move the bytes of blocks on `device`: `wanted` is resources.comm, of
 * which `auto` is NCCL between GPUs and, between CPUs, memory of the host where all can share it,
 * else Gloo: that is found out when they are connected. ENVIRONMENT: it is not there, or a library
 * that it needs; USAGE: it is not for such a device. */
RP_NODISCARD enum rp_status rp_comm_choose(struct rp_comm *comm, const struct rp_comm_world *world,
                                           const char *wanted, struct rp_device *device,
                                           struct rp_error *err);
/* Of memory that the ranks of one host share, in all. */
uint64_t rp_comm_shared_bytes(int n_ranks);
/* For people: each module that can move bytes, and what it is linked with, or why it is not there.
 */
enum { RP_COMM_MODULES = 6, RP_COMM_MODULE_TEXT = 600 };
int rp_comm_list(const char *names[RP_COMM_MODULES],
                 char texts[RP_COMM_MODULES][RP_COMM_MODULE_TEXT]);
/* Whether ranks on GPUs could be connected; if not, `why`. */
bool rp_comm_has_nccl(struct rp_error *why);
/* "reprise_nccl, NCCL 2.28.9"; "" in a world of one, and where it is not known yet. */
void rp_comm_describe(const struct rp_comm *comm, char text[128]);
/* Once, when everybody is ready: lets the module connect the ranks. ENVIRONMENT: two ranks are on
 * one GPU, have chosen differently, or cannot share memory though that is demanded. */
RP_NODISCARD enum rp_status rp_comm_connect(struct rp_comm *comm, struct rp_error *err);
/* Memory for reduce, on the device: n_ranks times the own slice of the largest block. */
RP_NODISCARD enum rp_status rp_comm_reserve(struct rp_comm *comm, uint64_t bytes,
                                            struct rp_error *err);

/* A block is cut into a slice for each rank: border (n_ranks + 1) are offsets in bytes, the same on
 * every rank; a slice may be empty. */

/* Completes the tree over shards for fp32 sums, each slice at its owner alone: there it is the root
 * afterwards, the other slices are as they were. Borders are multiples of RP_COMM_ALIGN. */
RP_NODISCARD enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, const uint64_t *border,
                                           struct rp_error *err);
/* Every rank's own slice comes to all, in place. Borders are multiples of 4. */
RP_NODISCARD enum rp_status rp_comm_gather(struct rp_comm *comm, void *block,
                                           const uint64_t *border, struct rp_error *err);
/* The same two beside what the caller does meanwhile, one after another in the order in which they
 * are begun. Every rank begins the same in the same order; until rp_comm_finish nobody touches
 * these bytes, and nothing else is asked of the module. `border` stays until then, and the memory
 * is reserved. */
RP_NODISCARD enum rp_status rp_comm_begin_reduce(struct rp_comm *comm, void *sums,
                                                 const uint64_t *border, struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_begin_gather(struct rp_comm *comm, void *block,
                                                 const uint64_t *border, struct rp_error *err);
/* Waits for all that were begun. */
RP_NODISCARD enum rp_status rp_comm_finish(struct rp_comm *comm, struct rp_error *err);
/* Borders of equal slices, for what nobody owns. */
void rp_comm_cut(const struct rp_comm *comm, uint64_t begin, uint64_t end, uint64_t *border);

#endif
