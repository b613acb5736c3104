/* test_spec.c - the parts of the spec's parser, one by one; whole files are tests/spec. */
#include "spec/spec_int.h"

#include "base/sys.h"
#include "base/utf8.h"
#include "test.h"

#include <math.h>

static const char *const base_spec =
    "reprise: 1\n"
    "name: job\n"
    "seed: 1234\n"
    "data:\n"
    "  train: {format: synthetic, task: digits, samples: 1000}\n"
    "  valid: {fraction: 0.2}\n"
    "model: {kind: mlp, hidden: [64, 32], activation: relu}\n"
    "train: {for: 5 epochs, batch: 96, optimizer: {kind: adamw, lr: 1.0e-3}}\n"
    "eval: {every: 1 epoch}\n";

static struct rp_spec *load(const char *const *set, struct rp_error *err)
{
    struct rp_spec *spec = NULL;
    struct rp_spec_options options = {.set = set};
    CHECK_OK(rp_spec_parse("folder/job.yaml", base_spec, strlen(base_spec), &options, &spec, err),
             err);
    return spec;
}

static enum rp_status parse_text(const char *text, struct rp_spec **spec, struct rp_error *err)
{
    return rp_spec_parse("job.yaml", text, strlen(text), NULL, spec, err);
}

/* ---- scalars ---- */

static enum rp_scalar kind_of(const char *text)
{
    struct rp_node node = {.text = (char *)text, .length = strlen(text), .plain = true};
    return rp_scalar_kind(&node);
}

static void test_scalar_kinds(void)
{
    static const struct {
        const char *text;
        enum rp_scalar kind;
    } cases[] = {
        {"", RP_SCALAR_NULL},      {"~", RP_SCALAR_NULL},        {"null", RP_SCALAR_NULL},
        {"true", RP_SCALAR_BOOL},  {"False", RP_SCALAR_BOOL},    {"no", RP_SCALAR_TEXT},
        {"yes", RP_SCALAR_TEXT},   {"on", RP_SCALAR_TEXT},       {"tRue", RP_SCALAR_TEXT},
        {"0", RP_SCALAR_INT},      {"-12", RP_SCALAR_INT},       {"+3", RP_SCALAR_INT},
        {"0o17", RP_SCALAR_INT},   {"0x1F", RP_SCALAR_INT},      {"0o18", RP_SCALAR_TEXT},
        {"0x", RP_SCALAR_TEXT},    {"012", RP_SCALAR_INT},       {"1_000", RP_SCALAR_TEXT},
        {"1e-3", RP_SCALAR_FLOAT}, {"1.", RP_SCALAR_FLOAT},      {".5", RP_SCALAR_FLOAT},
        {".", RP_SCALAR_TEXT},     {"1e", RP_SCALAR_TEXT},       {"-.inf", RP_SCALAR_FLOAT},
        {".NaN", RP_SCALAR_FLOAT}, {"1.2.3", RP_SCALAR_TEXT},    {"1:30", RP_SCALAR_TEXT},
        {"0x1p3", RP_SCALAR_TEXT}, {"infinity", RP_SCALAR_TEXT}, {"-0x1", RP_SCALAR_TEXT},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++)
        if (kind_of(cases[i].text) != cases[i].kind) {
            printf("`%s` is %d, want %d\n", cases[i].text, kind_of(cases[i].text), cases[i].kind);
            test_failures++;
        }
}

static void test_scalar_values(void)
{
    struct rp_node node = {.plain = true};
    uint64_t whole = 0;
    int64_t number = 0;
    node.text = "18446744073709551615";
    CHECK(rp_scalar_uint(&node, &whole) && whole == UINT64_MAX);
    CHECK(!rp_scalar_int(&node, &number));
    node.text = "18446744073709551616";
    CHECK(!rp_scalar_uint(&node, &whole));
    node.text = "0xffffffffffffffff";
    CHECK(rp_scalar_uint(&node, &whole) && whole == UINT64_MAX);
    node.text = "-9";
    CHECK(rp_scalar_int(&node, &number) && number == -9);
    CHECK(!rp_scalar_uint(&node, &whole));
    node.text = "1.28e2";
    CHECK(rp_scalar_int(&node, &number) && number == 128);
    node.text = "1.5";
    CHECK(!rp_scalar_int(&node, &number));
    node.text = "1e300";
    CHECK(!rp_scalar_int(&node, &number));
    CHECK(rp_scalar_number(&node) == 1e300);
    node.text = "-.inf";
    CHECK(rp_scalar_number(&node) == -HUGE_VAL);
    node.text = ".nan";
    CHECK(isnan(rp_scalar_number(&node)));
    node.text = "0o20";
    CHECK(rp_scalar_number(&node) == 16);
}

