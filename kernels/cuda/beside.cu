/* beside.cu - a second stream, on which bytes move between GPUs while the first goes on computing.
 *
 * Two events order the streams, on the device: the second waits for what the first was asked for
 * before beside_begin, the first for what the second was asked for before beside_end. Calls on the
 * second stream are in no graph, and the step's graph is cut where they begin: what was asked for
 * before has been launched then, so it is under way when the bytes are. The stream comes first
 * where the GPU has a choice: the less a rank keeps the others waiting, the better. */
#include "cuda/gpu.h"

#include <stdlib.h>

struct rp_cuda_beside {
    cudaStream_t stream;
    cudaEvent_t begun; /* all that was asked for before beside_begin */
    cudaEvent_t ended; /* all that was asked for beside before beside_end */
};

enum rp_status rp_cuda_beside_open(struct rp_cuda *cuda, struct rp_error *err)
{
    int least = 0, greatest = 0;
    struct rp_cuda_beside *beside = (struct rp_cuda_beside *)calloc(1, sizeof *beside);
    cuda->beside = beside;
    if (!beside) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    RP_CUDA_TRY(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    RP_CUDA_TRY(cudaStreamCreateWithPriority(&beside->stream, cudaStreamNonBlocking, greatest));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&beside->begun, cudaEventDisableTiming));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&beside->ended, cudaEventDisableTiming));
    return RP_STATUS_OK;
}

void rp_cuda_beside_stop(struct rp_cuda *cuda)
{
    if (cuda->beside && cuda->beside->stream) (void)cudaStreamSynchronize(cuda->beside->stream);
}

void rp_cuda_beside_close(struct rp_cuda *cuda)
{
    struct rp_cuda_beside *beside = cuda->beside;
    if (!beside) return;
    rp_cuda_beside_stop(cuda);
    if (beside->ended) (void)cudaEventDestroy(beside->ended);
    if (beside->begun) (void)cudaEventDestroy(beside->begun);
    if (beside->stream) (void)cudaStreamDestroy(beside->stream);
    free(beside);
    cuda->beside = NULL;
}

enum rp_status rp_cuda_beside_begin(struct rp_device *device, void **stream, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_beside *beside = cuda->beside;
    *stream = beside->stream;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    RP_CUDA_TRY(cudaEventRecord(beside->begun, cuda->stream));
    RP_CUDA_TRY(cudaStreamWaitEvent(beside->stream, beside->begun, 0));
    return RP_STATUS_OK;
}

/* Scratch and live values are the first stream's, which uses them meanwhile. */
enum rp_status rp_cuda_beside_run(struct rp_device *device, const struct rp_op_call *call,
                                  struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    cudaStream_t own = cuda->stream;
    const char *last = cuda->last;
    if (call->update || device->table->scratch_bytes(&device->config, call) > 0)
        return rp_error_set(err, RP_STATUS_INTERNAL, "%s cannot run beside other work",
                            rp_op_info(call->op)->name);
    cuda->stream = cuda->beside->stream;
    enum rp_status status = rp_cuda_run_now(cuda, call, NULL, err);
    cuda->stream = own;
    cuda->last = last;
    return status;
}

enum rp_status rp_cuda_beside_end(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    RP_TRY(rp_cuda_graph_cut(cuda, err)); /* what was asked for before has no need to wait */
    RP_CUDA_TRY(cudaEventRecord(cuda->beside->ended, cuda->beside->stream));
    RP_CUDA_TRY(cudaStreamWaitEvent(cuda->stream, cuda->beside->ended, 0));
    return RP_STATUS_OK;
}

int rp_cuda_beside_state(struct rp_device *device)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    cudaError_t code = cudaStreamQuery(cuda->beside->stream);
    if (code != cudaErrorNotReady) return code == cudaSuccess ? 1 : -1;
    (void)cudaGetLastError(); /* not ready is no error of anybody's launch */
    return 0;
}
