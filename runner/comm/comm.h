/* comm.h - what ranks say to each other: which rank this process is, the control channel, and the
 * comm table that moves the bytes.
 *
 * Only bytes move between ranks; sums are made by our own tree (DESIGN 1.2, 8). A rank holds one
 * aligned node of the tree over shards; reduce() completes the tree on every rank. */
#ifndef RP_COMM_H
#define RP_COMM_H

#include "base/base.h"

enum { RP_COMM_MAX_RANKS = 64, RP_COMM_TOKEN_BYTES = 65 };

/* ---- which rank this process is (world.c) ------------------------------------------------------
 */

struct rp_comm_world {
    const char *launcher; /* who started the ranks: "torchrun", "Slurm", ...; NULL: nobody did */
    int node, n_nodes;    /* above 1: the launcher started a process per host, `node` among them,
                           * and each starts its ranks itself: `n_local` of them, 0: not said */
    int n_local;
    int rank, n_ranks;
    int local_rank, local_ranks; /* on this host; 0 of 1 where nobody says */
    char address[256];           /* where rank 0 listens */
    int port;
    char token[RP_COMM_TOKEN_BYTES]; /* what a rank must show to be let in */
    int listener;                    /* rank 0: a socket that listens already, or -1 */
};
/* From the environment, in the order of DESIGN 8; without a launcher a world of one. USAGE names
 * the variables that contradict each other or are missing. */
RP_NODISCARD enum rp_status rp_comm_discover(struct rp_comm_world *world, struct rp_error *err);

/* Starts the other n - 1 ranks of this host: this program with the same arguments. This process
 * becomes rank 0, or of a later node its first. They end with it. */
RP_NODISCARD enum rp_status rp_comm_spawn(struct rp_comm_world *world, int n, struct rp_error *err);
/* Waits for the ranks that spawn started and kills those that have not ended after `seconds`. */
void rp_comm_reap(double seconds);

/* ---- comm --------------------------------------------------------------------------------------
 */

struct rp_comm;
struct rp_control;

/* One of the program's four tables of function pointers. Every call is collective. */
struct rp_comm_table {
    const char *name;                    /* "one", "gloo", "nccl", "mpi" */
    void (*close)(struct rp_comm *comm); /* NULL is fine */
    /* Completes the tree over shards for a block of fp32 sums, in place: afterwards every rank has
     * the root. `bytes` is a multiple of 256. */
    enum rp_status (*reduce)(struct rp_comm *comm, void *sums, uint64_t bytes,
                             struct rp_error *err);
    /* After the owners' update: every rank gets every parameter. */
    enum rp_status (*gather)(struct rp_comm *comm, void *parameters, uint64_t bytes,
                             struct rp_error *err);
};

struct rp_comm {
    const struct rp_comm_table *table;
    int rank, n_ranks;
    struct rp_control *control; /* NULL: a world of one */
    void *state;                /* of the table */
};

/* The world of one: the rank's node is the root already, so nothing moves. */
void rp_comm_open_one(struct rp_comm *comm);

struct rp_comm_options {
    double peer_timeout; /* seconds of silence after which a rank is lost */
    double step_timeout; /* seconds without a step after which a rank is stuck; 0: the larger of 60
                          * and 10 times the slowest step so far */
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
/* What this rank is doing, for messages and for the clock that finds the stuck; `phase` is a
 * constant. */
void rp_comm_note(struct rp_comm *comm, uint64_t step, const char *phase);
/* "rank 3 (node7)". */
void rp_comm_rank_text(const struct rp_comm *comm, int rank, char text[300]);

RP_NODISCARD enum rp_status rp_comm_reduce(struct rp_comm *comm, void *sums, uint64_t bytes,
                                           struct rp_error *err);
RP_NODISCARD enum rp_status rp_comm_gather(struct rp_comm *comm, void *parameters, uint64_t bytes,
                                           struct rp_error *err);

#endif