static void check_span(const char *text, double value, enum rp_unit unit)
{
    struct rp_span span = {0};
    const char *wrong = rp_span_parse(text, &span);
    if (wrong || span.value != value || span.unit != unit) {
        printf("`%s`: %s, %g of unit %d, want %g of %d\n", text, wrong ? wrong : "fine", span.value,
               span.unit, value, unit);
        test_failures++;
    }
}

static void test_spans(void)
{
    check_span("5 epochs", 5, RP_UNIT_EPOCHS);
    check_span("1 epoch", 1, RP_UNIT_EPOCHS);
    check_span("10k steps", 10000, RP_UNIT_STEPS);
    check_span("1B tokens", 1e9, RP_UNIT_TOKENS);
    check_span("2.5M samples", 2500000, RP_UNIT_SAMPLES);
    check_span("3 %", 3, RP_UNIT_PERCENT);
    check_span("3%", 3, RP_UNIT_PERCENT);
    check_span("10 min", 600, RP_UNIT_SECONDS);
    check_span("20s", 20, RP_UNIT_SECONDS);
    check_span("1.5 h", 5400, RP_UNIT_SECONDS);
    check_span("1e3 steps", 1000, RP_UNIT_STEPS);
    static const char *const wrong[] = {
        "5",         "epochs",    "5epochs",  "5K steps",
        "-5 steps",  "5 5 steps", "5 steps ", "1.5 steps",
        "5.. steps", "5 m",       "1e400 s",  "k steps",
        "5 kilo",    "5 k steps", "",         "9007199254740993k steps"};
    struct rp_span span;
    for (size_t i = 0; i < RP_COUNT(wrong); i++)
        if (!rp_span_parse(wrong[i], &span)) {
            printf("`%s` was taken\n", wrong[i]);
            test_failures++;
        }
}

/* ---- text ---- */

static void test_utf8(void)
{
    uint32_t c = 0;
    CHECK_INT(rp_utf8_character("a", 1, &c), 1);
    CHECK_INT(rp_utf8_character("\xc3\xa4", 2, &c), 2);
    CHECK_HEX(c, 0xe4);
    CHECK_INT(rp_utf8_character("\xf0\x9f\x98\x80", 4, &c), 4);
    CHECK_HEX(c, 0x1f600);
    CHECK_INT(rp_utf8_character("\xc3", 1, &c), 0);             /* cut short */
    CHECK_INT(rp_utf8_character("\xc0\x80", 2, &c), 0);         /* overlong */
    CHECK_INT(rp_utf8_character("\xe0\x80\xaf", 3, &c), 0);     /* overlong */
    CHECK_INT(rp_utf8_character("\xed\xa0\x80", 3, &c), 0);     /* surrogate */
    CHECK_INT(rp_utf8_character("\xf4\x90\x80\x80", 4, &c), 0); /* past the last plane */
    CHECK_INT(rp_utf8_character("\x80", 1, &c), 0);

    const char *text = "\xef\xbb\xbfname: \xc3\xa4\xc3\xa4 x\r\nseed: 1\n";
    struct rp_spec_place at = rp_spec_place_of(text, strlen(text), 14);
    CHECK_INT(at.line, 1);
    CHECK_INT(at.column, 10); /* characters, and the byte order mark is none */
    at = rp_spec_place_of(text, strlen(text), 17);
    CHECK_INT(at.line, 2);
    CHECK_INT(at.column, 1);
}

static void test_quote(void)
{
    struct rp_text text = {0};
    rp_spec_quote(&text, "a\x1b[2Jb\n\xff\xe2\x80\xae", 11, 100);
    CHECK_TEXT(rp_text_get(&text), "a\\x1B[2Jb\\n\\xFF\\u202E");
    text.length = 0;
    rp_spec_quote(&text, "abcdefghij", 10, 4);
    CHECK_TEXT(rp_text_get(&text), "abcd...");
    rp_text_release(&text);
}

/* ---- schema ---- */

static void test_ranges(void)
{
    struct rp_range range = rp_key_range("(0, 1]");
    CHECK(range.low == 0 && range.low_open && range.high == 1 && !range.high_open);
    range = rp_key_range("[2, 16777216]; 0..64");
    CHECK(range.low == 2 && !range.low_open && range.high == 16777216 && !range.high_open);
    range = rp_key_range("(-inf, inf); 1..16");
    CHECK(range.low == -HUGE_VAL && range.high == HUGE_VAL);
    char choice[32];
    bool built = true;
    CHECK(rp_key_choice("a | !b", 1, choice, &built) && strcmp(choice, "b") == 0 && !built);
    CHECK(!rp_key_choice("a | !b", 2, choice, &built));
}

