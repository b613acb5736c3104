/* control.c - the control channel: what both sides have in common. */
#include "comm/control_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const double SECONDS_TO_UNWIND = 3;

/* ---- failures -------------------------------------------------------------------------------- */

void rp_control_fail(struct rp_control *c, enum rp_status status, const char *format, ...)
{
    va_list args;
    pthread_mutex_lock(&c->mutex);
    bool first = !c->failed;
    if (first) {
        c->failed = true;
        c->status = status;
        va_start(args, format);
        vsnprintf(c->text, sizeof c->text, format, args);
        va_end(args);
    }
    if (first && c->options.lost) c->options.lost(c->options.context, c->text);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
}

void rp_control_end_process(struct rp_control *c)
{
    double until = rp_sys_clock() + SECONDS_TO_UNWIND;
    while (rp_sys_clock() < until && !atomic_load(&c->closing)) rp_sys_sleep(0.02);
    pthread_mutex_lock(&c->mutex);
    c->thread_ends = !c->main_ends;
    pthread_mutex_unlock(&c->mutex);
    if (!c->thread_ends || atomic_load(&c->closing)) return;
    if (c->options.before_end) c->options.before_end(c->options.context, c->status, c->text);
    if (c->told) rp_log_mute();
    rp_log_error(c->text);
    rp_comm_reap(1);
    _exit((int)c->status);
}

enum rp_status rp_control_failure(struct rp_control *c, struct rp_error *err)
{
    c->main_ends = true;
    while (c->thread_ends) pthread_cond_wait(&c->changed, &c->mutex); /* for the few ms left */
    if (c->told) rp_log_mute();
    return rp_error_set(err, c->status, "%s", c->text);
}

enum rp_status rp_control_cause(struct rp_control *c, const char *what, struct rp_error *err)
{
    double until = rp_sys_clock() + SECONDS_TO_UNWIND - 1;
    pthread_mutex_lock(&c->mutex);
    while (!c->failed && rp_sys_clock() < until) {
        pthread_mutex_unlock(&c->mutex);
        rp_sys_sleep(0.01);
        pthread_mutex_lock(&c->mutex);
    }
    enum rp_status status =
        c->failed ? rp_control_failure(c, err)
                  : rp_error_set(err, RP_STATUS_PEER_LOST, "a peer was lost: %s", what);
    pthread_mutex_unlock(&c->mutex);
    return status;
}

bool rp_control_wait(struct rp_control *c)
{
    if (!c->options.stop || atomic_load(&c->settled)) {
        pthread_cond_wait(&c->changed, &c->mutex);
        return true;
    }
    double moment = rp_sys_wall() + 0.2; /* the clock that a condition goes by */
    struct timespec until = {.tv_sec = (time_t)moment};
    until.tv_nsec = (long)((moment - (double)until.tv_sec) * 1e9);
    pthread_cond_timedwait(&c->changed, &c->mutex, &until);
    return !c->options.stop(c->options.context);
}

bool rp_control_is_over(struct rp_control *c)
{
    pthread_mutex_lock(&c->mutex);
    bool over = c->failed;
    pthread_mutex_unlock(&c->mutex);
    return over;
}

/* ---- messages -------------------------------------------------------------------------------- */

bool rp_control_send(struct rp_control *c, int fd, enum rp_net_type type, const void *bytes,
                     size_t n)
{
    pthread_mutex_lock(&c->sending);
    bool sent = fd >= 0 && rp_net_send(fd, type, bytes, n);
    pthread_mutex_unlock(&c->sending);
    return sent;
}

void rp_control_send_end(struct rp_control *c, int fd, enum rp_status status, const char *text)
{
    char bytes[sizeof(uint32_t) + sizeof c->text];
    uint32_t code = (uint32_t)status;
    memcpy(bytes, &code, sizeof code);
    int n = snprintf(bytes + sizeof code, sizeof bytes - sizeof code, "%s", text ? text : "");
    if (n > (int)sizeof c->text - 1) n = (int)sizeof c->text - 1;
    rp_control_send(c, fd, RP_NET_END, bytes, sizeof code + (size_t)n);
}

/* ---- open, close ----------------------------------------------------------------------------- */

enum rp_status rp_control_open(const struct rp_comm_world *world,
                               const struct rp_comm_options *options, struct rp_control **control,
                               struct rp_error *err)
{
    struct rp_control *c = RP_NEW(struct rp_control);
    c->rank = world->rank;
    c->n_ranks = world->n_ranks;
    c->options = *options;
    c->patience = world->patience ? world->patience : RP_COMM_PATIENCE;
    c->fd = -1;
    c->listener = world->listener;
    atomic_store(&c->phase, "start");
    pthread_mutex_init(&c->mutex, NULL);
    pthread_mutex_init(&c->sending, NULL);
    pthread_cond_init(&c->changed, NULL);
    enum rp_status status = c->rank == 0 ? rp_control_server_open(c, world, err)
                                         : rp_control_client_open(c, world, err);
    if (status == RP_STATUS_OK) {
        void *(*work)(void *) = c->rank == 0 ? rp_control_server_main : rp_control_client_main;
        c->started = pthread_create(&c->thread, NULL, work, c) == 0;
        if (!c->started)
            status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                  "cannot start the thread of the control channel: raise the limit "
                                  "on processes");
    }
    if (status == RP_STATUS_OK)
        *control = c;
    else
        rp_control_close(c, status, err->text);
    return status;
}

