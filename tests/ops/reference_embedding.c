/* reference_embedding.c - tables by token and their gradients: kernels/README.md chapter 6, with
 * rows that are absent left out as the text says it, and no -0 in their stead. */
#include "reference.h"

enum { PANEL = 1024 };

static float nan_of_bits(void)
{
    return rp_float_of_bits(0x7fc00000u);
}

/* `control`: the positions of the sequence begin one later. */
bool reference_embedding(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const int32_t *token = in[0];
    const float *w = in[1], *pos = in[2];
    const int64_t *dims = c->call.out[0].dims;
    if (control && (!pos || dims[1] < 2)) return false;
    for (int64_t row = 0; row < dims[0] * dims[1]; row++) {
        int64_t place = c->pass.first_token + (control ? (row + 1) % dims[1] : row % dims[1]);
        for (int64_t i = 0; i < dims[2]; i++) {
            bool known = token[row] >= 0 && token[row] < c->call.in[1].dims[0];
            float v = known ? w[token[row] * dims[2] + i] : nan_of_bits();
            ((float *)out[0])[row * dims[2] + i] = pos ? v + pos[place * dims[2] + i] : v;
        }
    }
    return true;
}

/* A sum that may be absent. */
struct maybe {
    bool present;
    float sum;
};

static struct maybe add(struct maybe a, struct maybe b)
{
    if (!a.present) return b;
    if (!b.present) return a;
    return (struct maybe){true, a.sum + b.sum};
}

static struct maybe value(const struct op_case *c, void *const in[], int64_t row, int64_t id,
                          int64_t col)
{
    const float *dy = in[0];
    const int32_t *token = in[1];
    if (token[row] != id) return (struct maybe){0};
    return (struct maybe){true, dy[row * c->call.out[0].dims[1] + col]};
}

/* `control`: the last row of every panel comes first. */
static struct maybe of_shard(const struct op_case *c, void *const in[], int64_t begin, int64_t rows,
                             int64_t id, int64_t col, bool control)
{
    struct maybe total = {0};
    for (int64_t panel = 0; panel < rows; panel += PANEL) {
        struct maybe chain = {0};
        int64_t end = panel + PANEL < rows ? panel + PANEL : rows;
        for (int64_t i = panel; i < end; i++) {
            int64_t row = !control ? i : i == panel ? end - 1 : i - 1;
            chain = add(chain, value(c, in, begin + row, id, col));
        }
        total = add(total, chain);
    }
    return total;
}

static struct maybe tree(const struct maybe *of, int n)
{
    return n == 1 ? of[0] : add(tree(of, n / 2), tree(of + n / 2, n / 2));
}

bool reference_embedding_dw(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    int64_t ids = c->call.out[0].dims[0], cols = c->call.out[0].dims[1];
    int n_shards = c->pass.rows.n_shards;
    int64_t rows = rp_tensor_rows(&c->call.in[0]) / n_shards;
    for (int64_t at = 0; at < ids * cols; at++) {
        struct maybe shard[1024];
        for (int s = 0; s < n_shards; s++)
            shard[s] = of_shard(c, in, s * rows, rows, at / cols, at % cols, control);
        struct maybe sum = tree(shard, n_shards);
        ((float *)out[0])[at] = sum.present ? sum.sum : -0.0f;
    }
    return true;
}

struct place {
    const float *dy;
    int64_t stride;
};

static float add_sample(const void *arg, int64_t k, float acc)
{
    const struct place *place = arg;
    return acc + place->dy[k * place->stride];
}

bool reference_position_dw(const struct op_case *c, void *const in[], void *const out[],
                           bool control)
{
    int64_t samples = c->call.in[0].dims[0], n = rp_tensor_elements(&c->call.out[0]);
    for (int64_t at = 0; at < n; at++) {
        struct place place = {(const float *)in[0] + at, n};
        ((float *)out[0])[at] = sum_samples(c, samples, add_sample, &place, control);
    }
    return true;
}
