/* net.c - sockets: listening, connecting with patience, messages of a header and bytes. */
#include "comm/net.h"

#include "base/mem.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const uint32_t MAGIC = 0x72707231; /* "rpr1" */

static int new_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &length) != 0) return 0;
    if (at.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
    return ntohs(((struct sockaddr_in *)&at)->sin_port);
}

/* A socket that listens, or -1 and the reason in errno. */
static int listen_at(const struct sockaddr *at, socklen_t length)
{
    int fd = new_socket(at->sa_family), one = 1, no = 0;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (at->sa_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(fd, at, length) == 0 && listen(fd, 256) == 0) return fd;
    int code = errno;
    rp_net_close(fd);
    errno = code;
    return -1;
}

enum rp_status rp_net_listen(const char *address, int *port, int *fd, struct rp_error *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)*port)};
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)*port)};
    at.sin_addr.s_addr = htonl(INADDR_ANY);
    if (address) inet_pton(AF_INET, address, &at.sin_addr);
    /* Both kinds of addresses, where the host has IPv6: a cluster may give its pods no other. */
    *fd = address ? -1 : listen_at((struct sockaddr *)&any, sizeof any);
    if (*fd < 0 && (address || errno != EADDRINUSE))
        *fd = listen_at((struct sockaddr *)&at, sizeof at);
    if (*fd < 0) {
        int code = errno;
        return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                            "rank 0 cannot listen on port %d: %s; set REPRISE_PORT to a free port "
                            "on every rank",
                            *port, strerror(code));
    }
    *port = port_of(*fd);
    return RP_STATUS_OK;
}

/* One try at every address of the name; the reason of the last failure in `why`. */
static int try_connect(const char *address, int port, char why[160])
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    int code = getaddrinfo(address, service, &hints, &found), fd = -1;
    if (code != 0) {
        snprintf(why, 160, "%s", gai_strerror(code));
        return -1;
    }
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = new_socket(a->ai_family);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0) break;
        snprintf(why, 160, "%s", strerror(errno));
        rp_net_close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

enum rp_status rp_net_connect(const char *address, int port, double seconds, bool (*stop)(void *),
                              void *context, int *fd, struct rp_error *err)
{
    char why[160] = "";
    double until = rp_sys_clock() + seconds, wait = 0.02;
    while ((*fd = try_connect(address, port, why)) < 0) {
        if (rp_sys_clock() >= until)
            return rp_error_set(err, RP_STATUS_PEER_LOST,
                                "rank 0 cannot be reached at %s port %d in %.0f s: %s; "
                                "REPRISE_ADDRESS names its host in another way",
                                address, port, seconds, why);
        if (stop && stop(context))
            return rp_error_set(err, RP_STATUS_STOPPED,
                                "asked to stop while looking for rank 0 at %s port %d", address,
                                port);
        rp_sys_sleep(wait);
        if (wait < 1) wait *= 2;
    }
    return RP_STATUS_OK;
}

int rp_net_accept(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    if (fd >= 0) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void rp_net_own_address(int fd, char text[64])
{
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    snprintf(text, 64, "127.0.0.1");
    if (getsockname(fd, (struct sockaddr *)&at, &length) == 0)
        getnameinfo((struct sockaddr *)&at, length, text, 64, NULL, 0, NI_NUMERICHOST);
    static const char mapped[] = "::ffff:"; /* an IPv4 address on a socket that takes both */
    if (strncmp(text, mapped, sizeof mapped - 1) == 0 && strchr(text, '.'))
        memmove(text, text + sizeof mapped - 1, strlen(text + sizeof mapped - 1) + 1);
}

static bool send_all(int fd, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n > 0) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        at += sent;
        n -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, void *bytes, size_t n)
{
    char *at = bytes;
    while (n > 0) {
        ssize_t got = recv(fd, at, n, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        n -= (size_t)got;
    }
    return true;
}

bool rp_net_send(int fd, enum rp_net_type type, const void *bytes, size_t n)
{
    struct rp_net_header header = {.magic = MAGIC, .type = (uint32_t)type, .bytes = (uint32_t)n};
    return send_all(fd, &header, sizeof header) && (n == 0 || send_all(fd, bytes, n));
}

bool rp_net_receive(int fd, enum rp_net_type *type, void **bytes, size_t *n)
{
    struct rp_net_header header;
    *bytes = NULL;
    *n = 0;
    if (!receive_all(fd, &header, sizeof header)) return false;
    if (header.magic != MAGIC || header.bytes > RP_NET_MAX_BYTES) return false;
    char *block = rp_mem_new((size_t)header.bytes + 1);
    if (!receive_all(fd, block, header.bytes)) {
        rp_mem_free(block);
        return false;
    }
    *type = (enum rp_net_type)header.type;
    *bytes = block;
    *n = header.bytes;
    return true;
}

void rp_net_set_timeout(int fd, double seconds)
{
    struct timeval limit = {.tv_sec = (time_t)seconds,
                            .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

void rp_net_close(int fd)
{
    if (fd >= 0) close(fd);
}
