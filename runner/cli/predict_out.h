/* predict_out.h - private to cli/: predictions, and the forms that they are written in. */
#ifndef RP_CLI_PREDICT_OUT_H
#define RP_CLI_PREDICT_OUT_H

#include "cli/apply_args.h"

struct rp_predictions {
    const struct rp_apply *apply; /* not owned */
    bool classes;
    int32_t *class; /* (n) -1: an output is not a number */
    float *number;  /* (n, width) probabilities, or values */
};
RP_NODISCARD enum rp_status rp_predictions_init(struct rp_predictions *predictions,
                                                const struct rp_apply *apply, struct rp_error *err);
/* A rp_apply_visit; the context is the predictions. */
RP_NODISCARD enum rp_status rp_predictions_add(void *predictions, const struct rp_apply_pass *pass,
                                               struct rp_error *err);
void rp_predictions_release(struct rp_predictions *predictions);

/* sample,class,p_NAME... or sample,value: numbers in the fewest digits that read back as the same
 * binary32. */
void rp_predictions_csv(const struct rp_predictions *predictions, struct rp_text *text);
/* An .npy file of (n, width) binary32: probabilities, or values. */
void rp_predictions_npy(const struct rp_predictions *predictions, struct rp_text *text);
json_t *rp_predictions_json(const struct rp_predictions *predictions);

#endif
