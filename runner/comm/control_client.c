/* control_client.c - the control channel on every rank but 0. */
#include "comm/control_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SECONDS_TO_ANSWER = 120 };
static const double BEAT = 0.5, SECONDS_TO_HEAR = 1.5;

enum rp_status rp_control_client_open(struct rp_control *c, const struct rp_comm_world *world,
                                      struct rp_error *err)
{
    struct rp_net_hello hello = {.version = RP_NET_VERSION,
                                 .rank = (uint32_t)c->rank,
                                 .n_ranks = (uint32_t)c->n_ranks,
                                 .pid = (uint32_t)rp_sys_pid()};
    enum rp_net_type type = RP_NET_REFUSE;
    void *answer = NULL;
    size_t n = 0;
    snprintf(hello.token, sizeof hello.token, "%s", world->token);
    rp_sys_host(hello.host);
    RP_TRY(rp_net_connect(world->address, world->port, c->patience, c->options.stop,
                          c->options.context, &c->fd, err));
    rp_net_own_address(c->fd, c->own_address);
    rp_net_set_timeout(c->fd, SECONDS_TO_ANSWER);
    bool answered = rp_net_send(c->fd, RP_NET_HELLO, &hello, sizeof hello) &&
                    rp_net_receive(c->fd, &type, &answer, &n);
    /* A message that stops in its middle must not stop the clock of this thread. */
    rp_net_set_timeout(c->fd, c->options.peer_timeout);
    c->heard = rp_sys_clock();
    enum rp_status status = RP_STATUS_OK;
    if (!answered)
        status = rp_error_set(err, RP_STATUS_PEER_LOST, "rank 0 at %s port %d does not let us in",
                              world->address, world->port);
    else if (type != RP_NET_WELCOME)
        status = rp_error_set(err, RP_STATUS_USAGE, "rank 0 at %s port %d refuses us: %s",
                              world->address, world->port, (const char *)answer);
    else
        snprintf(c->server, sizeof c->server, "%s, at %s port %d", (const char *)answer,
                 world->address, world->port);
    rp_mem_free(answer);
    return status;
}

/* Where rank 0 stands, for the message that says it is lost. */
static void take_beat(struct rp_control *c, const void *bytes, size_t n)
{
    struct rp_net_beat beat;
    if (n != sizeof beat) return;
    memcpy(&beat, bytes, n);
    if (beat.step < c->server_beat.step) return;
    c->server_beat = beat;
    c->server_beat.phase[sizeof c->server_beat.phase - 1] = '\0';
}

/* It has come to the agreement that this rank waits for: newer than its last beat. */
static void place_server(struct rp_control *c)
{
    uint64_t step = atomic_load(&c->step);
    if (step <= c->server_beat.step) return;
    c->server_beat.step = step;
    snprintf(c->server_beat.phase, sizeof c->server_beat.phase, "%s", atomic_load(&c->phase));
}

/* Both sides of a cut say what they know: who, when, and that the other side may be the one. */
static void lose_server(struct rp_control *c, const char *why)
{
    rp_control_fail(
        c, RP_STATUS_PEER_LOST,
        "rank 0 (%s) is lost: %s; last heard at step %llu, in %s, while rank %d waits at "
        "step %llu, in %s",
        c->server, why, (unsigned long long)c->server_beat.step,
        c->server_beat.phase[0] ? c->server_beat.phase : "start", c->rank,
        (unsigned long long)atomic_load(&c->step), atomic_load(&c->phase));
}

/* The end of rank 0, or its verdict about another: it has said so itself. */
static void take_end(struct rp_control *c, const char *bytes, size_t n)
{
    uint32_t code = RP_STATUS_PEER_LOST;
    if (n >= sizeof code) memcpy(&code, bytes, sizeof code);
    pthread_mutex_lock(&c->mutex);
    c->told = true;
    pthread_mutex_unlock(&c->mutex);
    rp_control_fail(c, (enum rp_status)code, "%s", n > sizeof code ? bytes + sizeof code : "");
}

