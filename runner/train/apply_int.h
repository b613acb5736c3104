/* apply_int.h - private to train/: what a checkpoint applied to data has open. */
#ifndef RP_APPLY_INT_H
#define RP_APPLY_INT_H

#include "train/start_int.h"

struct rp_apply_state {
    char *run;
    struct rp_manifest manifest;
    struct rp_spec *spec;
    struct rp_data_shape shape;     /* of the data that it was trained on */
    char *paths[RP_SPEC_MAX_FILES]; /* of other files */
    struct rp_data *data;
    enum rp_split split; /* of `data` */
    struct rp_plan *plan;
    struct rp_device *device;
    struct rp_trainer *trainer;
};

/* Opens state->data, and says in state->split which part of it is meant. */
RP_NODISCARD enum rp_status rp_apply_open_data(struct rp_apply_state *state,
                                               const struct rp_apply_options *options,
                                               struct rp_error *err);

#endif
