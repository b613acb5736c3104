/* loader.c - threads that fill the next batches while the step works on this one.
 *
 * A ring of depth + 1 buffers: one is held by the caller, the others are filled or being filled.
 * What comes next is guessed from the distances between the positions asked for so far, which
 * repeat (passes within a step, then the jump to the next step). A wrong guess costs the time of
 * one fill; so does every batch where no thread could be started. */
#include "data/data_int.h"

#include <pthread.h>
#include <string.h>

enum { HISTORY = 64 };

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FULL, SLOT_HELD };
struct slot {
    enum slot_state state;
    uint64_t position;
    bool stale; /* being filled for a guess that is no longer wanted */
    void *x, *y;
};

struct rp_loader {
    const struct rp_data *data; /* not owned */
    int64_t n_samples;
    struct slot *slots;
    int n_slots;
    void *block; /* all buffers */
    size_t bytes;
    pthread_t *threads; /* at most n_slots - 1, so that a slot is always left to fill here */
    int n_threads;
    pthread_mutex_t mutex;
    pthread_cond_t work, done; /* there may be something to fill; a slot was filled */
    /* Under the mutex: */
    bool closing, started;
    uint64_t last;            /* position taken last */
    uint64_t deltas[HISTORY]; /* distances between positions taken, the newest last */
    int n_deltas, period;     /* guesses repeat the last `period` of them */
    uint64_t guess;           /* the newest position guessed */
    int n_ahead;              /* guesses made since `last` */
};

