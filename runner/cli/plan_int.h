/* plan_int.h - private to cli/: `plan --ranks`. */
#ifndef RP_CLI_PLAN_INT_H
#define RP_CLI_PLAN_INT_H

#include "cli/cli.h"
#include "plan/plan.h"

/* USAGE when an option of `--ranks` is given without it. */
RP_NODISCARD enum rp_status rp_cli_plan_ranks_check(const struct rp_cli_args *args,
                                                    struct rp_error *err);
/* How long the run takes to stop, beside what the site leaves it; `step_seconds` as predicted, or
 * 0.
 */
RP_NODISCARD enum rp_status rp_cli_plan_stop(const struct rp_cli_args *args,
                                             const struct rp_spec *spec, const struct rp_plan *plan,
                                             double step_seconds, struct json_t *result,
                                             struct rp_error *err);
/* plan --ranks N: a step on 1, 2, 4, ... N ranks, predicted. */
RP_NODISCARD enum rp_status rp_cli_plan_ranks(const struct rp_cli_args *args,
                                              const struct rp_spec *spec,
                                              const struct rp_data_shape *data,
                                              struct json_t *result, struct rp_error *err);

#endif