void rp_control_close(struct rp_control *c, enum rp_status status, const char *text)
{
    if (!c) return;
    if (c->rank == 0)
        rp_control_server_close(c, status, text);
    else
        rp_control_client_close(c, status, text);
    pthread_mutex_destroy(&c->mutex);
    pthread_mutex_destroy(&c->sending);
    pthread_cond_destroy(&c->changed);
    rp_mem_free(c->answer);
    rp_mem_free(c);
}

/* ---- agreement and store --------------------------------------------------------------------- */

enum rp_status rp_control_agree(struct rp_control *c, const void *mine, size_t bytes, void *all,
                                struct rp_error *err)
{
    if (c->rank == 0) return rp_control_server_agree(c, mine, bytes, all, err);
    void *answer = NULL;
    size_t n = 0;
    RP_TRY(rp_control_client_ask(c, RP_NET_AGREE, mine, bytes, &answer, &n, err));
    enum rp_status status = RP_STATUS_OK;
    if (n == bytes * (size_t)c->n_ranks)
        memcpy(all, answer, n);
    else
        status = rp_error_set(err, RP_STATUS_INTERNAL,
                              "the ranks disagree about what they agree on: %zu bytes, not %zu", n,
                              bytes * (size_t)c->n_ranks);
    rp_mem_free(answer);
    return status;
}

static bool send_entry(struct rp_control *c, const char *key, const void *bytes, size_t n)
{
    size_t length = strlen(key) + 1;
    char *message = rp_mem_new(length + n);
    memcpy(message, key, length);
    memcpy(message + length, bytes, n);
    bool sent = rp_control_send(c, c->fd, RP_NET_SET, message, length + n);
    rp_mem_free(message);
    return sent;
}

enum rp_status rp_control_set(struct rp_control *c, const char *key, const void *bytes, size_t n,
                              struct rp_error *err)
{
    if (c->rank == 0) {
        pthread_mutex_lock(&c->mutex);
        rp_control_server_set(c, key, bytes, n);
        pthread_mutex_unlock(&c->mutex);
        return RP_STATUS_OK;
    }
    if (send_entry(c, key, bytes, n)) return RP_STATUS_OK;
    return rp_control_cause(c, "rank 0 does not answer", err);
}

enum rp_status rp_control_post(struct rp_control *c, const char *key, const void *bytes, size_t n,
                               struct rp_error *err)
{
    if (send_entry(c, key, bytes, n)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_PEER_LOST, "rank 0 does not answer");
}

enum rp_status rp_control_take(struct rp_control *c, int rank, const char *key, void **bytes,
                               size_t *n, struct rp_error *err)
{
    const struct rp_control_entry *entry = NULL;
    enum rp_status status = RP_STATUS_OK;
    char who[300];
    pthread_mutex_lock(&c->mutex);
    while (!(entry = rp_control_server_find(c, key)) && !c->failed && !c->member[rank].ended)
        pthread_cond_wait(&c->changed, &c->mutex);
    if (entry) {
        *bytes = rp_mem_new(entry->n + 1);
        memcpy(*bytes, entry->bytes, entry->n);
        *n = entry->n;
        rp_control_server_forget(c, entry);
    } else if (c->failed) { /* not rp_control_failure: it is the main thread that ends by it */
        status = rp_error_set(err, c->status, "%s", c->text);
    } else {
        rp_control_rank_text(c, rank, who);
        status = rp_error_set(err, RP_STATUS_PEER_LOST, "%s ended before it had said %s", who, key);
    }
    pthread_mutex_unlock(&c->mutex);
    return status;
}

enum rp_status rp_control_get(struct rp_control *c, const char *key, void **bytes, size_t *n,
                              struct rp_error *err)
{
    if (c->rank != 0) return rp_control_client_ask(c, RP_NET_GET, key, strlen(key), bytes, n, err);
    const struct rp_control_entry *entry = NULL;
    enum rp_status status = RP_STATUS_OK;
    pthread_mutex_lock(&c->mutex);
    while (!c->failed && !(entry = rp_control_server_find(c, key)))
        pthread_cond_wait(&c->changed, &c->mutex);
    if (entry) {
        *bytes = rp_mem_new(entry->n + 1);
        memcpy(*bytes, entry->bytes, entry->n);
        *n = entry->n;
    } else {
        status = rp_control_failure(c, err);
    }
    pthread_mutex_unlock(&c->mutex);
    return status;
}

void rp_control_note(struct rp_control *c, uint64_t step, const char *phase)
{
    atomic_store_explicit(&c->step, step, memory_order_relaxed);
    atomic_store_explicit(&c->phase, phase, memory_order_relaxed);
}

void rp_control_settle(struct rp_control *c)
{
    atomic_store(&c->settled, true);
}

const char *rp_control_own_address(const struct rp_control *c)
{
    return c->own_address;
}

void rp_control_rank_text(const struct rp_control *c, int rank, char text[300])
{
    if (c->rank == 0 && c->member[rank].host[0])
        snprintf(text, 300, "rank %d (%s)", rank, c->member[rank].host);
    else
        snprintf(text, 300, "rank %d", rank);
}
