/* save.cu - the state copied to the host beside the steps.
 *
 * A stream of its own waits for the update before, then copies; the update after waits for it, on
 * the device. So the forward and backward of a step and the copy of the state before it run at the
 * same time, and the thread that writes the checkpoint waits for the copy alone. */
#include "cuda/gpu.h"

#include <stdlib.h>

struct rp_cuda_save {
    cudaStream_t stream;
    cudaEvent_t updated; /* all that was asked for before the save is done */
    cudaEvent_t copied;
    bool started; /* `copied` is of a save */
    bool pending; /* nobody has been told to wait for it */
};

enum rp_status rp_cuda_save_open(struct rp_cuda *cuda, struct rp_error *err)
{
    struct rp_cuda_save *save = (struct rp_cuda_save *)calloc(1, sizeof *save);
    cuda->save = save;
    if (!save) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    RP_CUDA_TRY(cudaStreamCreateWithFlags(&save->stream, cudaStreamNonBlocking));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&save->updated, cudaEventDisableTiming));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&save->copied, cudaEventDisableTiming));
    return RP_STATUS_OK;
}

void rp_cuda_save_stop(struct rp_cuda *cuda)
{
    struct rp_cuda_save *save = cuda->save;
    if (!save || !save->started) return;
    (void)cudaStreamSynchronize(save->stream);
    save->pending = false;
}

void rp_cuda_save_close(struct rp_cuda *cuda)
{
    struct rp_cuda_save *save = cuda->save;
    if (!save) return;
    rp_cuda_save_stop(cuda);
    if (save->copied) (void)cudaEventDestroy(save->copied);
    if (save->updated) (void)cudaEventDestroy(save->updated);
    if (save->stream) (void)cudaStreamDestroy(save->stream);
    free(save);
    cuda->save = NULL;
}

bool rp_cuda_save_pending(const struct rp_cuda *cuda)
{
    return cuda->save->pending;
}

enum rp_status rp_cuda_save_start(struct rp_device *device, const struct rp_device_copy *copies,
                                  int n, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_save *save = cuda->save;
    rp_cuda_save_stop(cuda);
    save->started = false; /* the writer, which looks at it, has ended */
    for (int i = 0; i < n; i++)
        if (!rp_cuda_is_pinned(cuda, copies[i].host, copies[i].bytes))
            return rp_cuda_copy_out_many(device, copies, n, err);
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    RP_CUDA_TRY(cudaEventRecord(save->updated, cuda->stream));
    RP_CUDA_TRY(cudaStreamWaitEvent(save->stream, save->updated, 0));
    save->started = save->pending = true;
    for (int i = 0; i < n; i++)
        RP_CUDA_TRY(cudaMemcpyAsync(copies[i].host, copies[i].from, copies[i].bytes,
                                    cudaMemcpyDeviceToHost, save->stream));
    RP_CUDA_TRY(cudaEventRecord(save->copied, save->stream));
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_save_fence(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (!cuda->save->pending) return RP_STATUS_OK;
    cuda->save->pending = false;
    RP_TRY(rp_cuda_graph_cut(cuda, err)); /* what was asked for before has no need to wait */
    RP_CUDA_TRY(cudaStreamWaitEvent(cuda->stream, cuda->save->copied, 0));
    return RP_STATUS_OK;
}

/* On the writer's thread, for which no device has been chosen. Another thread may be capturing a
 * stream meanwhile: that forbids waiting to itself alone. */
enum rp_status rp_cuda_save_wait(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (!cuda->save->started) return RP_STATUS_OK;
    RP_CUDA_TRY(cudaSetDevice(device->config.number));
    cudaError_t code = cudaEventSynchronize(cuda->save->copied);
    if (code != cudaSuccess)
        return rp_cuda_error(err, "copy of the state for a checkpoint", (int)code);
    return RP_STATUS_OK;
}
