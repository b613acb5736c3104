/* test_sampler.c - a language model fed over its cache gives the logits of the whole graph bit for
 * bit, on every instruction set, however the tokens are cut; and the choice of a token. */
#include "made_spec.h"

#include "train/sampler.h"

#include <math.h>

enum { T = 13, VOCAB = 11 };

static struct rp_error err;

static const char *const models[] = {
    "layers: 2, heads: 4, width: 24, context: 13, vocab: 11",
    "layers: 3, heads: 4, kv_heads: 2, width: 32, context: 13, vocab: 11, mlp: swiglu, norm: "
    "rmsnorm, position: rope, bias: false, tied: false, qk_norm: true",
    "layers: 1, heads: 1, width: 8, context: 13, vocab: 11, position: none, mlp: gelu, dropout: "
    "0.5",
};

/* ---- a model with made weights --------------------------------------------------------------- */

struct opened {
    struct rp_spec *spec;
    struct rp_device *device;
    struct rp_plan *plan;
    struct rp_trainer *trainer;
};

static void fill(float *values, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        values[i] = (float)(int32_t)seed / 4294967296.0f;
    }
}

static void open_model(struct opened *o, const char *model, const char *path, int threads)
{
    struct rp_text text = {0};
    struct rp_device_config config = {.threads = threads, .path = path, .poison = true};
    rp_text_add(&text,
                "reprise: 1\nname: made\nseed: 5\n"
                "data: {train: {format: tokens, files: [x.bin]}}\n"
                "model: {kind: gpt, %s}\n"
                "train: {for: 10 steps, batch: 1, optimizer: {kind: adamw, lr: 0.001}}\n",
                model);
    CHECK_OK(rp_spec_parse("made.yaml", text.bytes, text.length, NULL, &o->spec, &err), &err);
    struct rp_data_shape data = {.n_dims = 1,
                                 .dims = {T},
                                 .target = RP_TARGET_TOKENS,
                                 .n_classes = VOCAB,
                                 .n_train = 10,
                                 .n_valid = 1};
    CHECK_OK(rp_device_cpu.open(&config, &o->device, &err), &err);
    CHECK_OK(rp_plan_make(o->spec, &data, threads, &o->plan, &err), &err);
    CHECK_OK(rp_trainer_open_eval(o->spec, o->plan, NULL, o->device, &o->trainer, &err), &err);
    for (int i = 0; i < o->plan->model->n_kept; i++)
        fill(o->trainer->kept[i], rp_tensor_elements(&o->plan->model->kept[i].shape),
             (uint32_t)i + 1);
    rp_text_release(&text);
}

static void close_model(struct opened *o)
{
    rp_trainer_close(o->trainer);
    rp_plan_free(o->plan);
    rp_device_cpu.close(o->device);
    rp_spec_free(o->spec);
}

/* The graph of evaluation over all T tokens at once, and the last product of every one. */
static void whole_graph(struct opened *o, const int32_t *tokens, float *logits)
{
    struct rp_bound *eval = &o->trainer->eval;
    struct rp_pass pass = {.rows = {.samples_per_shard = 1, .n_shards = 1, .n_samples = 1}};
    int last = eval->graph->n_forward - 1;
    memcpy(eval->input, tokens, T * sizeof *tokens);
    for (int i = 0; i < last; i++)
        CHECK_OK(rp_device_cpu.run(o->device, &eval->call[i], &pass, &err), &err);
    struct rp_op_call head = {.op = RP_OP_linear};
    head.in[0] = eval->call[last].in[0];
    head.in[1] = eval->call[last].in[1];
    head.out[0].data = logits;
    CHECK_OK(rp_op_shape(&head, &err), &err);
    CHECK_INT(rp_tensor_elements(&head.out[0]), T * VOCAB);
    CHECK_OK(rp_device_cpu.run(o->device, &head, &pass, &err), &err);
}

/* ---- cached and whole ------------------------------------------------------------------------ */

/* Pieces of the T tokens: each is fed at once. */
static const int cuts[][T + 1] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {13}, {5, 1, 1, 6}, {1, 7, 4, 1}, {2, 3, 4, 3, 1}};