/* The table itself: what every row must have. A default that does not bind is a mistake here, not
 * in a user's file. */
static void test_table(void)
{
    for (int i = 0; i < rp_schema_rows; i++) {
        const struct rp_key *key = &rp_schema[i];
        CHECK(*key->path && *key->help && *key->example && *key->fallback && key->since >= 1);
        const char *dot = strrchr(key->path, '.');
        bool parent = dot == NULL || key->path[0] == '<';
        for (int j = 0; dot && j < i; j++)
            parent =
                parent || (strlen(rp_schema[j].path) == (size_t)(dot - key->path) &&
                           strncmp(rp_schema[j].path, key->path, (size_t)(dot - key->path)) == 0);
        if (!parent) {
            printf("%s has no row above it\n", key->path);
            test_failures++;
        }
        for (int j = 0; j < i; j++)
            if (strcmp(rp_schema[j].path, key->path) == 0 &&
                strcmp(rp_schema[j].when, key->when) == 0) {
                printf("%s is there twice\n", key->path);
                test_failures++;
            }
    }
}

static void test_suggestions(void)
{
    static const char *const names[] = {"optimizer", "batch", "loss", "for"};
    const char *near = rp_nearest_word("optimiser", names, 4);
    CHECK(near && strcmp(near, "optimizer") == 0);
    near = rp_nearest_word("bathc", names, 4);
    CHECK(near && strcmp(near, "batch") == 0);
    near = rp_nearest_word("optim", names, 4);
    CHECK(near && strcmp(near, "optimizer") == 0);
    CHECK(rp_nearest_word("wandering", names, 4) == NULL);
    CHECK(rp_nearest_word("x", names, 4) == NULL);
    CHECK(rp_suggest_foreign("num_train_epochs", "") != NULL);
    CHECK(rp_suggest_foreign("NumTrainEpochs", "") != NULL);
    CHECK(rp_suggest_foreign("nn.BatchNorm2d", "<layer>") != NULL);
    CHECK(rp_suggest_foreign("nn.BatchNorm2d", "train") == NULL);
    CHECK(rp_suggest_foreign("lr", "") == NULL);
}

/* ---- whole specs ---- */

static void test_defaults(struct rp_error *err)
{
    struct rp_spec *spec = load(NULL, err);
    if (!spec) return;
    CHECK_INT(spec->train.shards, 8);
    CHECK_INT(spec->train.micro_batch, 0);
    CHECK(spec->train.optimizer.beta2 == 0.999 && spec->train.optimizer.weight_decay == 0.01);
    CHECK_INT(spec->model.n_hidden, 2);
    CHECK_INT(spec->model.activation, RP_LAYER_RELU);
    CHECK_INT(spec->checkpoint.every.n, 1);
    CHECK(spec->checkpoint.every.item[0].value == 600);
    CHECK(spec->resources.timeout_peer == 20 && spec->resources.timeout_step == 0);
    CHECK_INT(spec->train.batch_at.line, 8);
    CHECK_INT(spec->train.batch_at.column, 31);
    CHECK_INT(spec->train.shards_at.line, 0);
    CHECK_TEXT(spec->folder, "folder");
    char *path = rp_spec_path(spec, "x.idx");
    CHECK_TEXT(path, "folder/x.idx");
    rp_mem_free(path);
    rp_spec_free(spec);
}

