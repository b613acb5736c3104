/* order.c - the order of samples: a keyed bijection on [0, n) that can be entered anywhere.
 *
 * A balanced Feistel network on the smallest domain of 2^(2h) >= n, its round function one word of
 * Philox; a result outside [0, n) is sent through again (cycle walking), which keeps it a
 * bijection. The domain is less than 4n, so that takes under four turns on average. Eight rounds:
 * four already make a pseudo-random permutation of a pseudo-random round function (Luby and
 * Rackoff); the rest is margin for small domains, where halves of a few bits mix slowly. */
#include "data/data_int.h"
#include "numerics.h"

enum { FEISTEL_ROUNDS = 8, LANES = 8, RUN = 64 };

struct feistel {
    uint64_t seed, key; /* key: the epoch, or 0 for the split */
    uint32_t purpose;
    int half_bits;
};

static struct feistel feistel_init(uint64_t seed, uint32_t purpose, uint64_t key, uint64_t n)
{
    struct feistel feistel = {seed, key, purpose, 1};
    while (feistel.half_bits < 32 && (n - 1) >> (2 * feistel.half_bits)) feistel.half_bits++;
    return feistel;
}

/* Sends LANES values through the network side by side: one waits on its multiplications eight
 * rounds of ten rounds long, several share the wait. */
static void feistel_apply(const struct feistel *feistel, uint64_t value[LANES])
{
    uint32_t mask = (uint32_t)((UINT64_C(1) << feistel->half_bits) - 1);
    uint32_t left[LANES], right[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        left[lane] = (uint32_t)(value[lane] >> feistel->half_bits);
        right[lane] = (uint32_t)value[lane] & mask;
    }
    for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
        for (int lane = 0; lane < LANES; lane++) {
            struct rp_draw draw =
                rp_draw_block(feistel->seed, feistel->purpose, round, feistel->key, right[lane]);
            uint32_t next = left[lane] ^ (draw.u[0] & mask);
            left[lane] = right[lane];
            right[lane] = next;
        }
    }
    for (int lane = 0; lane < LANES; lane++)
        value[lane] = (uint64_t)left[lane] << feistel->half_bits | right[lane];
}

/* The images of first, first + 1, ..., first + count - 1. A lane whose value falls outside goes
 * round again while the others take up the next ones. */
static void permute_run(const struct feistel *feistel, uint64_t n, uint64_t first, int64_t count,
                        uint64_t *out)
{
    uint64_t value[LANES] = {0};
    int64_t place[LANES], next = 0;
    int n_busy = 0;
    for (int lane = 0; lane < LANES; lane++) {
        place[lane] = next < count ? next : -1;
        if (next >= count) continue;
        value[lane] = first + (uint64_t)next++;
        n_busy++;
    }
    while (n_busy > 0) {
        feistel_apply(feistel, value);
        for (int lane = 0; lane < LANES; lane++) {
            if (place[lane] < 0 || value[lane] >= n) continue;
            out[place[lane]] = value[lane];
            place[lane] = next < count ? next : -1;
            if (next < count)
                value[lane] = first + (uint64_t)next++;
            else
                n_busy--;
        }
    }
}

void rp_data_order(uint64_t seed, uint64_t n, uint64_t position, int64_t count, uint64_t *samples)
{
    while (count > 0) {
        uint64_t epoch = position / n, within = position % n;
        int64_t run = n - within < (uint64_t)count ? (int64_t)(n - within) : count;
        struct feistel feistel = feistel_init(seed, RP_PURPOSE_ORDER, epoch, n);
        permute_run(&feistel, n, within, run, samples);
        position += (uint64_t)run;
        samples += run;
        count -= run;
    }
}

void rp_data_split(uint64_t seed, int64_t n, int64_t n_valid, uint32_t *train, uint32_t *valid)
{
    struct feistel feistel = feistel_init(seed, RP_PURPOSE_SPLIT, 0, (uint64_t)n);
    uint8_t *is_valid = rp_mem_new((size_t)n);
    uint64_t run[RUN];
    for (int64_t i = n - n_valid; i < n; i += RUN) {
        int64_t count = n - i < RUN ? n - i : RUN;
        permute_run(&feistel, (uint64_t)n, (uint64_t)i, count, run);
        for (int64_t j = 0; j < count; j++) is_valid[run[j]] = 1;
    }
    for (int64_t i = 0; i < n; i++) {
        if (is_valid[i])
            *valid++ = (uint32_t)i;
        else
            *train++ = (uint32_t)i;
    }
    rp_mem_free(is_valid);
}
