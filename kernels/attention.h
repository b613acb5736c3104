/* attention.h - private to kernels/: what the ops on rows of q, k and v have in common. */
#ifndef RP_ATTENTION_H
#define RP_ATTENTION_H

#include "shape.h"

/* Places stay where the angles of rope are exact enough, heads where a row fits into registers. */
enum { RP_ATTENTION_HEAD_MAX = 256, RP_ATTENTION_PLACES_MAX = 1 << 20 };

/* Values in a row of qkv. */
static inline int64_t rp_attention_width(const struct rp_attention_params *p)
{
    return ((int64_t)p->heads + 2 * (int64_t)p->kv_heads) * p->head_dim;
}

/* `qkv` must be fp32 (N, T, (heads + 2 kv_heads) head_dim). */
RP_NODISCARD enum rp_status rp_attention_check(const char *what, const struct rp_tensor *qkv,
                                               const struct rp_attention_params *p,
                                               struct rp_error *err);
/* `tensor` must be fp32 of these dims; `name` says which it is. */
RP_NODISCARD enum rp_status rp_attention_check_dims(const char *what, const char *name,
                                                    const struct rp_tensor *tensor, int n_dims,
                                                    const int64_t *dims, struct rp_error *err);

#endif
