/* measure_int.h - private to measure*.c: times for `plan --ranks`. */
#ifndef RP_MEASURE_INT_H
#define RP_MEASURE_INT_H

#include "base/base.h"

/* One of them: of an even number the lesser in the middle. */
double rp_measure_median(const double *seconds, int n);
/* What it takes as many ranks of this machine as a node has, two at least, with nothing else to do,
 * to agree after a step. */
RP_NODISCARD enum rp_status rp_measure_agree(int beside, double *seconds, struct rp_error *err);

#endif
