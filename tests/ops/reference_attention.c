/* reference_attention.c - rope, head norm, attention and its gradient: chapter 14. */
#include "reference.h"

/* One sample of a case; head and token to a place in a row of qkv, or of y. */
struct sample {
    const struct rp_attention_params *p;
    const float *qkv, *dy, *y, *stats;
    const float *sums; /* (heads, tokens): of dy y over d */
    int64_t number, tokens, width;
    float scale;
    const struct rp_pass *pass;
    bool control;
};

static struct sample sample_of(const struct op_case *c, int64_t n, const struct rp_tensor *qkv,
                               const float *data, bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    return (struct sample){.p = p,
                           .qkv = data + n * qkv->dims[1] * qkv->dims[2],
                           .number = n,
                           .tokens = qkv->dims[1],
                           .width = qkv->dims[2],
                           .scale = (float)(1 / rp_sqrt64(p->head_dim)),
                           .pass = &c->pass,
                           .control = control};
}

static const float *head_at(const struct sample *s, int64_t token, int64_t head)
{
    return s->qkv + token * s->width + head * s->p->head_dim;
}
static const float *key_at(const struct sample *s, int64_t token, int64_t head)
{
    return head_at(s, token, s->p->heads + head / (s->p->heads / s->p->kv_heads));
}
static const float *value_at(const struct sample *s, int64_t token, int64_t head)
{
    return key_at(s, token, head) + s->p->kv_heads * s->p->head_dim;
}
static int64_t y_at(const struct sample *s, int64_t token, int64_t head)
{
    return (token * s->p->heads + head) * s->p->head_dim;
}

static float dot(const float *a, const float *b, int n)
{
    float acc = 0;
    for (int i = 0; i < n; i++) acc = rp_fma(a[i], b[i], acc);
    return acc;
}

static float score(const struct sample *s, int64_t head, int64_t i, int64_t j)
{
    return dot(head_at(s, i, head), key_at(s, j, head), s->p->head_dim) * s->scale;
}

static float dropped(const struct sample *s, int64_t head, int64_t i, int64_t j, float x)
{
    float p = s->p->p;
    if (p == 0) return x;
    uint64_t element = (uint64_t)((head * s->tokens + i) * s->tokens + j);
    struct rp_draw draw =
        rp_draw_block(s->pass->seed, RP_PURPOSE_DROPOUT, s->p->site,
                      s->pass->position + (uint64_t)s->number, (uint32_t)(element / 4));
    return draw.u[element % 4] >= rp_threshold(p) ? x * (1 / (1 - p)) : 0;
}

static float *floats(int64_t n)
{
    float *x = malloc(sizeof(*x) * (size_t)n);
    if (!x) exit(1);
    return x;
}

/* Terms w_k v_k of a sum over tokens, values of v `stride` apart. */
struct weighted {
    const float *w, *v;
    int64_t stride;
};

static float add_weighted(const void *arg, int64_t k, float acc)
{
    const struct weighted *t = arg;
    return rp_fma(t->w[k], t->v[k * t->stride], acc);
}

/* ---- attention ------------------------------------------------------------------------------- */

static void attend(const struct sample *s, int64_t head, int64_t i, float *y, float *stats)
{
    float *e = floats(i + 1), m = -__builtin_inff();
    for (int64_t j = 0; j <= i; j++) {
        e[j] = score(s, head, i, j);
        m = e[j] > m ? e[j] : m;
    }
    m = m + 0.0f; /* of a -0 too */
    for (int64_t j = 0; j <= i; j++) e[j] = rp_exp(e[j] - m);
    float inv = 1 / sum_row(e, i + 1, s->control);
    for (int64_t j = 0; j <= i; j++) e[j] = dropped(s, head, i, j, e[j]);
    for (int d = 0; d < s->p->head_dim; d++) {
        struct weighted terms = {e, value_at(s, 0, head) + d, s->width};
        y[d] = sum_panels(i + 1, add_weighted, &terms, s->control) * inv;
    }
    if (stats) stats[0] = m, stats[1] = inv;
    free(e);
}

