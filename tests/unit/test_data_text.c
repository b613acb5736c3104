/* test_data_text - text and token files: which windows they give, at which positions, and what is
 * refused. */
#include "data/tokens.h"
#include "data_case.h"

enum { T = 8, N_TEXT = 1003, BATCH = 64 };

static char text[N_TEXT + 1];

static void make_text(void)
{
    uint32_t state = 1;
    for (int i = 0; i < N_TEXT; i++) {
        state = state * 1664525u + 1013904223u;
        text[i] = (char)(' ' + (state >> 16) % 90);
    }
}

/* Files or folders of one format, NULL-terminated. */
static void dataset(struct rp_spec_dataset *set, enum rp_format format, const char *const *paths)
{
    case_files(set, format, NULL, NULL);
    for (; *paths; paths++) {
        set->files[set->n_files].path = (char *)(uintptr_t)*paths;
        set->files[set->n_files++].at = (struct rp_spec_place){3, 1};
    }
    set->token_bytes = 2;
    set->vocab = 0;
}
#define DATASET(set, format, ...) dataset(set, format, (const char *const[]){__VA_ARGS__, NULL})

/* ---- training windows ------------------------------------------------------------------------ */

/* Where in the text a window lies; -1 when it is none. */
static int64_t find_window(const int32_t *x, const int32_t *y, int64_t n_text)
{
    for (int64_t at = 0; at + T < n_text; at++) {
        bool same = true;
        for (int i = 0; i < T && same; i++)
            same = x[i] == (unsigned char)text[at + i] && y[i] == (unsigned char)text[at + i + 1];
        if (same) return at;
    }
    return -1;
}

/* Every epoch takes each window once, all from one offset; offsets and orders differ by epoch. */
static void test_epochs(struct data_case *c)
{
    enum { WINDOWS = (N_TEXT - T) / T, EPOCHS = 40 };
    static int32_t x[WINDOWS * T], y[WINDOWS * T];
    int64_t offsets[EPOCHS], first[EPOCHS];
    int different = 0, orders = 0;
    DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "a.txt");
    struct rp_data *data = case_open(c);
    if (!data) return;
    CHECK_INT(rp_data_shape(data)->n_train, WINDOWS);
    CHECK_INT(rp_data_shape(data)->n_classes, 256);
    CHECK_INT(rp_data_shape(data)->dims[0], T);
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        bool seen[WINDOWS] = {false};
        rp_data_fill_train(data, (uint64_t)epoch * WINDOWS, WINDOWS, x, y);
        first[epoch] = find_window(x, y, N_TEXT);
        offsets[epoch] = first[epoch] % T;
        for (int i = 0; i < WINDOWS; i++) {
            int64_t at = find_window(x + i * T, y + i * T, N_TEXT);
            CHECK_INT(at % T, offsets[epoch]);
            CHECK(at >= 0 && !seen[at / T]);
            if (at >= 0) seen[at / T] = true;
        }
        CHECK_INT(offsets[epoch], tokens_offset(c->spec.seed, (uint64_t)epoch, N_TEXT, T));
        different += epoch > 0 && offsets[epoch] != offsets[0];
        orders += epoch > 0 && first[epoch] / T != first[0] / T;
    }
    CHECK(different > EPOCHS / 2);
    CHECK(orders > EPOCHS / 2);
    CHECK_INT(rp_data_loss_values(data, 17, 5), 5 * T);
    rp_data_free(data);
}

/* Kept: a release that draws otherwise breaks every run on text. */
static void test_kept(void)
{
    static const int64_t want[] = {590, 791, 366, 652, 373, 723};
    for (uint64_t epoch = 0; epoch < 6; epoch++)
        CHECK_INT(tokens_offset(1234, epoch, 1000000, 1024), want[epoch]);
}

/* A window is a function of its position alone: taken one by one, backwards, from a second opening
 * or by the loader's threads it is the same; another seed gives others. */
