/* Batches: what transforms do and to whom, that a batch is a function of its position, the loader.
 */
#include "data_case.h"

#include <math.h>

enum { N = 50, H = 5, W = 6, C = 3, ROW = H * W * C };

/* A pixel says where it is from: sample, y, x and channel can be told apart. */
static unsigned char pixel(int sample, int y, int x, int c)
{
    return (unsigned char)(sample * 31 + y * 41 + x * 7 + c * 101 + 1);
}

static void put_colors(struct data_case *c, const char *name)
{
    static unsigned char bytes[20 + N * ROW], labels[8 + N];
    static const unsigned char head[20] = {0, 0, 8, 4, 0, 0, 0, N, 0, 0,
                                           0, H, 0, 0, 0, W, 0, 0, 0, C};
    static const unsigned char label_head[8] = {0, 0, 8, 1, 0, 0, 0, N};
    memcpy(bytes, head, sizeof head);
    memcpy(labels, label_head, sizeof label_head);
    for (int i = 0; i < N; i++) {
        labels[8 + i] = (unsigned char)i;
        for (int p = 0; p < ROW; p++)
            bytes[20 + i * ROW + p] = pixel(i, p / (W * C), p / C % W, p % C);
    }
    put_file(c->folder, name, bytes, sizeof bytes);
    put_file(c->folder, "labels", labels, sizeof labels);
}

static void case_colors(struct data_case *c)
{
    case_init(c);
    put_colors(c, "images");
    case_files(&c->spec.train_data, RP_FORMAT_IDX, "images", "labels");
}

static const float MEAN[C] = {0.5f, 0.25f, 0.125f}, STD[C] = {0.2f, 0.3f, 0.7f};

static float normal(int sample, int y, int x, int c)
{
    return ((float)pixel(sample, y, x, c) / 255.0f - MEAN[c]) / STD[c];
}

static void add(struct data_case *c, enum rp_transform_kind kind, int padding, float p)
{
    struct rp_spec_transform *transform = &c->spec.transform[c->spec.n_transforms++];
    transform->kind = kind;
    transform->padding = padding;
    transform->p = p;
}

/* Whether x (H, W, C) is the normalised sample, mirrored or not. */
static bool is_sample(const float *x, int sample, bool mirrored)
{
    for (int p = 0; p < ROW; p++) {
        int column = p / C % W;
        if (x[p] != normal(sample, p / (W * C), mirrored ? W - 1 - column : column, p % C))
            return false;
    }
    return true;
}

/* Training samples are normalised and some are flipped; validation samples, whether of their own
 * set or a fraction of train, are normalised and none is flipped. */
static void check_flips(struct data_case *c)
{
    float x[N * ROW];
    int32_t y[N];
    struct rp_data *data = case_open(c);
    int64_t n_train = rp_data_shape(data)->n_train, n_valid = rp_data_shape(data)->n_valid;
    int straight = 0, mirrored = 0, wrong = 0;
    for (int epoch = 0; epoch < 4; epoch++) {
        rp_data_fill_train(data, (uint64_t)(epoch * n_train), n_train, x, y);
        for (int64_t i = 0; i < n_train; i++) {
            bool is_straight = is_sample(x + i * ROW, y[i], false);
            bool is_mirrored = is_sample(x + i * ROW, y[i], true);
            straight += is_straight;
            mirrored += is_mirrored;
            wrong += is_straight == is_mirrored;
        }
    }
    CHECK_INT(wrong, 0);
    CHECK(straight > n_train && mirrored > n_train);
    CHECK_INT(straight + mirrored, 4 * n_train);
    rp_data_fill_eval(data, RP_SPLIT_VALID, 0, n_valid, x, y);
    for (int64_t i = 0; i < n_valid; i++) CHECK(is_sample(x + i * ROW, y[i], false));
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, n_train, x, y);
    for (int64_t i = 0; i < n_train; i++) CHECK(is_sample(x + i * ROW, y[i], false));
    rp_data_free(data);
}

static void test_validation_is_never_flipped(void)
{
    struct data_case c;
    case_colors(&c);
    case_normalize(&c, C, MEAN, STD);
    add(&c, RP_TRANSFORM_RANDOM_FLIP, 0, 0.5f);
    c.spec.valid_fraction = 0.2;
    check_flips(&c);
    c.spec.valid_fraction = 0;
    put_colors(&c, "valid");
    case_files(&c.spec.valid_data, RP_FORMAT_IDX, "valid", "labels");
    check_flips(&c);
    case_release(&c);
}

