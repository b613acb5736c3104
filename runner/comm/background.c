/* background.c - exchanges beside other work: a thread makes them one after another, in the order
 * in which they were begun, which is the same on every rank. Where blocks are a GPU's memory there
 * is no thread: begun is put on the GPU's second stream, behind what the first was asked for so
 * far, and the GPU does the rest.
 *
 * The thread never asks the control channel: what has failed waits for the main thread, which says
 * why. Until then the channel's own clock ends the process when a wait does not end. */
#include "comm/control.h"
#include "comm/mover.h"
#include "comm/tree.h"

#include "base/mem.h"
#include "base/sys.h"

#include <pthread.h>
#include <stdio.h>

static const double SECONDS_TO_LEAVE = 3;

struct exchange {
    void *block;
    const uint64_t *border;
    bool gather; /* else a reduction */
};

struct rp_comm_background {
    struct rp_comm comm; /* whose mover it is */
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t changed;
    struct exchange *exchange; /* (n) begun, of which the first n_done are made */
    int n, n_done, room;
    bool ending, left, failed;
    char why[RP_COMM_WHY_BYTES];
};

/* ---- the thread ------------------------------------------------------------------------------ */

static const char no_room[] = "no memory was reserved for what other ranks send";

static bool has_room(const struct rp_comm *comm, const struct exchange *e)
{
    const struct rp_comm_mover *m = comm->mover;
    uint64_t bytes = e->border[comm->rank + 1] - e->border[comm->rank];
    return m->module->show_all_to_all || bytes * (uint64_t)comm->n_ranks <= m->bytes;
}

static bool reduce(const struct rp_comm *comm, const struct exchange *e, char *why)
{
    enum rp_status status = RP_STATUS_OK;
    struct rp_error err = {0};
    if (!has_room(comm, e)) {
        snprintf(why, RP_COMM_WHY_BYTES, "%s", no_room);
        return false;
    }
    return rp_comm_join(comm, NULL, e->block, e->border, &status, why, &err) &&
           status == RP_STATUS_OK;
}

static bool make(const struct rp_comm *comm, const struct exchange *e, char *why)
{
    const struct rp_comm_mover *m = comm->mover;
    return e->gather ? m->module->all_gather(m->world, e->block, e->border, why)
                     : reduce(comm, e, why);
}

static void *background_main(void *arg)
{
    struct rp_comm_background *b = arg;
    pthread_mutex_lock(&b->mutex);
    while (!b->ending) {
        if (b->failed || b->n_done == b->n) {
            pthread_cond_wait(&b->changed, &b->mutex);
            continue;
        }
        struct exchange next = b->exchange[b->n_done]; /* a copy: the list may grow meanwhile */
        char why[RP_COMM_WHY_BYTES] = "";
        pthread_mutex_unlock(&b->mutex);
        bool made = make(&b->comm, &next, why);
        pthread_mutex_lock(&b->mutex);
        b->n_done += made;
        b->failed = !made;
        if (!made) snprintf(b->why, sizeof b->why, "%s", why);
        pthread_cond_broadcast(&b->changed);
    }
    b->left = true;
    pthread_mutex_unlock(&b->mutex);
    return NULL;
}

/* ---- opening, closing ------------------------------------------------------------------------ */

/* At the first exchange that is begun. Without a thread, because none is to be had or because none
 * is wanted, exchanges are made when they are waited for. */
static struct rp_comm_background *open_background(struct rp_comm *comm)
{
    struct rp_comm_background *b = RP_NEW(struct rp_comm_background);
    b->comm = *comm;
    pthread_mutex_init(&b->mutex, NULL);
    pthread_cond_init(&b->changed, NULL);
    b->started = !comm->mover->one_after_another &&
                 pthread_create(&b->thread, NULL, background_main, b) == 0;
    return b;
}

