/* test_digest.c - what README.md chapter 12 of kernels/ promises of the digest, on its definition.
 */
#include "digest.h"
#include "test.h"

enum { N = RP_DIGEST_CHUNK };

/* The definition, element by element, over a whole tensor. */
static uint64_t digest_of(const uint32_t *bits, size_t n, uint32_t tensor_number)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < n; at += N) {
        size_t count = n - at < N ? n - at : N;
        uint64_t pairs = 0;
        for (uint32_t i = 0; i < count; i += 2) {
            uint32_t second = i + 1 < count ? rp_digest_bits(bits[at + i + 1]) : 0;
            pairs += rp_digest_pair(rp_digest_bits(bits[at + i]), second, rp_digest_key(i),
                                    rp_digest_key(i + 1));
        }
        sum += rp_digest_finish(pairs, tensor_number, at / N);
    }
    return sum;
}

/* Weights as they are met: a slowly varying exponent, random mantissa and sign. */
static void fill(uint32_t *bits, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t r = rp_digest_mix(seed + i);
        bits[i] = ((uint32_t)r & 0x807fffffu) | ((118u + (uint32_t)(r >> 40) % 8) << 23);
    }
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* How many of n words are equal to another one. */
static size_t count_equal(uint64_t *word, size_t n)
{
    size_t equal = 0;
    qsort(word, n, sizeof(*word), compare_words);
    for (size_t i = 1; i < n; i++) equal += word[i] == word[i - 1];
    return equal;
}

static void test_keys(void)
{
    uint64_t *keys = malloc(sizeof(*keys) * N);
    for (uint32_t i = 0; i < N; i++) {
        keys[i] = rp_digest_key(i);
        /* No neighbour that is +0 or -0 hides a change. */
        CHECK(keys[i] != 0 && keys[i] != 0x80000000u);
    }
    CHECK_INT(count_equal(keys, N), 0);
    keys[0] = keys[1]; /* control */
    CHECK_INT(count_equal(keys, N), 1);
    free(keys);
}

/* Every bit of a chunk flipped alone, over zeros, ones and random weights: all digests differ. */
static void test_flips(void)
{
    uint32_t *bits = malloc(sizeof(*bits) * N);
    uint64_t *seen = malloc(sizeof(*seen) * (N * 32 + 1));
    for (int content = 0; content < 3; content++) {
        fill(bits, N, 1);
        for (int i = 0; i < N && content < 2; i++) bits[i] = content ? 0x3f800000u : 0;
        uint64_t pairs = 0;
        for (uint32_t i = 0; i < N; i += 2)
            pairs += rp_digest_pair(bits[i], bits[i + 1], rp_digest_key(i), rp_digest_key(i + 1));
        CHECK_HEX(rp_digest_finish(pairs, 3, 0), digest_of(bits, N, 3));
        for (uint32_t i = 0; i < N; i++) {
            uint32_t j = i & ~1u, flip[2] = {bits[j], bits[j + 1]};
            uint32_t key0 = rp_digest_key(j), key1 = rp_digest_key(j + 1);
            uint64_t rest = pairs - rp_digest_pair(flip[0], flip[1], key0, key1);
            for (int bit = 0; bit < 32; bit++) {
                flip[i & 1] = bits[i] ^ (1u << bit);
                seen[i * 32 + bit] =
                    rp_digest_finish(rest + rp_digest_pair(flip[0], flip[1], key0, key1), 3, 0);
            }
        }
        seen[N * 32] = digest_of(bits, N, 3);
        CHECK_INT(count_equal(seen, N * 32 + 1), 0);
    }
    free(seen);
    free(bits);
}

/* Two elements swapped, at every distance from the first: near, across pairs, across chunks. */
static void test_swaps(void)
{
    size_t n = 3 * N + 17;
    uint32_t *bits = malloc(sizeof(*bits) * n);
    fill(bits, n, 2);
    uint64_t base = digest_of(bits, n, 0);
    for (size_t i = 1; i < n; i += i < 40 ? 1 : 371) {
        uint32_t first = bits[0];
        bits[0] = bits[i], bits[i] = first;
        CHECK(digest_of(bits, n, 0) != base);
        bits[i] = bits[0], bits[0] = first;
    }
    CHECK_HEX(digest_of(bits, n, 0), base); /* control: swapped back */
    /* Whole chunks swapped. */
    for (int i = 0; i < N; i++) {
        uint32_t first = bits[i];
        bits[i] = bits[N + i], bits[N + i] = first;
    }
    CHECK(digest_of(bits, n, 0) != base);
    free(bits);
}

static void test_tensors(void)
{
    uint32_t *a = malloc(sizeof(*a) * N), *b = malloc(sizeof(*b) * N);
    fill(a, N, 5);
    fill(b, N, 6);
    CHECK(digest_of(a, N, 0) + digest_of(b, N, 1) != digest_of(b, N, 0) + digest_of(a, N, 1));
    CHECK(digest_of(a, N, 0) != digest_of(a, N, 1));
    /* Equal contents in two tensors do not cancel, and no tensor number acts as a chunk number. */
    CHECK(digest_of(a, N, 0) + digest_of(a, N, 1) != digest_of(b, N, 0) + digest_of(b, N, 1));
    CHECK(rp_digest_finish(1, 1, 0) != rp_digest_finish(1, 0, 1));
    free(b);
    free(a);
}

static void test_specials(void)
{
    uint32_t plus[2] = {0, 0x3f800000u}, minus[2] = {0x80000000u, 0x3f800000u};
    uint32_t nan1[2] = {0x7fc00000u, 1}, nan2[2] = {0xffc12345u, 1}, nan3[2] = {0x7f800001u, 1};
    uint32_t inf[2] = {0x7f800000u, 1}, minus_inf[2] = {0xff800000u, 1};
    CHECK(digest_of(plus, 2, 0) != digest_of(minus, 2, 0));
    CHECK_HEX(digest_of(nan1, 2, 0), digest_of(nan2, 2, 0));
    CHECK_HEX(digest_of(nan1, 2, 0), digest_of(nan3, 2, 0));
    CHECK(digest_of(nan1, 2, 0) != digest_of(inf, 2, 0));
    CHECK(digest_of(inf, 2, 0) != digest_of(minus_inf, 2, 0));
    CHECK(digest_of(inf, 2, 0) != digest_of(inf, 1, 0));
    /* The definition does not move: three values, computed elsewhere from the formulas of the
     * chapter. */
    CHECK_HEX(rp_digest_key(0), 0x92ca2f0eu);
    CHECK_HEX(digest_of(plus, 2, 0), 0x4c81dff5c47f11fcu);
    CHECK_HEX(digest_of(plus, 2, 7), 0xd810686b3a2fbabfu);
}

int main(void)
{
    test_keys();
    test_flips();
    test_swaps();
    test_tensors();
    test_specials();
    return test_result();
}
