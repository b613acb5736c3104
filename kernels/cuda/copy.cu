/* copy.cu - copies between host and device, and filling.
 *
 * The caller's memory is his own again when a call returns, so bytes pass through a ring of pinned
 * blocks: the processor copies into one while the GPU fetches another. */
#include "cuda/gpu.h"

#include <stdlib.h>

enum { SLOTS = 4 };
static const size_t slot_bytes = (size_t)4 << 20;

struct rp_cuda_staging {
    unsigned char *block; /* SLOTS slots, pinned */
    cudaEvent_t done[SLOTS];
    bool used[SLOTS]; /* the event has been recorded */
    int next;
};

enum rp_status rp_cuda_staging_open(struct rp_cuda *cuda, struct rp_error *err)
{
    void *block = NULL;
    struct rp_cuda_staging *s = (struct rp_cuda_staging *)calloc(1, sizeof *s);
    cuda->staging = s;
    if (!s) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the CUDA device");
    RP_CUDA_TRY(cudaHostAlloc(&block, SLOTS * slot_bytes, cudaHostAllocDefault));
    s->block = (unsigned char *)block;
    for (int i = 0; i < SLOTS; i++)
        RP_CUDA_TRY(cudaEventCreateWithFlags(&s->done[i], cudaEventDisableTiming));
    return RP_STATUS_OK;
}

void rp_cuda_staging_close(struct rp_cuda *cuda)
{
    struct rp_cuda_staging *s = cuda->staging;
    if (!s) return;
    for (int i = 0; i < SLOTS; i++)
        if (s->done[i]) (void)cudaEventDestroy(s->done[i]);
    if (s->block) (void)cudaFreeHost(s->block);
    free(s);
    cuda->staging = NULL;
}

static unsigned char *slot_at(struct rp_cuda_staging *s, int slot)
{
    return s->block + (size_t)slot * slot_bytes;
}

static enum rp_status take_slot(struct rp_cuda *cuda, int *slot, struct rp_error *err)
{
    struct rp_cuda_staging *s = cuda->staging;
    *slot = s->next;
    s->next = (s->next + 1) % SLOTS;
    if (s->used[*slot]) RP_CUDA_TRY(cudaEventSynchronize(s->done[*slot]));
    s->used[*slot] = true;
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_copy_in(struct rp_device *device, void *to, const void *host, size_t bytes,
                               struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    for (size_t at = 0; at < bytes; at += slot_bytes) {
        size_t n = bytes - at < slot_bytes ? bytes - at : slot_bytes;
        int slot = 0;
        RP_TRY(take_slot(cuda, &slot, err));
        memcpy(slot_at(cuda->staging, slot), (const char *)host + at, n);
        RP_CUDA_TRY(cudaMemcpyAsync((char *)to + at, slot_at(cuda->staging, slot), n,
                                    cudaMemcpyHostToDevice, cuda->stream));
        RP_CUDA_TRY(cudaEventRecord(cuda->staging->done[slot], cuda->stream));
    }
    return RP_STATUS_OK;
}

/* One slot ahead: the GPU writes the next while the processor copies this one. */
enum rp_status rp_cuda_copy_out(struct rp_device *device, void *host, const void *from,
                                size_t bytes, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    int slot[2] = {0, 0};
    size_t asked = 0;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    for (size_t at = 0; at < bytes; at += slot_bytes) {
        while (asked < bytes && asked < at + 2 * slot_bytes) {
            size_t n = bytes - asked < slot_bytes ? bytes - asked : slot_bytes;
            int *taken = &slot[asked / slot_bytes % 2];
            RP_TRY(take_slot(cuda, taken, err));
            RP_CUDA_TRY(cudaMemcpyAsync(slot_at(s, *taken), (const char *)from + asked, n,
                                        cudaMemcpyDeviceToHost, cuda->stream));
            RP_CUDA_TRY(cudaEventRecord(s->done[*taken], cuda->stream));
            asked += n;
        }
        size_t n = bytes - at < slot_bytes ? bytes - at : slot_bytes;
        int ready = slot[at / slot_bytes % 2];
        cudaError_t code = cudaEventSynchronize(s->done[ready]);
        if (code != cudaSuccess)
            return rp_cuda_error(err, cuda->last ? cuda->last : "copy to the host", (int)code);
        memcpy((char *)host + at, slot_at(s, ready), n);
    }
    return RP_STATUS_OK;
}

/* Small ones share a slot and a wait; a large one goes by itself. */
enum rp_status rp_cuda_copy_out_many(struct rp_device *device, const struct rp_device_copy *copies,
                                     int n, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    for (int i = 0; i < n;) {
        int slot = 0, first = i;
        size_t used = 0;
        RP_TRY(take_slot(cuda, &slot, err));
        for (; i < n && used + copies[i].bytes <= slot_bytes; i++) {
            RP_CUDA_TRY(cudaMemcpyAsync(slot_at(s, slot) + used, copies[i].from, copies[i].bytes,
                                        cudaMemcpyDeviceToHost, cuda->stream));
            used += (copies[i].bytes + 15) / 16 * 16;
        }
        RP_CUDA_TRY(cudaEventRecord(s->done[slot], cuda->stream));
        cudaError_t code = cudaEventSynchronize(s->done[slot]);
        if (code != cudaSuccess)
            return rp_cuda_error(err, cuda->last ? cuda->last : "copy to the host", (int)code);
        used = 0;
        for (int k = first; k < i; k++) {
            memcpy(copies[k].host, slot_at(s, slot) + used, copies[k].bytes);
            used += (copies[k].bytes + 15) / 16 * 16;
        }
        if (i < n && copies[i].bytes > slot_bytes) {
            RP_TRY(rp_cuda_copy_out(device, copies[i].host, copies[i].from, copies[i].bytes, err));
            i++;
        }
    }
    return RP_STATUS_OK;
}

static __global__ void fill_words(uint32_t *to, size_t n, uint32_t word)
{
    size_t stride = (size_t)gridDim.x * blockDim.x;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) to[i] = word;
}

enum rp_status rp_cuda_fill(struct rp_cuda *cuda, void *block, size_t bytes, uint32_t word,
                            struct rp_error *err)
{
    size_t words = bytes / 4;
    RP_CUDA_TRY(cudaMemsetAsync(block, 0, bytes, cuda->stream));
    if (word == 0 || words == 0) return RP_STATUS_OK;
    unsigned blocks = words < 256 * 1024 ? rp_blocks((int64_t)words, 256) : 1024;
    RP_LAUNCH(cuda, fill_words, blocks, 256, 0, (uint32_t *)block, words, word);
    return RP_STATUS_OK;
}
