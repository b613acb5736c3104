/* tally.h - private to cli/: what a model gave for each sample, counted: confusion and per-class
 * figures, or the errors of values. */
#ifndef RP_CLI_TALLY_H
#define RP_CLI_TALLY_H

#include "cli/apply_args.h"

struct rp_class_tally {
    int64_t support, predicted, right;
    /* NaN where there is nothing to divide: of a class that does not occur, or (precision) that
     * does not occur and is never predicted. A class that occurs and is never predicted has 0. */
    double precision, recall, f1;
};
struct rp_confused {
    int64_t class, as, count;
};
struct rp_value_tally {
    double mse, mae, r2;  /* r2: NaN when the targets are all equal */
    double mean, squares; /* of the targets */
};
struct rp_tally {
    int64_t width, n;
    /* classification */
    int32_t *class, *predicted; /* (n); predicted -1: undecided, an output is NaN */
    int64_t n_undecided;
    struct rp_class_tally *of;    /* (width) */
    struct rp_class_tally mean;   /* over the classes that occur */
    struct rp_confused *confused; /* (n_confused), the most frequent first */
    int64_t n_confused;
    /* regression */
    struct rp_value_tally *value; /* (width) */
    struct rp_value_tally all;    /* mse, mae over all; r2 the mean of those that have one */
};
void rp_tally_init(struct rp_tally *tally, const struct rp_apply *apply);
/* A rp_apply_visit; the context is the tally. */
RP_NODISCARD enum rp_status rp_tally_add(void *tally, const struct rp_apply_pass *pass,
                                         struct rp_error *err);
void rp_tally_end(struct rp_tally *tally);
void rp_tally_release(struct rp_tally *tally);

/* For people, and as keys of a JSON object. */
void rp_tally_print(const struct rp_tally *tally, const struct rp_apply *apply,
                    struct rp_text *text);
void rp_tally_json(const struct rp_tally *tally, const struct rp_apply *apply, json_t *json);

#endif
