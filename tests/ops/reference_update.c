/* reference_update.c - norm, clip, optimizers, running statistics and the digest: chapters 9,
 * 11, 12. */
#include <math.h>

#include "reference.h"

enum { CHUNK = 4096, LANES = 32 };

/* ---- chapter 12, from its text alone -------------------------------------------------------- */

static uint32_t key(uint32_t i)
{
    uint32_t k = i + 0x9e3779b9u;
    k ^= k >> 16;
    k *= 0x85ebca6bu;
    k ^= k >> 13;
    k *= 0xc2b2ae35u;
    k ^= k >> 16;
    return k;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    x ^= x >> 31;
    return x;
}

static uint32_t keyed(const float *x, int64_t n, int64_t at, int64_t i)
{
    uint32_t bits = 0;
    if (at + i < n) memcpy(&bits, &x[at + i], sizeof(bits));
    if (at + i < n && x[at + i] != x[at + i]) bits = 0x7fc00000u;
    return bits + key((uint32_t)i);
}

/* `control`: the pairs of the first chunk start at the wrong element. */
static void add_digest(const float *x, int64_t n, uint32_t tensor_number, uint32_t first_chunk,
                       uint64_t *digest, bool control)
{
    for (int64_t at = 0; at < n; at += CHUNK) {
        uint64_t pairs = control && at == 0;
        for (int64_t i = 0; i < CHUNK && at + i < n; i += 2)
            pairs += (uint64_t)keyed(x, n, at, i) * keyed(x, n, at, i + 1);
        uint64_t place = ((uint64_t)tensor_number << 32) + first_chunk + (uint64_t)(at / CHUNK);
        *digest += mix(pairs ^ mix(place + 0x9e3779b97f4a7c15u));
    }
}

bool reference_digest(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    add_digest(in[0], rp_tensor_elements(&c->call.in[0]), c->call.params.digest.tensor_number,
               c->call.params.digest.first_chunk, out[0], control);
    return true;
}

/* ---- chapter 11 ----------------------------------------------------------------------------- */

bool reference_grad_norm(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    const float *g = in[0];
    for (int64_t at = 0; at < n; at += CHUNK) {
        double lane[LANES] = {0};
        for (int64_t i = at; i < n && i < at + CHUNK; i++)
            lane[i % LANES] += (double)g[i] * (double)g[i];
        for (int half = LANES / 2; half >= 1; half /= 2)
            for (int j = 0; j < half; j++)
                lane[j] = control ? lane[2 * j] + lane[2 * j + 1] : lane[j] + lane[j + half];
        ((double *)out[0])[at / CHUNK] = isnan(lane[0]) ? (double)NAN : lane[0];
    }
    return true;
}

bool reference_clip(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    double max_norm = c->call.params.clip.max_norm;
    double norm = sqrt(sum_row64(in[0], rp_tensor_elements(&c->call.in[0]), control));
    struct rp_control *to = out[0];
    bool loss_is_finite = !in[1] || isfinite(*(const float *)in[1]);
    to->norm = norm;
    to->apply = isfinite(norm) && loss_is_finite;
    to->factor = 1;
    if (to->apply && max_norm > 0 && norm > max_norm) to->factor = (float)(max_norm / norm);
    return true;
}

static void update_sgd(const struct op_case *c, float g, float *p, float *buffer)
{
    const struct rp_optim_params *o = &c->call.params.optim;
    if (o->weight_decay != 0) g = rp_fma(o->weight_decay, *p, g);
    float u = g;
    if (buffer) {
        float old = *buffer;
        *buffer = c->update.first ? g : rp_fma(o->momentum, old, (1 - o->dampening) * g);
        u = o->nesterov ? rp_fma(o->momentum, *buffer, g) : *buffer;
    }
    *p = rp_fma(-c->update.lr, u, *p);
}

static void update_adam(const struct op_case *c, float g, float *p, float *m, float *v)
{
    const struct rp_optim_params *o = &c->call.params.optim;
    const struct rp_update *u = &c->update;
    if (!o->decoupled && o->weight_decay != 0) g = rp_fma(o->weight_decay, *p, g);
    *m = rp_fma(u->beta1, *m, u->one_minus_beta1 * g);
    *v = rp_fma(u->beta2, *v, (u->one_minus_beta2 * g) * g);
    float h = *m * u->one_over_c1;
    float d = rp_sqrt(*v * u->one_over_c2) + o->eps;
    float p1 = o->decoupled ? rp_fma(-u->lr_decay, *p, *p) : *p;
    *p = rp_fma(-u->lr, h / d, p1);
}

