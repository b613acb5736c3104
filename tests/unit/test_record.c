/* metrics.jsonl and digests.jsonl: exact, cut at the checkpoint, checked when steps are computed
 * again. */
#include "test.h"

#include "base/log.h"
#include "base/number.h"
#include "record/record_int.h"
#include "run_folder.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- numbers --------------------------------------------------------------------------------- */

static void test_numbers(void)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0.0, "0.0"},
                 {-0.0, "-0.0"},
                 {1.0, "1.0"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {1e300, "1e+300"},
                 {5e-324, "4.94065645841247e-324"},
                 {123456789.0, "123456789.0"},
                 {(double)NAN, "NaN"},
                 {HUGE_VAL, "Infinity"},
                 {-HUGE_VAL, "-Infinity"},
                 {(double)0.1f, "0.10000000149011612"}};
    char text[RP_NUMBER_BYTES];
    uint64_t bits = 88172645463325252u;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_number_text(cases[i].value, text);
        CHECK_TEXT(text, cases[i].text);
    }
    for (int i = 0; i < 200000; i++) {
        double value, again;
        bits ^= bits << 13; /* xorshift: any bit pattern */
        bits ^= bits >> 7;
        bits ^= bits << 17;
        memcpy(&value, &bits, sizeof value);
        if (isnan(value)) continue;
        rp_number_text(value, text);
        CHECK(rp_number_parse(text, &again) && memcmp(&again, &value, sizeof value) == 0);
        rp_number_hex(value, text);
        CHECK(rp_number_parse(text, &again) && memcmp(&again, &value, sizeof value) == 0);
    }
    const struct {
        float value;
        const char *text;
    } floats[] = {{0.1f, "0.1"},
                  {1e-5f, "1e-05"},
                  {3, "3.0"},
                  {500000, "500000.0"},
                  {16777215, "16777215.0"},
                  {-0.0f, "-0.0"},
                  {1.0f / 3, "0.33333334"},
                  {(float)NAN, "NaN"}};
    for (size_t i = 0; i < RP_COUNT(floats); i++) {
        rp_number_text_float(floats[i].value, text);
        CHECK_TEXT(text, floats[i].text);
    }
    double ignored;
    CHECK(!rp_number_parse("", &ignored));
    CHECK(!rp_number_parse("1x", &ignored));
    CHECK(!rp_number_parse(" 1", &ignored));
    CHECK(!rp_number_parse("1,5", &ignored));
}

/* A locale that writes commas changes no byte. */
static void test_comma_locale(void)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"};
    char text[RP_NUMBER_BYTES];
    double value = 0;
    const char *set = NULL;
    for (size_t i = 0; i < RP_COUNT(names) && !set; i++) set = setlocale(LC_ALL, names[i]);
    if (!set) printf("no locale with commas is installed: not tested\n");
    rp_number_text(0.5, text);
    CHECK_TEXT(text, "0.5");
    rp_number_hex(1.5, text);
    CHECK_TEXT(text, "0x1.8p+0");
    CHECK(rp_number_parse("0.25", &value) && value == 0.25);
    setlocale(LC_ALL, "C");
}

/* ---- a run of made-up steps ------------------------------------------------------------------ */

static struct rp_digest_line line_of(uint64_t step)
{
    float loss = 1.0f / (float)step;
    struct rp_digest_line line = {.step = step, .params = step * 0x9e3779b97f4a7c15u};
    memcpy(&line.loss_bits, &loss, sizeof loss);
    return line;
}

static struct rp_sha256 newest; /* the chain after the last step that was added */

static enum rp_status add_step(struct rp_record *record, uint64_t step, struct rp_error *err)
{
    struct rp_digest_line line = line_of(step);
    struct rp_digest_tensor tensors[] = {{"a.weight", line.params - 5}, {"b \"quoted\"", 5}};
    enum rp_status status = rp_record_digest(record, &line, tensors, step % 10 == 0 ? 2 : 0, err);
    newest = line.chain;
    return status;
}

