/* values.c - memory and contents of a case. */
#include "ops_test.h"

uint64_t random_word(uint64_t seed, uint64_t i)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + i * 0xd1342543de82ef95u + 1;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x = (x ^ (x >> 29)) * 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

static float random_float(uint64_t word)
{
    return (float)(int32_t)(uint32_t)word * 0x1p-30f; /* (-2, 2), 24 significant bits */
}

static const uint32_t finite_specials[] = {
    0x00000000u, 0x80000000u, 0x00000001u, 0x80000001u, 0x007fffffu, 0x807ffffeu,
    0x00800000u, 0x80800000u, 0x0da24260u, 0x8da24260u, 0x7149f2cau, 0xf149f2cau,
    0x3f800000u, 0xbf800000u, 0x7f7fffffu, 0xff7fffffu, 0x42b17218u, 0xc2cff1b5u,
};
static const uint32_t other_specials[] = {0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc12345u};

static float special_float(float usual, uint64_t word, int level)
{
    uint32_t pick = (uint32_t)(word >> 32);
    float x = usual;
    if (level >= 2 && pick % 701 == 0)
        memcpy(&x, &other_specials[pick / 701 % RP_COUNT(other_specials)], sizeof(x));
    else if (level >= 1 && pick % 29 == 0)
        memcpy(&x, &finite_specials[pick / 29 % RP_COUNT(finite_specials)], sizeof(x));
    return x;
}

static void fill_float(float *x, int64_t n, enum fill fill, uint64_t seed, int level)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t word = random_word(seed, (uint64_t)i);
        if (fill == FILL_DISTINCT) {
            /* A permutation of 0 .. n-1 by a step prime to n, around 0 and never on it. */
            int64_t step = n / 2 * 2 / 3 + 1;
            while (n > 1) {
                int64_t a = step, b = n;
                while (b) {
                    int64_t r = a % b;
                    a = b;
                    b = r;
                }
                if (a == 1) break;
                step++;
            }
            x[i] = (float)((i * step + (int64_t)(seed % 97)) % n - n / 2) * 0x1p-6f + 0x1p-7f;
            continue;
        }
        float usual = random_float(word);
        if (fill == FILL_POSITIVE) usual = (usual < 0 ? -usual : usual) * 0.9375f + 0.125f;
        x[i] = special_float(usual, word, level);
        if (fill == FILL_POSITIVE && x[i] < 0) x[i] = -x[i];
    }
}

static void fill_targets(const struct op_case *c, int32_t *x, int64_t n, uint64_t seed, int level)
{
    static const int32_t bad[] = {-1, INT32_MAX, INT32_MIN};
    for (int64_t i = 0; i < n; i++) {
        uint64_t word = random_word(seed, (uint64_t)i);
        x[i] = (int32_t)((uint32_t)word % (uint32_t)c->classes);
        if (c->fill[2] == FILL_TOKENS && (word >> 32) % 4 == 0) x[i] = -1;
        if (level >= 2 && (word >> 40) % 5 == 0) x[i] = bad[(word >> 50) % 3];
        if (level >= 2 && (word >> 40) % 17 == 0) x[i] = (int32_t)c->classes;
    }
}

/* Among them one class twice, and all or nothing of a class. */
static void fill_mixes(const struct op_case *c, int32_t *x, int64_t n, uint64_t seed, int level)
{
    fill_targets(c, x, n, seed, level);
    for (int64_t i = 0; i + 2 < n; i += 3) {
        uint64_t word = random_word(seed + 1, (uint64_t)i);
        int32_t whole = 1 << 24;
        if (word % 7 == 0) x[i + 1] = x[i];
        x[i + 2] = (int32_t)(word >> 40);
        if (word % 5 == 1) x[i + 2] = word >> 63 ? whole : 0;
        if (level >= 2 && word % 11 == 0) x[i + 2] = word >> 63 ? whole + 1 : -1;
    }
}