static void test_pure(struct data_case *c)
{
    static int32_t x[BATCH * T], y[BATCH * T], x1[BATCH * T], y1[BATCH * T];
    const uint64_t from = (UINT64_C(1) << 40) + 77;
    const void *xl, *yl;
    struct rp_error err = {0};
    struct rp_loader *loader = NULL;
    struct rp_data *data = case_open(c), *again = case_open(c);
    c->spec.seed++;
    struct rp_data *other = case_open(c);
    c->spec.seed--;
    rp_data_fill_train(data, from, BATCH, x, y);
    for (int i = BATCH - 1; i >= 0; i--)
        rp_data_fill_train(again, from + (uint64_t)i, 1, x1 + i * T, y1 + i * T);
    CHECK(memcmp(x, x1, sizeof x) == 0 && memcmp(y, y1, sizeof y) == 0);
    CHECK_OK(rp_loader_open(data, BATCH, 2, 2, &loader, &err), &err);
    for (uint64_t step = 0; step < 5; step++) {
        rp_loader_take(loader, from + step * BATCH, &xl, &yl);
        rp_data_fill_train(data, from + step * BATCH, BATCH, x1, y1);
        CHECK(memcmp(xl, x1, sizeof x1) == 0 && memcmp(yl, y1, sizeof y1) == 0);
    }
    CHECK(memcmp(x, x1, sizeof x) != 0);
    rp_data_fill_train(other, from, BATCH, x1, y1);
    CHECK(memcmp(x, x1, sizeof x) != 0);
    rp_loader_close(loader);
    rp_data_free(other);
    rp_data_free(again);
    rp_data_free(data);
}

/* ---- evaluation ------------------------------------------------------------------------------ */

/* `want` (n) read in windows: each but the first is a target once, in order, then nothing. */
static void check_eval(const struct rp_data *data, enum rp_split split, const char *want, int64_t n)
{
    int32_t x[T], y[T];
    int64_t windows = rp_data_samples(data, split), at = 0;
    CHECK_INT(windows, (n - 1 + T - 1) / T);
    for (int64_t w = 0; w < windows; w++) {
        rp_data_fill_eval(data, split, w, 1, x, y);
        for (int i = 0; i < T; i++, at++) {
            CHECK_INT(x[i], at < n ? (unsigned char)want[at] : 0);
            CHECK_INT(y[i], at + 1 < n ? (unsigned char)want[at + 1] : -1);
        }
    }
    CHECK(at >= n - 1);
}

static void test_eval(struct data_case *c)
{
    DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "a.txt");
    c->spec.valid_fraction = 0.1;
    struct rp_data *data = case_open(c);
    if (!data) return;
    CHECK_INT(rp_data_shape(data)->n_valid, (100 - 2) / T + 1);
    CHECK_INT(rp_data_shape(data)->n_train, (N_TEXT - 100 - T) / T);
    check_eval(data, RP_SPLIT_VALID, text + N_TEXT - 100, 100);
    check_eval(data, RP_SPLIT_TRAIN, text, N_TEXT - 100);
    /* No window of training reaches into what is evaluated. */
    int32_t x[T], y[T];
    for (uint64_t p = 0; p < 20000; p++) {
        rp_data_fill_train(data, p, 1, x, y);
        CHECK(find_window(x, y, N_TEXT - 100) >= 0);
    }
    rp_data_free(data);
    c->spec.valid_fraction = 0;
    /* One target; a whole window; one more than a window; a set of its own. */
    const int64_t lengths[] = {2, T, T + 1, T + 2, 2 * T + 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        put_file(c->folder, "v.txt", text + 5, (size_t)lengths[i]);
        DATASET(&c->spec.valid_data, RP_FORMAT_TEXT, "v.txt");
        data = case_open(c);
        if (!data) continue;
        CHECK_INT(rp_data_shape(data)->n_valid, rp_data_samples(data, RP_SPLIT_VALID));
        check_eval(data, RP_SPLIT_VALID, text + 5, lengths[i]);
        rp_data_free(data);
    }
    c->spec.valid_data.format = RP_FORMAT_NONE;
}

/* Texts that have room for few windows: every offset that fits is drawn, and no other. */
static void test_short(struct data_case *c)
{
    for (int64_t n = T + 1; n < 4 * T; n++) {
        bool drawn[T] = {false};
        int64_t windows = n / T - 1 < 1 ? 1 : n / T - 1, room = n - windows * T;
        int32_t x[T], y[T];
        put_file(c->folder, "short.txt", text, (size_t)n);
        DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "short.txt");
        struct rp_data *data = case_open(c);
        if (!data) continue;
        CHECK_INT(rp_data_shape(data)->n_train, windows);
        for (uint64_t p = 0; p < 400; p++) {
            rp_data_fill_train(data, p, 1, x, y);
            int64_t at = find_window(x, y, n);
            CHECK(at >= 0);
            if (at >= 0) drawn[at % T] = true;
        }
        for (int i = 0; i < T; i++) CHECK_INT(drawn[i], i < room);
        rp_data_free(data);
    }
}

