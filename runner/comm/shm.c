/* shm.c - bytes through memory that all ranks of a host have mapped.
 *
 * Each rank writes into an area of its own, in pieces, and the receivers read there: sums are added
 * straight from it. Pieces are written past the caches, as a processor has them sooner out of the
 * machine's memory than out of another's cache (a fifth of the time where the two share none). For
 * each pair of ranks two counters say how many pieces have been written and how many read; who
 * waits for either sleeps on a bell of its own, which the others ring. Nobody holds a lock, so a
 * rank may end at any moment: the control channel finds it, and whoever waits looks there. */
#include "comm/shm.h"

#include "base/mem.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { LINE = 128 /* what two processors fight about */, PLACES = 8, AREA = 2 << 20 };
enum { LOOKS_BEFORE_SLEEP = 100 };
static const double LONGEST_SLEEP = 0.05; /* between two looks at the control channel */

struct lane {
    _Alignas(LINE) _Atomic(uint64_t) written; /* pieces, since the start */
    _Alignas(LINE) _Atomic(uint64_t) read;
};

struct bell {
    _Alignas(LINE) _Atomic(uint32_t) rings;
    _Atomic(uint32_t) sleeper; /* whether its rank may be asleep */
};

/* In which places pieces lie: an area is cut into a lane for each receiver, or is one for all. */
enum way { WAY_NONE, WAY_TO_EACH, WAY_TO_ALL };

struct rp_shm {
    struct rp_sys_shared memory;
    int rank, n_ranks;
    struct bell *bell; /* (n_ranks) */
    struct lane *lane; /* (n_ranks of those who write, n_ranks of those who read) */
    char *area;        /* (n_ranks, AREA) */
    struct rp_comm_patience patience;
    enum way way; /* of the call under way, or the last one */
    bool settled; /* everything that was written in another way has been read */
    uint64_t shown[RP_COMM_MAX_RANKS]; /* pieces of each rank for all, written or read by us */
};

uint64_t rp_comm_shared_bytes(int n_ranks)
{
    uint64_t n = (uint64_t)n_ranks;
    return n * (AREA + sizeof(struct bell)) + n * n * sizeof(struct lane);
}

struct rp_shm *rp_shm_new(const struct rp_sys_shared *memory, int rank, int n_ranks,
                          const struct rp_comm_patience *patience)
{
    struct rp_shm *s = RP_NEW(struct rp_shm);
    s->memory = *memory;
    s->rank = rank;
    s->n_ranks = n_ranks;
    s->patience = *patience;
    s->area = memory->at;
    s->bell = (struct bell *)(void *)(s->area + (uint64_t)n_ranks * AREA);
    s->lane = (struct lane *)(void *)(s->bell + n_ranks);
    return s;
}

