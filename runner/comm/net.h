/* net.h - private to comm/: TCP sockets and framed messages on them. */
#ifndef RP_NET_H
#define RP_NET_H

#include "base/base.h"

enum rp_net_type {
    RP_NET_HELLO = 1, /* struct rp_net_hello */
    RP_NET_WELCOME,   /* host of rank 0 */
    RP_NET_REFUSE,    /* text */
    RP_NET_BEAT,      /* struct rp_net_beat */
    RP_NET_AGREE,     /* bytes of one rank; back: of all */
    RP_NET_SET,       /* key, NUL, value */
    RP_NET_GET,       /* key */
    RP_NET_VALUE,     /* value */
    RP_NET_END,       /* u32 status, text */
    RP_NET_STOP       /* nothing: asked to stop in the start, while it waits for the others */
};
enum { RP_NET_VERSION = 3, RP_NET_MAX_BYTES = 1 << 24 };

struct rp_net_header {
    uint32_t magic, type, bytes, zero;
};
struct rp_net_hello {
    uint32_t version, rank, n_ranks, pid;
    char token[80], host[256];
};
struct rp_net_beat {
    uint64_t step;
    char phase[24];
};

/* Listens on `address` (NULL: every one) and port *port (0: any; the one taken comes back). */
RP_NODISCARD enum rp_status rp_net_listen(const char *address, int *port, int *fd,
                                          struct rp_error *err);
/* Tries until it succeeds, `seconds` are over (PEER_LOST) or `stop` says so (STOPPED; it may be
 * NULL); names that do not resolve yet are tried again. */
RP_NODISCARD enum rp_status rp_net_connect(const char *address, int port, double seconds,
                                           bool (*stop)(void *), void *context, int *fd,
                                           struct rp_error *err);
int rp_net_accept(int listener); /* -1: nobody */
/* Numeric address of this end of a connection. */
void rp_net_own_address(int fd, char text[64]);

/* A whole message; false when the connection is gone or the timeout over. */
bool rp_net_send(int fd, enum rp_net_type type, const void *bytes, size_t n);
/* `*bytes` is the caller's to free with rp_mem_free, NUL behind the last. */
bool rp_net_receive(int fd, enum rp_net_type *type, void **bytes, size_t *n);
/* The longest that receive waits within a message and send for room; 0: for ever. */
void rp_net_set_timeout(int fd, double seconds);
void rp_net_close(int fd); /* -1 is fine */

#endif