static void add_steps(struct rp_record *record, uint64_t first, uint64_t last)
{
    struct rp_error err = {0};
    for (uint64_t step = first; step <= last; step++) {
        CHECK_OK(add_step(record, step, &err), &err);
        struct rp_metric metrics[] = {{"loss", 1.0 / (double)step}, {"lr", 0.1}};
        if (step % 10 == 0)
            CHECK_OK(rp_record_metrics(record, step, "train", metrics, 2, &err), &err);
    }
}

struct mark {
    uint64_t metrics, digests;
    struct rp_sha256 chain;
};

static struct mark mark_of(struct rp_record *record)
{
    struct mark mark = {.chain = newest};
    struct rp_error err = {0};
    CHECK_OK(rp_record_sync(record, &mark.metrics, &mark.digests, &err), &err);
    return mark;
}

static struct rp_record *open_at(const char *run, const struct mark *mark)
{
    struct rp_record *record = NULL;
    struct rp_error err = {0};
    newest = mark ? mark->chain : (struct rp_sha256){{0}};
    CHECK_OK(rp_record_open(run, mark ? mark->metrics : 0, mark ? mark->digests : 0,
                            mark ? &mark->chain : NULL, &record, &err),
             &err);
    return record;
}

static void test_round_trip(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_digests digests;
    struct rp_metrics metrics;
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 100);
    struct rp_metric odd[] = {
        {"nan", (double)NAN}, {"inf", -HUGE_VAL}, {"tiny", 5e-324}, {"third", 1.0 / 3}};
    CHECK_OK(rp_record_metrics(record, 100, "valid", odd, 4, &err), &err);
    rp_record_close(record);
    rp_record_close(NULL);

    char *path = rp_sys_join(run, "digests.jsonl");
    CHECK_OK(rp_digests_read(path, &digests, &err), &err);
    CHECK_INT(digests.n, 100);
    struct rp_sha256 chain = {{0}};
    for (int64_t i = 0; i < digests.n; i++) {
        struct rp_digest_line want = line_of((uint64_t)i + 1);
        chain = rp_record_link(&chain, want.step, want.loss_bits, want.params);
        CHECK_INT(digests.line[i].step, want.step);
        CHECK_HEX(digests.line[i].loss_bits, want.loss_bits);
        CHECK_HEX(digests.line[i].params, want.params);
        CHECK(rp_sha256_equal(&digests.line[i].chain, &chain));
        CHECK_INT(digests.tensors[i] != NULL, (i + 1) % 10 == 0);
    }
    CHECK(strstr(digests.tensors[9], "a.weight") && strstr(digests.tensors[9], "b \\\"quoted\\\""));
    rp_digests_release(&digests);
    struct rp_digest_line last;
    bool found = false;
    CHECK_OK(rp_digests_last(path, &found, &last, &err), &err);
    CHECK(found && last.step == 100 && rp_sha256_equal(&last.chain, &chain));
    rp_mem_free(path);

    path = rp_sys_join(run, "metrics.jsonl");
    CHECK_OK(rp_metrics_read(path, &metrics, &err), &err);
    const struct rp_series *loss = rp_metrics_find(&metrics, "train/loss");
    CHECK(loss && loss->n == 10 && loss->step[2] == 30 && loss->value[2] == 1.0 / 30);
    CHECK(rp_metrics_find(&metrics, "valid/loss") == NULL);
    CHECK(rp_metrics_find(&metrics, "loss") == NULL);
    CHECK(isnan(rp_metrics_find(&metrics, "valid/nan")->value[0]));
    CHECK(rp_metrics_find(&metrics, "valid/inf")->value[0] == -HUGE_VAL);
    CHECK(rp_metrics_find(&metrics, "valid/tiny")->value[0] == 5e-324);
    rp_metrics_release(&metrics);
    rp_mem_free(path);
    remove_folder(run);
}

