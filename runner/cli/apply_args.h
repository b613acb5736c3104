/* apply_args.h - private to cli/: what eval and predict share. */
#ifndef RP_CLI_APPLY_ARGS_H
#define RP_CLI_APPLY_ARGS_H

#include "cli/cli.h"
#include "train/train.h"

#include <jansson.h>

struct rp_cli_apply {
    char *run;
    const char **files; /* NULL-terminated; texts belong to the command line */
    struct rp_apply_options options;
    struct rp_apply *apply;
};
/* RUN [FILE...], --data (a folder, or files in place of the run's), --at, --split; then opens the
 * checkpoint. `predict`: files without targets. */
RP_NODISCARD enum rp_status rp_cli_apply_open(const struct rp_cli_args *args, bool predict,
                                              struct rp_cli_apply *cli, struct rp_error *err);
void rp_cli_apply_close(struct rp_cli_apply *cli);
/* "run", "step", "data" and "samples" of the JSON object. */
void rp_cli_apply_json(const struct rp_cli_apply *cli, json_t *json);
/* Name of a class, or its number. Caller frees. */
char *rp_cli_apply_class(const struct rp_apply *apply, int64_t index);
/* The class that a row of logits names: the largest, of equal ones the first; -1 when one is NaN.
 * The accuracy of a run counts the same way. */
int64_t rp_cli_apply_argmax(const float *logits, int64_t n);

#endif
