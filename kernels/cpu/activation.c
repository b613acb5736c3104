/* activation.c - the elementwise ops on the CPU, as README.md chapter 8 writes them. */
#include "cpu/elementwise.h"

#define SQRT_1_2      0x1.6a09e6p-1f /* 1 / sqrt 2 */
#define ONE_SQRT_2PI  0x1.988454p-2f /* 1 / sqrt(2 pi) */
#define SQRT_2_PI     0x1.988454p-1f /* sqrt(2 / pi) */
#define CUBIC         0x1.2444f2p-5f /* 0.044715 sqrt(2 / pi) */
#define CUBIC_TIMES_3 0x1.b6676cp-4f /* three times that */

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

RP_VEC_FN rp_vf gelu_tanh_of(rp_vf x, rp_vf square)
{
    return rp_vtanh(x * rp_vfma(rp_vset(CUBIC), square, rp_vset(SQRT_2_PI)));
}
RP_VEC_FN rp_vf gelu_tanh_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return rp_vset(0.5f) * x * (rp_vset(1.0f) + gelu_tanh_of(x, x * x));
}
RP_VEC_FN rp_vf gelu_tanh_dx_term(rp_vf dy, rp_vf x)
{
    rp_vf square = x * x, t = gelu_tanh_of(x, square);
    rp_vf s = rp_vfma(-t, t, rp_vset(1.0f));
    rp_vf d = rp_vfma(rp_vset(CUBIC_TIMES_3), square, rp_vset(SQRT_2_PI));
    return dy * rp_vfma(rp_vset(0.5f) * x * s, d, rp_vset(0.5f) * (rp_vset(1.0f) + t));
}

RP_VEC_FN rp_vf silu_term(rp_vf x, rp_vf unused)
{
    (void)unused;
    return x * rp_vsigmoid(x);
}
RP_VEC_FN rp_vf silu_dx_term(rp_vf dy, rp_vf x)
{
    rp_vf s = rp_vsigmoid(x);
    return dy * (s * rp_vfma(x, rp_vset(1.0f) - s, rp_vset(1.0f)));
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
