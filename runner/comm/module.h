/* module.h - what moves bytes between ranks: one table, which reprise_gloo and reprise_mpi (blocks
 * in the machine's memory) and reprise_nccl (blocks in a GPU's) export. A module moves bytes and
 * adds nothing. */
#ifndef RP_COMM_MODULE_H
#define RP_COMM_MODULE_H

#include "base/extension.h"

enum { RP_COMM_WHY_BYTES = 512 };

/* The rendezvous, which the control channel serves: a value is set once, get waits until it is
 * there. Both return false when the channel is over. Only to be used in open. */
struct rp_comm_store {
    void *context;
    bool (*set)(void *context, const char *key, const void *bytes, size_t n);
    /* `*bytes` is from the host's allocate. */
    bool (*get)(void *context, const char *key, void **bytes, size_t *n);
};

/* What to do between two looks at what other ranks have not done yet: rest() takes a short while,
 * and gives false when waiting is over because the control channel has found a rank lost. `looks`
 * so far. In close, where that channel is closed already, `context` has to be NULL. */
struct rp_comm_patience {
    void *context;
    bool (*rest)(void *context, uint32_t looks);
};

/* device_memory: the stream on which bytes are to move (device.h, beside_begin), and how far it is:
 * 1 everything on it is done, 0 not yet, -1 it has failed. */
struct rp_comm_stream {
    void *stream;
    void *context;
    int (*state)(void *context);
};

struct rp_comm_module_options {
    int rank, n_ranks;
    const char *launcher;    /* who started the ranks, for messages */
    const char *own_address; /* of this host, as rank 0 is reached from here */
    struct rp_comm_store store;
    struct rp_comm_patience patience;
    struct rp_comm_stream stream;
};

/* Who is shown what comes: part[r] is `bytes` bytes of what rank r sent, `at` bytes into the slice.
 * They may be written over, and are gone when take returns; our own part lies in the block. False
 * ends the call. */
struct rp_comm_taker {
    void *context;
    bool (*take)(void *context, void *const *part, uint64_t at, uint64_t bytes);
};

/* A block is cut into slices, one for each rank, in order of rank: slice q is the bytes border[q]
 * to border[q + 1] of it, and may be empty. `border` (n_ranks + 1) is the same on every rank;
 * border[0] need not be 0; all are multiples of 4.
 *
 * What fails leaves the reason in `why`. All but `look` are collective. One thread at a time calls
 * them, not always the same one. With device_memory they return when they are on the stream, where
 * later work waits for them; `wait` comes before anything in which the machine waits for the
 * device. */
struct rp_comm_module {
    struct rp_extension extension;
    bool device_memory; /* blocks are the device's memory; false: the machine's */
    /* Opens the library that it is not linked with, at `path` or (NULL) where the system keeps it,
     * before anything is begun. NULL: there is no such library. */
    enum rp_status (*look)(const char *path, char why[RP_COMM_WHY_BYTES]);
    /* PEER_LOST: ask the control channel for the cause. */
    enum rp_status (*open)(const struct rp_comm_module_options *options, void **world,
                           char why[RP_COMM_WHY_BYTES]);
    void (*close)(void *world);
    /* Slice q of `block` goes to rank q. out (n_ranks, bytes of the own slice): what came from each
     * rank, one's own part included, in order of rank. */
    bool (*all_to_all)(void *world, const void *block, const uint64_t *border, void *out,
                       char why[RP_COMM_WHY_BYTES]);
    /* The same without `out`: piece after piece is shown as soon as it is there from all ranks.
     * Pieces but the last are multiples of 256 bytes. NULL: the module cannot. */
    bool (*show_all_to_all)(void *world, void *block, const uint64_t *border,
                            const struct rp_comm_taker *taker, char why[RP_COMM_WHY_BYTES]);
    /* In place: every rank's own slice of `block` comes to all. */
    bool (*all_gather)(void *world, void *block, const uint64_t *border,
                       char why[RP_COMM_WHY_BYTES]);
    /* With device_memory: until all bytes have moved. NULL: they have when a call returns. */
    bool (*wait)(void *world, char why[RP_COMM_WHY_BYTES]);
};

#endif