/* The meaning of a list, written the slow way: step by step on a whole image with a shift and a
 * flip. */
static void apply_slowly(const struct rp_spec *spec, const int *shift_y, const int *shift_x,
                         const bool *flip, int sample, float *out)
{
    float from[ROW];
    for (int p = 0; p < ROW; p++)
        out[p] = (float)pixel(sample, p / (W * C), p / C % W, p % C) / 255.0f;
    for (int k = 0; k < spec->n_transforms; k++) {
        memcpy(from, out, sizeof from);
        for (int p = 0; p < ROW; p++) {
            int y = p / (W * C), x = p / C % W, ch = p % C;
            const struct rp_spec_transform *t = &spec->transform[k];
            if (t->kind == RP_TRANSFORM_NORMALIZE) {
                out[p] = (from[p] - t->mean[ch]) / t->std[ch];
            } else if (t->kind == RP_TRANSFORM_RANDOM_FLIP) {
                if (flip[k]) out[p] = from[(y * W + W - 1 - x) * C + ch];
            } else {
                int sy = y + shift_y[k], sx = x + shift_x[k];
                bool inside = sy >= 0 && sy < H && sx >= 0 && sx < W;
                out[p] = inside ? from[(sy * W + sx) * C + ch] : 0;
            }
        }
    }
}

/* Some choice of shifts and flips explains each training sample exactly. Returns the number of the
 * choice, -1 for none: (crop, normalize, flip, crop). */
static int find_choice(const struct rp_spec *spec, const float *x, int sample, int pad)
{
    float want[ROW];
    int side = 2 * pad + 1, n = side * side;
    for (int choice = 0; choice < n * n * 2; choice++) {
        int first = choice % n, second = choice / n % n;
        int shift_y[4] = {first / side - pad, 0, 0, second / side - pad};
        int shift_x[4] = {first % side - pad, 0, 0, second % side - pad};
        bool flip[4] = {false, false, choice / n / n != 0, false};
        apply_slowly(spec, shift_y, shift_x, flip, sample, want);
        if (memcmp(want, x, sizeof want) == 0) return choice;
    }
    return -1;
}

static void test_list_order(void)
{
    enum { PAD = 1, TAKEN = 150, CHOICES = 9 * 9 * 2 };
    struct data_case c;
    static float x[TAKEN * ROW];
    int32_t y[TAKEN];
    int seen[CHOICES] = {0}, different = 0, unexplained = 0;
    case_colors(&c);
    add(&c, RP_TRANSFORM_RANDOM_CROP, PAD, 0);
    case_normalize(&c, C, MEAN, STD);
    add(&c, RP_TRANSFORM_RANDOM_FLIP, 0, 0.5f);
    add(&c, RP_TRANSFORM_RANDOM_CROP, PAD, 0);
    struct rp_data *data = case_open(&c);
    rp_data_fill_train(data, 7, TAKEN, x, y);
    for (int i = 0; i < TAKEN; i++) {
        int choice = find_choice(&c.spec, x + i * ROW, y[i], PAD);
        unexplained += choice < 0;
        if (choice >= 0 && seen[choice]++ == 0) different++;
    }
    CHECK_INT(unexplained, 0);
    /* 150 draws from 162 choices: 98 different ones are expected. */
    CHECK(different > 75);
    rp_data_free(data);
    case_release(&c);
}

/* One table serves u8 and one division chain f32: the same image gives the same bits; and p of 0
 * and 1. */
static void test_flip_always_and_never(void)
{
    struct data_case c;
    float x[ROW];
    int32_t y[1];
    case_colors(&c);
    case_normalize(&c, C, MEAN, STD);
    add(&c, RP_TRANSFORM_RANDOM_FLIP, 0, 1.0f);
    struct rp_data *data = case_open(&c);
    for (uint64_t p = 0; p < 40; p++) {
        rp_data_fill_train(data, p, 1, x, y);
        CHECK(is_sample(x, y[0], true));
    }
    rp_data_free(data);
    c.spec.transform[1].p = 0;
    data = case_open(&c);
    for (uint64_t p = 0; p < 40; p++) {
        rp_data_fill_train(data, p, 1, x, y);
        CHECK(is_sample(x, y[0], false));
    }
    rp_data_free(data);
    case_release(&c);
}