/* Only the end of long logs is read for the newest values. */
static void test_tails(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_digest_line last;
    struct rp_metrics metrics;
    bool found = true;
    char *digests = rp_sys_join(run, "digests.jsonl"), *path = rp_sys_join(run, "metrics.jsonl");
    CHECK_OK(rp_digests_last(digests, &found, &last, &err), &err);
    CHECK(!found);
    CHECK_OK(rp_metrics_read_newest(path, 1 << 18, &metrics, &err), &err);
    CHECK_INT(metrics.n, 0);
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 30000);
    rp_record_close(record);
    size_t n_digests = 0, n_metrics = 0;
    rp_mem_free(get_file(run, "digests.jsonl", &n_digests));
    rp_mem_free(get_file(run, "metrics.jsonl", &n_metrics));
    CHECK(n_digests > (1u << 21) && n_metrics > (1u << 18));
    CHECK_OK(rp_digests_last(digests, &found, &last, &err), &err);
    CHECK(found && last.step == 30000);
    CHECK_OK(rp_metrics_read_newest(path, 1 << 18, &metrics, &err), &err);
    const struct rp_series *loss = rp_metrics_find(&metrics, "train/loss");
    CHECK(loss && loss->n > 100 && loss->n < 3000 && loss->step[loss->n - 1] == 30000);
    rp_metrics_release(&metrics);
    rp_mem_free(path);
    rp_mem_free(digests);
    remove_folder(run);
}

/* The chain as the manual has it: known bytes, known hash. */
static void test_link(void)
{
    struct rp_sha256 zero = {{0}};
    unsigned char bytes[52] = {0};
    bytes[32] = 2; /* step 0x0102, little-endian */
    bytes[33] = 1;
    bytes[40] = 0xdd; /* loss bits 0xaabbccdd */
    bytes[41] = 0xcc;
    bytes[42] = 0xbb;
    bytes[43] = 0xaa;
    bytes[44] = 9; /* params 9 */
    struct rp_sha256 want = rp_sha256_of(bytes, sizeof bytes),
                     got = rp_record_link(&zero, 0x0102, 0xaabbccddu, 9);
    CHECK(rp_sha256_equal(&got, &want));
    struct rp_sha256 other = rp_record_link(&zero, 0x0103, 0xaabbccddu, 9);
    CHECK(!rp_sha256_equal(&other, &want));
    struct rp_sha256 final = rp_record_final(&got, &zero), swapped = rp_record_final(&zero, &got);
    CHECK(!rp_sha256_equal(&final, &swapped));
}

/* ---- going on -------------------------------------------------------------------------------- */

static char *all_of(const char *run, const char *name)
{
    return get_file(run, name, NULL);
}

/* Saved at 50, killed at 75: the lines up to 75 stay, are checked, and the logs end up as without
 * the kill. */
static void test_resume(void)
{
    char *run = new_folder(), *straight = new_folder();
    uint64_t checked, left;
    struct rp_record *record = open_at(straight, NULL);
    add_steps(record, 1, 100);
    rp_record_close(record);

    record = open_at(run, NULL);
    add_steps(record, 1, 50);
    struct mark mark = mark_of(record);
    add_steps(record, 51, 75);
    rp_record_close(record);
    size_t before = 0, now = 0;
    rp_mem_free(get_file(run, "digests.jsonl", &before));
    record = open_at(run, &mark);
    rp_mem_free(get_file(run, "digests.jsonl", &now));
    CHECK_INT(now, before); /* kept */
    rp_mem_free(get_file(run, "metrics.jsonl", &now));
    CHECK_INT(now, mark.metrics); /* cut */
    rp_record_counts(record, &checked, &left);
    CHECK_INT(left, 25);
    add_steps(record, 51, 60);
    /* A checkpoint in the middle of what is checked counts only the lines up to its step. */
    struct mark middle = mark_of(record);
    CHECK(middle.digests > mark.digests && middle.digests < before);
    add_steps(record, 61, 100);
    rp_record_counts(record, &checked, &left);
    CHECK_INT(checked, 25);
    CHECK_INT(left, 0);
    rp_record_close(record);

    char *a = all_of(run, "digests.jsonl"), *b = all_of(straight, "digests.jsonl");
    CHECK_TEXT(a, b);
    rp_mem_free(a);
    record = open_at(run, &middle); /* its place and chain fit */
    add_steps(record, 61, 100);
    rp_record_close(record);
    a = all_of(run, "digests.jsonl");
    CHECK_TEXT(a, b);
    rp_mem_free(b);
    rp_mem_free(a);
    remove_folder(straight);
    remove_folder(run);
}

