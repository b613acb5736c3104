/* control_server.c - the control channel on rank 0: who is there, what they wait for, who is lost.
 */
#include "comm/control_int.h"

#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { SECONDS_TO_LEAVE = 5 };
static const double BEAT = 0.5;

/* ---- the store ------------------------------------------------------------------------------- */

const struct rp_control_entry *rp_control_server_find(const struct rp_control *c, const char *key)
{
    for (int i = 0; i < c->n_store; i++)
        if (strcmp(c->store[i].key, key) == 0) return &c->store[i];
    return NULL;
}

static void answer_wanted(struct rp_control *c, struct rp_control_member *member)
{
    const struct rp_control_entry *entry =
        member->wanted ? rp_control_server_find(c, member->wanted) : NULL;
    if (!entry) return;
    rp_control_send(c, member->fd, RP_NET_VALUE, entry->bytes, entry->n);
    rp_mem_free(member->wanted);
    member->wanted = NULL;
}

void rp_control_server_set(struct rp_control *c, const char *key, const void *bytes, size_t n)
{
    c->store = rp_mem_grow(c->store, sizeof *c->store * (size_t)(c->n_store + 1));
    struct rp_control_entry *entry = &c->store[c->n_store++];
    *entry = (struct rp_control_entry){.key = rp_mem_copy_text(key), .n = n};
    entry->bytes = rp_mem_new(n + 1);
    memcpy(entry->bytes, bytes, n);
    for (int r = 1; r < c->n_ranks; r++) answer_wanted(c, &c->member[r]);
    pthread_cond_broadcast(&c->changed);
}

void rp_control_server_forget(struct rp_control *c, const struct rp_control_entry *entry)
{
    int i = (int)(entry - c->store);
    rp_mem_free(c->store[i].key);
    rp_mem_free(c->store[i].bytes);
    c->store[i] = c->store[--c->n_store];
}

/* ---- agreement ------------------------------------------------------------------------------- */

/* The first rank that has not given its part; n_ranks: all have. */
static int first_absent(const struct rp_control *c)
{
    int r = 1;
    while (r < c->n_ranks && c->member[r].slot) r++;
    return r;
}