static int count_differences(struct rp_sampler *sampler, const int32_t *tokens, const int *cut,
                             const float *want)
{
    float logits[VOCAB];
    int differences = 0, at = 0;
    rp_sampler_forget(sampler);
    for (; *cut; cut++) {
        CHECK_OK(rp_sampler_feed(sampler, tokens + at, *cut, logits, &err), &err);
        at += *cut;
        CHECK_INT(rp_sampler_used(sampler), at);
        for (int v = 0; v < VOCAB; v++)
            differences += memcmp(&logits[v], &want[(at - 1) * VOCAB + v], sizeof *logits) != 0;
    }
    CHECK_INT(at, T);
    return differences;
}

static void test_model(const char *model, const char *path, int threads, const float *elsewhere,
                       float *want)
{
    const int32_t tokens[T] = {3, 0, 10, 7, 7, 1, 2, 9, 4, 4, 8, 5, 6};
    int32_t other[T];
    struct opened o = {0};
    struct rp_sampler *sampler = NULL;
    open_model(&o, model, path, threads);
    whole_graph(&o, tokens, want);
    if (elsewhere) CHECK(memcmp(want, elsewhere, T * VOCAB * sizeof *want) == 0);
    CHECK_OK(rp_sampler_open(o.trainer, &sampler, &err), &err);
    CHECK_INT(rp_sampler_vocab(sampler), VOCAB);
    CHECK_INT(rp_sampler_places(sampler), T);
    for (size_t c = 0; c < RP_COUNT(cuts); c++)
        CHECK_INT(count_differences(sampler, tokens, cuts[c], want), 0);
    /* Another first token: every logit after it is another. */
    memcpy(other, tokens, sizeof other);
    other[0] = 2;
    CHECK(count_differences(sampler, other, cuts[0], want) > T * VOCAB * 9 / 10);
    float logits[VOCAB];
    CHECK_STATUS(rp_sampler_feed(sampler, tokens, 1, logits, &err), RP_STATUS_INTERNAL, &err);
    rp_sampler_close(sampler);
    close_model(&o);
}

static void test_models(void)
{
    static char paths[64];
    const char *path[8];
    int n = 0;
    snprintf(paths, sizeof paths, "%s", rp_cpu_paths());
    for (char *p = strtok(paths, " "); p; p = strtok(NULL, " ")) path[n++] = p;
    for (size_t m = 0; m < RP_COUNT(models); m++) {
        float first[T * VOCAB], want[T * VOCAB];
        for (int p = 0; p < n; p++)
            for (int threads = 1; threads <= 3; threads += 2)
                test_model(models[m], path[p], threads, p || threads > 1 ? first : NULL,
                           p || threads > 1 ? want : first);
    }
}

/* ---- the choice ------------------------------------------------------------------------------ */

static int32_t choose(struct rp_choose_room *room, const float *logits, struct rp_choose_how how,
                      uint64_t number)
{
    int32_t token = -1;
    CHECK_OK(rp_choose(room, logits, &how, number, &token, &err), &err);
    return token;
}

static void test_greedy(void)
{
    struct rp_choose_room room;
    const struct rp_choose_how greedy = {.top_p = 1};
    rp_choose_room_init(&room, 5);
    CHECK_INT(choose(&room, (float[]){-3, 2, -1, 2, 1}, greedy, 0), 1); /* the first of equals */
    CHECK_INT(choose(&room, (float[]){-3, -4, -1, -2, -9}, greedy, 0), 2);
    CHECK_INT(choose(&room, (float[]){-0.0f, -1, 0.0f, -2, 0.0f}, greedy, 0), 2);
    CHECK_INT(choose(&room, (float[]){-INFINITY, -1, -INFINITY, -2, -8}, greedy, 0), 1);
    int32_t token;
    CHECK_STATUS(rp_choose(&room, (float[]){0, NAN, 1, 2, 3}, &greedy, 0, &token, &err),
                 RP_STATUS_NONFINITE, &err);
    CHECK_STATUS(rp_choose(&room, (float[]){0, INFINITY, 1, 2, 3}, &greedy, 0, &token, &err),
                 RP_STATUS_NONFINITE, &err);
    rp_choose_room_release(&room);
}

enum { DRAWS = 40000 };

