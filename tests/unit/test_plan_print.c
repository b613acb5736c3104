/* test_plan_print.c - what `plan` shows, as text and as JSON, from a spec in words; and the numeric
 * digest. */
#include "plan/plan.h"
#include "test.h"

#include <jansson.h>

static struct rp_error err;

static const char spec_text[] =
    "reprise: 1\n"
    "name: shown\n"
    "seed: 5\n"
    "data:\n"
    "  train: {format: synthetic, task: digits, samples: 1000}\n"
    "  valid: {fraction: 0.1}\n"
    "model: {kind: mlp, hidden: [32]}\n"
    "train: {for: 3 epochs, batch: 64, optimizer: {kind: adamw, lr: 0.001}}\n";

static struct rp_spec *parse(const char *change)
{
    const char *set[] = {change, NULL};
    struct rp_spec_options options = {.set = change ? set : NULL};
    struct rp_spec *spec = NULL;
    if (rp_spec_parse("shown.yaml", spec_text, sizeof spec_text - 1, &options, &spec, &err) !=
        RP_STATUS_OK) {
        printf("%s\n", err.text);
        exit(1);
    }
    return spec;
}

static struct rp_plan *make(const struct rp_spec *spec)
{
    struct rp_data_shape data;
    struct rp_plan *plan = NULL;
    CHECK_OK(rp_data_describe(spec, true, &data, &err), &err);
    CHECK_OK(rp_plan_make(spec, &data, 1, &plan, &err), &err);
    if (!plan) exit(1);
    return plan;
}

static void test_text(void)
{
    struct rp_spec *spec = parse(NULL);
    struct rp_plan *plan = make(spec);
    struct rp_text text = {0};
    rp_plan_print(spec, plan, &text);
    static const char *const lines[] = {
        "layers.0  flatten         784\n",
        "layers.1  linear          32                      25,120\n",
        "25,450 parameters\n",
        "900 samples to train, 100 to validate\n",
        "43 of 64 samples: 2752 samples",
        "8 of 8 samples; at most 8 ranks\n",
        "in all, on a rank",
        "\nnumeric     ",
    };
    for (size_t i = 0; i < RP_COUNT(lines); i++)
        if (!strstr(rp_text_get(&text), lines[i])) {
            printf("no '%s' in\n%s", lines[i], rp_text_get(&text));
            test_failures++;
        }
    CHECK(strstr(rp_text_get(&text), "unbound") == NULL); /* nothing to bind: no file */
    rp_text_release(&text);
    rp_plan_free(plan);
    rp_spec_free(spec);
}

static void test_json(void)
{
    struct rp_spec *spec = parse(NULL);
    struct rp_plan *plan = make(spec);
    json_t *json = rp_plan_json(spec, plan);
    CHECK_INT(json_integer_value(json_object_get(json, "parameters")), 25450);
    CHECK_INT(json_integer_value(json_object_get(json, "steps")), 43);
    CHECK_INT(json_integer_value(json_object_get(json, "memory_bytes")), plan->memory_bytes);
    CHECK_INT(json_array_size(json_object_get(json, "layers")), 4);
    json_int_t sum = 0;
    const char *name;
    json_t *value;
    json_object_foreach(json_object_get(json, "memory"), name, value) sum +=
        json_integer_value(value);
    CHECK_INT(sum, plan->memory_bytes);
    json_decref(json);
    rp_plan_free(plan);
    rp_spec_free(spec);
}

static struct rp_sha256 numeric(const char *change, const struct rp_sha256 *init_from)
{
    struct rp_spec *spec = parse(change);
    struct rp_data *data = NULL;
    struct rp_data_options options = {0};
    CHECK_OK(rp_data_open(spec, &options, &data, &err), &err);
    struct rp_sha256 digest = rp_plan_numeric_digest(spec, data, init_from);
    rp_data_free(data);
    rp_spec_free(spec);
    return digest;
}

static void test_digest(void)
{
    struct rp_spec *spec = parse(NULL);
    struct rp_sha256 alone = rp_spec_digest(spec, RP_SECTION_NUMERIC);
    rp_spec_free(spec);
    struct rp_sha256 plain = numeric(NULL, NULL), weights = {{1}};
    struct rp_sha256 place = numeric("train.micro_batch=8", NULL);
    struct rp_sha256 policy = numeric("log.every=3 steps", NULL);
    struct rp_sha256 seed = numeric("seed=6", NULL);
    struct rp_sha256 initial = numeric(NULL, &weights);
    CHECK(rp_sha256_equal(&plain, &alone)); /* no file: what the spec says is all */
    CHECK(rp_sha256_equal(&plain, &place));
    CHECK(rp_sha256_equal(&plain, &policy));
    CHECK(!rp_sha256_equal(&plain, &seed));
    CHECK(!rp_sha256_equal(&plain, &initial));
}

/* Arithmetic of the nets of the field, counted elsewhere: 0.308, 4.17 and 107 GFLOP a step
 * (multiply-adds of the products only, so ours is a little more). */
static void test_flops(void)
{
    static const struct {
        const char *model, *batch;
        double gflop;
    } cases[] = {
        {"model={kind: mlp, hidden: [512, 256]}", "train.batch=128", 0.308},
        {"model={kind: sequential, layers: [{conv2d: {out: 32, kernel: 5, padding: 2}}, relu, "
         "{maxpool2d: {kernel: 2}}, {conv2d: {out: 64, kernel: 5, padding: 2}}, relu, "
         "{maxpool2d: {kernel: 2}}, flatten, {linear: {out: 128}}, relu, {linear: {out: 10}}]}",
         "train.batch=64", 4.17},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const char *set[] = {cases[i].model, cases[i].batch, NULL};
        struct rp_spec_options options = {.set = set};
        struct rp_spec *spec = NULL;
        CHECK_OK(
            rp_spec_parse("shown.yaml", spec_text, sizeof spec_text - 1, &options, &spec, &err),
            &err);
        if (!spec) exit(1);
        struct rp_plan *plan = make(spec);
        double ratio = plan->flops_per_step / (cases[i].gflop * 1e9);
        if (ratio < 0.98 || ratio > 1.06) {
            printf("%g GFLOP, want about %g\n", plan->flops_per_step * 1e-9, cases[i].gflop);
            test_failures++;
        }
        rp_plan_free(plan);
        rp_spec_free(spec);
    }
}

int main(void)
{
    test_text();
    test_json();
    test_digest();
    test_flops();
    return test_result();
}