static void close_world(void *world)
{
    struct rp_shm *s = world;
    rp_sys_shared_close(&s->memory);
    rp_mem_free(s);
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* Either the sleeper sees that the bell has rung, or the ringer sees the sleeper. */
static void ring(struct rp_shm *s, int rank)
{
    struct bell *bell = &s->bell[rank];
    atomic_fetch_add(&bell->rings, 1);
    if (atomic_load(&bell->sleeper)) rp_sys_wake(&bell->rings);
}

/* Until our bell has rung since `seen`. Others may need this processor to ring it. */
static bool wait_for_bell(struct rp_shm *s, uint32_t seen)
{
    struct bell *bell = &s->bell[s->rank];
    for (int looks = 0; looks < LOOKS_BEFORE_SLEEP; looks++) {
        if (atomic_load(&bell->rings) != seen) return true;
        sched_yield();
    }
    atomic_store(&bell->sleeper, 1);
    rp_sys_wait(&bell->rings, seen, LONGEST_SLEEP);
    atomic_store(&bell->sleeper, 0);
    return atomic_load(&bell->rings) != seen || s->patience.rest(s->patience.context, 0);
}

static bool wait_on(struct rp_shm *s, uint32_t seen, char why[RP_COMM_WHY_BYTES])
{
    if (wait_for_bell(s, seen)) return true;
    snprintf(why, RP_COMM_WHY_BYTES, "gave up waiting for the other ranks");
    return false;
}

static uint32_t listen_to_bell(struct rp_shm *s)
{
    return atomic_load(&s->bell[s->rank].rings);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static struct lane *lane_of(const struct rp_shm *s, int from, int to)
{
    return &s->lane[from * s->n_ranks + to];
}

static uint64_t piece_bytes(const struct rp_shm *s)
{
    uint64_t lanes = s->way == WAY_TO_EACH ? (uint64_t)s->n_ranks - 1 : 1;
    return AREA / PLACES / lanes / RP_COMM_ALIGN * RP_COMM_ALIGN;
}

/* Of piece `number` of the lane; of what is for all, of the next piece. */
static char *place_of(const struct rp_shm *s, int from, int to, uint64_t number)
{
    uint64_t place = s->shown[from] % PLACES, lane = (uint64_t)(to < from ? to : to - 1);
    if (s->way == WAY_TO_EACH) place = lane * PLACES + number % PLACES;
    return s->area + (uint64_t)from * AREA + place * piece_bytes(s);
}

struct slice {
    uint64_t begin, bytes, pieces;
};

static struct slice slice_of(const struct rp_shm *s, const uint64_t *border, int rank)
{
    uint64_t piece = piece_bytes(s);
    struct slice slice = {.begin = border[rank], .bytes = border[rank + 1] - border[rank]};
    slice.pieces = (slice.bytes + piece - 1) / piece;
    return slice;
}

static uint64_t bytes_of(const struct rp_shm *s, const struct slice *slice, uint64_t number)
{
    uint64_t piece = piece_bytes(s), left = slice->bytes - number * piece;
    return left < piece ? left : piece;
}

static void begin(struct rp_shm *s, enum way way)
{
    s->settled = s->way == way;
    s->way = way;
}

/* Whether a place of our area is free for `to`. In a new way all of it has to be, for everybody. */
static bool has_room(struct rp_shm *s, int to)
{
    for (int r = 0; r < s->n_ranks && !s->settled; r++) {
        struct lane *lane = lane_of(s, s->rank, r);
        if (atomic_load_explicit(&lane->read, memory_order_acquire) !=
            atomic_load_explicit(&lane->written, memory_order_relaxed))
            return false;
    }
    s->settled = true;
    struct lane *lane = lane_of(s, s->rank, to);
    return atomic_load_explicit(&lane->written, memory_order_relaxed) -
               atomic_load_explicit(&lane->read, memory_order_acquire) <
           PLACES;
}

static uint64_t written_by_us(struct rp_shm *s, int to)
{
    return atomic_load_explicit(&lane_of(s, s->rank, to)->written, memory_order_relaxed);
}

static void has_written(struct rp_shm *s, int to)
{
    atomic_fetch_add_explicit(&lane_of(s, s->rank, to)->written, 1, memory_order_release);
    ring(s, to);
}

/* The next piece that `from` has written for us, or NULL. */
static char *arrived(struct rp_shm *s, int from)
{
    struct lane *lane = lane_of(s, from, s->rank);
    uint64_t number = atomic_load_explicit(&lane->read, memory_order_relaxed);
    if (atomic_load_explicit(&lane->written, memory_order_acquire) == number) return NULL;
    return place_of(s, from, s->rank, number);
}

static void has_read(struct rp_shm *s, int from)
{
    if (s->way == WAY_TO_ALL) s->shown[from]++;
    atomic_fetch_add_explicit(&lane_of(s, from, s->rank)->read, 1, memory_order_release);
    ring(s, from);
}

/* ---- all to all ------------------------------------------------------------------------------ */

/* Writes a piece to everybody for whom there is one and a place. */
static bool send_pieces(struct rp_shm *s, const char *block, const uint64_t *border, uint64_t *sent,
                        bool *all)
{
    bool moved = false;
    *all = true;
    for (int i = 1; i < s->n_ranks; i++) {
        int to = (s->rank + i) % s->n_ranks;
        struct slice slice = slice_of(s, border, to);
        if (sent[to] == slice.pieces) continue;
        *all = false;
        if (!has_room(s, to)) continue;
        rp_sys_shared_write(place_of(s, s->rank, to, written_by_us(s, to)),
                            block + slice.begin + sent[to] * piece_bytes(s),
                            bytes_of(s, &slice, sent[to]));
        sent[to]++;
        has_written(s, to);
        moved = true;
    }
    return moved;
}

/* The parts of a piece of our slice, when everybody's are there; the own one lies in the block. */
static bool find_parts(struct rp_shm *s, void **part)
{
    for (int r = 0; r < s->n_ranks; r++)
        if (r != s->rank && !(part[r] = arrived(s, r))) return false;
    return true;
}

static bool show_all_to_all(void *world, void *block, const uint64_t *border,
                            const struct rp_comm_taker *taker, char why[RP_COMM_WHY_BYTES])
{
    struct rp_shm *s = world;
    uint64_t sent[RP_COMM_MAX_RANKS] = {0}, got = 0;
    void *part[RP_COMM_MAX_RANKS];
    begin(s, WAY_TO_EACH);
    struct slice own = slice_of(s, border, s->rank);
    while (true) {
        uint32_t seen = listen_to_bell(s);
        bool all_sent, moved = send_pieces(s, block, border, sent, &all_sent);
        if (all_sent && got == own.pieces) return true;
        if (got < own.pieces && find_parts(s, part)) {
            uint64_t at = got * piece_bytes(s);
            part[s->rank] = (char *)block + own.begin + at;
            if (!taker->take(taker->context, part, at, bytes_of(s, &own, got++))) return false;
            for (int i = 1; i < s->n_ranks; i++) has_read(s, (s->rank + i) % s->n_ranks);
            moved = true;
        }
        if (!moved && !wait_on(s, seen, why)) return false;
    }
}

struct keeper {
    char *out; /* (n_ranks, bytes) */
    uint64_t bytes;
    int n_ranks;
};

static bool keep(void *context, void *const *part, uint64_t at, uint64_t bytes)
{
    const struct keeper *k = context;
    for (int r = 0; r < k->n_ranks; r++)
        memcpy(k->out + k->bytes * (uint64_t)r + at, part[r], bytes);
    return true;
}

static bool all_to_all(void *world, const void *block, const uint64_t *border, void *out,
                       char why[RP_COMM_WHY_BYTES])
{
    const struct rp_shm *s = world;
    struct keeper keeper = {out, border[s->rank + 1] - border[s->rank], s->n_ranks};
    const struct rp_comm_taker taker = {&keeper, keep};
    return show_all_to_all(world, (void *)(uintptr_t)block, border, &taker, why); /* but read it */
}

/* ---- all gather ------------------------------------------------------------------------------ */

/* Writes the next piece of the own slice for all, if there is a place that nobody reads. */
static bool show_piece(struct rp_shm *s, const char *block, const struct slice *own, uint64_t *sent)
{
    for (int r = 0; r < s->n_ranks; r++)
        if (*sent == own->pieces || (r != s->rank && !has_room(s, r))) return false;
    rp_sys_shared_write(place_of(s, s->rank, s->rank, 0),
                        block + own->begin + *sent * piece_bytes(s), bytes_of(s, own, *sent));
    s->shown[s->rank]++;
    ++*sent;
    for (int i = 1; i < s->n_ranks; i++) has_written(s, (s->rank + i) % s->n_ranks);
    return true;
}

/* Copies a piece of everybody who has written one. */
static bool copy_pieces(struct rp_shm *s, char *block, const uint64_t *border, uint64_t *got,
                        bool *all)
{
    bool moved = false;
    *all = true;
    for (int i = 1; i < s->n_ranks; i++) {
        int from = (s->rank + s->n_ranks - i) % s->n_ranks;
        struct slice slice = slice_of(s, border, from);
        const char *piece = NULL;
        if (got[from] == slice.pieces) continue;
        *all = false;
        if (!(piece = arrived(s, from))) continue;
        memcpy(block + slice.begin + got[from] * piece_bytes(s), piece,
               bytes_of(s, &slice, got[from]));
        got[from]++;
        has_read(s, from);
        moved = true;
    }
    return moved;
}

static bool all_gather(void *world, void *block, const uint64_t *border,
                       char why[RP_COMM_WHY_BYTES])
{
    struct rp_shm *s = world;
    uint64_t sent = 0, got[RP_COMM_MAX_RANKS] = {0};
    begin(s, WAY_TO_ALL);
    struct slice own = slice_of(s, border, s->rank);
    while (true) {
        uint32_t seen = listen_to_bell(s);
        bool all_got, moved = show_piece(s, block, &own, &sent);
        moved |= copy_pieces(s, block, border, got, &all_got);
        if (all_got && sent == own.pieces) return true;
        if (!moved && !wait_on(s, seen, why)) return false;
    }
}

const struct rp_comm_module rp_shm_module = {
    .extension = {RP_EXTENSION_VERSION, "shm", "memory that the ranks of this host share"},
    .close = close_world,
    .all_to_all = all_to_all,
    .show_all_to_all = show_all_to_all,
    .all_gather = all_gather,
};
