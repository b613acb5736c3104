/* control_gather.c - rank 0 until every rank has come to it. Hosts of a cluster may start minutes
 * apart: who is there is kept company, and who went away again may come a second time. */
#include "comm/control_int.h"
#include "comm/spawn.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

static const double BEAT = 0.5, SECONDS_TO_TELL = 10, SECONDS_FOR_THE_LATE = 10;

/* Why this one is not let in; NULL: it is. */
static const char *refusal(const struct rp_control *c, const struct rp_comm_world *world,
                           const struct rp_net_hello *hello)
{
    if (hello->version != RP_NET_VERSION) return "it is another version of reprise";
    if (strncmp(hello->token, world->token, sizeof hello->token) != 0)
        return "it belongs to another run (its token differs)";
    if ((int)hello->n_ranks != c->n_ranks) return "it was started for another number of ranks";
    if (hello->rank == 0 || (int)hello->rank >= c->n_ranks) return "its rank is out of range";
    if (c->member[hello->rank].there) return "another process has its rank already";
    return NULL;
}

static void welcome(struct rp_control *c, const struct rp_comm_world *world, int fd)
{
    enum rp_net_type type;
    void *bytes = NULL;
    size_t n = 0;
    rp_net_set_timeout(fd, 5);
    bool got = rp_net_receive(fd, &type, &bytes, &n);
    struct rp_net_hello hello;
    const char *no = "it did not say hello";
    if (got && type == RP_NET_HELLO && n == sizeof hello) {
        memcpy(&hello, bytes, sizeof hello);
        hello.token[sizeof hello.token - 1] = hello.host[sizeof hello.host - 1] = '\0';
        no = refusal(c, world, &hello);
    }
    rp_mem_free(bytes);
    if (no) {
        rp_net_send(fd, RP_NET_REFUSE, no, strlen(no));
        rp_net_close(fd);
        return;
    }
    struct rp_control_member *member = &c->member[hello.rank];
    member->there = rp_net_send(fd, RP_NET_WELCOME, c->member[0].host, strlen(c->member[0].host));
    rp_net_set_timeout(fd, c->options.peer_timeout);
    member->fd = fd;
    member->pid = hello.pid;
    memcpy(member->host, hello.host, sizeof member->host);
    snprintf(member->phase, sizeof member->phase, "start");
    member->heard = member->since = rp_sys_clock();
}

static void let_in_one(struct rp_control *c, const struct rp_comm_world *world)
{
    int fd = rp_net_accept(c->listener);
    if (fd >= 0) welcome(c, world, fd);
}

static int missing(const struct rp_control *c, struct rp_text *who)
{
    int n = 0;
    for (int r = 1; r < c->n_ranks; r++)
        if (!c->member[r].there) rp_text_add(who, "%s%d", n++ ? ", " : "", r);
    return n;
}

/* What no second try heals on that rank ends all in the same way; else a peer is lost. */
enum rp_status rp_control_end_of_all(enum rp_status of_rank)
{
    switch (of_rank) {
    case RP_STATUS_USAGE:
    case RP_STATUS_ENVIRONMENT:
    case RP_STATUS_DATA:
    case RP_STATUS_MEMORY:
    case RP_STATUS_STORAGE:
    case RP_STATUS_HARDWARE:
        return of_rank;
    default:
        return RP_STATUS_PEER_LOST;
    }
}

/* A rank that has come and ended before all were there. When it was asked to stop, or cannot be
 * helped by a second try, it says so, and that ends all; else it may be started again. */
static enum rp_status take_leave(struct rp_control *c, int r, struct rp_error *err)
{
    struct rp_control_member *member = &c->member[r];
    enum rp_net_type type = RP_NET_BEAT;
    void *bytes = NULL;
    size_t n = 0;
    uint32_t code = RP_STATUS_PEER_LOST;
    while (type != RP_NET_END && rp_net_receive(member->fd, &type, &bytes, &n)) {
        if (type == RP_NET_END && n >= sizeof code) break;
        rp_mem_free(bytes);
        bytes = NULL;
    }
    if (bytes) memcpy(&code, bytes, sizeof code);
    bool ends = code == RP_STATUS_STOPPED ||
                rp_control_end_of_all((enum rp_status)code) != RP_STATUS_PEER_LOST;
    enum rp_status status = RP_STATUS_OK;
    if (ends)
        status =
            rp_error_set(err, (enum rp_status)code, "rank %d (%s) ended before all had come: %s", r,
                         member->host, (const char *)bytes + sizeof code);
    else
        rp_log_warning("rank %d (%s, process %u) went away before all had come; it may come again",
                       r, member->host, member->pid);
    rp_mem_free(bytes);
    rp_net_close(member->fd);
    member->fd = -1;
    member->there = false;
    return status;
}

