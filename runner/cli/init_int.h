/* init_int.h - private to cli/: what `init` knows of the data, and what it chooses for it. */
#ifndef RP_CLI_INIT_INT_H
#define RP_CLI_INIT_INT_H

#include "cli/data_int.h"

enum init_model { INIT_MLP, INIT_LENET, INIT_RESNET_SMALL, INIT_RESNET_LARGE, INIT_GPT };

struct init {
    const char *out; /* where the spec will lie */
    char *name;
    struct rp_data_look look;
    struct rp_data *data;
    struct rp_data_shape shape; /* before valid.fraction */
    int64_t channels;           /* of mean and std */
    double mean[RP_SPEC_MAX_CHANNELS], std[RP_SPEC_MAX_CHANNELS];
    /* chosen: */
    double fraction;
    enum init_model model;
    int64_t n_tokens, context, layers, width; /* text */
    int64_t hidden[2], batch, length;         /* length in epochs, or in steps */
    bool in_steps;
};

/* ---- init_data.c ----------------------------------------------------------------------------- */
char *init_path(const struct init *init, const char *path); /* caller frees */

/* ---- init_images.c --------------------------------------------------------------------------- */
bool init_is_images(const char *folder);
RP_NODISCARD enum rp_status init_pack(struct init *init, const struct rp_cli_args *args,
                                      struct json_t *result, struct rp_error *err);

/* ---- init_choose.c --------------------------------------------------------------------------- */
/* Model, batch, validation fraction. */
void init_choose(struct init *init);
/* Of text the context, before everything else. DATA when there is not enough of it. */
RP_NODISCARD enum rp_status init_choose_context(struct init *init, struct rp_error *err);
/* Length of the training, by the arithmetic that `plan` counts. */
RP_NODISCARD enum rp_status init_choose_length(struct init *init, struct rp_error *err);

/* ---- init_write.c ---------------------------------------------------------------------------- */
/* The lines below `data:` that name the files. */
void init_write_datasets(const struct init *init, struct rp_text *text);
void init_write(const struct init *init, struct rp_text *text);

#endif
