/* The order of samples: a permutation for every n, another for every seed and epoch, the same for
 * ever. */
#include "data/data_int.h"
#include "test.h"

enum { SEED = 1234 };

/* One place of an epoch alone: a position of 64 bits, as every one is. */
static uint64_t permute(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t i)
{
    uint64_t image;
    rp_data_order(seed, n, epoch * n + i, 1, &image);
    return image;
}

static bool is_permutation(uint64_t seed, uint64_t epoch, uint64_t n)
{
    bool good = true;
    uint8_t *seen = rp_mem_new(n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t image = permute(seed, epoch, n, i);
        good = good && image < n && !seen[image];
        if (image < n) seen[image] = 1;
    }
    rp_mem_free(seen);
    return good;
}

static void test_permutes(void)
{
    for (uint64_t n = 1; n <= 1000; n++) CHECK(is_permutation(SEED, n % 3, n));
    CHECK(is_permutation(SEED, 0, 60000));
    CHECK(is_permutation(SEED, UINT64_C(1) << 40, 65536));
    CHECK(is_permutation(SEED, 5, 65537));
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Too large to walk through: images of some thousands of places are below n and all different. */
static void check_injective(uint64_t epoch, uint64_t n)
{
    enum { PLACES = 20000 };
    uint64_t *images = RP_NEW_ARRAY(uint64_t, PLACES), step = n / PLACES;
    int same = 0, outside = 0;
    for (uint64_t i = 0; i < PLACES; i++) {
        images[i] = permute(SEED, epoch, n, i * step);
        outside += images[i] >= n;
    }
    qsort(images, PLACES, sizeof *images, compare_u64);
    for (int i = 1; i < PLACES; i++) same += images[i] == images[i - 1];
    CHECK_INT(outside, 0);
    CHECK_INT(same, 0);
    rp_mem_free(images);
}

static void test_large(void)
{
    check_injective(1, 1000003);
    check_injective(1, (UINT64_C(1) << 32) + 1);
    check_injective(1, (UINT64_C(1) << 40) - 87);
    check_injective(1, UINT64_C(1) << 40);
    check_injective(0, UINT64_MAX);
}

/* Computed by another implementation (Python integers) of what order.c describes. */
static void test_fixed_values(void)
{
    static const uint64_t first[10] = {2, 8, 0, 7, 1, 6, 5, 4, 3, 9};
    static const uint64_t second[10] = {7, 3, 9, 4, 2, 8, 6, 5, 1, 0};
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_INT(permute(SEED, 0, 10, i), first[i]);
        CHECK_INT(permute(SEED, 1, 10, i), second[i]);
    }
    uint64_t seed = UINT64_C(0x123456789abcdef0), epoch = (UINT64_C(1) << 32) + 5;
    CHECK_INT(permute(seed, epoch, 60000, 0), 46261);
    CHECK_INT(permute(seed, epoch, 60000, 59999), 51244);
    CHECK_INT(permute(7, 3, (UINT64_C(1) << 40) + 12345, UINT64_C(1) << 39), INT64_C(864796495911));
    CHECK_HEX(permute(7, 0, UINT64_MAX, UINT64_MAX - 1), UINT64_C(0x9a3490f3b24bcd79));
}

/* How many of n places have the same image for two keys: 1 on average for unrelated permutations.
 */
static int count_equal(uint64_t seed_a, uint64_t epoch_a, uint64_t seed_b, uint64_t epoch_b)
{
    int equal = 0;
    for (uint64_t i = 0; i < 5000; i++)
        equal += permute(seed_a, epoch_a, 5000, i) == permute(seed_b, epoch_b, 5000, i);
    return equal;
}

static void test_keys_matter(void)
{
    CHECK_INT(count_equal(SEED, 3, SEED, 3), 5000);
    /* Poisson with mean 1: 12 or more has a probability below 1e-9. */
    CHECK(count_equal(SEED, 0, SEED, 1) < 12);
    CHECK(count_equal(SEED, 0, SEED, UINT64_C(1) << 32) < 12);
    CHECK(count_equal(SEED, 0, SEED + 1, 0) < 12);
    CHECK(count_equal(SEED, 0, SEED + (UINT64_C(1) << 32), 0) < 12);
}