/* Killed before the first checkpoint: everything is computed again and checked. */
static void test_resume_from_start(void)
{
    char *run = new_folder();
    uint64_t checked, left;
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 20);
    rp_record_close(record);
    record = open_at(run, NULL);
    add_steps(record, 1, 30);
    rp_record_counts(record, &checked, &left);
    CHECK_INT(checked, 20);
    rp_record_close(record);
    remove_folder(run);
}

static void test_differs(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 40);
    rp_record_close(record);
    char *before = all_of(run, "digests.jsonl");

    record = open_at(run, NULL);
    add_steps(record, 1, 29);
    struct rp_digest_line line = line_of(30);
    struct rp_digest_tensor tensors[] = {{"a.weight", line.params - 5}, {"b \"quoted\"", 6}};
    line.params++;
    CHECK_INT(rp_record_digest(record, &line, tensors, 2, &err), RP_STATUS_DIFFERENT);
    CHECK(strstr(err.text, "step 30") && strstr(err.text, "b \"quoted\"") &&
          !strstr(err.text, "a.weight"));
    rp_error_clear(&err);
    line = line_of(30);
    line.loss_bits ^= 1;
    CHECK_STATUS(rp_record_digest(record, &line, NULL, 0, &err), RP_STATUS_DIFFERENT, &err);
    CHECK_OK(add_step(record, 30, &err), &err); /* control: the right one agrees */
    rp_record_close(record);
    char *after = all_of(run, "digests.jsonl");
    CHECK_TEXT(after, before); /* nothing recorded is overwritten */
    rp_mem_free(after);
    rp_mem_free(before);
    remove_folder(run);
}

static void test_forget(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 10);
    struct mark mark = mark_of(record);
    add_steps(record, 11, 20);
    rp_record_close(record);
    record = open_at(run, &mark);
    CHECK_OK(rp_record_forget(record, &err), &err);
    struct rp_digest_line line = line_of(11);
    line.params ^= 1;
    CHECK_OK(rp_record_digest(record, &line, NULL, 0, &err), &err); /* uncompared */
    rp_record_close(record);
    struct rp_digests digests;
    char *path = rp_sys_join(run, "digests.jsonl");
    CHECK_OK(rp_digests_read(path, &digests, &err), &err);
    CHECK_INT(digests.n, 11);
    CHECK_HEX(digests.line[10].params, line.params);
    rp_digests_release(&digests);
    rp_mem_free(path);
    remove_folder(run);
}

static void test_order(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 3);
    CHECK_STATUS(add_step(record, 3, &err), RP_STATUS_INTERNAL, &err);
    CHECK_STATUS(add_step(record, 5, &err), RP_STATUS_INTERNAL, &err);
    CHECK_OK(add_step(record, 4, &err), &err);
    rp_record_close(record);
    remove_folder(run);
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Cut at every byte: the torn line goes, whole ones stay, and going on gives the same file as ever.
 */
static void test_torn_line(void)
{
    char *run = new_folder();
    struct rp_record *record = open_at(run, NULL);
    struct mark start = mark_of(record);
    add_steps(record, 1, 12);
    rp_record_close(record);
    size_t length = 0;
    char *whole = get_file(run, "digests.jsonl", &length);
    for (size_t cut = 0; cut <= length; cut += 37) {
        uint64_t checked, left, lines = 0;
        put_file(run, "digests.jsonl", whole, cut);
        for (size_t i = 0; i < cut; i++) lines += whole[i] == '\n';
        struct rp_digests digests;
        struct rp_error err = {0};
        char *path = rp_sys_join(run, "digests.jsonl");
        CHECK_OK(rp_digests_read(path, &digests, &err), &err);
        CHECK_INT(digests.n, lines);
        rp_digests_release(&digests);
        rp_mem_free(path);
        record = open_at(run, &start);
        rp_record_counts(record, &checked, &left);
        CHECK_INT(left, lines);
        add_steps(record, 1, 12);
        rp_record_close(record);
        char *again = all_of(run, "digests.jsonl");
        CHECK_TEXT(again, whole);
        rp_mem_free(again);
    }
    rp_mem_free(whole);
    remove_folder(run);
}