/* False when the connection is over. */
static bool take_message(struct rp_control *c)
{
    enum rp_net_type type;
    void *bytes = NULL;
    size_t n = 0;
    if (!rp_net_receive(c->fd, &type, &bytes, &n)) return false;
    c->heard = rp_sys_clock();
    if (type == RP_NET_AGREE) place_server(c);
    if (type == RP_NET_AGREE || type == RP_NET_VALUE) {
        pthread_mutex_lock(&c->mutex);
        rp_mem_free(c->answer);
        c->answer = bytes;
        c->answer_bytes = n;
        bytes = NULL;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->mutex);
    } else if (type == RP_NET_BEAT) {
        take_beat(c, bytes, n);
    } else if (type == RP_NET_END) {
        take_end(c, bytes, n);
    }
    rp_mem_free(bytes);
    return true;
}

static void beat(struct rp_control *c)
{
    struct rp_net_beat beat = {.step = atomic_load(&c->step)};
    snprintf(beat.phase, sizeof beat.phase, "%s", atomic_load(&c->phase));
    rp_control_send(c, c->fd, RP_NET_BEAT, &beat, sizeof beat);
}

void *rp_control_client_main(void *arg)
{
    struct rp_control *c = arg;
    double next = 0;
    while (!atomic_load(&c->closing) && !c->failed) {
        struct pollfd wait = {.fd = c->fd, .events = POLLIN};
        int ready = poll(&wait, 1, 100);
        double now = rp_sys_clock();
        if (ready > 0 && !take_message(c) && !atomic_load(&c->closing))
            lose_server(c, "its connection ended");
        if (now - c->heard > c->options.peer_timeout)
            lose_server(c, "silent for longer than timeout.peer");
        if (now < next) continue;
        next = now + BEAT;
        beat(c);
    }
    if (c->failed) rp_control_end_process(c);
    return NULL;
}

/* Under the mutex, while it waits for the others. Whether all can still stop here rank 0 alone
 * knows, which is told; it does not hear while it waits for ranks that have not come yet, and then
 * this one leaves by itself. True: it leaves. */
static bool stop_together(struct rp_control *c, double *told)
{
    if (rp_control_wait(c)) return false;
    if (*told > 0) return rp_sys_clock() - *told > SECONDS_TO_HEAR;
    *told = rp_sys_clock();
    pthread_mutex_unlock(&c->mutex);
    bool sent = rp_control_send(c, c->fd, RP_NET_STOP, "", 0);
    pthread_mutex_lock(&c->mutex);
    return !sent;
}

enum rp_status rp_control_client_ask(struct rp_control *c, enum rp_net_type type, const void *bytes,
                                     size_t n, void **answer, size_t *answer_bytes,
                                     struct rp_error *err)
{
    bool sent = rp_control_send(c, c->fd, type, bytes, n), stopped = false;
    double told = 0;
    pthread_mutex_lock(&c->mutex);
    while (sent && !c->failed && !c->answer && !stopped) {
        if (type == RP_NET_AGREE)
            stopped = stop_together(c, &told);
        else
            pthread_cond_wait(&c->changed, &c->mutex);
    }
    *answer = c->answer;
    *answer_bytes = c->answer_bytes;
    c->answer = NULL;
    pthread_mutex_unlock(&c->mutex);
    if (*answer) return RP_STATUS_OK;
    if (stopped && !c->failed)
        return rp_error_set(err, RP_STATUS_STOPPED, "asked to stop while waiting for other ranks");
    return rp_control_cause(c, "rank 0 does not answer", err);
}

void rp_control_client_close(struct rp_control *c, enum rp_status status, const char *text)
{
    atomic_store(&c->closing, true);
    if (c->started) rp_control_send_end(c, c->fd, status, text);
    if (c->started) pthread_join(c->thread, NULL);
    rp_net_close(c->fd);
}
