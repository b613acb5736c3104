/* compare_int.h - private to cli/: the parts of `compare`. */
#ifndef RP_COMPARE_INT_H
#define RP_COMPARE_INT_H

#include "checkpoint/checkpoint.h"
#include "record/record.h"

#include <jansson.h>

/* One side: a run folder, or digests.jsonl alone (run NULL). */
struct rp_compare_side {
    const char *word; /* as typed */
    char *run;
    struct rp_manifest manifest; /* of a run folder */
    struct rp_digests digests;
};

/* What differs in the specs (any section) and in environment, code and data of the manifests, one
 * fact a line, for people into `text` and as lists into `result`. Nothing when a side is no run. */
void rp_compare_facts(const struct rp_compare_side *a, const struct rp_compare_side *b,
                      struct rp_text *text, json_t *result);

/* The first element that differs in a checkpoint that both kept, the earliest at or after `step`
 * (0: any). */
struct rp_compare_element {
    bool has_checkpoint; /* was there one to look at */
    bool replayed;       /* it was computed again */
    bool found;
    uint64_t step; /* of the checkpoint */
    char tensor[112];
    const char *file; /* model or optimizer */
    int n_dims;
    int64_t index[RP_MAX_DIMS];
    float a, b;
    uint64_t ulps;
    int64_t n_differ, n_elements; /* within the tensor */
    int n_tensors;                /* that differ in all */
    char only[160];               /* a tensor, or shape, that just one side has; "" when none */
};
RP_NODISCARD enum rp_status rp_compare_checkpoints(const char *a, const char *b, uint64_t step,
                                                   struct rp_compare_element *element,
                                                   struct rp_error *err);
/* The same after `step`, which both runs compute again in memory (compare --replay). */
RP_NODISCARD enum rp_status rp_compare_replayed(const struct rp_compare_side *a,
                                                const struct rp_compare_side *b, uint64_t step,
                                                struct rp_compare_element *element,
                                                struct rp_error *err);
/* Floats between the two, counting across zero; +0 and -0 are one apart here, so that unequal bits
 * are never 0 apart. NaN against anything else: UINT64_MAX. */
uint64_t rp_compare_ulps(float a, float b);

#endif
