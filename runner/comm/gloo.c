/* gloo.c - ranks of CPUs: the bytes move through the module reprise_gloo, the sums are our own.
 *
 * reduce: a rank sends slice q of its node to rank q, joins the slices that it gets in the order of
 * the tree, and everybody gathers the roots. These are the bytes of a ring all-reduce. */
#include "comm/gloo/gloo.h"

#include "comm/control.h"
#include "comm/tree.h"

#include "base/mem.h"

#include <stdio.h>

struct gloo_state {
    const struct rp_gloo_module *module;
    void *world;
    float *slices; /* (n_ranks, slice) of the block that is reduced, or NULL */
    uint64_t bytes;
};

static bool store_set(void *context, const char *key, const void *bytes, size_t n)
{
    return rp_control_set(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

static bool store_get(void *context, const char *key, void **bytes, size_t *n)
{
    return rp_control_get(context, key, bytes, n, NULL) == RP_STATUS_OK;
}

static void close_gloo(struct rp_comm *comm)
{
    struct gloo_state *state = comm->state;
    if (!state) return;
    if (state->world) state->module->close(state->world);
    rp_mem_free(state->slices);
    rp_mem_free(state);
    comm->state = NULL;
}

static enum rp_status take_slices(struct gloo_state *state, uint64_t bytes, struct rp_error *err)
{
    if (bytes <= state->bytes) return RP_STATUS_OK;
    rp_mem_free(state->slices);
    state->slices = rp_mem_try(bytes);
    state->bytes = state->slices ? bytes : 0;
    if (state->slices) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the sums of other ranks");
}

static enum rp_status reduce(struct rp_comm *comm, void *sums, uint64_t bytes, struct rp_error *err)
{
    struct gloo_state *state = comm->state;
    char why[RP_GLOO_WHY_BYTES] = "";
    uint64_t slice = bytes / (uint64_t)comm->n_ranks; /* whole: 256 bytes are 64 numbers */
    RP_TRY(take_slices(state, bytes, err));
    if (!state->module->all_to_all(state->world, sums, state->slices, slice, why))
        return rp_control_cause(comm->control, why, err);
    rp_tree_join(state->slices, comm->n_ranks, slice / sizeof(float));
    if (!state->module->all_gather(state->world, state->slices, sums, slice, why))
        return rp_control_cause(comm->control, why, err);
    return RP_STATUS_OK;
}

/* Every rank updates everything, so nothing is left to gather. */
static enum rp_status gather(struct rp_comm *comm, void *parameters, uint64_t bytes,
                             struct rp_error *err)
{
    (void)comm, (void)parameters, (void)bytes, (void)err;
    return RP_STATUS_OK;
}

static const struct rp_comm_table gloo = {
    .name = "gloo", .close = close_gloo, .reduce = reduce, .gather = gather};

enum rp_status rp_comm_open_gloo(struct rp_comm *comm, struct rp_error *err)
{
    struct rp_gloo_store store = {comm->control, store_set, store_get};
    const struct rp_extension *extension = NULL;
    char why[RP_GLOO_WHY_BYTES] = "";
    RP_TRY(rp_extension_open(RP_GLOO_MODULE, RP_GLOO_ADVICE, &extension, err));
    struct gloo_state *state = RP_NEW(struct gloo_state);
    state->module = (const struct rp_gloo_module *)(const void *)extension;
    comm->state = state;
    comm->table = &gloo;
    if (state->module->open(comm->rank, comm->n_ranks, rp_control_own_address(comm->control),
                            &store, &state->world, why))
        return RP_STATUS_OK;
    return rp_control_cause(comm->control, why, err);
}
