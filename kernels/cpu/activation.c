/* activation.c - the elementwise ops on the CPU, as README.md chapter 8 writes them. */
#include "cpu/elementwise.h"

#define SQRT_1_2      0x1.6a09e6p-1f /* 1 / sqrt 2 */
#define ONE_SQRT_2PI  0x1.988454p-2f /* 1 / sqrt(2 pi) */
#define LINEAR        0x1.988454p0f  /* 2 sqrt(2 / pi) */
#define CUBIC         0x1.2444f2p-4f /* 0.044715 times that */
#define CUBIC_TIMES_3 0x1.b6676cp-3f

RP_VEC_FN rp_vf relu_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return rp_vselect(x <= rp_vzero(), rp_vzero(), x);
}
RP_VEC_FN rp_vf relu_dx_term(rp_vf dy, rp_vf y)
{
    return rp_vselect(y <= rp_vzero(), rp_vzero(), dy);
}

RP_VEC_FN rp_vf gelu_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return rp_vset(0.5f) * x * (rp_vset(1.0f) + rp_verf(x * rp_vset(SQRT_1_2)));
}
RP_VEC_FN rp_vf gelu_dx_term(rp_vf dy, rp_vf x)
{
    rp_vf p = rp_vset(0.5f) * (rp_vset(1.0f) + rp_verf(x * rp_vset(SQRT_1_2)));
    rp_vf d = rp_vexp(rp_vset(-0.5f) * x * x) * rp_vset(ONE_SQRT_2PI);
    return dy * rp_vfma(x, d, p);
}

/* s = sigmoid(x) and 1 - s, both with a small relative error. */
RP_VEC_FN rp_vf sigmoid_sides(rp_vf x, rp_vf *rest)
{
    rp_vf e = rp_vexp(-rp_vabs(x)), w = rp_vset(1.0f) / (rp_vset(1.0f) + e), ew = e * w;
    rp_vi negative = x < rp_vzero();
    *rest = rp_vselect(negative, w, ew);
    return rp_vselect(negative, ew, w);
}

/* (1 + tanh u) / 2 is sigmoid(2 u), which loses nothing where tanh u is near -1. */
RP_VEC_FN rp_vf gelu_tanh_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return x * rp_vsigmoid(x * rp_vfma(rp_vset(CUBIC), x * x, rp_vset(LINEAR)));
}
RP_VEC_FN rp_vf gelu_tanh_dx_term(rp_vf dy, rp_vf x)
{
    rp_vf z = x * x, t;
    rp_vf s = sigmoid_sides(x * rp_vfma(rp_vset(CUBIC), z, rp_vset(LINEAR)), &t);
    rp_vf d = rp_vfma(rp_vset(CUBIC_TIMES_3), z, rp_vset(LINEAR));
    return dy * rp_vfma(x * (s * t), d, s);
}

RP_VEC_FN rp_vf silu_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return x * rp_vsigmoid(x);
}
RP_VEC_FN rp_vf silu_dx_term(rp_vf dy, rp_vf x)
{
    rp_vf t, s = sigmoid_sides(x, &t);
    return dy * (s * rp_vfma(x, t, rp_vset(1.0f)));
}

RP_VEC_FN rp_vf sigmoid_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return rp_vsigmoid(x);
}
RP_VEC_FN rp_vf sigmoid_dx_term(rp_vf dy, rp_vf y)
{
    return dy * (y * (rp_vset(1.0f) - y));
}

RP_VEC_FN rp_vf tanh_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return rp_vtanh(x);
}
RP_VEC_FN rp_vf tanh_dx_term(rp_vf dy, rp_vf y)
{
    return dy * rp_vfma(-y, y, rp_vset(1.0f));
}

RP_VEC_FN rp_vf add_term(rp_vf a, rp_vf b)
{
    return a + b;
}

RP_ELEMENTWISE_KERNEL(relu, 1)
RP_ELEMENTWISE_KERNEL(relu_dx, 1)
RP_ELEMENTWISE_KERNEL(gelu, 16)
RP_ELEMENTWISE_KERNEL(gelu_dx, 24)
RP_ELEMENTWISE_KERNEL(gelu_tanh, 16)
RP_ELEMENTWISE_KERNEL(gelu_tanh_dx, 16)
RP_ELEMENTWISE_KERNEL(silu, 8)
RP_ELEMENTWISE_KERNEL(silu_dx, 8)
RP_ELEMENTWISE_KERNEL(sigmoid, 8)
RP_ELEMENTWISE_KERNEL(sigmoid_dx, 1)
RP_ELEMENTWISE_KERNEL(tanh, 16)
RP_ELEMENTWISE_KERNEL(tanh_dx, 1)
RP_ELEMENTWISE_KERNEL(add, 1)
