/* run.h - running a case on a device. */
#ifndef OPS_RUN_H
#define OPS_RUN_H

#include "ops_test.h"

/* Runs the case (its shapes set) in all its parts from `values`; outputs to got[0 .. n_out-1]. With
 * in_place, inputs and outputs that may share memory do. False: the op wrote outside its outputs.
 */
bool run_case(struct rp_device *device, const struct op_case *c, const struct op_values *values,
              bool in_place, void *const got[]);

/* The output that may be the very buffer of input i, or -1. */
int twin_of(const struct op_case *c, int i);

void check_status(enum rp_status status, const char *what, const struct rp_error *err);

#endif
