/* rms_row.h - private to kernels/cpu: one row, or one head of it, divided by its root mean square.
 * README.md chapters 9 (rms_norm) and 14 (head_norm). */
#ifndef RP_RMS_ROW_H
#define RP_RMS_ROW_H

#include "cpu/rsum.h"
#include "numerics.h"

RP_VEC_FN rp_vf rp_rms_square_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    rp_vf x = rp_vload_lanes((const float *)arg + i, lanes);
    return rp_vfma(x, x, acc);
}

/* y = (x inv) gamma over n elements; the inv that it makes is returned. */
RP_VEC_FN float rp_rms_normalize(int64_t n, const float *x, const float *gamma, float eps, float *y)
{
    float inv = 1.0f / rp_sqrt(rp_rsum(n, rp_rms_square_term, x) / (float)n + eps);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf h = rp_vload_lanes(x + i, lanes) * rp_vset(inv);
        rp_vstore_lanes(y + i, h * rp_vload_lanes(gamma + i, lanes), lanes);
    }
    return inv;
}

struct rp_rms_row {
    const float *x, *dy, *gamma; /* (n) */
    float inv;
};

RP_VEC_FN rp_vf rp_rms_gradient_term(const void *arg, int64_t i, int64_t lanes, rp_vf acc)
{
    const struct rp_rms_row *row = arg;
    rp_vf h = rp_vload_lanes(row->x + i, lanes) * rp_vset(row->inv);
    rp_vf g = rp_vload_lanes(row->dy + i, lanes) * rp_vload_lanes(row->gamma + i, lanes);
    return rp_vfma(g, h, acc);
}

/* dx over n elements; it may be dy. */
RP_VEC_FN void rp_rms_gradient(int64_t n, const struct rp_rms_row *row, float *dx)
{
    rp_vf inv = rp_vset(row->inv);
    rp_vf b = rp_vset(rp_rsum(n, rp_rms_gradient_term, row) / (float)n);
    for (int64_t i = 0; i < n; i += RP_VW) {
        int64_t lanes = n - i < RP_VW ? n - i : RP_VW;
        rp_vf h = rp_vload_lanes(row->x + i, lanes) * inv;
        rp_vf g = rp_vload_lanes(row->dy + i, lanes) * rp_vload_lanes(row->gamma + i, lanes);
        rp_vstore_lanes(dx + i, inv * rp_vfma(-h, b, g), lanes);
    }
}

#endif