/* ---- files and folders ----------------------------------------------------------------------- */

static void test_folder(struct data_case *c)
{
    static const char joined[] = "alpha alpha\0bee bee bee\0gamma, gamma\0delta";
    struct rp_text with = {0}, listed = {0};
    char *inner = rp_sys_join(c->folder, "corpus/b"), *before = rp_sys_join(c->folder, "corpus/b-");
    CHECK_OK(rp_sys_make_folder(inner, NULL), (&(struct rp_error){0}));
    CHECK_OK(rp_sys_make_folder(before, NULL), (&(struct rp_error){0}));
    put_text(c->folder, "corpus/a.txt", "alpha alpha");
    put_text(c->folder, "corpus/b-/z", "bee bee bee"); /* - comes before / */
    put_text(c->folder, "corpus/b/gamma.md", "gamma, gamma");
    put_text(c->folder, "corpus/b/empty", "");
    put_text(c->folder, "corpus/c.txt", "delta");
    put_text(c->folder, "corpus/.hidden", "\xff");
    DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "corpus");
    struct rp_data *data = case_open(c);
    if (!data) goto out;
    check_eval(data, RP_SPLIT_TRAIN, joined, sizeof joined - 1);
    const struct rp_data_file *files;
    CHECK_INT(rp_data_files(data, &files), 5);
    CHECK_TEXT(files[1].key, "data.train.files[1]");
    rp_data_canonical(data, false, &with);
    rp_data_free(data);
    /* The same files named one by one are the same data; in another order they are not. */
    DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "corpus/a.txt", "corpus/b-/z", "corpus/b/empty",
            "corpus/b/gamma.md", "corpus/c.txt");
    data = case_open(c);
    rp_data_canonical(data, false, &listed);
    CHECK_TEXT(rp_text_get(&listed), rp_text_get(&with));
    rp_data_free(data);
    struct rp_data_shape shape;
    CHECK_OK(rp_data_describe(&c->spec, false, &shape, &(struct rp_error){0}),
             (&(struct rp_error){0}));
    CHECK_INT(shape.n_train, ((int64_t)sizeof joined - 1 - T) / T);
    DATASET(&c->spec.train_data, RP_FORMAT_TEXT, "corpus/b-/z", "corpus/a.txt", "corpus/b/empty",
            "corpus/b/gamma.md", "corpus/c.txt");
    data = case_open(c);
    listed.length = 0;
    rp_data_canonical(data, false, &listed);
    CHECK(strcmp(rp_text_get(&listed), rp_text_get(&with)) != 0);
    rp_data_free(data);
out:
    rp_text_release(&with);
    rp_text_release(&listed);
    rp_mem_free(before);
    rp_mem_free(inner);
}

/* ---- token files ----------------------------------------------------------------------------- */

/* `n` tokens (i * 131) mod `below`, from number `first` on, in `width` bytes behind a header of
 * llm.c with this magic; 0: none. */
static void put_tokens(struct data_case *c, const char *name, int64_t first, int64_t n,
                       uint32_t below, int width, uint32_t magic, uint32_t version)
{
    size_t header = magic ? 1024 : 0, size = header + (size_t)(n * width);
    uint8_t *bytes = rp_mem_new(size + 1);
    const uint32_t head[3] = {magic, version, (uint32_t)n};
    for (int i = 0; magic && i < 12; i++) bytes[i] = (uint8_t)(head[i / 4] >> (8 * (i % 4)));
    for (int64_t i = 0; i < n; i++)
        for (int b = 0; b < width; b++)
            bytes[header + (size_t)(i * width + b)] =
                (uint8_t)((uint32_t)((first + i) * 131) % below >> (8 * b));
    put_file(c->folder, name, bytes, size);
    rp_mem_free(bytes);
}

static void check_tokens(const struct rp_data *data, int64_t n, uint32_t below)
{
    int32_t x[T], y[T];
    CHECK_INT(rp_data_samples(data, RP_SPLIT_TRAIN), (n - 2) / T + 1);
    for (int64_t w = 0, at = 0; w < rp_data_samples(data, RP_SPLIT_TRAIN); w++) {
        rp_data_fill_eval(data, RP_SPLIT_TRAIN, w, 1, x, y);
        for (int i = 0; i < T; i++, at++) {
            if (at < n) CHECK_INT(x[i], (at * 131) % below);
            CHECK_INT(y[i], at + 1 < n ? ((at + 1) * 131) % below : -1);
        }
    }
}

