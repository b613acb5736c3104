/* test_attention.c - what the op cases of tests/ops cannot say of attention: refusals in the user's
 * words, that masked keys are absent whatever they hold, that tokens one at a time over a cache are
 * the tokens together, that memory grows with the tokens and not with their square. */
#include <math.h>

#include "device.h"
#include "test.h"

enum { SAMPLES = 2, TOKENS = 75, HEADS = 4, KV_HEADS = 2, D = 24, PLACES = 80 };
enum { WIDTH = (HEADS + 2 * KV_HEADS) * D, OUT = HEADS * D };

static const struct rp_attention_params params = {
    .heads = HEADS, .kv_heads = KV_HEADS, .head_dim = D, .rope_base = 10000, .eps = 1e-6f};

static struct rp_tensor f32(void *data, int n_dims, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (struct rp_tensor){.data = data, .n_dims = n_dims, .dims = {a, b, c, d}};
}

static void fill(float *x, int n, uint32_t seed)
{
    for (int i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

static void run(struct rp_device *device, struct rp_op_call *call, int64_t first_token)
{
    struct rp_error err = {0};
    struct rp_pass pass = {.rows = {.samples_per_shard = call->in[0].dims[0],
                                    .n_shards = 1,
                                    .n_samples = call->in[0].dims[0]},
                           .seed = 3,
                           .first_token = first_token};
    call->params.attention = params;
    CHECK_OK(rp_op_shape(call, &err), &err);
    CHECK_OK(device->table->run(device, call, &pass, &err), &err);
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void check_refusal(enum rp_op op, struct rp_attention_params with, struct rp_tensor qkv,
                          const char *text)
{
    struct rp_error err = {0};
    struct rp_op_call call = {.op = op, .in = {qkv}, .params.attention = with};
    enum rp_status status = rp_op_shape(&call, &err);
    CHECK_INT(status, RP_STATUS_USAGE);
    CHECK_TEXT(err.text, text);
}

static void test_refusals(void)
{
    struct rp_tensor qkv = f32(NULL, 3, SAMPLES, TOKENS, WIDTH, 0);
    struct rp_attention_params p = params;
    p.kv_heads = 3;
    check_refusal(RP_OP_attention, p, qkv,
                  "attention: 4 heads cannot share 3 kv_heads evenly; kv_heads must divide heads");
    p = params, p.kv_heads = 0;
    check_refusal(RP_OP_rope, p, qkv, "rope: 4 heads and 0 kv_heads; 1 is the least");
    p = params, p.head_dim = 300;
    check_refusal(RP_OP_head_norm, p, qkv,
                  "head_norm: a head is 300 wide (width / heads), and must be from 1 to 256");
    p = params, p.kv_heads = 1;
    check_refusal(RP_OP_attention, p, qkv,
                  "attention: shape (2, 75, 192) where (samples, tokens, 144) is needed: 4 heads "
                  "and 2 x 1 kv_heads, each 24 wide");
    p = params, p.p = 1;
    check_refusal(RP_OP_attention, p, qkv,
                  "attention: dropout is 1, and must be from 0 to below 1");
    p = params, p.p = 0.1f;
    check_refusal(RP_OP_attention, p, f32(NULL, 3, 1, 1 << 17, WIDTH, 0),
                  "attention: dropout of 4 heads x 131072^2 weights; 2^34 of a sample are the "
                  "most: shorten the context or set this dropout to 0");
    check_refusal(RP_OP_attention, params, f32(NULL, 3, 1, (1 << 20) + 1, WIDTH, 0),
                  "attention: 1048577 tokens; 1048576 are the most");
    p = params, p.rope_base = NAN;
    check_refusal(RP_OP_rope, p, qkv, "rope: rope_base is nan, and must be from 1 to 1e30");
    p = params, p.heads = 8, p.kv_heads = 4, p.head_dim = 12 - 1;
    check_refusal(RP_OP_rope, p, f32(NULL, 3, 1, 5, 176, 0),
                  "rope turns pairs of values, and a head is 11 wide: make width / heads even");
    check_refusal(RP_OP_attention_dx, params, f32(NULL, 3, 1, 5, 5, 0),
                  "attention_dx takes fp32 of at least 3 dimensions, not 0");
    check_refusal(RP_OP_attention_cached, params, qkv,
                  "attention_cached takes fp32 of at least 4 dimensions, not 0");
}

/* ---- the future is absent -------------------------------------------------------------------- */

struct outcome {
    float y[SAMPLES * TOKENS * OUT], stats[SAMPLES * HEADS * TOKENS * 2];
    float dqkv[SAMPLES * TOKENS * WIDTH];
};

static void forward_and_back(struct rp_device *device, float *qkv, float *dy, struct outcome *to)
{
    struct rp_op_call call = {.op = RP_OP_attention,
                              .in = {f32(qkv, 3, SAMPLES, TOKENS, WIDTH, 0)},
                              .out = {{.data = to->y}, {.data = to->stats}}};
    run(device, &call, 0);
    struct rp_op_call back = {
        .op = RP_OP_attention_dx,
        .in = {f32(dy, 3, SAMPLES, TOKENS, OUT, 0), call.in[0], call.out[0], call.out[1]},
        .out = {{.data = to->dqkv}}};
    run(device, &back, 0);
}

/* Token `from` and all after it hold NaN and infinities: what came before must not notice. */
static void test_future_is_absent(struct rp_device *device, float *qkv, float *dy)
{
    static struct outcome clean, spoilt;
    float *wild = malloc(sizeof(float) * SAMPLES * TOKENS * WIDTH);
    forward_and_back(device, qkv, dy, &clean);
    for (int from = 1; from < TOKENS; from += 13) {
        memcpy(wild, qkv, sizeof(float) * SAMPLES * TOKENS * WIDTH);
        for (int n = 0; n < SAMPLES; n++)
            for (int i = from * WIDTH; i < TOKENS * WIDTH; i++)
                wild[n * TOKENS * WIDTH + i] = i % 2 ? NAN : INFINITY;
        forward_and_back(device, wild, dy, &spoilt);
        for (int n = 0; n < SAMPLES; n++) {
            int y = n * TOKENS * OUT, x = n * TOKENS * WIDTH, last = from - 1;
            CHECK(memcmp(spoilt.y + y, clean.y + y, sizeof(float) * (size_t)(from * OUT)) == 0);
            for (int t = 0; t < from; t++) /* dq sees the keys before; dk and dv what comes after */
                CHECK(memcmp(spoilt.dqkv + x + t * WIDTH, clean.dqkv + x + t * WIDTH,
                             sizeof(float) * OUT) == 0);
            /* The control: a token that does see the wild ones. */
            CHECK(isnan(spoilt.y[y + from * OUT]));
            CHECK(isnan(spoilt.dqkv[x + last * WIDTH + OUT]));
        }
    }
    free(wild);
}

/* ---- a token at a time ----------------------------------------------------------------------- */

struct cache {
    float k[SAMPLES * KV_HEADS * D * PLACES], v[SAMPLES * KV_HEADS * PLACES * D];
};

/* `count` tokens of qkv from `token` on, at places from `first` on; y as (N, count, OUT). */
static void attend_cached(struct rp_device *device, const float *qkv, int token, int count,
                          int first, struct cache *cache, float *y)
{
    static float rows[SAMPLES * TOKENS * WIDTH];
    for (int n = 0; n < SAMPLES; n++)
        memcpy(rows + n * count * WIDTH, qkv + (n * TOKENS + token) * WIDTH,
               sizeof(float) * (size_t)(count * WIDTH));
    struct rp_op_call call = {.op = RP_OP_attention_cached,
                              .in = {f32(rows, 3, SAMPLES, count, WIDTH, 0),
                                     f32(cache->k, 4, SAMPLES, KV_HEADS, D, PLACES),
                                     f32(cache->v, 4, SAMPLES, KV_HEADS, PLACES, D)},
                              .out = {{.data = y}, {.data = cache->k}, {.data = cache->v}}};
    run(device, &call, first);
}

static int differing(const float *y, const struct outcome *whole, int token, int count)
{
    int n_different = 0;
    for (int n = 0; n < SAMPLES; n++)
        n_different += memcmp(y + n * count * OUT, whole->y + (n * TOKENS + token) * OUT,
                              sizeof(float) * (size_t)(count * OUT)) != 0;
    return n_different;
}

static void test_token_by_token(struct rp_device *device, float *qkv, float *dy)
{
    static struct outcome whole;
    static struct cache cache;
    static float y[SAMPLES * TOKENS * OUT];
    forward_and_back(device, qkv, dy, &whole);
    for (size_t i = 0; i < sizeof(cache) / sizeof(float); i++) ((float *)&cache)[i] = NAN;
    enum { PROMPT = 31 };
    attend_cached(device, qkv, 0, PROMPT, 0, &cache, y);
    CHECK_INT(differing(y, &whole, 0, PROMPT), 0);
    for (int t = PROMPT; t < TOKENS; t++) {
        attend_cached(device, qkv, t, 1, t, &cache, y);
        CHECK_INT(differing(y, &whole, t, 1), 0);
    }
    /* The control: the last token once more, one place too late, with the token itself before it.
     */
    attend_cached(device, qkv, TOKENS - 1, 1, TOKENS, &cache, y);
    CHECK_INT(differing(y, &whole, TOKENS - 1, 1), SAMPLES);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void test_memory(void)
{
    static const enum rp_op ops[] = {RP_OP_attention, RP_OP_attention_dx, RP_OP_attention_cached};
    const struct rp_device_config config = {.threads = 2};
    for (size_t i = 0; i < RP_COUNT(ops); i++) {
        size_t bytes[2];
        for (int j = 0; j < 2; j++) {
            int64_t tokens = 4096 << j;
            struct rp_op_call call = {.op = ops[i], .params.attention = params};
            call.in[0] = call.in[1] = f32(NULL, 3, 1, tokens, WIDTH, 0);
            call.in[2] = f32(NULL, 4, 1, KV_HEADS, tokens, D);
            bytes[j] = rp_device_cpu.scratch_bytes(&config, &call);
        }
        CHECK(bytes[1] > bytes[0] && bytes[1] < 2 * bytes[0] + 4096);
    }
}

int main(void)
{
    static float qkv[SAMPLES * TOKENS * WIDTH], dy[SAMPLES * TOKENS * OUT];
    char paths[64];
    fill(qkv, SAMPLES * TOKENS * WIDTH, 1);
    fill(dy, SAMPLES * TOKENS * OUT, 2);
    test_refusals();
    test_memory();
    snprintf(paths, sizeof(paths), "%s", rp_cpu_paths());
    for (char *path = strtok(paths, " "); path; path = strtok(NULL, " ")) {
        struct rp_device_config config = {.threads = 2, .path = path};
        struct rp_device *device = NULL;
        struct rp_error err = {0};
        CHECK_OK(rp_device_cpu.open(&config, &device, &err), &err);
        test_future_is_absent(device, qkv, dy);
        test_token_by_token(device, qkv, dy);
        rp_device_cpu.close(device);
    }
    return test_result();
}
