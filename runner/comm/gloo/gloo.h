/* gloo.h - the table of the module reprise_gloo: bytes between the ranks of CPUs, through Gloo. */
#ifndef RP_GLOO_H
#define RP_GLOO_H

#include "base/extension.h"

#define RP_GLOO_MODULE "reprise_gloo"
#define RP_GLOO_ADVICE                                                                             \
    "it moves bytes between CPU ranks; install libgloo-dev (scripts/setup) and build again"

enum { RP_GLOO_WHY_BYTES = 512 };

/* The rendezvous, which the control channel serves. Both return false when it is over. */
struct rp_gloo_store {
    void *context;
    bool (*set)(void *context, const char *key, const void *bytes, size_t n);
    /* `*bytes` is from the host's allocate. */
    bool (*get)(void *context, const char *key, void **bytes, size_t *n);
};

/* Every function but close gives false with the reason in `why`. Collective. */
struct rp_gloo_module {
    struct rp_extension extension;
    bool (*open)(int rank, int n_ranks, const char *own_address, const struct rp_gloo_store *store,
                 void **world, char why[RP_GLOO_WHY_BYTES]);
    void (*close)(void *world);
    /* in, out (n_ranks, bytes): part q of `in` goes to rank q, part r of `out` came from rank r. */
    bool (*all_to_all)(void *world, const void *in, void *out, size_t bytes,
                       char why[RP_GLOO_WHY_BYTES]);
    /* out (n_ranks, bytes). */
    bool (*all_gather)(void *world, const void *in, void *out, size_t bytes,
                       char why[RP_GLOO_WHY_BYTES]);
};

#endif