/* False when it is still in a wait for other ranks after some seconds. */
static bool leave(struct rp_comm_background *b)
{
    double until = rp_sys_clock() + SECONDS_TO_LEAVE;
    pthread_mutex_lock(&b->mutex);
    b->ending = true;
    pthread_cond_broadcast(&b->changed);
    while (!b->left && rp_sys_clock() < until) {
        pthread_mutex_unlock(&b->mutex);
        rp_sys_sleep(0.001);
        pthread_mutex_lock(&b->mutex);
    }
    bool left = b->left;
    pthread_mutex_unlock(&b->mutex);
    if (left) pthread_join(b->thread, NULL);
    return left;
}

bool rp_comm_end_background(struct rp_comm_mover *m)
{
    struct rp_comm_background *b = m->background;
    if (!b) return true;
    if (b->started && !leave(b)) return false;
    pthread_cond_destroy(&b->changed);
    pthread_mutex_destroy(&b->mutex);
    rp_mem_free(b->exchange);
    rp_mem_free(b);
    m->background = NULL;
    return true;
}

/* ---- begin, finish --------------------------------------------------------------------------- */

static bool is_on_device(const struct rp_comm_mover *m)
{
    return m->module && m->module->device_memory && !m->one_after_another;
}

static enum rp_status begin_on_device(struct rp_comm *comm, const struct exchange *e,
                                      struct rp_error *err)
{
    if (e->gather) return rp_comm_start_gather(comm, e->block, e->border, err);
    if (!has_room(comm, e)) return rp_error_set(err, RP_STATUS_INTERNAL, "%s", no_room);
    return rp_comm_start_reduce(comm, e->block, e->border, err);
}

static enum rp_status begin(struct rp_comm *comm, struct exchange e, struct rp_error *err)
{
    if (!comm->mover || e.border[0] == e.border[comm->n_ranks]) return RP_STATUS_OK;
    if (is_on_device(comm->mover)) return begin_on_device(comm, &e, err);
    if (!comm->mover->background) comm->mover->background = open_background(comm);
    struct rp_comm_background *b = comm->mover->background;
    pthread_mutex_lock(&b->mutex);
    bool failed = b->failed;
    if (b->n == b->room) {
        b->room = b->room ? 2 * b->room : 64;
        b->exchange = rp_mem_grow(b->exchange, (size_t)b->room * sizeof *b->exchange);
    }
    b->exchange[b->n++] = e;
    pthread_cond_broadcast(&b->changed);
    pthread_mutex_unlock(&b->mutex);
    return failed ? rp_comm_finish(comm, err) : RP_STATUS_OK;
}

enum rp_status rp_comm_begin_reduce(struct rp_comm *comm, void *sums, const uint64_t *border,
                                    struct rp_error *err)
{
    return begin(comm, (struct exchange){sums, border, false}, err);
}

enum rp_status rp_comm_begin_gather(struct rp_comm *comm, void *block, const uint64_t *border,
                                    struct rp_error *err)
{
    return begin(comm, (struct exchange){block, border, true}, err);
}

static enum rp_status make_now(struct rp_comm *comm, struct rp_comm_background *b,
                               struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; i < b->n && status == RP_STATUS_OK; i++) {
        const struct exchange *e = &b->exchange[i];
        status = e->gather ? rp_comm_gather(comm, e->block, e->border, err)
                           : rp_comm_reduce(comm, e->block, e->border, err);
    }
    b->n = 0;
    return status;
}

enum rp_status rp_comm_finish(struct rp_comm *comm, struct rp_error *err)
{
    struct rp_comm_background *b = comm->mover ? comm->mover->background : NULL;
    if (comm->mover && is_on_device(comm->mover)) return rp_comm_wait(comm, err);
    if (!b) return RP_STATUS_OK;
    if (!b->started) return make_now(comm, b, err);
    pthread_mutex_lock(&b->mutex);
    while (b->n_done < b->n && !b->failed) pthread_cond_wait(&b->changed, &b->mutex);
    bool failed = b->failed;
    b->n = b->n_done = 0;
    pthread_mutex_unlock(&b->mutex);
    return failed ? rp_control_cause(comm->control, b->why, err) : RP_STATUS_OK;
}