/* A bit flipped behind the checkpoint ends what is kept; one before it, or a lost tail, is refused.
 */
static void test_damage(void)
{
    char *run = new_folder();
    struct rp_error err = {0};
    uint64_t checked, left;
    struct rp_record *record = open_at(run, NULL);
    add_steps(record, 1, 25); /* a line without tensors: its end is the chain */
    struct mark mark = mark_of(record);
    add_steps(record, 26, 45);
    rp_record_close(record);
    size_t length = 0;
    char *whole = get_file(run, "digests.jsonl", &length);
    CHECK(whole && length > mark.digests + 200);
    flip_bit(run, "digests.jsonl", mark.digests + 200);
    record = open_at(run, &mark);
    rp_record_counts(record, &checked, &left);
    CHECK(left < 20);
    add_steps(record, 26, 45);
    rp_record_close(record);
    char *again = all_of(run, "digests.jsonl");
    CHECK_TEXT(again, whole);
    rp_mem_free(again);

    flip_bit(run, "digests.jsonl", mark.digests - 20);
    CHECK_STATUS(rp_record_open(run, mark.metrics, mark.digests, &mark.chain, &record, &err),
                 RP_STATUS_DATA, &err);
    put_file(run, "digests.jsonl", whole, mark.digests - 1);
    CHECK_STATUS(rp_record_open(run, mark.metrics, mark.digests, &mark.chain, &record, &err),
                 RP_STATUS_DATA, &err);
    put_file(run, "digests.jsonl", whole, length);
    put_file(run, "metrics.jsonl", "", 0);
    CHECK_STATUS(rp_record_open(run, mark.metrics, mark.digests, &mark.chain, &record, &err),
                 RP_STATUS_DATA, &err);
    rp_mem_free(whole);
    remove_folder(run);
}

static void test_hostile_lines(void)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "null",
        "{\"step\": 1}",
        "{\"step\": -1, \"loss\": \"00000000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"%s\"}",
        "{\"step\": 1.0, \"loss\": \"00000000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"%s\"}",
        "{\"step\": 1, \"loss\": \"0000000\", \"params\": \"0000000000000000\", \"chain\": \"%s\"}",
        "{\"step\": 1, \"loss\": \"+0x00000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"%s\"}",
        "{\"step\": 1, \"loss\": \"00000000\", \"params\": \"00\", \"chain\": \"%s\"}",
        "{\"step\": 1, \"loss\": \"00000000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"00\"}",
        "{\"step\": 1, \"loss\": \"00000000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"%s\", \"tensors\": []}",
        "{\"step\": 1, \"loss\": \"00000000\", \"params\": \"0000000000000000\", \"chain\": "
        "\"%s\", "
        "\"tensors\": {\"a\": 1}}",
    };
    const char *good = "{\"step\": 1, \"loss\": \"00000000\", \"params\": \"0000000000000000\", "
                       "\"chain\": \"%s\"}";
    char zeros[65], text[512];
    struct rp_digest_line line;
    memset(zeros, '0', 64);
    zeros[64] = '\0';
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        const char *at = strstr(bad[i], "%s");
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - bad[i]) : (int)strlen(bad[i]),
                 bad[i], at ? zeros : "", at ? at + 2 : "");
        if (rp_digest_line_parse(text, strlen(text), &line, NULL)) {
            printf("accepted: %s\n", text);
            test_failures++;
        }
    }
    const char *at = strstr(good, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, zeros, at + 2);
    CHECK(rp_digest_line_parse(text, strlen(text), &line, NULL));
}

