/* sweep.h - private to cli/: `run SPEC --sweep KEY=VALUES...`: the grid, and its members one after
 * another. */
#ifndef RP_CLI_SWEEP_H
#define RP_CLI_SWEEP_H

#include "cli/cli.h"
#include "train/train.h"

enum { RP_SWEEP_MAX_KEYS = 16, RP_SWEEP_MAX_MEMBERS = 10000 };

struct rp_sweep_key {
    char *key;
    char **value; /* (n) */
    int n;
};
struct rp_sweep {
    struct rp_sweep_key key[RP_SWEEP_MAX_KEYS];
    int n_keys;
    int n_members; /* the product; the last key runs fastest */
};
/* "train.optimizer.lr=1e-4,3e-4", "seed=1..5", "model.hidden=[64],[64,32]". */
RP_NODISCARD enum rp_status rp_sweep_parse(const char *const *texts, struct rp_sweep *sweep,
                                           struct rp_error *err);
void rp_sweep_release(struct rp_sweep *sweep);
const char *rp_sweep_value(const struct rp_sweep *sweep, int member, int key);

/* The whole command: `--sweep-list` prints, else every member is run. `train` has what the options
 * of `run` say; `signal` is the one that stopped it, 0: none. */
RP_NODISCARD enum rp_status rp_cli_sweep(const struct rp_cli_args *args,
                                         const struct rp_train_options *train, struct json_t *json,
                                         int *signal, struct rp_error *err);

#endif
