/* row.h - private to kernels/: the numbers that orders of additions are written in, and the longest
 * row that a row sum is asked for. */
#ifndef RP_ROW_H
#define RP_ROW_H

#include "op_int.h"

#include <inttypes.h>

enum {
    RP_ROW_LANES = 32, /* of a row sum: README.md chapter 2 */
    RP_ROW_BLOCK = 4096,
    RP_ROW_MAX = RP_ROW_BLOCK * RP_ROW_BLOCK,
    RP_PANEL = 1024 /* terms of one chain, of products and over samples: chapters 5, 6, 7, 14 */
};

RP_NODISCARD static inline enum rp_status rp_row_check(const char *what, const struct rp_tensor *x,
                                                       struct rp_error *err)
{
    int64_t n = x->dims[x->n_dims - 1];
    if (n <= RP_ROW_MAX) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s: a row of %" PRId64 " elements; %d are the most",
                        what, n, RP_ROW_MAX);
}

#endif