/* Lets in who knocks, and looks whether anybody leaves, for a moment. */
static enum rp_status look(struct rp_control *c, const struct rp_comm_world *world,
                           struct rp_error *err)
{
    struct pollfd *wait = RP_NEW_ARRAY(struct pollfd, c->n_ranks);
    enum rp_status status = RP_STATUS_OK;
    for (int r = 0; r < c->n_ranks; r++)
        wait[r] = (struct pollfd){.fd = r ? c->member[r].fd : c->listener,
                                  .events = r ? POLLRDHUP : POLLIN};
    int ready = poll(wait, (nfds_t)c->n_ranks, 200);
    for (int r = 1; r < c->n_ranks && ready > 0 && status == RP_STATUS_OK; r++)
        if (wait[r].revents) status = take_leave(c, r, err);
    if (ready > 0 && wait[0].revents && status == RP_STATUS_OK) let_in_one(c, world);
    rp_mem_free(wait);
    return status;
}

/* Ranks that have not been seen yet. */
static int count_late(const struct rp_control *c)
{
    int n = 0;
    for (int r = 1; r < c->n_ranks; r++) n += c->member[r].pid == 0;
    return n;
}

/* One that has come has ended all. Who was started with it is on its way: it is let in, to hear
 * that too, where it would look for this rank in vain. */
static void let_in_the_late(struct rp_control *c, const struct rp_comm_world *world)
{
    double until = rp_sys_clock() + SECONDS_FOR_THE_LATE;
    bool (*stop)(void *context) = c->options.stop;
    while (count_late(c) > 0 && rp_sys_clock() < until && !(stop && stop(c->options.context))) {
        struct pollfd wait = {.fd = c->listener, .events = POLLIN};
        if (poll(&wait, 1, 200) > 0) let_in_one(c, world);
    }
}

static enum rp_status check_wait(const struct rp_control *c, const struct rp_comm_world *world,
                                 double seconds, int n, const char *who, struct rp_error *err)
{
    int code = 0, ended = rp_spawn_ended(&code);
    if (ended)
        return rp_error_set(err, rp_control_end_of_all((enum rp_status)code),
                            "rank %d ended with code %d before it came to rank 0",
                            world->rank + ended, code);
    if (c->options.stop && c->options.stop(c->options.context))
        return rp_error_set(err, RP_STATUS_STOPPED, "asked to stop while waiting for rank %s", who);
    if (seconds < c->patience) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_PEER_LOST,
                        "%d of %d ranks did not come to %s port %d in %d s: rank %s. Look at their "
                        "logs, and whether that address can be reached from them",
                        n, c->n_ranks, world->address, c->listener >= 0 ? world->port : 0,
                        c->patience, who);
}

static enum rp_status wait_for_all(struct rp_control *c, const struct rp_comm_world *world,
                                   struct rp_error *err)
{
    double began = rp_sys_clock(), next = 0;
    bool told = false;
    enum rp_status status = RP_STATUS_OK;
    for (int n = 1; n > 0 && status == RP_STATUS_OK;) {
        struct rp_text who = {0};
        double now = rp_sys_clock();
        n = missing(c, &who);
        if (n > 0) status = check_wait(c, world, now - began, n, rp_text_get(&who), err);
        if (n > 0 && !told && now - began > SECONDS_TO_TELL) {
            rp_log_info("waiting for rank %s to come to %s port %d", rp_text_get(&who),
                        world->address, world->port);
            told = true;
        }
        rp_text_release(&who);
        if (n == 0 || status != RP_STATUS_OK) break;
        if (now >= next) { /* else they would take this rank for lost */
            rp_control_server_beat(c);
            next = now + BEAT;
        }
        status = look(c, world, err);
        if (status != RP_STATUS_OK && status != RP_STATUS_STOPPED) let_in_the_late(c, world);
    }
    for (int r = 1; r < c->n_ranks; r++) c->member[r].heard = c->member[r].since = rp_sys_clock();
    return status;
}

enum rp_status rp_control_server_open(struct rp_control *c, const struct rp_comm_world *world,
                                      struct rp_error *err)
{
    int port = world->port;
    c->member = RP_NEW_ARRAY(struct rp_control_member, c->n_ranks);
    for (int r = 0; r < c->n_ranks; r++) c->member[r].fd = -1;
    rp_sys_host(c->member[0].host);
    c->member[0].pid = (uint32_t)rp_sys_pid();
    c->member[0].since = rp_sys_clock();
    if (c->listener < 0) RP_TRY(rp_net_listen(NULL, &port, &c->listener, err));
    RP_TRY(wait_for_all(c, world, err));
    rp_net_own_address(c->member[1].fd, c->own_address);
    return RP_STATUS_OK;
}
