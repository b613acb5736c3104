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
 *   pass->seed, position, grad_scale   through rp_cuda_pass()
 *   call->update (all of it)           through rp_cuda_update()
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

struct rp_cuda_live;  /* live.cu */
struct rp_cuda_graph; /* graph.cu */

struct rp_cuda {
    struct rp_device device; /* first: a rp_device is a rp_cuda */
    cudaStream_t stream;     /* everything runs here, in order */
    /* Device memory for working values, 256-byte aligned: at least what the op's rp_cuda_scratch_*
     * asked for. Its contents do not outlive the entry. */
    void *scratch;
    size_t scratch_bytes;
    /* For choices of speed alone: nothing that decides an order of additions may look at them. */
    int n_processors;
    size_t shared_most; /* bytes of shared memory that a block may have */
    struct rp_cuda_live *live;
    struct rp_cuda_graph *graph;
};

/* Where the contents of `pass`, of `update`, will lie in device memory when the kernel runs. */
const struct rp_pass *rp_cuda_pass(struct rp_cuda *cuda, const struct rp_pass *pass);
const struct rp_update *rp_cuda_update(struct rp_cuda *cuda, const struct rp_update *update);

/* The message for a failed CUDA call or launch: MEMORY when the device has none left, else
 * HARDWARE or INTERNAL. `code` is a cudaError_t. */
RP_NODISCARD enum rp_status rp_cuda_error(struct rp_error *err, const char *what, int code);

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

#ifdef __cplusplus
}
#endif

#endif
