/* flat.h - private to spec/: a spec as a flat list of values. */
#ifndef RP_FLAT_H
#define RP_FLAT_H

#include "spec/spec_int.h"

struct rp_flat_item {
    char *path;  /* "model.layers[2].conv2d.out" */
    int section; /* of enum rp_section, or -1: in no digest */
    bool is_default;
    char *canonical; /* one value, one text */
    char *human;     /* the same as YAML */
};
struct rp_flat {
    struct rp_flat_item *item;
    int n, capacity;
};
void rp_flat_init(struct rp_flat *flat, const struct rp_spec *spec);
void rp_flat_release(struct rp_flat *flat);

/* A scalar, or a list of scalars: canonical (hex floats) or as YAML. */
void rp_value_text(const struct rp_value *value, bool canonical, struct rp_text *text);

#endif