enum rp_status rp_control_server_agree(struct rp_control *c, const void *mine, size_t bytes,
                                       void *all, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    memcpy(all, mine, bytes);
    pthread_mutex_lock(&c->mutex);
    int absent = first_absent(c);
    bool stopped = false;
    while (!c->failed && absent < c->n_ranks && !c->member[absent].ended && !stopped) {
        stopped = !rp_control_wait(c);
        absent = first_absent(c);
    }
    if (c->failed)
        status = rp_control_failure(c, err);
    else if (absent < c->n_ranks && !c->member[absent].ended)
        status =
            rp_error_set(err, RP_STATUS_STOPPED, "asked to stop while waiting for rank %d (%s)",
                         absent, c->member[absent].host);
    else if (absent < c->n_ranks)
        status = rp_error_set(err, RP_STATUS_PEER_LOST, "rank %d (%s) has left the run", absent,
                              c->member[absent].host);
    for (int r = 1; r < c->n_ranks && status == RP_STATUS_OK; r++) {
        struct rp_control_member *member = &c->member[r];
        if (member->slot_bytes == bytes)
            memcpy((char *)all + bytes * (size_t)r, member->slot, bytes);
        else
            status = rp_error_set(err, RP_STATUS_INTERNAL,
                                  "rank %d is at another point of the program than rank 0", r);
        rp_mem_free(member->slot);
        member->slot = NULL;
        /* All have come to where this rank is: newer than their last beats. */
        rp_control_place(c, member, atomic_load(&c->step), atomic_load(&c->phase), rp_sys_clock());
    }
    if (status == RP_STATUS_OK)
        for (int r = 0; r < c->n_ranks; r++) c->member[r].since = rp_sys_clock();
    pthread_mutex_unlock(&c->mutex);
    for (int r = 1; r < c->n_ranks && status == RP_STATUS_OK; r++)
        rp_control_send(c, c->member[r].fd, RP_NET_AGREE, all, bytes * (size_t)c->n_ranks);
    return status;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Which ranks stand in which phase: "ranks 0, 1 in reduce; rank 3 in data". */
static void add_where(const struct rp_control *c, int but, struct rp_text *text)
{
    bool said[RP_COMM_MAX_RANKS] = {0};
    for (int r = 0; r < c->n_ranks; r++) {
        const char *phase = c->member[r].phase;
        if (r == but || said[r] || c->member[r].ended) continue;
        rp_text_add(text, "%s%s:", text->length ? "; " : "", phase);
        for (int q = r; q < c->n_ranks; q++) {
            if (q == but || said[q] || strcmp(c->member[q].phase, phase) != 0) continue;
            said[q] = true;
            rp_text_add(text, " %d", q);
        }
    }
}

/* Rank r is named as the cause; the others learn it from rp_control_server_main. */
static void lose(struct rp_control *c, int r, enum rp_status status, const char *why)
{
    struct rp_control_member *member = &c->member[r];
    struct rp_text where = {0};
    pthread_mutex_lock(&c->mutex);
    add_where(c, r, &where);
    member->ended = true;
    pthread_mutex_unlock(&c->mutex);
    rp_control_fail(c, status,
                    "rank %d (%s, process %u) %s at step %llu, in %s; the others wait in %s", r,
                    member->host, member->pid, why, (unsigned long long)member->step, member->phase,
                    rp_text_get(&where));
    rp_text_release(&where);
}

/* Once the start is over it is too late: that rank goes on, and is heard after a step. */
static void take_stop(struct rp_control *c, int r)
{
    if (!atomic_load(&c->settled))
        rp_control_fail(c, RP_STATUS_STOPPED,
                        "rank %d (%s) was asked to stop while all were starting: nothing is lost; "
                        "run the same command again",
                        r, c->member[r].host);
}

static void take_end(struct rp_control *c, int r, const char *bytes, size_t n)
{
    struct rp_control_member *member = &c->member[r];
    uint32_t code = RP_STATUS_INTERNAL;
    if (n >= sizeof code) memcpy(&code, bytes, sizeof code);
    pthread_mutex_lock(&c->mutex);
    member->ended = true;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->mutex);
    if (code == RP_STATUS_STOPPED && !atomic_load(&c->settled))
        take_stop(c, r);
    else if (!rp_comm_ends_together((enum rp_status)code))
        rp_control_fail(c, rp_control_end_of_all((enum rp_status)code),
                        "rank %d (%s) ended with code %u: %s", r, member->host, code,
                        n > sizeof code ? bytes + sizeof code : "");
}

static void take_beat(struct rp_control *c, struct rp_control_member *member,
                      const struct rp_net_beat *beat)
{
    char phase[sizeof beat->phase];
    memcpy(phase, beat->phase, sizeof phase);
    phase[sizeof phase - 1] = '\0';
    pthread_mutex_lock(&c->mutex);
    rp_control_place(c, member, beat->step, phase, rp_sys_clock());
    pthread_mutex_unlock(&c->mutex);
}

static void take_message(struct rp_control *c, int r)
{
    struct rp_control_member *member = &c->member[r];
    enum rp_net_type type;
    void *bytes = NULL;
    size_t n = 0;
    if (!rp_net_receive(member->fd, &type, &bytes, &n)) {
        if (!member->ended) lose(c, r, RP_STATUS_PEER_LOST, "is lost: its connection ended");
        return;
    }
    member->heard = rp_sys_clock();
    pthread_mutex_lock(&c->mutex);
    if (type == RP_NET_AGREE) {
        member->slot = bytes;
        member->slot_bytes = n;
        bytes = NULL;
        pthread_cond_broadcast(&c->changed);
    } else if (type == RP_NET_SET && memchr(bytes, 0, n)) {
        size_t length = strlen(bytes) + 1;
        rp_control_server_set(c, bytes, (char *)bytes + length, n - length);
    } else if (type == RP_NET_GET) {
        member->wanted = rp_mem_copy_text(bytes);
        answer_wanted(c, member);
    }
    pthread_mutex_unlock(&c->mutex);
    if (type == RP_NET_BEAT && n == sizeof(struct rp_net_beat)) take_beat(c, member, bytes);
    if (type == RP_NET_END) take_end(c, r, bytes, n);
    if (type == RP_NET_STOP) take_stop(c, r);
    rp_mem_free(bytes);
}

/* ---- clocks ---------------------------------------------------------------------------------- */