static void test_set(struct rp_error *err)
{
    static const char *const set[] = {"train.batch=12", "train.optimizer={kind: sgd, lr: 1}",
                                      "model.hidden.1=7",
                                      "train.loss.cross_entropy.label_smoothing=0.5", NULL};
    struct rp_spec *spec = load(set, err);
    if (!spec) return;
    CHECK_INT(spec->train.batch, 12);
    CHECK_INT(spec->train.shards, 4);
    CHECK_INT(spec->train.optimizer.kind, RP_OPTIMIZER_SGD);
    CHECK_INT(spec->model.hidden[1], 7);
    CHECK(spec->train.label_smoothing == 0.5f);
    struct rp_spec *other = load(NULL, err);
    struct rp_text text = {0};
    CHECK_INT(rp_spec_differences(other, spec, RP_SECTION_NUMERIC, &text), 12);
    CHECK(strstr(rp_text_get(&text), "train.batch: 96 -> 12\n") != NULL);
    CHECK(strstr(rp_text_get(&text), "train.optimizer.betas: [0.9, 0.999] -> absent\n") != NULL);
    CHECK(strstr(rp_text_get(&text), "train.optimizer.momentum: absent -> 0.0\n") != NULL);
    text.length = 0;
    CHECK_INT(rp_spec_differences(other, spec, RP_SECTION_POLICY, &text), 0);
    CHECK_INT(rp_spec_differences(spec, spec, RP_SECTION_NUMERIC, &text), 0);
    rp_text_release(&text);
    rp_spec_free(other);
    rp_spec_free(spec);

    static const char *const wrong[][2] = {
        {"train.batch", NULL},      {"=3", NULL},           {"train..x=3", NULL},
        {"model.hidden.9=1", NULL}, {"seed=&a 1", NULL},    {"seed=[", NULL},
        {"seed=\x01", NULL},        {"train.bach=3", NULL}, {"train.batch.x=3", NULL}};
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        struct rp_spec_options options = {.set = wrong[i]};
        CHECK_INT(rp_spec_parse("a", base_spec, strlen(base_spec), &options, &spec, err),
                  RP_STATUS_USAGE);
        CHECK(strstr(err->text, "--set ") == err->text);
        rp_error_clear(err);
    }
}

static void test_fail(struct rp_error *err)
{
    struct rp_spec *spec = load(NULL, err);
    if (!spec) return;
    struct rp_spec_place at = {7, 8};
    CHECK_INT(rp_spec_fail(spec, at, RP_STATUS_USAGE, err, "no room for %d", 3), RP_STATUS_USAGE);
    CHECK_TEXT(err->text, "folder/job.yaml:7:8: no room for 3\n"
                          "    7 | model: {kind: mlp, hidden: [64, 32], activation: relu}\n"
                          "      |        ^");
    rp_error_clear(err);
    rp_spec_free(spec);
}

static void test_errors(struct rp_error *err)
{
    struct rp_spec *spec = NULL;
    /* columns count characters, in a line that is longer than what is shown */
    CHECK_INT(parse_text("reprise: 1\nn\xc3\xa4me: x\n", &spec, err), RP_STATUS_USAGE);
    CHECK(strstr(err->text, "job.yaml:2:1: no key `n\xc3\xa4me` at the top level; did you mean "
                            "`name`?\n    2 | n\xc3\xa4me: x\n      | ^") != NULL);
    rp_error_clear(err);
    CHECK(spec == NULL);
    /* every error of the file, in its order */
    CHECK_INT(parse_text("reprise: 1\nname: \"-\"\nseed: x\ntrain: 3\n", &spec, err),
              RP_STATUS_USAGE);
    CHECK(strstr(err->text, "job.yaml: 5 errors\n") == err->text);
    const char *one = strstr(err->text, ":1:1:"), *two = strstr(err->text, ":2:7:"),
               *three = strstr(err->text, ":3:7:");
    CHECK(one && two && three && one < two && two < three);
    rp_error_clear(err);
    /* a NUL hides nothing behind it */
    static const char *const nul[][2] = {{"train.loss=\"mse\\0x\"", NULL},
                                         {"train.for=\"5 epochs\\0x\"", NULL},
                                         {"model.activation=\"relu\\0x\"", NULL},
                                         {"name=\"a\\0b\"", NULL}};
    for (size_t i = 0; i < RP_COUNT(nul); i++) {
        struct rp_spec_options options = {.set = nul[i]};
        CHECK_INT(rp_spec_parse("a", base_spec, strlen(base_spec), &options, &spec, err),
                  RP_STATUS_USAGE);
        CHECK(strstr(err->text, "found the text `") != NULL);
        rp_error_clear(err);
    }
    /* errors of one place show its line once */
    CHECK_INT(parse_text("reprise: 1\nname: a\nseed: 1\n", &spec, err), RP_STATUS_USAGE);
    const char *source = strstr(err->text, "| reprise: 1\n");
    CHECK(strstr(err->text, "job.yaml: 3 errors\n") == err->text);
    CHECK(source && !strstr(source + 1, "| reprise: 1\n"));
    rp_error_clear(err);
    /* more errors than a message holds */
    struct rp_text text = {0};
    rp_text_add(&text, "reprise: 1\n");
    for (int i = 0; i < 500; i++) rp_text_add(&text, "key_%d: [1, 2, 3]\n", i);
    CHECK_INT(parse_text(rp_text_get(&text), &spec, err), RP_STATUS_USAGE);
    CHECK(strstr(err->text, " more") != NULL);
    CHECK(strlen(err->text) < RP_ERROR_TEXT_BYTES);
    rp_error_clear(err);
    rp_text_release(&text);
}

