/* run_int.h - private to cli/: what run and rerun share. */
#ifndef RP_CLI_RUN_INT_H
#define RP_CLI_RUN_INT_H

#include "cli/cli.h"
#include "train/train.h"

/* Fills the JSON object of a run: run, status, step, digests. */
void rp_cli_run_json(const struct rp_train_result *result, struct json_t *json);

/* run --try: tries, prints what it tells. */
RP_NODISCARD enum rp_status rp_cli_try(const struct rp_spec *spec,
                                       const struct rp_train_options *train, bool as_json,
                                       struct json_t *json, struct rp_error *err);

#endif