bool reference_attention(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_tensor *qkv = &c->call.in[0];
    for (int64_t n = 0; n < qkv->dims[0]; n++) {
        struct sample s = sample_of(c, n, qkv, in[0], control);
        float *y = (float *)out[0] + n * s.tokens * y_at(&s, 1, 0);
        for (int64_t h = 0; h < s.p->heads; h++)
            for (int64_t i = 0; i < s.tokens; i++)
                attend(&s, h, i, y + y_at(&s, i, h),
                       (float *)out[1] + ((n * s.p->heads + h) * s.tokens + i) * 2);
    }
    return true;
}

/* The cache and the new tokens as one sequence: attention of all its places, of which the last are
 * wanted. */
bool reference_attention_cached(const struct op_case *c, void *const in[], void *const out[],
                                bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    const struct rp_tensor *qkv = &c->call.in[0];
    int64_t first = c->pass.first_token, tokens = qkv->dims[1], width = qkv->dims[2];
    int64_t places = c->call.in[2].dims[2], all = first + tokens;
    int d = p->head_dim;
    struct rp_tensor sequence = *qkv;
    sequence.dims[1] = all;
    float *whole = floats(all * width), *kcache = out[1], *vcache = out[2];
    memcpy(kcache, in[1], rp_tensor_bytes(&c->call.in[1]));
    memcpy(vcache, in[2], rp_tensor_bytes(&c->call.in[2]));
    for (int64_t n = 0; n < qkv->dims[0]; n++) {
        const float *rows = (const float *)in[0] + n * tokens * width;
        memset(whole, 0, sizeof(*whole) * (size_t)(all * width));
        memcpy(whole + first * width, rows, sizeof(*rows) * (size_t)(tokens * width));
        for (int64_t kv = 0; kv < p->kv_heads; kv++)
            for (int64_t j = 0; j < all; j++)
                for (int i = 0; i < d; i++) {
                    int64_t unit = n * p->kv_heads + kv;
                    float *k = &kcache[(unit * d + i) * places + j];
                    float *v = &vcache[(unit * places + j) * d + i];
                    float *at = whole + j * width + (p->heads + kv) * d + i;
                    if (j < first) {
                        at[0] = *k, at[p->kv_heads * d] = *v;
                    } else {
                        *k = at[0], *v = at[p->kv_heads * d];
                    }
                }
        struct op_case without = *c; /* no dropout in sampling */
        without.call.params.attention.p = 0;
        struct sample s = sample_of(&without, 0, &sequence, whole, control);
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t t = 0; t < tokens; t++)
                attend(&s, h, first + t, (float *)out[0] + y_at(&s, n * tokens + t, h), NULL);
    }
    free(whole);
    return true;
}

/* ---- its gradient ---------------------------------------------------------------------------- */

/* pw and ds of query i and key j. */
static void weights_of(const struct sample *s, int64_t head, int64_t i, int64_t j, float *pw,
                       float *ds)
{
    const float *stats = s->stats + (head * s->tokens + i) * 2, *dy = s->dy + y_at(s, i, head);
    float p = rp_exp(score(s, head, i, j) - stats[0]) * stats[1];
    float dp = dropped(s, head, i, j, dot(dy, value_at(s, j, head), s->p->head_dim));
    *pw = dropped(s, head, i, j, p);
    *ds = p * (dp - s->sums[head * s->tokens + i]);
}

/* Of queries i = j .. N - 1, panels between multiples of 1024 of i. */
static float sum_queries(const struct weighted *terms, int64_t j, int64_t n, bool control)
{
    float total = 0;
    for (int64_t begin = j; begin < n;) {
        int64_t end = (begin / 1024 + 1) * 1024;
        float chain = 0;
        if (end > n) end = n;
        for (int64_t i = begin; i < end; i++)
            chain = add_weighted(terms, control ? end - 1 - (i - begin) : i, chain);
        total = begin == j ? chain : total + chain;
        begin = end;
    }
    return total;
}