/* Shares of DRAWS draws. */
static void draw_many(const float *logits, int n, struct rp_choose_how how, double *share)
{
    struct rp_choose_room room;
    rp_choose_room_init(&room, n);
    for (int i = 0; i < n; i++) share[i] = 0;
    for (int i = 0; i < DRAWS; i++) share[choose(&room, logits, how, (uint64_t)i)]++;
    for (int i = 0; i < n; i++) share[i] /= DRAWS;
    rp_choose_room_release(&room);
}

/* 5 standard deviations of a share of DRAWS draws: one check in two million fails by chance, and
 * the draws are the same for ever. */
static void check_shares(const double *share, const double *want, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += want[i];
    for (int i = 0; i < n; i++) {
        double p = want[i] / sum, bound = 5 * sqrt(p * (1 - p) / DRAWS);
        if (fabs(share[i] - p) <= bound) continue;
        printf("token %d: %.5f of the draws, want %.5f\n", i, share[i], p);
        test_failures++;
    }
}

static void test_shares(void)
{
    const float logits[5] = {logf(2), logf(16), logf(4), logf(1), logf(8)};
    double share[5], hot[5];
    struct rp_choose_how how = {.temperature = 1, .top_p = 1, .seed = 3};
    draw_many(logits, 5, how, share);
    check_shares(share, (double[]){2, 16, 4, 1, 8}, 5);
    how.temperature = 2;
    draw_many(logits, 5, how, hot);
    check_shares(hot, (double[]){sqrt(2), 4, 2, 1, sqrt(8)}, 5);
    CHECK(fabs(hot[1] - share[1]) > 0.1);
    how.temperature = 1, how.top_k = 3;
    draw_many(logits, 5, how, share);
    check_shares(share, (double[]){0, 16, 4, 0, 8}, 5);
    how.top_k = 0, how.top_p = 0.75; /* 16 of 31 are too few, 24 are enough */
    draw_many(logits, 5, how, share);
    check_shares(share, (double[]){0, 16, 0, 0, 8}, 5);
    how.top_p = 0;
    draw_many(logits, 5, how, share);
    check_shares(share, (double[]){0, 1, 0, 0, 0}, 5);
    how.top_p = 1, how.top_k = 2; /* equal ones: the smaller numbers are kept */
    draw_many((float[]){1, 1, 1, 1, 1}, 5, how, share);
    check_shares(share, (double[]){1, 1, 0, 0, 0}, 5);
}

/* A large vocabulary in the order that a plain sort gives. */
static const float *sorted_by;
static int by_logit(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sorted_by[x] != sorted_by[y]) return sorted_by[x] > sorted_by[y] ? -1 : 1;
    return (x > y) - (x < y);
}

static void test_order(void)
{
    enum { N = 5000 };
    static float logits[N];
    static int32_t want[N];
    struct rp_choose_room room;
    int32_t token, wrong = 0;
    fill(logits, N, 9);
    for (int i = 0; i < N; i++) {
        logits[i] = roundf(logits[i] * 1000) / 8 + 0.0f;
        want[i] = i;
    }
    sorted_by = logits;
    qsort(want, N, sizeof *want, by_logit);
    rp_choose_room_init(&room, N);
    const struct rp_choose_how how = {.temperature = 1, .top_p = 1};
    CHECK_OK(rp_choose(&room, logits, &how, 0, &token, &err), &err);
    for (int i = 0; i < N; i++) wrong += room.id[1][i] != want[i];
    CHECK_INT(wrong, 0);
    int32_t first = choose(&room, logits, (struct rp_choose_how){0}, 0);
    CHECK_INT(first, want[0]);
    int same = 0, other = 0;
    for (uint64_t i = 0; i < 100; i++) {
        struct rp_choose_how seed = {.temperature = 50, .top_p = 1, .seed = 1};
        int32_t a = choose(&room, logits, seed, i), b = choose(&room, logits, seed, i);
        seed.seed = 2;
        same += a == b;
        other += a != choose(&room, logits, seed, i);
    }
    CHECK_INT(same, 100);
    CHECK(other > 50);
    rp_choose_room_release(&room);
}

int main(void)
{
    test_models();
    test_greedy();
    test_shares();
    test_order();
    return test_result();
}