static void test_misfits(void)
{
    static const float two[2] = {1, 1};
    struct data_case c;
    case_colors(&c);
    case_normalize(&c, 2, two, two);
    CASE_FAILS(&c, RP_STATUS_USAGE, "mean and std have 2 values", "3 channels");
    c.spec.n_transforms = 0;
    add(&c, RP_TRANSFORM_RANDOM_FLIP, 0, 0.5f);
    put_text(c.folder, "a.csv", "u,v,label\n1,2,a\n3,4,b\n");
    case_files(&c.spec.train_data, RP_FORMAT_CSV, "a.csv", NULL);
    CASE_FAILS(&c, RP_STATUS_USAGE, "need images", "row of 2 numbers");
    /* Columns of a table are normalised one by one. */
    float x[4];
    int32_t y[2];
    c.spec.n_transforms = 0;
    case_normalize(&c, 2, MEAN, STD);
    struct rp_data *data = case_open(&c);
    rp_data_fill_eval(data, RP_SPLIT_TRAIN, 0, 2, x, y);
    CHECK(x[2] == (3.0f - MEAN[0]) / STD[0] && x[3] == (4.0f - MEAN[1]) / STD[1]);
    rp_data_free(data);
    case_release(&c);
}

static uint64_t mix(uint64_t digest, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    return digest;
}

/* Each sample once in an epoch; batches of any size are cuts of the same sequence, and it is
 * another one for another seed. */
static void test_positions(void)
{
    struct data_case c;
    static float x[N * ROW], again[N * ROW];
    int32_t y[N], y_again[N], seen[N] = {0};
    case_colors(&c);
    case_normalize(&c, C, MEAN, STD);
    add(&c, RP_TRANSFORM_RANDOM_CROP, 2, 0);
    struct rp_data *data = case_open(&c);
    rp_data_fill_train(data, 3 * N, N, x, y);
    for (int i = 0; i < N; i++) seen[y[i]]++;
    for (int i = 0; i < N; i++) CHECK_INT(seen[i], 1);
    rp_data_fill_train(data, N - 20, N, x, y);
    for (int i = 0; i < N; i += 5)
        rp_data_fill_train(data, (uint64_t)(N - 20 + i), 5, again + i * ROW, y_again + i);
    CHECK(memcmp(x, again, sizeof x) == 0 && memcmp(y, y_again, sizeof y) == 0);
    rp_data_free(data);
    c.spec.seed++;
    data = case_open(&c);
    rp_data_fill_train(data, N - 20, N, again, y_again);
    CHECK(memcmp(y, y_again, sizeof y) != 0);
    rp_data_free(data);
    case_release(&c);
}

/* Takes `n` batches at positions that `next` gives; each must be what a direct filling gives. */
static void check_loader(const struct rp_data *data, int64_t n_samples, int depth, int threads,
                         uint64_t (*next)(int), int n)
{
    static float want_x[N * ROW];
    int32_t want_y[N];
    const void *x;
    const void *y;
    struct rp_error err = {0};
    struct rp_loader *loader = NULL;
    CHECK_OK(rp_loader_open(data, n_samples, depth, threads, &loader, &err), &err);
    for (int i = 0; loader && i < n; i++) {
        uint64_t position = next(i);
        rp_loader_take(loader, position, &x, &y);
        rp_data_fill_train(data, position, n_samples, want_x, want_y);
        CHECK(memcmp(x, want_x, (size_t)n_samples * ROW * sizeof *want_x) == 0);
        CHECK(memcmp(y, want_y, (size_t)n_samples * sizeof(int32_t)) == 0);
    }
    rp_loader_close(loader);
}

static uint64_t one_after_the_other(int i)
{
    return 1000 + (uint64_t)i * 4;
}
static uint64_t every_second_rank(int i)
{
    return (uint64_t)i * 8;
}
/* Three passes of a step of 24, this rank's half. */
static uint64_t passes_of_a_step(int i)
{
    return (uint64_t)(i / 3) * 24 + (uint64_t)(i % 3) * 4;
}
static uint64_t without_order(int i)
{
    return mix(0, &i, sizeof i) % 100000;
}
static uint64_t going_back(int i)
{
    return (uint64_t)(i % 10) * 4;
}