static size_t align64(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t x_bytes(const struct rp_data_shape *shape, int64_t n_samples)
{
    int64_t row = shape->dims[0] * (shape->n_dims == 3 ? shape->dims[1] * shape->dims[2] : 1);
    return align64((size_t)(n_samples * row) * sizeof(float));
}

static size_t y_bytes(const struct rp_data_shape *shape, int64_t n_samples)
{
    int64_t width = shape->target == RP_TARGET_CLASSES  ? (shape->mixes ? 3 : 1)
                    : shape->target == RP_TARGET_VALUES ? shape->n_values
                                                        : shape->dims[0];
    return align64((size_t)(n_samples * width) * sizeof(float));
}

uint64_t rp_loader_bytes(const struct rp_data_shape *shape, int64_t n_samples, int depth)
{
    return (uint64_t)((depth < 1 ? 1 : depth) + 1) *
           (x_bytes(shape, n_samples) + y_bytes(shape, n_samples));
}

/* ---- guessing -------------------------------------------------------------------------------- */

/* The shortest period whose last two turns agree; 1 when nothing repeats. */
static int find_period(const uint64_t *deltas, int n)
{
    for (int period = 1; 2 * period <= n; period++)
        if (memcmp(deltas + n - period, deltas + n - 2 * period, (size_t)period * sizeof *deltas) ==
            0)
            return period;
    return 1;
}

static void remember(struct rp_loader *loader, uint64_t position)
{
    if (loader->started) {
        if (loader->n_deltas == HISTORY) {
            loader->n_deltas--;
            memmove(loader->deltas, loader->deltas + 1,
                    (size_t)loader->n_deltas * sizeof *loader->deltas);
        }
        loader->deltas[loader->n_deltas++] = position - loader->last;
    }
    loader->last = position;
    loader->started = true;
}

/* Forgets the guesses made, and starts again behind the position taken last. */
static void restart_guesses(struct rp_loader *loader)
{
    loader->period = find_period(loader->deltas, loader->n_deltas);
    loader->guess = loader->last;
    loader->n_ahead = 0;
    for (int i = 0; i < loader->n_slots; i++) {
        struct slot *slot = &loader->slots[i];
        if (slot->state == SLOT_FULL) slot->state = SLOT_FREE;
        if (slot->state == SLOT_FILLING) slot->stale = true;
    }
}

/* The distance from guess number `ahead` after `last` to the one that follows it. */
static uint64_t guess_delta(const struct rp_loader *loader, int ahead)
{
    if (loader->n_deltas == 0) return (uint64_t)loader->n_samples;
    return loader->deltas[loader->n_deltas - loader->period + ahead % loader->period];
}

/* ---- the thread ------------------------------------------------------------------------------ */

static struct slot *find_slot(struct rp_loader *loader, enum slot_state state)
{
    for (int i = 0; i < loader->n_slots; i++)
        if (loader->slots[i].state == state) return &loader->slots[i];
    return NULL;
}

/* Fills a slot with the mutex released. */
static void fill_slot(struct rp_loader *loader, struct slot *slot, uint64_t position)
{
    slot->state = SLOT_FILLING;
    slot->position = position;
    slot->stale = false;
    pthread_mutex_unlock(&loader->mutex);
    rp_data_fill_train(loader->data, position, loader->n_samples, slot->x, slot->y);
    pthread_mutex_lock(&loader->mutex);
}

static void *run_loader(void *argument)
{
    struct rp_loader *loader = argument;
    pthread_mutex_lock(&loader->mutex);
    while (!loader->closing) {
        struct slot *slot = loader->started ? find_slot(loader, SLOT_FREE) : NULL;
        if (!slot) {
            pthread_cond_wait(&loader->work, &loader->mutex);
            continue;
        }
        loader->guess += guess_delta(loader, loader->n_ahead++);
        fill_slot(loader, slot, loader->guess);
        slot->state = slot->stale ? SLOT_FREE : SLOT_FULL;
        pthread_cond_signal(&loader->done);
    }
    pthread_mutex_unlock(&loader->mutex);
    return NULL;
}

/* ---- the caller's side ----------------------------------------------------------------------- */

/* The slot that holds `position`, or will in a moment; NULL when nobody guessed it. */
static struct slot *find_guess(struct rp_loader *loader, uint64_t position)
{
    for (int i = 0; i < loader->n_slots; i++) {
        struct slot *slot = &loader->slots[i];
        bool guessed = slot->state == SLOT_FULL || (slot->state == SLOT_FILLING && !slot->stale);
        if (guessed && slot->position == position) return slot;
    }
    return NULL;
}

void rp_loader_take(struct rp_loader *loader, uint64_t position, const void **x, const void **y)
{
    pthread_mutex_lock(&loader->mutex);
    struct slot *held = find_slot(loader, SLOT_HELD);
    if (held) held->state = SLOT_FREE;
    bool in_order = loader->n_ahead > 0 && position == loader->last + guess_delta(loader, 0);
    struct slot *slot = in_order ? find_guess(loader, position) : NULL;
    remember(loader, position);
    pthread_cond_broadcast(&loader->work);
    if (slot) {
        loader->n_ahead--;
        while (slot->state == SLOT_FILLING) pthread_cond_wait(&loader->done, &loader->mutex);
    } else {
        restart_guesses(loader);
        slot = find_slot(loader, SLOT_FREE);
        fill_slot(loader, slot, position);
    }
    slot->state = SLOT_HELD;
    pthread_mutex_unlock(&loader->mutex);
    *x = slot->x;
    *y = slot->y;
}

/* ---- opening and closing --------------------------------------------------------------------- */

/* Without any, every batch is filled when it is taken. */
static void start_threads(struct rp_loader *loader, int n)
{
    if (n > loader->n_slots - 1) n = loader->n_slots - 1;
    loader->threads = RP_NEW_ARRAY(pthread_t, n < 1 ? 1 : n);
    for (int i = 0; i < n; i++)
        if (pthread_create(&loader->threads[loader->n_threads], NULL, run_loader, loader) == 0)
            loader->n_threads++;
}

enum rp_status rp_loader_open(const struct rp_data *data, int64_t n_samples, int depth, int threads,
                              struct rp_loader **out, struct rp_error *err)
{
    const struct rp_data_shape *shape = rp_data_shape(data);
    size_t slot_bytes = x_bytes(shape, n_samples) + y_bytes(shape, n_samples);
    struct rp_loader *loader = RP_NEW(struct rp_loader);
    pthread_mutex_init(&loader->mutex, NULL);
    pthread_cond_init(&loader->work, NULL);
    pthread_cond_init(&loader->done, NULL);
    loader->data = data;
    loader->n_samples = n_samples;
    loader->period = 1;
    loader->n_slots = (depth < 1 ? 1 : depth) + 1;
    loader->slots = RP_NEW_ARRAY(struct slot, loader->n_slots);
    loader->bytes = slot_bytes * (size_t)loader->n_slots;
    loader->block = rp_mem_try(loader->bytes);
    if (!loader->block) {
        enum rp_status status =
            rp_error_set(err, RP_STATUS_MEMORY,
                         "%d batches of %lld samples to read ahead (%llu bytes) do not fit into "
                         "memory: lower train.batch or train.micro_batch",
                         loader->n_slots, (long long)n_samples,
                         (unsigned long long)slot_bytes * (unsigned)loader->n_slots);
        rp_loader_close(loader);
        return status;
    }
    for (int i = 0; i < loader->n_slots; i++) {
        loader->slots[i].x = (char *)loader->block + slot_bytes * (size_t)i;
        loader->slots[i].y = (char *)loader->slots[i].x + x_bytes(shape, n_samples);
    }
    start_threads(loader, threads);
    *out = loader;
    return RP_STATUS_OK;
}

void *rp_loader_block(const struct rp_loader *loader, size_t *bytes)
{
    *bytes = loader->bytes;
    return loader->block;
}

void rp_loader_close(struct rp_loader *loader)
{
    if (!loader) return;
    pthread_mutex_lock(&loader->mutex);
    loader->closing = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->mutex);
    for (int i = 0; i < loader->n_threads; i++) pthread_join(loader->threads[i], NULL);
    pthread_cond_destroy(&loader->done);
    pthread_cond_destroy(&loader->work);
    pthread_mutex_destroy(&loader->mutex);
    rp_mem_free(loader->threads);
    rp_mem_free(loader->block);
    rp_mem_free(loader->slots);
    rp_mem_free(loader);
}
