/* shape.h - private to kernels/: checks that many shape functions share. */
#ifndef RP_SHAPE_H
#define RP_SHAPE_H

#include "op_int.h"

#include <inttypes.h>
#include <stdio.h>

static inline bool rp_shape_equal(const struct rp_tensor *a, const struct rp_tensor *b)
{
    if (a->n_dims != b->n_dims) return false;
    for (int i = 0; i < a->n_dims; i++)
        if (a->dims[i] != b->dims[i]) return false;
    return true;
}

static inline void rp_shape_set(struct rp_tensor *out, enum rp_dtype dtype,
                                const struct rp_tensor *like)
{
    out->dtype = dtype;
    out->n_dims = like->n_dims;
    for (int i = 0; i < like->n_dims; i++) out->dims[i] = like->dims[i];
}

static inline void rp_shape_set_1d(struct rp_tensor *out, enum rp_dtype dtype, int64_t n)
{
    out->dtype = dtype;
    out->n_dims = 1;
    out->dims[0] = n;
}

/* "(32, 8, 8, 16)" for a message. */
static inline const char *rp_shape_text(const struct rp_tensor *tensor, char text[128])
{
    int at = snprintf(text, 128, "(");
    for (int i = 0; i < tensor->n_dims; i++)
        at += snprintf(text + at, 128 - (size_t)at, "%s%" PRId64, i ? ", " : "", tensor->dims[i]);
    snprintf(text + at, 128 - (size_t)at, ")");
    return text;
}

/* `tensor` must be fp32 of at least `n_dims` dimensions, none of them empty. */
RP_NODISCARD static inline enum rp_status
rp_shape_check(const char *what, const struct rp_tensor *tensor, int n_dims, struct rp_error *err)
{
    if (tensor->dtype != RP_DTYPE_F32 || tensor->n_dims < n_dims)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s takes fp32 of at least %d dimension%s, not %d", what, n_dims,
                            n_dims == 1 ? "" : "s", tensor->n_dims);
    for (int i = 0; i < tensor->n_dims; i++)
        if (tensor->dims[i] < 1) {
            char text[128];
            return rp_error_set(err, RP_STATUS_USAGE, "%s: an input of shape %s is empty", what,
                                rp_shape_text(tensor, text));
        }
    return RP_STATUS_OK;
}

RP_NODISCARD static inline enum rp_status rp_shape_check_equal(const char *what,
                                                               const struct rp_tensor *a,
                                                               const struct rp_tensor *b,
                                                               struct rp_error *err)
{
    char left[128], right[128];
    if (a->dtype == b->dtype && rp_shape_equal(a, b)) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s: shapes %s and %s differ", what,
                        rp_shape_text(a, left), rp_shape_text(b, right));
}

/* `vector` must be fp32 (n). */
RP_NODISCARD static inline enum rp_status rp_shape_check_vector(const char *what,
                                                                const struct rp_tensor *vector,
                                                                int64_t n, struct rp_error *err)
{
    char text[128];
    if (vector->dtype == RP_DTYPE_F32 && vector->n_dims == 1 && vector->dims[0] == n)
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s: a parameter or statistic of shape %s where (%" PRId64 ") is needed",
                        what, rp_shape_text(vector, text), n);
}

#endif