/* One text, one digest: written differently, given as defaults, or read back from resolved. */
static void test_canonical(struct rp_error *err)
{
    static const char *const same[][3] = {
        {"train.optimizer.lr=0.001", NULL},
        {"train.optimizer.lr=1e-3", "train.shards=8", NULL},
        {"train.optimizer.eps=1e-8", "train.optimizer.betas=[0.9, 0.999]", NULL},
        {"train.loss={cross_entropy: {label_smoothing: 0}}", "train.schedule.warmup=0 epochs",
         NULL},
        {"data.transform=[]", "numerics=1", NULL},
    };
    static const char *const other[][3] = {
        {"train.optimizer.lr=0.0010000000000000002", NULL},
        {"train.shards=4", NULL},
        {"train.optimizer.eps=1e-7", NULL},
        {"data.transform=[random_flip]", NULL},
        {"data.train.seed=1", NULL},
    };
    struct rp_spec *spec = load(NULL, err);
    struct rp_sha256 want = rp_spec_digest(spec, RP_SECTION_NUMERIC);
    for (size_t i = 0; i < RP_COUNT(same); i++) {
        struct rp_spec *again = load(same[i], err);
        struct rp_sha256 got = rp_spec_digest(again, RP_SECTION_NUMERIC);
        CHECK(rp_sha256_equal(&got, &want));
        rp_spec_free(again);
    }
    for (size_t i = 0; i < RP_COUNT(other); i++) {
        struct rp_spec *again = load(other[i], err);
        struct rp_sha256 got = rp_spec_digest(again, RP_SECTION_NUMERIC);
        CHECK(!rp_sha256_equal(&got, &want));
        rp_spec_free(again);
    }
    struct rp_text text = {0};
    rp_spec_canonical(spec, RP_SECTION_NUMERIC, &text);
    CHECK(strstr(rp_text_get(&text), "train.optimizer.lr=0x1.0624dd2f1a9fcp-10\n") != NULL);
    CHECK(strstr(rp_text_get(&text), "shards") == NULL);
    rp_text_release(&text);
    rp_spec_free(spec);
}

/* The pages that are made from the table: here for the sanitizers; their content is tests/spec. */
static void test_pages(struct rp_error *err)
{
    struct rp_text text = {0};
    for (int i = 0; i < rp_schema_rows; i++) {
        text.length = 0;
        CHECK_OK(rp_spec_explain(rp_key_display(rp_schema[i].path), &text, err), err);
    }
    CHECK_STATUS(rp_spec_explain("nothing.like.it", &text, err), RP_STATUS_USAGE, err);
    text.length = 0;
    rp_spec_json_schema(&text);
    CHECK(strstr(rp_text_get(&text), "\"definitions\"") != NULL);
    text.length = 0;
    rp_spec_reference(&text);
    CHECK(strstr(rp_text_get(&text), "| `train.batch` |") != NULL);
    text.length = 0;
    CHECK_OK(rp_spec_template("digits-mlp", &text, err), err);
    struct rp_spec *spec = NULL;
    CHECK_OK(parse_text(rp_text_get(&text), &spec, err), err);
    rp_spec_free(spec);
    CHECK_STATUS(rp_spec_template("digits", &text, err), RP_STATUS_USAGE, err);
    rp_text_release(&text);
}

/* A load is well under 5 ms, and a large but legal spec is not quadratic. */
static void test_speed(struct rp_error *err)
{
    double start = rp_sys_clock(), best = 1;
    for (int i = 0; i < 20; i++) {
        rp_spec_free(load(NULL, err));
        double now = rp_sys_clock();
        if (now - start < best) best = now - start;
        start = now;
    }
    printf("load: %.2f ms\n", 1e3 * best);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(best < 5e-3);
#endif
}

int main(void)
{
    struct rp_error *err = RP_NEW(struct rp_error);
    test_scalar_kinds();
    test_scalar_values();
    test_spans();
    test_utf8();
    test_quote();
    test_ranges();
    test_table();
    test_suggestions();
    test_defaults(err);
    test_set(err);
    test_fail(err);
    test_errors(err);
    test_canonical(err);
    test_pages(err);
    test_speed(err);
    rp_mem_free(err);
    return test_result();
}