/* Under the mutex, as the main thread puts down and takes away what ranks give to an agreement. */
static void check_stuck(struct rp_control *c, double now)
{
    int who = 0;
    pthread_mutex_lock(&c->mutex);
    const char *why = rp_control_find_stuck(c, now, &who);
    pthread_mutex_unlock(&c->mutex);
    if (why) lose(c, who, RP_STATUS_STUCK, why);
}

/* All silent at once: this host is the one that is cut off. */
static void check_silent(struct rp_control *c, double now)
{
    int first = 0, n = 0;
    for (int r = c->n_ranks - 1; r > 0; r--) {
        const struct rp_control_member *m = &c->member[r];
        if (m->ended || now - m->heard <= c->options.peer_timeout) continue;
        first = r;
        n++;
    }
    if (n > 1 && n == c->n_ranks - 1)
        lose(c, first, RP_STATUS_PEER_LOST,
             "is lost, and so is every other rank: this host may be cut off. Silent for longer "
             "than timeout.peer");
    else if (n > 0)
        lose(c, first, RP_STATUS_PEER_LOST, "is lost: silent for longer than timeout.peer");
}

static void check_clocks(struct rp_control *c, double now)
{
    check_silent(c, now);
    if (!c->failed) check_stuck(c, now);
}

void rp_control_server_beat(struct rp_control *c)
{
    struct rp_net_beat own = {.step = atomic_load(&c->step)};
    snprintf(own.phase, sizeof own.phase, "%s", atomic_load(&c->phase));
    take_beat(c, &c->member[0], &own);
    for (int r = 1; r < c->n_ranks; r++)
        if (!c->member[r].ended) rp_control_send(c, c->member[r].fd, RP_NET_BEAT, &own, sizeof own);
}

void *rp_control_server_main(void *arg)
{
    struct rp_control *c = arg;
    struct pollfd *wait = RP_NEW_ARRAY(struct pollfd, c->n_ranks);
    double next = 0;
    while (!atomic_load(&c->closing) && !c->failed) {
        for (int r = 0; r < c->n_ranks; r++)
            wait[r] =
                (struct pollfd){.fd = c->member[r].ended ? -1 : c->member[r].fd, .events = POLLIN};
        int ready = poll(wait, (nfds_t)c->n_ranks, 100);
        for (int r = 1; r < c->n_ranks && ready > 0; r++)
            if (wait[r].revents) take_message(c, r);
        double now = rp_sys_clock();
        if (now < next) continue;
        next = now + BEAT;
        rp_control_server_beat(c);
        check_clocks(c, now);
    }
    rp_mem_free(wait);
    if (!c->failed) return NULL;
    for (int r = 1; r < c->n_ranks; r++)
        rp_control_send_end(c, c->member[r].fd, c->status, c->text);
    rp_control_end_process(c);
    return NULL;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* The others say that they end, so that nobody takes a closed connection for a loss. */
static void wait_for_ends(struct rp_control *c)
{
    double until = rp_sys_clock() + SECONDS_TO_LEAVE;
    for (;;) {
        bool all = true;
        pthread_mutex_lock(&c->mutex);
        for (int r = 1; r < c->n_ranks; r++) all &= c->member[r].ended;
        bool failed = c->failed;
        pthread_mutex_unlock(&c->mutex);
        if (all || failed || rp_sys_clock() > until) return;
        rp_sys_sleep(0.005);
    }
}

void rp_control_server_close(struct rp_control *c, enum rp_status status, const char *text)
{
    bool early = status == RP_STATUS_STOPPED && !atomic_load(&c->settled);
    if (c->started && rp_comm_ends_together(status) && !early) wait_for_ends(c);
    atomic_store(&c->closing, true);
    if (c->started) pthread_join(c->thread, NULL);
    for (int r = 1; r < c->n_ranks; r++) {
        struct rp_control_member *member = &c->member[r];
        if (!member->ended) rp_control_send_end(c, member->fd, status, text);
        rp_net_close(member->fd);
        rp_mem_free(member->slot);
        rp_mem_free(member->wanted);
    }
    for (int i = 0; i < c->n_store; i++) {
        rp_mem_free(c->store[i].key);
        rp_mem_free(c->store[i].bytes);
    }
    rp_mem_free(c->store);
    rp_mem_free(c->member);
    rp_net_close(c->listener);
}