static void update_lion(const struct op_case *c, float g, float *p, float *m)
{
    const struct rp_update *u = &c->update;
    float interpolated = rp_fma(u->beta1, *m, u->one_minus_beta1 * g);
    float sign = 0;
    if (interpolated > 0) sign = 1;
    if (interpolated < 0) sign = -1;
    *p = rp_fma(-u->lr_decay, *p, *p);
    *p = rp_fma(-u->lr, sign, *p);
    *m = rp_fma(u->beta2, *m, u->one_minus_beta2 * g);
}

/* p, states and digest; `control` leaves out the multiplication by factor, and where nothing is
 * applied the digest is that of the gradient. */
static bool update(const struct op_case *c, void *const in[], void *const out[], int n_states,
                   bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    const float *g = in[1];
    if (!c->control.apply) {
        add_digest(control ? in[1] : in[0], n, c->call.params.optim.tensor_number,
                   c->call.params.optim.first_chunk, out[1 + n_states], false);
        return true;
    }
    memcpy(out[0], in[0], sizeof(float) * (size_t)n);
    for (int s = 0; s < n_states; s++)
        if (in[2 + s]) memcpy(out[1 + s], in[2 + s], sizeof(float) * (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        float *p = (float *)out[0] + i, *m = out[1] ? (float *)out[1] + i : NULL;
        float scaled = control ? g[i] : g[i] * c->control.factor;
        if (c->call.op == RP_OP_sgd)
            update_sgd(c, scaled, p, m);
        else if (c->call.op == RP_OP_adam)
            update_adam(c, scaled, p, m, (float *)out[2] + i);
        else
            update_lion(c, scaled, p, m);
    }
    add_digest(out[0], n, c->call.params.optim.tensor_number, c->call.params.optim.first_chunk,
               out[1 + n_states], false);
    return true;
}

bool reference_sgd(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    return update(c, in, out, 1, control);
}
bool reference_adam(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    return update(c, in, out, 2, control);
}
bool reference_lion(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    return update(c, in, out, 1, control);
}

/* ---- muon ----------------------------------------------------------------------------------- */

struct factors {
    const float *a, *b;
    int64_t a_step, b_step;
};

static float add_product(const void *arg, int64_t k, float acc)
{
    const struct factors *f = arg;
    return rp_fma(f->a[k * f->a_step], f->b[k * f->b_step], acc);
}

/* c (rows, columns) = a (rows, k) b^T; element (r, k) of a lies at r a_row + k a_step. */
static void product(float *c, int64_t rows, int64_t columns, int64_t k, struct factors f,
                    int64_t a_row, int64_t b_row, bool control)
{
    struct factors at = f;
    for (int64_t i = 0; i < rows * columns; i++) {
        at.a = f.a + i / columns * a_row;
        at.b = f.b + i % columns * b_row;
        c[i] = sum_panels(k, add_product, &at, control);
    }
}

static double norm_of(const float *x, int64_t n)
{
    double chunks[64];
    for (int64_t at = 0; at < n; at += CHUNK) {
        double lane[LANES] = {0};
        for (int64_t i = at; i < n && i < at + CHUNK; i++)
            lane[i % LANES] += (double)x[i] * (double)x[i];
        for (int half = LANES / 2; half >= 1; half /= 2)
            for (int j = 0; j < half; j++) lane[j] += lane[j + half];
        chunks[at / CHUNK] = lane[0];
    }
    return sqrt(sum_row64(chunks, (n + CHUNK - 1) / CHUNK, false));
}

/* One Newton-Schulz step of a matrix that is written as M, with no more rows than columns. */
static void newton_schulz(float *m, int64_t rows, int64_t columns, bool control)
{
    size_t square = sizeof(float) * (size_t)(rows * rows);
    float *a = malloc(square), *b = malloc(square);
    float *y = malloc(sizeof(*y) * (size_t)(rows * columns));
    if (!a || !b || !y) exit(1);
    product(a, rows, rows, columns, (struct factors){m, m, 1, 1}, columns, columns, control);
    product(b, rows, rows, rows, (struct factors){a, a, 1, rows}, rows, 1, control);
    for (int64_t i = 0; i < rows * rows; i++) b[i] = rp_fma(2.0315f, b[i], -4.7750f * a[i]);
    product(y, rows, columns, rows, (struct factors){b, m, 1, columns}, rows, 1, control);
    for (int64_t i = 0; i < rows * columns; i++) m[i] = rp_fma(3.4445f, m[i], y[i]);
    free(y);
    free(b);
    free(a);
}

/* From (rows, columns) to (columns, rows). */
static void transpose(const float *from, float *to, int64_t rows, int64_t columns)
{
    for (int64_t i = 0; i < rows * columns; i++) to[i % columns * rows + i / columns] = from[i];
}

static void make_orthogonal(float *x, int64_t rows, int64_t columns, bool control)
{
    float *m = malloc(sizeof(*m) * (size_t)(rows * columns));
    if (!m) exit(1);
    bool tall = rows > columns;
    if (tall)
        transpose(x, m, rows, columns);
    else
        memcpy(m, x, sizeof(*m) * (size_t)(rows * columns));
    for (int step = 0; step < 5; step++)
        newton_schulz(m, tall ? columns : rows, tall ? rows : columns, control);
    if (tall)
        transpose(m, x, columns, rows);
    else
        memcpy(x, m, sizeof(*m) * (size_t)(rows * columns));
    free(m);
}

static void make_direction(float *x, int64_t rows, int64_t columns, bool control)
{
    float scale = (float)(1 / (norm_of(x, rows * columns) + 1e-7));
    for (int64_t i = 0; i < rows * columns; i++) x[i] *= scale;
    make_orthogonal(x, rows, columns, control);
}

/* `control`: products take their second and third terms in the wrong order. */
bool reference_muon(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_optim_params *o = &c->call.params.optim;
    const struct rp_update *u = &c->update;
    int64_t n = rp_tensor_elements(&c->call.in[0]), rows = c->call.in[0].dims[0];
    const float *p = in[0], *g = in[1], *old = in[2];
    float *new = out[0], *momentum = out[1], *x = calloc((size_t)n, sizeof(*x));
    if (!x) exit(1);
    for (int64_t i = 0; c->control.apply && i < n; i++) {
        float g1 = g[i] * c->control.factor;
        momentum[i] = rp_fma(u->one_minus_beta1, g1 - old[i], old[i]);
        x[i] = o->nesterov ? rp_fma(u->beta1, momentum[i] - g1, g1) : momentum[i];
    }
    if (c->control.apply) {
        int64_t columns = n / rows, begin = 0;
        for (int i = 0; i < (o->n_parts ? o->n_parts : 1); i++) {
            int64_t end = o->n_parts ? o->part[i].end : rows;
            make_direction(x + begin * columns, end - begin, columns, control);
            for (int64_t j = begin * columns; o->n_parts && j < end * columns; j++)
                x[j] *= o->part[i].scale;
            begin = end;
        }
        for (int64_t i = 0; i < n; i++)
            new[i] = rp_fma(-(u->lr * o->scale), x[i], rp_fma(-u->lr_decay, p[i], p[i]));
    }
    add_digest(c->control.apply ? new : p, n, o->tensor_number, o->first_chunk, out[2], false);
    free(x);
    return c->control.apply;
}

/* `control`: the reciprocal of the number of shards plus a rounding of its own. */
bool reference_running_update(const struct op_case *c, void *const in[], void *const out[],
                              bool control)
{
    const struct rp_running_params *params = &c->call.params.running;
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    const float *old = in[0], *seen = in[1];
    float *new = out[0], momentum = params->momentum;
    if (c->control.apply)
        for (int64_t i = 0; i < n; i++) {
            float step = seen[i] / (float)params->shards - old[i];
            new[i] = control ? old[i] + momentum *step : rp_fma(momentum, step, old[i]);
        }
    add_digest(c->control.apply ? new : old, n, params->tensor_number, params->first_chunk, out[1],
               control && !c->control.apply);
    return true;
}
