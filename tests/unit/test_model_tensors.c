/* test_model_tensors.c - first values are a pure function with the right moments; file layouts;
 * names. */
#include "made_spec.h"

#include "base/hash.h"

#include <math.h>

static struct rp_error err;

static struct rp_model *build(struct made *m)
{
    struct rp_model *model = made_build(m, &err);
    if (!model) {
        printf("build failed: %s\n", err.text);
        exit(1);
    }
    return model;
}

static float *values_of(const struct rp_model *model, uint64_t seed, const char *name, int64_t *n)
{
    const struct rp_model_tensor *kept = made_kept(model, name);
    *n = rp_tensor_elements(&kept->shape);
    float *values = calloc((size_t)*n, sizeof *values);
    rp_model_init_part(model, seed, (int)(kept - model->kept), 0, *n, values);
    return values;
}

/* Mean and variance of n normal draws lie within 5 standard errors: std / sqrt(n), and for the
 * variance std^2 sqrt(2 / n). One chance in a million each to be outside by luck, and the seed is
 * fixed. */
static void check_moments(const float *x, int64_t n, double std)
{
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
        if (fabs(x[i]) > largest) largest = fabs(x[i]);
    }
    double mean = sum / (double)n, variance = squares / (double)n;
    CHECK(fabs(mean) < 5 * std / sqrt((double)n));
    CHECK(fabs(variance - std * std) < 5 * std * std * sqrt(2.0 / (double)n));
    CHECK(largest > 3 * std && largest < 7 * std);
}

static void fill(struct made *m, enum rp_init_kind kind)
{
    made_init(m, 20, 20, 1);
    made_add(m, RP_LAYER_FLATTEN);
    made_linear(m, 300);
    made_linear(m, 10);
    for (int i = 0; i < 3; i++) m->layer[i].init = (struct rp_spec_init){kind, 0.02f};
}

static void test_moments(void)
{
    static const struct {
        enum rp_init_kind kind;
        double std;
    } cases[] = {{RP_INIT_KAIMING, 0.07071067811865475}, /* sqrt(2 / 400) */
                 {RP_INIT_XAVIER, 0.05345224838248488},  /* sqrt(2 / 700) */
                 {RP_INIT_NORMAL, 0.02}};
    struct made m;
    int64_t n;
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        fill(&m, cases[i].kind);
        struct rp_model *model = build(&m);
        float *weight = values_of(model, 11, "layers.1.weight", &n);
        CHECK_INT(n, 120000);
        check_moments(weight, n, cases[i].std);
        free(weight);
        float *bias = values_of(model, 11, "layers.1.bias", &n);
        for (int64_t e = 0; e < n; e++) CHECK(bias[e] == 0.0f);
        free(bias);
        rp_model_free(model);
    }
    fill(&m, RP_INIT_ZEROS);
    struct rp_model *model = build(&m);
    float *weight = values_of(model, 11, "layers.1.weight", &n);
    for (int64_t e = 0; e < n; e++) CHECK(weight[e] == 0.0f);
    free(weight);
    rp_model_free(model);
    /* A convolution counts its taps. */
    made_lenet(&m);
    model = build(&m);
    CHECK_INT(made_kept(model, "layers.3.weight")->fan_in, 150);
    CHECK_INT(made_kept(model, "layers.3.weight")->fan_out, 400);
    rp_model_free(model);
    made_resnet(&m, 20, false, 32, 10);
    model = build(&m);
    float *gain = values_of(model, 11, "bn1.weight", &n);
    for (int64_t e = 0; e < n; e++) CHECK(gain[e] == 1.0f);
    free(gain);
    rp_model_free(model);
}

/* The same seed gives the same bits, whatever else the model or the pass is; another seed does not.
 */
static void test_pure(void)
{
    struct made m;
    int64_t n;
    made_lenet(&m);
    struct rp_model *model = build(&m);
    float *a = values_of(model, 1, "layers.3.weight", &n);
    float *b = values_of(model, 1, "layers.3.weight", &n);
    float *other = values_of(model, 2, "layers.3.weight", &n);
    CHECK_INT(memcmp(a, b, (size_t)n * sizeof *a), 0);
    CHECK(memcmp(a, other, (size_t)n * sizeof *a) != 0);
    free(b);
    free(other);
    rp_model_free(model);
    m.spec.train.batch = 64;
    made_freeze(&m, 0, "layers.0.*");
    model = build(&m);
    b = values_of(model, 1, "layers.3.weight", &n);
    CHECK_INT(memcmp(a, b, (size_t)n * sizeof *a), 0);
    free(b);
    /* Tensors of one model differ from each other. */
    int64_t n_first;
    b = values_of(model, 1, "layers.0.weight", &n_first);
    CHECK(fabsf(b[0] * 5.0f - a[0] * sqrtf(150.0f)) > 1e-3f); /* deviations divided out */
    free(b);
    free(a);
    rp_model_free(model);
}

/* The bits themselves, of an 8-row linear layer: they may not change, on any compiler or machine.
 */
static void test_golden(void)
{
    struct made m;
    made_init(&m, 3, 1, 1);
    m.data.n_dims = 1;
    made_linear(&m, 10);
    struct rp_model *model = build(&m);
    int64_t n;
    float *values = values_of(model, 1234, "layers.0.weight", &n);
    struct rp_sha256 hash = rp_sha256_of(values, (size_t)n * sizeof *values);
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&hash, hex);
    CHECK_TEXT(hex, "0789ec5311ea8483700f5c1bf75977b7af758739e6dd7d46331ce24b1e60f132");
    free(values);
    rp_model_free(model);
}