static void query_gradient(const struct sample *s, int64_t head, int64_t i, float *dq)
{
    float *ds = floats(i + 1), pw;
    for (int64_t j = 0; j <= i; j++) weights_of(s, head, i, j, &pw, &ds[j]);
    for (int d = 0; d < s->p->head_dim; d++) {
        struct weighted terms = {ds, key_at(s, 0, head) + d, s->width};
        dq[d] = sum_panels(i + 1, add_weighted, &terms, s->control) * s->scale;
    }
    free(ds);
}

static void key_gradient(const struct sample *s, int64_t kv, int64_t j, float *dk, float *dv)
{
    int group = s->p->heads / s->p->kv_heads;
    float *pw = floats(s->tokens), *ds = floats(s->tokens);
    for (int g = 0; g < group; g++) {
        int64_t head = kv * group + g;
        for (int64_t i = j; i < s->tokens; i++) weights_of(s, head, i, j, &pw[i], &ds[i]);
        for (int d = 0; d < s->p->head_dim; d++) {
            struct weighted of_k = {ds, head_at(s, 0, head) + d, s->width};
            struct weighted of_v = {pw, s->dy + y_at(s, 0, head) + d, y_at(s, 1, 0)};
            float k = sum_queries(&of_k, j, s->tokens, s->control);
            float v = sum_queries(&of_v, j, s->tokens, s->control);
            dk[d] = g == 0 ? k : dk[d] + k;
            dv[d] = g == 0 ? v : dv[d] + v;
        }
    }
    for (int d = 0; d < s->p->head_dim; d++) dk[d] *= s->scale;
    free(ds);
    free(pw);
}

bool reference_attention_dx(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    const struct rp_tensor *qkv = &c->call.in[1];
    for (int64_t n = 0; n < qkv->dims[0]; n++) {
        struct sample s = sample_of(c, n, qkv, in[1], control);
        float *dx = (float *)out[0] + n * s.tokens * s.width;
        s.dy = (const float *)in[0] + n * s.tokens * y_at(&s, 1, 0);
        s.y = (const float *)in[2] + n * s.tokens * y_at(&s, 1, 0);
        s.stats = (const float *)in[3] + n * s.p->heads * s.tokens * 2;
        float *sums = floats(s.p->heads * s.tokens);
        for (int64_t k = 0; k < s.p->heads * s.tokens; k++) {
            int64_t at = y_at(&s, k % s.tokens, k / s.tokens);
            sums[k] = sum_row_products(s.dy + at, s.y + at, s.p->head_dim, control);
        }
        s.sums = sums;
        for (int64_t t = 0; t < s.tokens; t++) {
            float *row = dx + t * s.width;
            for (int64_t h = 0; h < s.p->heads; h++)
                query_gradient(&s, h, t, row + h * s.p->head_dim);
            for (int64_t kv = 0; kv < s.p->kv_heads; kv++) {
                float *dk = row + (s.p->heads + kv) * s.p->head_dim;
                key_gradient(&s, kv, t, dk, dk + s.p->kv_heads * s.p->head_dim);
            }
        }
        free(sums);
    }
    return true;
}

/* ---- rope and head norm ---------------------------------------------------------------------- */

/* `control`: the second product rounded too. */
static bool turn(const struct op_case *c, void *const in[], void *const out[], bool back,
                 bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    const struct rp_tensor *x = &c->call.in[0];
    int half = p->head_dim / 2;
    memcpy(out[0], in[0], rp_tensor_bytes(x));
    for (int64_t r = 0; r < rp_tensor_rows(x); r++)
        for (int64_t k = 0; k < (p->heads + p->kv_heads) * half; k++) {
            float *y = (float *)out[0] + r * x->dims[2] + k / half * p->head_dim + k % half;
            double place = (double)(c->pass.first_token + r % x->dims[1]);
            double f = rp_exp64(-((double)(2 * (k % half)) / p->head_dim) *
                                rp_log64((double)p->rope_base));
            float cosine = (float)rp_cos64(place * f), sine = (float)rp_sin64(place * f);
            float a = y[0], b = y[half];
            if (back) {
                y[0] = control ? a * cosine + b * sine : rp_fma(a, cosine, b * sine);
                y[half] = rp_fma(b, cosine, -(a * sine));
            } else {
                y[0] = control ? a * cosine - b * sine : rp_fma(a, cosine, -(b * sine));
                y[half] = rp_fma(b, cosine, a * sine);
            }
        }
    return true;
}