/* ---- storage and kills ----------------------------------------------------------------------- */

/* The file may grow to so many bytes and no further: STORAGE with its name, whole lines in it, and
 * the run can go on from there. */
static void test_short_writes(void)
{
    char *run = new_folder();
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    for (rlim_t bytes = 100; bytes < 1000; bytes += 90) {
        struct rp_error err = {0};
        struct rp_record *record = NULL;
        enum rp_status status = RP_STATUS_OK;
        rp_mem_free(get_file(run, "digests.jsonl", NULL));
        put_text(run, "digests.jsonl", "");
        CHECK_OK(rp_record_open(run, 0, 0, NULL, &record, &err), &err);
        limit = (struct rlimit){bytes, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
        uint64_t step = 1, metrics, digests;
        for (; step < 50 && status == RP_STATUS_OK; step++) {
            status = add_step(record, step, &err);
            if (status == RP_STATUS_OK) status = rp_record_mark(record, &metrics, &digests, &err);
        }
        setrlimit(RLIMIT_FSIZE, &before);
        CHECK_INT(status, RP_STATUS_STORAGE);
        CHECK(strstr(err.text, "digests.jsonl") && strstr(err.text, "free space"));
        size_t length = 0;
        char *text = get_file(run, "digests.jsonl", &length);
        CHECK(length == 0 || text[length - 1] == '\n');
        rp_mem_free(text);
        rp_record_close(record);
    }
    remove_folder(run);
}

static void test_kill(void)
{
    char *run = new_folder();
    uint64_t most = 0;
    for (int round = 0; round < 10; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct rp_error err = {0};
            struct rp_record *record = open_at(run, NULL);
            for (uint64_t step = 1;; step++)
                if (add_step(record, step, &err) != RP_STATUS_OK) _exit(1);
        }
        struct rp_digests digests;
        struct rp_error err = {0};
        char *path = rp_sys_join(run, "digests.jsonl");
        struct rp_sys_stat stat = {0};
        while (!stat.exists && rp_sys_stat(path, &stat, &err) == RP_STATUS_OK) rp_sys_sleep(0.001);
        rp_sys_sleep(0.25 + 0.0171 * round);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        CHECK_OK(rp_digests_read(path, &digests, &err), &err);
        if ((uint64_t)digests.n > most) most = (uint64_t)digests.n;
        rp_digests_release(&digests);
        CHECK_OK(rp_sys_remove(path, &err), &err);
        rp_mem_free(path);
    }
    CHECK(most > 0); /* control: lines were written before the kill */
    remove_folder(run);
}

/* Steps go on while another thread syncs. */
static void *sync_often(void *argument)
{
    struct rp_error *err = RP_NEW(struct rp_error);
    for (int i = 0; i < 10; i++)
        if (rp_record_sync(argument, NULL, NULL, err) != RP_STATUS_OK) test_failures++;
    rp_mem_free(err);
    return NULL;
}

static void test_threads(void)
{
    char *run = new_folder();
    pthread_t thread;
    struct rp_record *record = open_at(run, NULL);
    struct rp_error err = {0};
    struct rp_digests digests;
    pthread_create(&thread, NULL, sync_often, record);
    add_steps(record, 1, 2000);
    pthread_join(thread, NULL);
    rp_record_close(record);
    char *path = rp_sys_join(run, "digests.jsonl");
    CHECK_OK(rp_digests_read(path, &digests, &err), &err);
    CHECK_INT(digests.n, 2000);
    rp_digests_release(&digests);
    rp_mem_free(path);
    remove_folder(run);
}

int main(void)
{
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    test_numbers();
    test_comma_locale();
    test_link();
    test_round_trip();
    test_tails();
    test_resume();
    test_resume_from_start();
    test_differs();
    test_forget();
    test_order();
    test_torn_line();
    test_damage();
    test_hostile_lines();
    test_short_writes();
    test_kill();
    test_threads();
    return test_result();
}
