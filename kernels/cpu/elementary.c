/* elementary.c - the elementary functions over an array, for the tests of rp-num-1 and the device's
 * self-test: the same inlined vector code that the ops use. */
#include "cpu/cpu_int.h"
#include "cpu/vec.h"

RP_VEC_FN void apply(rp_vf (*function)(rp_vf), const float *x, float *y, int64_t n)
{
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vstore_lanes(y + i, function(rp_vload_lanes(x + i, lanes)), lanes);
    }
}

void RP_ISA_NAME(rp_cpu_elementary)(enum rp_elementary which, const float *x, float *y, int64_t n)
{
    switch (which) {
    case RP_ELEMENTARY_EXP:
        apply(rp_vexp, x, y, n);
        break;
    case RP_ELEMENTARY_SIGMOID:
        apply(rp_vsigmoid, x, y, n);
        break;
    case RP_ELEMENTARY_TANH:
        apply(rp_vtanh, x, y, n);
        break;
    case RP_ELEMENTARY_ERF:
        apply(rp_verf, x, y, n);
        break;
    }
}