bool reference_rope(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    return turn(c, in, out, false, control);
}

bool reference_rope_dx(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    return turn(c, in, out, true, control);
}

bool reference_head_norm(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t width = c->call.in[0].dims[2];
    int n_heads = p->heads + p->kv_heads, d = p->head_dim;
    memcpy(out[0], in[0], rp_tensor_bytes(&c->call.in[0]));
    for (int64_t r = 0; r < rp_tensor_rows(&c->call.in[0]); r++)
        for (int h = 0; h < n_heads; h++) {
            float *y = (float *)out[0] + r * width + h * d;
            const float *gamma = in[h < p->heads ? 1 : 2];
            float inv = 1 / rp_sqrt(sum_row_products(y, y, d, control) / (float)d + p->eps);
            for (int i = 0; i < d; i++) y[i] = (y[i] * inv) * gamma[i];
            ((float *)out[1])[r * n_heads + h] = inv;
        }
    return true;
}

bool reference_head_norm_dx(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t width = c->call.in[0].dims[2];
    int n_heads = p->heads + p->kv_heads, d = p->head_dim;
    float *h = floats(d), *g = floats(d);
    memcpy(out[0], in[0], rp_tensor_bytes(&c->call.in[0]));
    for (int64_t k = 0; k < rp_tensor_rows(&c->call.in[0]) * n_heads; k++) {
        int64_t at = k / n_heads * width + k % n_heads * d;
        const float *gamma = in[k % n_heads < p->heads ? 2 : 3];
        float inv = ((const float *)in[4])[k];
        for (int i = 0; i < d; i++) {
            h[i] = ((const float *)in[1])[at + i] * inv;
            g[i] = ((const float *)in[0])[at + i] * gamma[i];
        }
        float b = sum_row_products(g, h, d, control) / (float)d;
        for (int i = 0; i < d; i++) ((float *)out[0])[at + i] = inv * rp_fma(-h[i], b, g[i]);
    }
    free(g);
    free(h);
    return true;
}

/* One value of every head of q, or of k, of all tokens. */
struct head_column {
    const float *dy, *x, *inv;
    int64_t width, head_dim, first, count, n_heads;
};

static float add_head(const void *arg, int64_t k, float acc)
{
    const struct head_column *col = arg;
    int64_t token = k / col->count, head = col->first + k % col->count;
    int64_t at = token * col->width + head * col->head_dim;
    return rp_fma(col->dy[at], col->x[at] * col->inv[token * col->n_heads + head], acc);
}

bool reference_head_norm_dg(const struct op_case *c, void *const in[], void *const out[],
                            bool control)
{
    const struct rp_attention_params *p = &c->call.params.attention;
    int64_t rows = rp_tensor_rows(&c->call.in[0]);
    for (int i = 0; i < 2 * p->head_dim; i++) {
        int of_k = i / p->head_dim, d = i % p->head_dim;
        struct head_column col = {(const float *)in[0] + d,
                                  (const float *)in[1] + d,
                                  in[2],
                                  c->call.in[0].dims[2],
                                  p->head_dim,
                                  of_k ? p->heads : 0,
                                  of_k ? p->kv_heads : p->heads,
                                  p->heads + p->kv_heads};
        ((float *)out[of_k])[d] = sum_samples(c, rows * col.count, add_head, &col, control);
    }
    return true;
}