/* ---- layout ---------------------------------------------------------------------------------- */

static void test_layout(void)
{
    struct rp_model_tensor conv = {.layout = RP_LAYOUT_CONV_OHWI,
                                   .shape = {.n_dims = 4, .dims = {2, 3, 5, 4}}};
    float memory[120], file[120], back[120];
    int64_t dims[RP_MAX_DIMS];
    for (int o = 0; o < 2; o++)
        for (int h = 0; h < 3; h++)
            for (int w = 0; w < 5; w++)
                for (int i = 0; i < 4; i++)
                    memory[((o * 3 + h) * 5 + w) * 4 + i] =
                        (float)(1000 * o + 100 * i + 10 * h + w);
    rp_model_to_file(&conv, memory, file);
    for (int o = 0; o < 2; o++)
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 3; h++)
                for (int w = 0; w < 5; w++)
                    CHECK_INT(file[((o * 4 + i) * 3 + h) * 5 + w], 1000 * o + 100 * i + 10 * h + w);
    rp_model_from_file(&conv, file, back);
    CHECK_INT(memcmp(memory, back, sizeof memory), 0);
    CHECK(memcmp(memory, file, sizeof memory) != 0); /* control: it is another order */
    CHECK_INT(rp_model_file_dims(&conv, dims), 4);
    CHECK_INT(dims[1], 4);
    CHECK_INT(dims[2], 3);
    CHECK_INT(dims[3], 5);

    struct rp_model_tensor linear = {
        .layout = RP_LAYOUT_LINEAR_HWC, .hwc = {2, 3, 4}, .shape = {.n_dims = 2, .dims = {5, 24}}};
    for (int o = 0; o < 5; o++)
        for (int h = 0; h < 2; h++)
            for (int w = 0; w < 3; w++)
                for (int c = 0; c < 4; c++)
                    memory[o * 24 + (h * 3 + w) * 4 + c] = (float)(1000 * o + 100 * c + 10 * h + w);
    rp_model_to_file(&linear, memory, file);
    for (int o = 0; o < 5; o++)
        for (int c = 0; c < 4; c++)
            for (int h = 0; h < 2; h++)
                for (int w = 0; w < 3; w++)
                    CHECK_INT(file[o * 24 + (c * 2 + h) * 3 + w], 1000 * o + 100 * c + 10 * h + w);
    rp_model_from_file(&linear, file, back);
    CHECK_INT(memcmp(memory, back, sizeof memory), 0);
    CHECK_INT(rp_model_file_dims(&linear, dims), 2);
    CHECK_INT(dims[1], 24);

    struct rp_model_tensor plain = {.shape = {.n_dims = 2, .dims = {10, 12}}};
    rp_model_to_file(&plain, memory, file);
    CHECK_INT(memcmp(memory, file, sizeof memory), 0);
}

/* A vector behind `flatten` is in the order of the image too. */
static void test_flattened_norm(void)
{
    struct made m;
    made_init(&m, 2, 3, 4);
    made_add(&m, RP_LAYER_FLATTEN);
    made_add(&m, RP_LAYER_LAYER_NORM);
    made_linear(&m, 10);
    made_add(&m, RP_LAYER_LAYER_NORM);
    struct rp_model *model = build(&m);
    CHECK_INT(made_kept(model, "layers.1.weight")->layout, RP_LAYOUT_LINEAR_HWC);
    CHECK_INT(made_kept(model, "layers.2.weight")->layout, RP_LAYOUT_LINEAR_HWC);
    CHECK_INT(made_kept(model, "layers.3.weight")->layout, RP_LAYOUT_PLAIN);
    float memory[24], file[24];
    for (int i = 0; i < 24; i++) memory[i] = (float)i;
    rp_model_to_file(made_kept(model, "layers.1.weight"), memory, file);
    CHECK_INT(file[1], 4); /* the next column of channel 0 */
    CHECK_INT(file[6], 1);
    rp_model_free(model);
}

static void test_names(void)
{
    CHECK(rp_model_name_matches("layers.0.*", "layers.0.weight"));
    CHECK(!rp_model_name_matches("layers.0.*", "layers.01.weight"));
    CHECK(rp_model_name_matches("*", "fc.bias"));
    CHECK(rp_model_name_matches("fc.bias", "fc.bias"));
    CHECK(!rp_model_name_matches("fc", "fc.bias"));
    CHECK(!rp_model_name_matches("fc.biases", "fc.bias"));
}

/* Which tensors decay: all, or matrices only. */
static void test_decay(void)
{
    struct made m;
    made_resnet(&m, 20, false, 32, 10);
    struct rp_model *model = build(&m);
    CHECK(made_kept(model, "bn1.weight")->decays && made_kept(model, "fc.bias")->decays);
    CHECK(!made_kept(model, "bn1.running_mean")->decays);
    rp_model_free(model);
    m.spec.train.optimizer.decay = RP_DECAY_MATRICES;
    model = build(&m);
    CHECK(made_kept(model, "conv1.weight")->decays && made_kept(model, "fc.weight")->decays);
    CHECK(!made_kept(model, "bn1.weight")->decays && !made_kept(model, "fc.bias")->decays);
    rp_model_free(model);
}

int main(void)
{
    test_moments();
    test_pure();
    test_golden();
    test_layout();
    test_flattened_norm();
    test_names();
    test_decay();
    return test_result();
}
