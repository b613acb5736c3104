/* live.cu - the scalars that change from step to step, where kernels read them. */
#include "cuda/gpu.h"

#include <stdlib.h>

struct rp_cuda_live {
    struct rp_cuda_live_values *on_device;
    struct rp_cuda_live_values values;                   /* the same on the host */
    int n_passes, n_updates;                             /* slots in use */
    const struct rp_update *owner[RP_CUDA_LIVE_UPDATES]; /* whose contents a slot has */
    bool gather;
    bool stale; /* the device does not have them yet */
};

/* As a parameter of a kernel the values are taken at the launch: nothing waits, and the memory that
 * they came from is free. */
static __global__ void set_values(struct rp_cuda_live_values values, struct rp_cuda_live_values *to)
{
    *to = values;
}

enum rp_status rp_cuda_live_open(struct rp_cuda *cuda, struct rp_error *err)
{
    void *block = NULL;
    cuda->live = (struct rp_cuda_live *)calloc(1, sizeof *cuda->live);
    if (!cuda->live) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    RP_CUDA_TRY(cudaMalloc(&block, sizeof(struct rp_cuda_live_values)));
    cuda->live->on_device = (struct rp_cuda_live_values *)block;
    return RP_STATUS_OK;
}

void rp_cuda_live_close(struct rp_cuda *cuda)
{
    if (!cuda->live) return;
    (void)cudaFree(cuda->live->on_device);
    free(cuda->live);
    cuda->live = NULL;
}

void rp_cuda_live_gather(struct rp_cuda *cuda, bool gather)
{
    struct rp_cuda_live *live = cuda->live;
    live->gather = gather;
    live->n_passes = live->n_updates = 0;
}

static bool same_pass(const struct rp_pass *a, const struct rp_pass *b)
{
    return a->seed == b->seed && a->position == b->position && a->first_token == b->first_token &&
           memcmp(&a->grad_scale, &b->grad_scale, sizeof a->grad_scale) == 0;
}

/* The slot of `pass`; a new one where its contents are in none. -1: the table is full. */
static int pass_slot(struct rp_cuda *cuda, const struct rp_pass *pass)
{
    struct rp_cuda_live *live = cuda->live;
    for (int i = live->n_passes; i-- > 0;)
        if (same_pass(&live->values.pass[i], pass)) return i;
    if (live->n_passes == RP_CUDA_LIVE_PASSES) {
        if (live->gather) return -1;
        live->n_passes = 0; /* whoever reads the slots has been launched before they are set anew */
    }
    int slot = live->n_passes++;
    memcpy(&live->values.pass[slot], pass, sizeof *pass);
    live->stale = true;
    return slot;
}

/* An update's place is its name: two of them keep their own slots when they happen to be equal. */
static int update_slot(struct rp_cuda *cuda, const struct rp_update *update)
{
    struct rp_cuda_live *live = cuda->live;
    int slot = 0;
    while (slot < live->n_updates && live->owner[slot] != update) slot++;
    bool known = slot < live->n_updates;
    if (known && memcmp(&live->values.update[slot], update, sizeof *update) == 0) return slot;
    if (known && live->gather) return -1; /* it changed between two calls of one replay */
    if (!known && slot == RP_CUDA_LIVE_UPDATES) {
        if (live->gather) return -1;
        live->n_updates = slot = 0;
    }
    if (!known) live->n_updates = slot + 1;
    live->owner[slot] = update;
    memcpy(&live->values.update[slot], update, sizeof *update);
    live->stale = true;
    return slot;
}

int rp_cuda_live_note(struct rp_cuda *cuda, const struct rp_op_call *call,
                      const struct rp_pass *pass)
{
    int of_pass = pass ? pass_slot(cuda, pass) : 0;
    int of_update = call->update ? update_slot(cuda, call->update) : 0;
    return of_pass < 0 || of_update < 0 ? -1 : of_pass * RP_CUDA_LIVE_UPDATES + of_update;
}

const struct rp_pass *rp_cuda_pass(struct rp_cuda *cuda, const struct rp_pass *pass)
{
    return &cuda->live->on_device->pass[pass_slot(cuda, pass)];
}

const struct rp_update *rp_cuda_update(struct rp_cuda *cuda, const struct rp_update *update)
{
    return &cuda->live->on_device->update[update_slot(cuda, update)];
}

enum rp_status rp_cuda_live_set(struct rp_cuda *cuda, struct rp_error *err)
{
    struct rp_cuda_live *live = cuda->live;
    if (!live->stale) return RP_STATUS_OK;
    live->stale = false;
    RP_LAUNCH(cuda, set_values, 1, 1, 0, live->values, live->on_device);
    return RP_STATUS_OK;
}
