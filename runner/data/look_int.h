/* look_int.h - private to runner/data: the parts of rp_data_look. */
#ifndef RP_DATA_LOOK_INT_H
#define RP_DATA_LOOK_INT_H

#include "data/npy.h"

/* Files read before there is a spec: a source whose messages begin with the path alone. */
struct look_source {
    struct rp_spec spec;
    struct rp_spec_dataset dataset;
    struct rp_data_source source;
};
struct look_source *look_source_new(const char *const *paths, int n);
void look_source_free(struct look_source *source); /* NULL is fine */

/* A csv text: its delimiter, which column is the label, which ones are left out. */
RP_NODISCARD enum rp_status look_at_csv(const char *path, const char *label,
                                        struct rp_data_look *look, struct rp_error *err);

#endif
