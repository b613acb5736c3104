/* order.c - the order of samples: a keyed bijection on [0, n) that can be entered anywhere.
 *
 * A balanced Feistel network on the smallest domain of 2^(2h) >= n, its round function one word of
 * Philox; a result outside [0, n) is sent through again (cycle walking), which keeps it a
 * bijection. The domain is less than 4n, so that takes under four turns on average. Ten rounds:
 * four already make a pseudo-random permutation of a pseudo-random round function (Luby and
 * Rackoff); the rest is margin for small domains, where halves of a few bits mix slowly. */
#include "data/data_int.h"
#include "numerics.h"

enum { FEISTEL_ROUNDS = 10 };

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

static uint64_t feistel_apply(const struct feistel *feistel, uint64_t value)
{
    uint32_t mask = (uint32_t)((UINT64_C(1) << feistel->half_bits) - 1);
    uint32_t left = (uint32_t)(value >> feistel->half_bits), right = (uint32_t)value & mask;
    for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
        struct rp_draw words =
            rp_draw_block(feistel->seed, feistel->purpose, round, feistel->key, right);
        uint32_t next = left ^ (words.u[0] & mask);
        left = right;
        right = next;
    }
    return (uint64_t)left << feistel->half_bits | right;
}

static uint64_t permute(const struct feistel *feistel, uint64_t n, uint64_t i)
{
    do i = feistel_apply(feistel, i);
    while (i >= n);
    return i;
}

uint64_t rp_data_permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i)
{
    struct feistel feistel = feistel_init(seed, RP_PURPOSE_ORDER, epoch, n);
    return permute(&feistel, n, i);
}

void rp_data_split(uint64_t seed, int64_t n, int64_t n_valid, uint32_t *train, uint32_t *valid)
{
    /* A sample is for validation when its place in the permutation, the one that the inverse would
     * give, is in the tail; walking the tail forwards marks the same samples. */
    struct feistel feistel = feistel_init(seed, RP_PURPOSE_SPLIT, 0, (uint64_t)n);
    uint8_t *is_valid = rp_mem_new((size_t)n);
    for (int64_t i = n - n_valid; i < n; i++)
        is_valid[permute(&feistel, (uint64_t)n, (uint64_t)i)] = 1;
    for (int64_t i = 0; i < n; i++) {
        if (is_valid[i])
            *valid++ = (uint32_t)i;
        else
            *train++ = (uint32_t)i;
    }
    rp_mem_free(is_valid);
}