/* Chi-square over the images of one place in many epochs. The bound is the mean plus six standard
 * deviations of that distribution (k - 1 degrees of freedom, variance 2 (k - 1)), good for k >= 8;
 * keys are fixed, so this never fails by chance. */
static void check_uniform(uint64_t n, uint64_t place)
{
    enum { EPOCHS = 40000 };
    int64_t *count = rp_mem_new(n * sizeof *count);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) count[permute(SEED, epoch, n, place)]++;
    double want = (double)EPOCHS / (double)n, chi = 0, free = (double)(n - 1);
    for (uint64_t i = 0; i < n; i++) {
        double off = (double)count[i] - want;
        chi += off * off / want;
    }
    double over = (chi - free) * (chi - free);
    if (chi > free && over > 36 * 2 * free)
        printf("n %d place %d: chi-square %g, expected %g\n", (int)n, (int)place, chi, free);
    CHECK(chi <= free || over <= 36 * 2 * free);
    rp_mem_free(count);
}

/* The same for the ordered pair of images of two places that lie side by side. */
static void check_pairs_uniform(uint64_t n)
{
    enum { EPOCHS = 60000 };
    int64_t *count = rp_mem_new(n * n * sizeof *count);
    for (uint64_t epoch = 0; epoch < EPOCHS; epoch++)
        count[permute(SEED, epoch, n, 1) * n + permute(SEED, epoch, n, 2)]++;
    double cells = (double)(n * (n - 1)), want = EPOCHS / cells, chi = 0;
    for (uint64_t i = 0; i < n * n; i++) {
        double off = (double)count[i] - want;
        if (i / n != i % n) chi += off * off / want;
    }
    double over = chi - (cells - 1);
    if (over > 0 && over * over > 36 * 2 * (cells - 1))
        printf("pairs, n %d: chi-square %g, expected %g\n", (int)n, chi, cells - 1);
    CHECK(over <= 0 || over * over <= 36 * 2 * (cells - 1));
    rp_mem_free(count);
}

static void test_uniform(void)
{
    for (uint64_t n = 8; n <= 64; n += 7) {
        check_uniform(n, 0);
        check_uniform(n, n / 2);
        check_uniform(n, n - 1);
    }
    check_uniform(1000, 17);
    check_pairs_uniform(9);
    check_pairs_uniform(16);
    check_pairs_uniform(30);
}

/* A run of positions over the border of two epochs is what single places give. */
static void test_runs(void)
{
    enum { N = 37, COUNT = 200 };
    uint64_t samples[COUNT], first = 5 * N - 20;
    rp_data_order(SEED, N, first, COUNT, samples);
    for (uint64_t i = 0; i < COUNT; i++)
        CHECK_INT(samples[i], permute(SEED, (first + i) / N, N, (first + i) % N));
}

static void test_split(void)
{
    enum { N = 1000, VALID = 100 };
    uint32_t train[N], valid[N], other_train[N], other_valid[N], small[20], tail[5];
    rp_data_split(SEED, N, VALID, train, valid);
    uint8_t seen[N] = {0};
    for (int i = 0; i < N - VALID; i++) seen[train[i]]++;
    for (int i = 0; i < VALID; i++) seen[valid[i]]++;
    for (int i = 0; i < N; i++) CHECK_INT(seen[i], 1);
    for (int i = 1; i < N - VALID; i++) CHECK(train[i] > train[i - 1]);
    for (int i = 1; i < VALID; i++) CHECK(valid[i] > valid[i - 1]);
    rp_data_split(SEED + 1, N, VALID, other_train, other_valid);
    CHECK(memcmp(valid, other_valid, sizeof(uint32_t) * VALID) != 0);
    static const uint32_t want[5] = {3, 8, 9, 10, 19};
    rp_data_split(SEED, 20, 5, small, tail);
    for (int i = 0; i < 5; i++) CHECK_INT(tail[i], want[i]);
}

int main(void)
{
    test_permutes();
    test_large();
    test_fixed_values();
    test_keys_matter();
    test_uniform();
    test_runs();
    test_split();
    return test_result();
}
