/* transpose.h - private to kernels/cpu: RP_VW vectors as a square, rows become columns. Numbers
 * move and none is computed. */
#ifndef RP_CPU_TRANSPOSE_H
#define RP_CPU_TRANSPOSE_H

#include "cpu/vec.h"

/* Of two rows that are n apart: what stays of the first and what comes to it of the second, and the
 * rest. Halves of 2 n columns change places. */
#if RP_VW == 16
#define RP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define RP_FIRST_8(a, b)      RP_SHUFFLE(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define RP_REST_8(a, b)                                                                            \
    RP_SHUFFLE(a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define RP_FIRST_4(a, b) RP_SHUFFLE(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define RP_REST_4(a, b)  RP_SHUFFLE(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define RP_FIRST_2(a, b) RP_SHUFFLE(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define RP_REST_2(a, b)  RP_SHUFFLE(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define RP_FIRST_1(a, b) RP_SHUFFLE(a, b, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define RP_REST_1(a, b)  RP_SHUFFLE(a, b, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#elif RP_VW == 8
#define RP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define RP_FIRST_4(a, b)      RP_SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define RP_REST_4(a, b)       RP_SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15)
#define RP_FIRST_2(a, b)      RP_SHUFFLE(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define RP_REST_2(a, b)       RP_SHUFFLE(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define RP_FIRST_1(a, b)      RP_SHUFFLE(a, b, 0, 8, 2, 10, 4, 12, 6, 14)
#define RP_REST_1(a, b)       RP_SHUFFLE(a, b, 1, 9, 3, 11, 5, 13, 7, 15)
#elif RP_VW == 4
#define RP_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define RP_FIRST_2(a, b)      RP_SHUFFLE(a, b, 0, 1, 4, 5)
#define RP_REST_2(a, b)       RP_SHUFFLE(a, b, 2, 3, 6, 7)
#define RP_FIRST_1(a, b)      RP_SHUFFLE(a, b, 0, 4, 2, 6)
#define RP_REST_1(a, b)       RP_SHUFFLE(a, b, 1, 5, 3, 7)
#endif

#define RP_TRANSPOSE_STAGE(x, n)                                                                   \
    for (int i = 0; i < RP_VW; i++) {                                                              \
        if (i & (n)) continue;                                                                     \
        rp_vf first = RP_FIRST_##n(x[i], x[i + (n)]);                                              \
        x[i + (n)] = RP_REST_##n(x[i], x[i + (n)]);                                                \
        x[i] = first;                                                                              \
    }

RP_VEC_FN void rp_vtranspose(rp_vf x[RP_VW])
{
    (void)x;
#if RP_VW >= 16
    RP_TRANSPOSE_STAGE(x, 8)
#endif
#if RP_VW >= 8
    RP_TRANSPOSE_STAGE(x, 4)
#endif
#if RP_VW >= 4
    RP_TRANSPOSE_STAGE(x, 2)
    RP_TRANSPOSE_STAGE(x, 1)
#endif
}

#endif
