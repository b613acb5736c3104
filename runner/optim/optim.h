/* optim.h - the update: host scalars of a step, the states each optimizer keeps, the calls. */
#ifndef RP_OPTIM_H
#define RP_OPTIM_H

#include "op.h"
#include "spec/spec.h"

/* Which rule updates a parameter: the spec's; of muon, which is for matrices of hidden layers, the
 * adamw beside it for the rest. */
struct rp_optim_kind {
    bool by_muon, decays;
};

/* How many state tensors (same shape as the parameter) the optimizer keeps, and their names:
 * "momentum"; "m", "v". At most 2. */
int rp_optim_states(const struct rp_spec *spec, struct rp_optim_kind kind, const char *names[2]);

/* What an update must know of time, resolved to steps by plan/. */
struct rp_optim_schedule {
    uint64_t total, warmup, every, decay; /* steps; 0: none */
};

/* What the optimizer remembers beside its tensors; part of the checkpoint. */
struct rp_optim_state {
    uint64_t t;                      /* updates applied (a skipped step does not count) */
    double beta1_power, beta2_power; /* running products, fp64 */
};

/* Learning rate at a step (0-based), fp64; + - * / and a polynomial cosine only. */
double rp_optim_lr(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                   uint64_t step);
/* The same from another base than the spec's lr. */
double rp_optim_lr_of(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                      double base, uint64_t step);

/* The state after one applied update. Skipped steps do not advance it. */
void rp_optim_advance(const struct rp_spec *spec, struct rp_optim_state *state);

/* The scalars of the update at `step`, given the state after rp_optim_advance. */
void rp_optim_update(const struct rp_spec *spec, const struct rp_optim_schedule *schedule,
                     uint64_t step, const struct rp_optim_state *state, struct rp_optim_kind kind,
                     struct rp_update *update);

/* The op and static parameters for one tensor. */
enum rp_op rp_optim_op(const struct rp_spec *spec, struct rp_optim_kind kind);
void rp_optim_params(const struct rp_spec *spec, struct rp_optim_kind kind,
                     const struct rp_tensor *shape, uint32_t tensor_number,
                     struct rp_optim_params *params);
/* The same of a parameter in which several matrices lie one below the other, each up to row `end`,
 * under muon: each is updated by itself. */
void rp_optim_set_parts(const struct rp_spec *spec, const struct rp_tensor *shape, int n_parts,
                        const int64_t end[], struct rp_optim_params *params);

#endif
