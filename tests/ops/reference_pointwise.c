/* reference_pointwise.c - activations, add, dropout: chapter 8, one element at a time. The
 * elementary functions are those of numerics.h, which have tests of their own. A `control` here is
 * a formula that is equal on paper. */
#include "reference.h"

static const float sqrt_half = (float)0.70710678118654752440,
                   gelu_k = (float)0.39894228040143267794;
static const float k0 = (float)1.59576912160573071176,
                   k1 = (float)(0.044715 * 1.59576912160573071176);
static const float k2 = (float)(3 * 0.044715 * 1.59576912160573071176);

typedef float (*unary)(float x, bool control);
typedef float (*binary)(float a, float b, bool control);

static bool map1(const struct op_case *c, void *const in[], void *const out[], unary f,
                 bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    for (int64_t i = 0; i < n; i++) ((float *)out[0])[i] = f(((const float *)in[0])[i], control);
    return true;
}

static bool map2(const struct op_case *c, void *const in[], void *const out[], binary f,
                 bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    for (int64_t i = 0; i < n; i++)
        ((float *)out[0])[i] = f(((const float *)in[0])[i], ((const float *)in[1])[i], control);
    return true;
}

static float relu(float x, bool control)
{
    if (control) return x < 0 ? 0 : x; /* keeps -0 */
    return x <= 0 ? 0 : x;
}
static float relu_dx(float dy, float y, bool control)
{
    if (control) return y < 0 ? 0 : dy;
    return y <= 0 ? 0 : dy;
}
static float gelu(float x, bool control)
{
    float e = rp_erf(x * sqrt_half);
    return control ? 0.5f * (x + x * e) : (0.5f * x) * (1 + e);
}
static float gelu_dx(float dy, float x, bool control)
{
    float p = 0.5f * (1 + rp_erf(x * sqrt_half));
    float d = rp_exp((-0.5f * x) * x) * gelu_k;
    return control ? dy * (x * d + p) : dy * rp_fma(x, d, p);
}
/* sigmoid(v) and 1 - sigmoid(v), neither from the other by a difference. */
static void sigmoid_pair(float v, float *s, float *t)
{
    float e = rp_exp(v < 0 ? v : -v), w = 1 / (1 + e), q = e * w;
    *s = v < 0 ? q : w;
    *t = v < 0 ? w : q;
}
static float gelu_tanh(float x, bool control)
{
    float z = x * x, v = control ? k0 * x + k1 * (z * x) : x * rp_fma(k1, z, k0);
    return x * rp_sigmoid(v);
}
static float gelu_tanh_dx(float dy, float x, bool control)
{
    float z = x * x, s, t;
    sigmoid_pair(x * rp_fma(k1, z, k0), &s, &t);
    if (control) t = 1 - s;
    return dy * rp_fma(x * (s * t), rp_fma(k2, z, k0), s);
}
static float silu(float x, bool control)
{
    return control ? x / (1 + rp_exp(-x)) : x * rp_sigmoid(x);
}
static float silu_dx(float dy, float x, bool control)
{
    float s, t;
    sigmoid_pair(x, &s, &t);
    if (control) t = 1 - s;
    return dy * (s * rp_fma(x, t, 1));
}
static float sigmoid(float x, bool control)
{
    return control ? 1 / (1 + rp_exp(-x)) : rp_sigmoid(x);
}
static float sigmoid_dx(float dy, float y, bool control)
{
    return control ? (dy * y) * (1 - y) : dy * (y * (1 - y));
}
static float tanh_(float x, bool control)
{
    return control ? 2 * rp_sigmoid(2 * x) - 1 : rp_tanh(x);
}
static float tanh_dx(float dy, float y, bool control)
{
    return control ? dy * (1 - y * y) : dy * rp_fma(-y, y, 1);
}
#define MAP(op, map, f)                                                                            \
    bool reference_##op(const struct op_case *c, void *const in[], void *const out[],              \
                        bool control)                                                              \
    {                                                                                              \
        return map(c, in, out, f, control);                                                        \
    }
MAP(relu, map1, relu)
MAP(relu_dx, map2, relu_dx)
MAP(gelu, map1, gelu)
MAP(gelu_dx, map2, gelu_dx)
MAP(gelu_tanh, map1, gelu_tanh)
MAP(gelu_tanh_dx, map2, gelu_tanh_dx)
MAP(silu, map1, silu)
MAP(silu_dx, map2, silu_dx)
MAP(sigmoid, map1, sigmoid)
MAP(sigmoid_dx, map2, sigmoid_dx)
MAP(tanh, map1, tanh_)
MAP(tanh_dx, map2, tanh_dx)

/* One rounded addition: there is no other way to write it. */
bool reference_add(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t n = rp_tensor_elements(&c->call.in[0]);
    for (int64_t i = 0; i < n; i++)
        ((float *)out[0])[i] = ((const float *)in[0])[i] + ((const float *)in[1])[i];
    return !control;
}

/* `control`: the mask of another site. */
bool reference_dropout(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    const struct rp_dropout_params *params = &c->call.params.dropout;
    int64_t samples = c->call.in[0].dims[0], size = rp_tensor_elements(&c->call.in[0]) / samples;
    uint32_t threshold = (uint32_t)((double)params->p * 4294967296.0 + 0.5);
    float scale = 1 / (1 - params->p);
    for (int64_t n = 0; n < samples; n++)
        for (int64_t i = 0; i < size; i++) {
            struct rp_draw draw =
                rp_draw_block(c->pass.seed, RP_PURPOSE_DROPOUT, params->site + control,
                              c->pass.position + (uint64_t)n, (uint32_t)(i / 4));
            float x = ((const float *)in[0])[n * size + i];
            ((float *)out[0])[n * size + i] = draw.u[i % 4] >= threshold ? x * scale : 0;
        }
    return true;
}

bool reference_dropout_dx(const struct op_case *c, void *const in[], void *const out[],
                          bool control)
{
    return reference_dropout(c, in, out, control);
}

bool reference_swiglu(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[0].dims[2] / 2;
    for (int64_t i = 0; i < rows * n; i++) {
        const float *x = (const float *)in[0] + i / n * 2 * n;
        float a = x[i % n], b = x[n + i % n], s = rp_sigmoid(a);
        ((float *)out[0])[i] = control ? a * (s * b) : (a * s) * b;
    }
    return true;
}

bool reference_swiglu_dx(const struct op_case *c, void *const in[], void *const out[], bool control)
{
    int64_t rows = rp_tensor_rows(&c->call.in[0]), n = c->call.in[0].dims[2];
    for (int64_t i = 0; i < rows * n; i++) {
        const float *x = (const float *)in[1] + i / n * 2 * n;
        float *dx = (float *)out[0] + i / n * 2 * n;
        float a = x[i % n], b = x[n + i % n], dy = ((const float *)in[0])[i], s, t;
        sigmoid_pair(a, &s, &t);
        if (control) t = 1 - s;
        dx[i % n] = (dy * b) * (s * rp_fma(a, t, 1));
        dx[n + i % n] = dy * (a * s);
    }
    return true;
}