/* A tap is kh * kernel_w + kw; only those inside the image can have been written by the forward. */
static void fill_taps(const struct op_case *c, uint8_t *x, uint64_t seed)
{
    const struct rp_pool2d_params *w = &c->call.params.pool2d;
    const int64_t *dims = c->call.in[1].dims, *image = c->call.out[0].dims;
    int64_t at = 0;
    for (int64_t n = 0; n < dims[0]; n++)
        for (int64_t oh = 0; oh < dims[1]; oh++)
            for (int64_t ow = 0; ow < dims[2]; ow++)
                for (int64_t ch = 0; ch < dims[3]; ch++, at++)
                    for (uint64_t attempt = 0;; attempt++) {
                        uint64_t word = random_word(seed + attempt, (uint64_t)at);
                        int kh = (int)(word % (uint64_t)w->kernel_h);
                        int kw = (int)((word >> 32) % (uint64_t)w->kernel_w);
                        int64_t ih = oh * w->stride_h + kh - w->pad_h;
                        int64_t iw = ow * w->stride_w + kw - w->pad_w;
                        x[at] = (uint8_t)(kh * w->kernel_w + kw);
                        if (ih >= 0 && ih < image[1] && iw >= 0 && iw < image[2]) break;
                    }
}

static void fill_chunks(double *x, int64_t n, uint64_t seed, int level)
{
    for (int64_t i = 0; i < n; i++) {
        uint64_t word = random_word(seed, (uint64_t)i);
        x[i] = (double)(word >> 11) * 0x1p-50;
        if (level >= 1 && word % 7 == 0) x[i] = 0;
        if (level >= 2 && word % 997 == 0) x[i] = 1e308 * 10;
    }
}

void values_fill_input(const struct op_case *c, int i, void *data, uint64_t seed, int level)
{
    int64_t n = rp_tensor_elements(&c->call.in[i]);
    switch (c->fill[i]) {
    case FILL_TARGETS:
    case FILL_TOKENS:
        fill_targets(c, data, n, seed, level);
        break;
    case FILL_MIXES:
        fill_mixes(c, data, n, seed, level);
        break;
    case FILL_TAPS:
        fill_taps(c, data, seed);
        break;
    case FILL_CHUNKS:
        fill_chunks(data, n, seed, level);
        break;
    case FILL_CONTROL:
        memcpy(data, &c->control, sizeof(c->control));
        break;
    case FILL_RANDOM:
    case FILL_POSITIVE:
    case FILL_DISTINCT:
        fill_float(data, n, c->fill[i], seed, level);
        break;
    }
}

static void *allocate(size_t bytes)
{
    void *data = malloc(bytes ? bytes : 1);
    if (!data) exit(1);
    return data;
}

void values_make(const struct op_case *c, uint64_t seed, int level, struct op_values *values)
{
    const struct rp_op_info *info = rp_op_info(c->call.op);
    *values = (struct op_values){.n_out = info->n_out};
    for (int i = 0; i < RP_OP_MAX_IN; i++) {
        if (c->call.in[i].n_dims == 0) continue;
        values->in[i] = allocate(rp_tensor_bytes(&c->call.in[i]));
        values_fill_input(c, i, values->in[i], seed * 16 + (uint64_t)i, level);
    }
    for (int i = 0; i < values->n_out; i++) {
        const struct rp_tensor *out = &c->call.out[i];
        if (out->n_dims == 0 || (c->unwanted >> i) & 1) continue;
        size_t bytes = rp_tensor_bytes(out);
        values->out[i] = allocate(bytes);
        memset(values->out[i], 0xff, bytes); /* NaN, whatever the type */
        uint64_t before = 0x0123456789abcdefu;
        if (out->dtype == RP_DTYPE_U64) memcpy(values->out[i], &before, sizeof(before));
    }
}

void values_free(struct op_values *values)
{
    for (int i = 0; i < RP_OP_MAX_IN; i++) free(values->in[i]);
    for (int i = 0; i < RP_OP_MAX_OUT; i++) free(values->out[i]);
    *values = (struct op_values){0};
}