static void test_loader(void)
{
    struct data_case c;
    struct rp_error err = {0};
    struct rp_loader *loader = NULL;
    case_colors(&c);
    case_normalize(&c, C, MEAN, STD);
    add(&c, RP_TRANSFORM_RANDOM_FLIP, 0, 0.5f);
    struct rp_data *data = case_open(&c);
    for (int depth = 1; depth <= 4; depth++) {
        for (int threads = 0; threads <= depth; threads += depth < 4 ? 1 : 4) {
            check_loader(data, 4, depth, threads, one_after_the_other, 200);
            check_loader(data, 4, depth, threads, every_second_rank, 200);
            check_loader(data, 4, depth, threads, passes_of_a_step, 300);
            check_loader(data, 4, depth, threads, without_order, 100);
            check_loader(data, 4, depth, threads, going_back, 100);
        }
    }
    /* Closing at once, before and while it fills. */
    for (int i = 0; i < 50; i++) {
        const void *x;
        const void *y;
        CHECK_OK(rp_loader_open(data, N, 2, 1 + i % 2, &loader, &err), &err);
        if (i % 3) rp_loader_take(loader, 3, &x, &y);
        rp_loader_close(loader);
    }
    rp_loader_close(NULL);
    CHECK_INT(rp_loader_bytes(rp_data_shape(data), 4, 2),
              3 * (4 * ROW * 4 + 128 - 4 * ROW * 4 % 64));
    rp_data_free(data);
    case_release(&c);
}

/* ---- made samples ---------------------------------------------------------------------------- */

#define DIGITS_0  UINT64_C(0x9e7bce20605ca69e)
#define DIGITS_7  UINT64_C(0x8c807cb5c048b072)
#define BLOBS_0   UINT64_C(0xeba6e648b993aafe)
#define SPIRALS_0 UINT64_C(0x897cc249bd92c519)

static struct rp_data *open_made(struct data_case *c, enum rp_synthetic task, int64_t n,
                                 uint64_t seed)
{
    struct rp_spec_dataset *dataset = &c->spec.train_data;
    dataset->format = RP_FORMAT_SYNTHETIC;
    dataset->synthetic = task;
    dataset->synthetic_samples = n;
    dataset->synthetic_classes = 3;
    dataset->synthetic_features = 5;
    dataset->synthetic_noise = 0.1;
    dataset->synthetic_seed = seed;
    return case_open(c);
}

static uint64_t digest_made(enum rp_synthetic task, int64_t n, uint64_t seed)
{
    struct data_case c;
    uint64_t digest = UINT64_C(0xcbf29ce484222325);
    static float x[784];
    int32_t y[1];
    case_init(&c);
    struct rp_data *data = open_made(&c, task, n, seed);
    int64_t row = data->train.row;
    for (int64_t i = 0; i < 300; i++) {
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, i, 1, x, y);
        digest = mix(mix(digest, x, (size_t)row * sizeof *x), y, sizeof y);
    }
    rp_data_free(data);
    case_release(&c);
    return digest;
}

/* The same bytes on every machine, for ever; a set of more samples begins with the same ones. */
static void test_made_samples(void)
{
    CHECK_HEX(digest_made(RP_SYNTHETIC_DIGITS, 300, 0), DIGITS_0);
    CHECK_HEX(digest_made(RP_SYNTHETIC_DIGITS, 1001, 0), DIGITS_0);
    CHECK_HEX(digest_made(RP_SYNTHETIC_DIGITS, 300, 7), DIGITS_7);
    CHECK_HEX(digest_made(RP_SYNTHETIC_BLOBS, 300, 0), BLOBS_0);
    CHECK_HEX(digest_made(RP_SYNTHETIC_SPIRALS, 300, 0), SPIRALS_0);
    CHECK(digest_made(RP_SYNTHETIC_BLOBS, 300, 1) != BLOBS_0);
    CHECK(digest_made(RP_SYNTHETIC_SPIRALS, 300, 1) != SPIRALS_0);
}

/* Every class about as often, points where their formulas put them. */
static void test_made_shapes(void)
{
    struct data_case c;
    static float x[784];
    int32_t y[1];
    int count[10] = {0};
    case_init(&c);
    struct rp_data *data = open_made(&c, RP_SYNTHETIC_DIGITS, 2000, 0);
    for (int64_t i = 0; i < 2000; i++) {
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, i, 1, x, y);
        count[y[0]]++;
    }
    /* 200 expected, standard deviation 13. */
    for (int i = 0; i < 10; i++) CHECK(count[i] > 120 && count[i] < 280);
    rp_data_free(data);
    data = open_made(&c, RP_SYNTHETIC_SPIRALS, 500, 0);
    for (int64_t i = 0; i < 500; i++) {
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, i, 1, x, y);
        CHECK(sqrtf(x[0] * x[0] + x[1] * x[1]) < 1.7f);
        CHECK(y[0] >= 0 && y[0] < 3);
    }
    rp_data_free(data);
    case_release(&c);
}

int main(void)
{
    test_validation_is_never_flipped();
    test_list_order();
    test_flip_always_and_never();
    test_misfits();
    test_positions();
    test_loader();
    test_made_samples();
    test_made_shapes();
    return test_result();
}
