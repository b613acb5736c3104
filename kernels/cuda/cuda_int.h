/* cuda_int.h - private to kernels/cuda: the CUDA device, what a kernel's entry gets, and the table.
 *
 * <op>.cu holds device code, launcher and entry of one op, or of a few that share code:
 *
 *     RP_CUDA_KERNEL(relu)
 *     {
 *         (void)pass;
 *         int64_t n = rp_tensor_elements(&call->in[0]);
 *         RP_LAUNCH(cuda, relu, rp_blocks(n, 256), 256, 0, (const float *)call->in[0].data, ...);
 *         return RP_STATUS_OK;
 *     }
 *
 * Every op of ops.def must have one, or the module does not link. An entry only launches: it
 * neither waits nor copies nor allocates, because a whole step is captured in a CUDA graph once and
 * then replayed without calling it again. What stays the same every step (dims, pointers, op
 * parameters, pass->rows) goes to the kernel by value; what changes must be read on the device:
 *   pass->seed, position, first_token, grad_scale   through rp_cuda_pass()
 *   call->update (all of it)                        through rp_cuda_update()
 * and what the device itself makes (struct rp_control) lies in device memory anyway. */
#ifndef RP_CUDA_INT_H
#define RP_CUDA_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "device.h"

struct rp_cuda_live;    /* live.cu */
struct rp_cuda_graph;   /* graph.cu */
struct rp_cuda_staging; /* copy.cu */
struct rp_cuda_save;    /* save.cu */
struct rp_cuda_beside;  /* beside.cu */
struct rp_cuda_ranges;  /* ranges.cu */

struct rp_cuda {
    struct rp_device device; /* first: a rp_device is a rp_cuda */
    cudaStream_t stream;     /* everything runs here, in order, but what is asked for beside */
    /* Device memory for working values, 256-byte aligned: at least what the op's rp_cuda_scratch_*
     * asked for. Its contents do not outlive the entry. */
    void *scratch;
    size_t scratch_bytes;
    /* For choices of speed alone: nothing that decides an order of additions may look at them. */
    int n_processors;
    size_t shared_most; /* bytes of shared memory that a block may have */
    struct rp_cuda_live *live;
    struct rp_cuda_graph *graph;
    struct rp_cuda_staging *staging;
    struct rp_cuda_save *save;
    struct rp_cuda_beside *beside;
    struct rp_cuda_ranges *ranges; /* NULL: no profiler listens */
    const char *last;              /* name of the op run last: a fault shows later */
};

/* Where the contents of `pass`, of `update`, will lie in device memory when the kernel runs. */
const struct rp_pass *rp_cuda_pass(struct rp_cuda *cuda, const struct rp_pass *pass);
const struct rp_update *rp_cuda_update(struct rp_cuda *cuda, const struct rp_update *update);

/* The message for a failed CUDA call or launch: MEMORY when the device has none left, ENVIRONMENT
 * when it is somebody else's, or driver, build and device do not go together, else HARDWARE. `code`
 * is a cudaError_t. */
RP_NODISCARD enum rp_status rp_cuda_error(struct rp_error *err, const char *what, int code);
/* The program's, for what goes on in another way; NULL: nobody listens. */
extern void (*rp_cuda_warn)(const char *text);

/* For the device's own files: a call that must succeed, in a function with `err`. */
#define RP_CUDA_TRY(call)                                                                          \
    do {                                                                                           \
        cudaError_t rp_code_ = (call);                                                             \
        if (rp_code_ != cudaSuccess) return rp_cuda_error(err, #call, (int)rp_code_);              \
    } while (0)

#define RP_CUDA_KERNEL(op)                                                                         \
    enum rp_status rp_cuda_##op(struct rp_cuda *cuda, const struct rp_op_call *call,               \
                                const struct rp_pass *pass, struct rp_error *err)

#define RP_OP(name, ...) RP_CUDA_KERNEL(name);
#include "ops.def"
#undef RP_OP

/* Bytes of scratch for a call: a line in scratch.def for each op that has any. Of dims and
 * parameters alone, so that plan can count it on a machine without a GPU. */
#define RP_SCRATCH(op) size_t rp_cuda_scratch_##op(const struct rp_op_call *call);
#include "cuda/scratch.def"
#undef RP_SCRATCH

/* ---- the device, file by file ---------------------------------------------------------------- */

/* cuda.cu */
extern const struct rp_device_table rp_cuda_table;
RP_NODISCARD enum rp_status rp_cuda_run_now(struct rp_cuda *cuda, const struct rp_op_call *call,
                                            const struct rp_pass *pass, struct rp_error *err);

/* copy.cu: copies and filling. */
RP_NODISCARD enum rp_status rp_cuda_staging_open(struct rp_cuda *cuda, struct rp_error *err);
void rp_cuda_staging_close(struct rp_cuda *cuda);
RP_NODISCARD enum rp_status rp_cuda_copy_in(struct rp_device *device, void *to, const void *host,
                                            size_t bytes, struct rp_error *err);
