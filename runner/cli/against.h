/* against.h - private to cli/: what a run is compared with while it runs. */
#ifndef RP_CLI_AGAINST_H
#define RP_CLI_AGAINST_H

#include "cli/cli.h"
#include "train/train.h"

struct rp_cli_against {
    const char *what;          /* as given; not owned */
    char *run;                 /* the run, or NULL */
    struct rp_digests digests; /* its steps; none when only a final digest is known */
    char final[RP_SHA256_HEX]; /* "" when not known */
};
/* DIGEST (64 digits: a final one) | a file like digests.jsonl | RUN. */
RP_NODISCARD enum rp_status rp_cli_against_open(const char *what, struct rp_cli_against *against,
                                                struct rp_error *err);
RP_NODISCARD enum rp_status rp_cli_against_open_run(const char *run, struct rp_cli_against *against,
                                                    struct rp_error *err);
/* The steps, for rp_train_options; NULL when there are none. */
const struct rp_digests *rp_cli_against_steps(const struct rp_cli_against *against);
/* A run that ended well: its length and final digest against theirs. Fills "against", "compared"
 * and "equal" of the JSON object. */
RP_NODISCARD enum rp_status rp_cli_against_end(const struct rp_cli_against *against,
                                               const struct rp_train_result *result,
                                               struct json_t *json, struct rp_error *err);
void rp_cli_against_release(struct rp_cli_against *against);

#endif
