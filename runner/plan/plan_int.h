/* plan_int.h - private to plan/: the steps of making a plan. */
#ifndef RP_PLAN_INT_H
#define RP_PLAN_INT_H

#include "plan/plan.h"

/* steps.c: batch, shards, ranks and passes, then the length of training and the schedule. */
RP_NODISCARD enum rp_status rp_plan_set_passes(struct rp_plan *plan, const struct rp_spec *spec,
                                               struct rp_error *err);
RP_NODISCARD enum rp_status rp_plan_set_steps(struct rp_plan *plan, const struct rp_spec *spec,
                                              struct rp_error *err);

/* place.c: no two tensors that are alive together share a byte, but aliases. */
void rp_plan_place_init(struct rp_plan_place *place, const struct rp_graph *graph);
void rp_plan_place_release(struct rp_plan_place *place);

/* data_memory.c: bytes that the data sets of a run take, and the most while they are read. */
struct rp_plan_data_memory {
    uint64_t held, most;
};
struct rp_plan_data_memory rp_plan_data_memory(const struct rp_plan *plan,
                                               const struct rp_spec *spec);

/* owners.c: `plan->ranks` and the model are there. USAGE: REPRISE_BUCKET_BYTES is no number. */
RP_NODISCARD enum rp_status rp_plan_set_owners(struct rp_plan *plan, const struct rp_spec *spec,
                                               struct rp_error *err);
void rp_plan_release_owners(struct rp_plan_owners *owners);

/* buckets.c: what is exchanged together, and who owns what of it; `order` and the chunks are there.
 */
RP_NODISCARD enum rp_status rp_plan_cut_buckets(struct rp_plan_owners *owners,
                                                const struct rp_model *model, struct rp_error *err);
/* The byte borders are there, too. */
void rp_plan_set_exchanges(struct rp_plan_owners *owners, const struct rp_model *model);
void rp_plan_release_buckets(struct rp_plan_owners *owners);

/* memory.c: fp32 numbers that a checkpoint holds for a tensor, its states and average included. */
uint64_t rp_plan_checkpoint_numbers(const struct rp_spec *spec, const struct rp_model_tensor *kept);

/* memory.c: the table, checkpoint_bytes, flops_per_step. */
void rp_plan_set_memory(struct rp_plan *plan, const struct rp_spec *spec);

#endif