void rp_cuda_pin(struct rp_device *device, void *block, size_t bytes);
void rp_cuda_unpin(struct rp_device *device, void *block);
bool rp_cuda_is_pinned(const struct rp_cuda *cuda, const void *host, size_t bytes);
RP_NODISCARD enum rp_status rp_cuda_copies_wait(struct rp_device *device, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_copy_ahead(struct rp_device *device, const void *host,
                                               size_t bytes, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_copy_out(struct rp_device *device, void *host, const void *from,
                                             size_t bytes, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_copy_out_many(struct rp_device *device,
                                                  const struct rp_device_copy *copies, int n,
                                                  struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_fill(struct rp_cuda *cuda, void *block, size_t bytes,
                                         uint32_t word, struct rp_error *err);

/* save.cu: copies of the state beside the steps. */
RP_NODISCARD enum rp_status rp_cuda_save_open(struct rp_cuda *cuda, struct rp_error *err);
void rp_cuda_save_close(struct rp_cuda *cuda);
RP_NODISCARD enum rp_status rp_cuda_save_start(struct rp_device *device,
                                               const struct rp_device_copy *copies, int n,
                                               struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_save_fence(struct rp_device *device, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_save_wait(struct rp_device *device, struct rp_error *err);
/* The fence of the save under way has not been passed. */
bool rp_cuda_save_pending(const struct rp_cuda *cuda);
/* Nothing is read or written any more when it returns. */
void rp_cuda_save_stop(struct rp_cuda *cuda);

/* beside.cu: a second stream, for bytes that move between GPUs. */
RP_NODISCARD enum rp_status rp_cuda_beside_open(struct rp_cuda *cuda, struct rp_error *err);
void rp_cuda_beside_close(struct rp_cuda *cuda);
RP_NODISCARD enum rp_status rp_cuda_beside_begin(struct rp_device *device, void **stream,
                                                 struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_beside_run(struct rp_device *device,
                                               const struct rp_op_call *call, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_beside_end(struct rp_device *device, struct rp_error *err);
int rp_cuda_beside_state(struct rp_device *device);
/* Nothing is read or written beside any more when it returns. */
void rp_cuda_beside_stop(struct rp_cuda *cuda);

/* ranges.cu: names of phases and ops for a profiler (NVTX, domain "reprise"). */
void rp_cuda_ranges_open(struct rp_cuda *cuda);
void rp_cuda_ranges_close(struct rp_cuda *cuda);
void rp_cuda_mark(struct rp_device *device, const char *phase);
/* Around the launches of an op; only where `ranges` is set. */
void rp_cuda_range_begin(struct rp_cuda *cuda, const char *op);
void rp_cuda_range_end(struct rp_cuda *cuda);

/* live.cu: a small table in device memory. Outside of a recorded step it is set before the call
 * whose values are not in it; in one, the values of a segment are gathered and set before its
 * replay. */
enum { RP_CUDA_LIVE_PASSES = 4, RP_CUDA_LIVE_UPDATES = 4 };
struct rp_cuda_live_values {
    struct rp_pass pass[RP_CUDA_LIVE_PASSES];
    struct rp_update update[RP_CUDA_LIVE_UPDATES];
};
RP_NODISCARD enum rp_status rp_cuda_live_open(struct rp_cuda *cuda, struct rp_error *err);
void rp_cuda_live_close(struct rp_cuda *cuda);
/* From here on values are gathered (true), or set as they change. Forgets what was there. */
void rp_cuda_live_gather(struct rp_cuda *cuda, bool gather);
/* Notes the values that a call reads; -1 where the table is full. The number of the slots taken
 * tells whether two calls read the same ones. */
int rp_cuda_live_note(struct rp_cuda *cuda, const struct rp_op_call *call,
                      const struct rp_pass *pass);
/* Gives the device what it has not got yet. */
RP_NODISCARD enum rp_status rp_cuda_live_set(struct rp_cuda *cuda, struct rp_error *err);

/* graph.cu: a step is cut into segments at its copies to the device and where work begins beside
 * it; each is captured once. */
RP_NODISCARD enum rp_status rp_cuda_graph_open(struct rp_cuda *cuda, struct rp_error *err);
void rp_cuda_graph_close(struct rp_cuda *cuda);
/* Gives up the step under way, if there is one. */
void rp_cuda_graph_stop(struct rp_cuda *cuda);
/* Graphs hold addresses: after the scratch has moved, or a block is gone, none is any good. What is
 * left of a step under way is done call by call. */
void rp_cuda_graph_forget(struct rp_cuda *cuda);
RP_NODISCARD enum rp_status rp_cuda_step_begin(struct rp_device *device, struct rp_error *err);
RP_NODISCARD enum rp_status rp_cuda_step_end(struct rp_device *device, struct rp_error *err);
/* Ends the segment, before something that is no part of a graph. */
RP_NODISCARD enum rp_status rp_cuda_graph_cut(struct rp_cuda *cuda, struct rp_error *err);
/* An op, or (call NULL) a block set to zero: done now, captured or checked. */
RP_NODISCARD enum rp_status rp_cuda_graph_do(struct rp_cuda *cuda, const struct rp_op_call *call,
                                             const struct rp_pass *pass, void *zero, size_t bytes,
                                             struct rp_error *err);

/* self_test.cu, peak.cu, elementary.cu, facts.cu */
RP_NODISCARD enum rp_status rp_cuda_self_test(struct rp_device *device, struct rp_error *err);
void rp_cuda_peak(struct rp_device *device, double (*clock)(void), double *flops, double *bytes);
RP_NODISCARD enum rp_status rp_cuda_elementary(struct rp_device *device, const char *function,
                                               uint32_t first, uint64_t n, uint64_t *digest,
                                               struct rp_error *err);
void rp_cuda_facts(struct rp_device *device, struct rp_device_facts *facts);
void rp_cuda_describe(struct rp_device *device, char text[256]);

#ifdef __cplusplus
}
#endif

#endif