static void test_tokens(struct data_case *c)
{
    struct rp_spec_dataset *train = &c->spec.train_data;
    put_tokens(c, "raw16.bin", 0, 500, 50257, 2, 0, 0);
    put_tokens(c, "raw32.bin", 0, 500, 100000, 4, 0, 0);
    put_tokens(c, "gpt2.bin", 0, 500, 50257, 2, 20240520, 1);
    put_tokens(c, "llama3.bin", 0, 500, 100000, 4, 20240801, 7);
    put_tokens(c, "second.bin", 500, 301, 50257, 2, 20240520, 1);
    const struct {
        const char *name;
        int bytes;
        uint32_t below;
    } files[] = {{"raw16.bin", 2, 50257},
                 {"raw32.bin", 4, 100000},
                 {"gpt2.bin", 2, 50257},
                 {"gpt2.bin", 4, 50257}, /* the header knows better */
                 {"llama3.bin", 2, 100000}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        DATASET(train, RP_FORMAT_TOKENS, files[i].name);
        train->token_bytes = files[i].bytes;
        train->vocab = files[i].below;
        struct rp_data *data = case_open(c);
        if (!data) continue;
        CHECK_INT(rp_data_shape(data)->n_classes, files[i].below);
        check_tokens(data, 500, files[i].below);
        CHECK(data->train.tokens->part[0].map && !data->train.tokens->part[0].owned);
        rp_data_free(data);
    }
    /* Shards are one run, raw ones beside others too; a vocabulary that nobody named is not known.
     */
    DATASET(train, RP_FORMAT_TOKENS, "raw16.bin", "second.bin");
    struct rp_data *data = case_open(c);
    if (data) check_tokens(data, 801, 50257);
    if (data) CHECK_INT(rp_data_shape(data)->n_classes, -1);
    rp_data_free(data);
    c->spec.model.vocab = 50304;
    data = case_open(c);
    if (data) CHECK_INT(rp_data_shape(data)->n_classes, 50304);
    rp_data_free(data);
    c->spec.model.vocab = 0;
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void test_bad_text(struct data_case *c)
{
    struct rp_spec_dataset *train = &c->spec.train_data;
    put_text(c->folder, "empty.txt", "");
    put_text(c->folder, "latin1.txt", "caf\xe9 au lait, s'il vous plait");
    put_file(c->folder, "utf16.txt", "\xff\xfeh\0e\0l\0l\0o\0", 12);
    put_file(c->folder, "eight.txt", text, T);
    DATASET(train, RP_FORMAT_TEXT, "empty.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "empty.txt", "the text is empty");
    DATASET(train, RP_FORMAT_TEXT, "latin1.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "latin1.txt: byte 3 (e9) is not UTF-8", "job.yaml:3:1");
    DATASET(train, RP_FORMAT_TEXT, "a.txt", "utf16.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "utf16.txt: byte 0 (ff)", "not UTF-8");
    put_file(c->folder, "zero.txt", "one\0two three four", 18);
    DATASET(train, RP_FORMAT_TEXT, "zero.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "zero.txt: byte 3 is 0, which no text holds", "");
    DATASET(train, RP_FORMAT_TEXT, "eight.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "8 tokens to train on", "a window of 8 needs 9");
    DATASET(train, RP_FORMAT_TEXT, "a.txt", "nowhere.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "there is no file", "nowhere.txt");
    c->spec.valid_fraction = 0.995;
    DATASET(train, RP_FORMAT_TEXT, "a.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "5 tokens to train on (data.valid.fraction takes 998 of 1003)",
               "lower model.context");
    c->spec.valid_fraction = 0.001;
    CASE_FAILS(c, RP_STATUS_DATA, "data.valid has 1 token, and nothing to predict",
               "data.valid.fraction takes so many of 1003");
    c->spec.valid_fraction = 0;
    DATASET(&c->spec.valid_data, RP_FORMAT_TEXT, "empty.txt");
    CASE_FAILS(c, RP_STATUS_DATA, "empty.txt", "the text is empty");
    c->spec.valid_data.format = RP_FORMAT_NONE;
    train->files[0].path = (char *)(uintptr_t) "corpus";
    train->files[0].has_sha256 = true;
    CASE_FAILS(c, RP_STATUS_USAGE, "corpus is a folder", "leave `sha256` out");
    train->files[0].has_sha256 = false;
    DATASET(train, RP_FORMAT_TOKENS, "corpus");
    CASE_FAILS(c, RP_STATUS_DATA, "corpus: the folder holds no .bin file", "");
    c->spec.model.context = 0;
    DATASET(train, RP_FORMAT_TEXT, "a.txt");
    CASE_FAILS(c, RP_STATUS_USAGE, "windows of model.context tokens", "kind: gpt");
    c->spec.model.context = T;
}

static void test_bad_tokens(struct data_case *c)
{
    struct rp_spec_dataset *train = &c->spec.train_data;
    put_text(c->folder, "none.bin", "");
    put_text(c->folder, "odd.bin", "12345");
    put_tokens(c, "old.bin", 0, 100, 1000, 2, 20240520, 2);
    put_tokens(c, "short16.bin", 0, 6, 1000, 2, 0, 0);
    DATASET(train, RP_FORMAT_TOKENS, "none.bin");
    CASE_FAILS(c, RP_STATUS_DATA, "none.bin", "no tokens in it");
    DATASET(train, RP_FORMAT_TOKENS, "odd.bin");
    CASE_FAILS(c, RP_STATUS_DATA, "5 bytes are no whole number of uint16 tokens", "odd.bin");
    DATASET(train, RP_FORMAT_TOKENS, "old.bin");
    CASE_FAILS(c, RP_STATUS_DATA, "llm.c header (20240520) of version 2", "old.bin");
    DATASET(train, RP_FORMAT_TOKENS, "short16.bin");
    CASE_FAILS(c, RP_STATUS_DATA, "6 tokens to train on", "needs 9");
    /* Headers that promise more, or less, than there is: the file's size decides. */
    put_tokens(c, "cut.bin", 0, 100, 1000, 2, 20240520, 1);
    for (uint32_t count = 0; count < 6; count++) {
        static const uint32_t counts[] = {0, 99, 101, 0x7fffffff, 0x80000000, 0xffffffff};
        size_t length = 0;
        char *bytes = get_file(c->folder, "cut.bin", &length);
        memcpy(bytes + 8, &counts[count], 4);
        put_file(c->folder, "lies.bin", bytes, length);
        DATASET(train, RP_FORMAT_TOKENS, "lies.bin");
        CASE_FAILS(c, RP_STATUS_DATA, "its header promises", "but the file has 1224");
        put_file(c->folder, "cut2.bin", bytes, 1023);
        DATASET(train, RP_FORMAT_TOKENS, "cut2.bin");
        CASE_FAILS(c, RP_STATUS_DATA, "its header promises", "but the file has 1023");
        rp_mem_free(bytes);
    }
    /* Tokens past the end, by file and place; in the second chunk too, and as a negative number. */
    put_tokens(c, "big.bin", 0, 100000, 1000, 4, 0, 0);
    size_t length = 0;
    uint8_t *bytes = (uint8_t *)get_file(c->folder, "big.bin", &length);
    bytes[4 * 70001 + 3] = 0x80;
    put_file(c->folder, "big.bin", bytes, length);
    rp_mem_free(bytes);
    put_tokens(c, "fine.bin", 0, 100, 1000, 4, 20240801, 7);
    DATASET(train, RP_FORMAT_TOKENS, "fine.bin", "big.bin");
    train->token_bytes = 4;
    CASE_FAILS(c, RP_STATUS_DATA, "big.bin: token 70001 is 21474", "the vocabulary ends at");
    DATASET(train, RP_FORMAT_TOKENS, "fine.bin");
    train->vocab = 1000;
    struct rp_data *data = case_open(c);
    rp_data_free(data);
    train->vocab = 900;
    CASE_FAILS(c, RP_STATUS_DATA, "fine.bin: token 7 is 917, but the vocabulary ends at 899", "");
    train->vocab = 0;
    c->spec.model.vocab = 131;
    CASE_FAILS(c, RP_STATUS_DATA, "fine.bin: token 1 is 131, but the vocabulary ends at 130", "");
    c->spec.model.vocab = 0;
}

/* Any bytes at all under the names of tokens and text: an error or data, never more. */
static void test_hostile(struct data_case *c)
{
    uint64_t state = 88172645463325252u;
    for (int round = 0; round < 3000; round++) {
        uint8_t bytes[1100];
        size_t length = 0;
        for (size_t i = 0; i < sizeof bytes; i++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            bytes[i] = (uint8_t)(round % 3 == 0 ? state & 0x7f : state);
        }
        length = (size_t)(state >> 20) % (round % 2 ? 40 : sizeof bytes);
        if (round % 5 == 0) memcpy(bytes, "\x98\xd8\x34\x01\1\0\0\0", 8);
        if (round % 5 == 1) memcpy(bytes, "\xa1\xd9\x34\x01\7\0\0\0", 8);
        if (round % 5 == 0 && length > 1024) bytes[8] = (uint8_t)((length - 1024) / 2);
        if (round % 5 < 2) memset(bytes + 9, 0, 3);
        put_file(c->folder, "any.bin", bytes, length);
        DATASET(&c->spec.train_data, round % 4 ? RP_FORMAT_TOKENS : RP_FORMAT_TEXT, "any.bin");
        c->spec.train_data.token_bytes = round % 7 ? 2 : 4;
        c->spec.model.vocab = round % 3 ? 0 : 40000;
        struct rp_error err = {0};
        struct rp_data *data = NULL;
        struct rp_data_shape shape;
        enum rp_status told = rp_data_describe(&c->spec, false, &shape, &err);
        enum rp_status status = rp_data_open(&c->spec, NULL, &data, &err);
        CHECK(status == RP_STATUS_OK || (status == RP_STATUS_DATA && err.text[0]));
        CHECK(status != RP_STATUS_OK || told == RP_STATUS_OK);
        if (status == RP_STATUS_OK) {
            int32_t x[T], y[T];
            CHECK_INT(shape.n_train, rp_data_shape(data)->n_train);
            rp_data_fill_train(data, state, 1, x, y);
        }
        rp_data_free(data);
    }
    c->spec.model.vocab = 0;
}

/* ---- sums modulo p --------------------------------------------------------------------------- */

static void test_sums(struct data_case *c)
{
    enum { P = 11, SUMS = P * P };
    int32_t x[3], y[3];
    bool seen[SUMS] = {false};
    struct rp_spec_dataset *train = &c->spec.train_data;
    case_files(train, RP_FORMAT_SYNTHETIC, NULL, NULL);
    train->synthetic = RP_SYNTHETIC_MODULAR_ADDITION;
    train->synthetic_p = P;
    CASE_FAILS(c, RP_STATUS_USAGE, "write `context: 3` under `model` (found 8)", "");
    c->spec.model.context = 3;
    c->spec.valid_fraction = 0.7;
    struct rp_data *data = case_open(c);
    if (!data) goto out;
    CHECK_INT(rp_data_shape(data)->n_classes, P + 1);
    CHECK_INT(rp_data_shape(data)->n_valid, 85);
    CHECK_INT(rp_data_shape(data)->n_train, SUMS - 85);
    for (int i = 0; i < SUMS; i++) {
        if (i < 85)
            rp_data_fill_eval(data, RP_SPLIT_VALID, i, 1, x, y);
        else
            rp_data_fill_train(data, (uint64_t)(i - 85), 1, x, y);
        CHECK(x[0] < P && x[1] < P && x[2] == P && !seen[x[0] * P + x[1]]);
        seen[x[0] * P + x[1]] = true;
        CHECK_INT(y[0], -1);
        CHECK_INT(y[1], -1);
        CHECK_INT(y[2], (x[0] + x[1]) % P);
    }
    CHECK_INT(rp_data_loss_values(data, 5, 7), 7);
    CHECK_INT(rp_data_samples(data, RP_SPLIT_TRAIN), SUMS - 85);
    rp_data_free(data);
out:
    c->spec.valid_fraction = 0;
    c->spec.model.context = T;
}

int main(void)
{
    struct data_case c;
    case_init(&c);
    c.spec.model.context = T;
    make_text();
    put_text(c.folder, "a.txt", text);
    test_epochs(&c);
    test_kept();
    test_pure(&c);
    test_eval(&c);
    test_short(&c);
    test_folder(&c);
    test_tokens(&c);
    test_bad_text(&c);
    test_bad_tokens(&c);
    test_hostile(&c);
    test_sums(&c);
    case_release(&c);
    return test_result();
}
