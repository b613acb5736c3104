/* copy.cu - copies between host and device, and filling.
 *
 * Memory that is not pinned is the caller's own again when a call returns: its bytes pass through a
 * ring of pinned blocks, of which the processor fills one while the GPU fetches another (where so
 * much cannot be pinned, of blocks that are not: slower, and the same). Pinned memory is read where
 * it lies. What was asked for ahead is fetched on a stream of its own into a block on the device;
 * when it is wanted, a copy within the device is all that is left. */
#include "cuda/gpu.h"

#include <stdlib.h>

enum { SLOTS = 4, PINNED = 4, AHEAD = 2 /* input and target */ };
static const size_t slot_bytes = (size_t)4 << 20;

struct pinned {
    const unsigned char *block;
    size_t bytes;
};

/* A block on the device that holds, or will, what lies at `host`. */
struct ahead {
    const void *host;
    size_t bytes, capacity;
    void *block;
    cudaEvent_t fetched; /* the host's memory has been read */
    cudaEvent_t taken;   /* the block has been copied from */
    bool full, was_taken;
};

struct rp_cuda_staging {
    struct pinned pinned[PINNED];
    cudaEvent_t direct; /* the last copy from pinned memory that was not ahead */
    bool is_direct;     /* there was one */
    cudaStream_t fetching;
    struct ahead ahead[AHEAD];
    unsigned char *block; /* SLOTS slots */
    bool block_is_pinned;
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
    s->block_is_pinned =
        cudaHostAlloc(&block, SLOTS * slot_bytes, cudaHostAllocDefault) == cudaSuccess;
    (void)cudaGetLastError(); /* a limit of locked memory is no fault */
    if (!s->block_is_pinned) block = malloc(SLOTS * slot_bytes);
    if (!block) return rp_error_set(err, RP_STATUS_MEMORY, "no memory for copies to the GPU");
    s->block = (unsigned char *)block;
    for (int i = 0; i < SLOTS; i++)
        RP_CUDA_TRY(cudaEventCreateWithFlags(&s->done[i], cudaEventDisableTiming));
    RP_CUDA_TRY(cudaStreamCreateWithFlags(&s->fetching, cudaStreamNonBlocking));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&s->direct, cudaEventDisableTiming));
    for (int i = 0; i < AHEAD; i++) {
        RP_CUDA_TRY(cudaEventCreateWithFlags(&s->ahead[i].fetched, cudaEventDisableTiming));
        RP_CUDA_TRY(cudaEventCreateWithFlags(&s->ahead[i].taken, cudaEventDisableTiming));
    }
    return RP_STATUS_OK;
}

void rp_cuda_staging_close(struct rp_cuda *cuda)
{
    struct rp_cuda_staging *s = cuda->staging;
    if (!s) return;
    if (s->fetching) (void)cudaStreamSynchronize(s->fetching);
    for (int i = 0; i < AHEAD; i++) {
        if (s->ahead[i].fetched) (void)cudaEventDestroy(s->ahead[i].fetched);
        if (s->ahead[i].taken) (void)cudaEventDestroy(s->ahead[i].taken);
        (void)cudaFree(s->ahead[i].block);
    }
    if (s->direct) (void)cudaEventDestroy(s->direct);
    if (s->fetching) (void)cudaStreamDestroy(s->fetching);
    for (int i = 0; i < SLOTS; i++)
        if (s->done[i]) (void)cudaEventDestroy(s->done[i]);
    if (s->block_is_pinned)
        (void)cudaFreeHost(s->block);
    else
        free(s->block);
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

/* ---- pinned memory --------------------------------------------------------------------------- */

void rp_cuda_pin(struct rp_device *device, void *block, size_t bytes)
{
    struct rp_cuda_staging *s = ((struct rp_cuda *)device)->staging;
    for (int i = 0; i < PINNED; i++) {
        if (s->pinned[i].block) continue;
        if (cudaHostRegister(block, bytes, cudaHostRegisterDefault) == cudaSuccess) {
            s->pinned[i].block = (const unsigned char *)block;
            s->pinned[i].bytes = bytes;
        }
        (void)cudaGetLastError(); /* a limit of locked memory is no fault */
        return;
    }
}

void rp_cuda_unpin(struct rp_device *device, void *block)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    rp_cuda_graph_stop(cuda);
    (void)cudaStreamSynchronize(cuda->stream);
    (void)cudaStreamSynchronize(s->fetching);
    rp_cuda_save_stop(cuda);
    for (int i = 0; i < AHEAD; i++) s->ahead[i].full = false;
    for (int i = 0; i < PINNED; i++) {
        if (s->pinned[i].block != block) continue;
        (void)cudaHostUnregister(block);
        s->pinned[i].block = NULL;
    }
}

bool rp_cuda_is_pinned(const struct rp_cuda *cuda, const void *host, size_t bytes)
{
    const struct rp_cuda_staging *s = cuda->staging;
    const unsigned char *at = (const unsigned char *)host;
    for (int i = 0; i < PINNED; i++) {
        const struct pinned *p = &s->pinned[i];
        if (p->block && at >= p->block && at + bytes <= p->block + p->bytes) return true;
    }
    return false;
}

enum rp_status rp_cuda_copies_wait(struct rp_device *device, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    RP_TRY(rp_cuda_graph_cut(cuda, err)); /* nobody may wait while a stream is captured */
    if (s->is_direct) RP_CUDA_TRY(cudaEventSynchronize(s->direct));
    s->is_direct = false;
    for (int i = 0; i < AHEAD; i++)
        if (s->ahead[i].host) RP_CUDA_TRY(cudaEventSynchronize(s->ahead[i].fetched));
    return RP_STATUS_OK;
}

/* ---- ahead ----------------------------------------------------------------------------------- */

static enum rp_status fetch(struct rp_cuda *cuda, struct ahead *a, const void *host, size_t bytes,
                            struct rp_error *err)
{
    cudaStream_t stream = cuda->staging->fetching;
    if (bytes > a->capacity) { /* the first time: sizes stay what they are */
        RP_CUDA_TRY(cudaStreamSynchronize(cuda->stream));
        (void)cudaFree(a->block);
        a->capacity = 0;
        RP_CUDA_TRY(cudaMalloc(&a->block, bytes));
        a->capacity = bytes;
    }
    if (a->was_taken) RP_CUDA_TRY(cudaStreamWaitEvent(stream, a->taken, 0));
    RP_CUDA_TRY(cudaMemcpyAsync(a->block, host, bytes, cudaMemcpyHostToDevice, stream));
    RP_CUDA_TRY(cudaEventRecord(a->fetched, stream));
    a->host = host;
    a->bytes = bytes;
    a->full = true;
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_copy_ahead(struct rp_device *device, const void *host, size_t bytes,
                                  struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    RP_TRY(rp_cuda_graph_cut(cuda, err)); /* the work that this is beside */
    for (int i = 0; i < AHEAD; i++) {
        if (!host)
            s->ahead[i].full = false;
        else if (!s->ahead[i].full)
            return rp_cuda_is_pinned(cuda, host, bytes)
                       ? fetch(cuda, &s->ahead[i], host, bytes, err)
                       : RP_STATUS_OK;
    }
    return RP_STATUS_OK;
}

/* What was fetched ahead, to its place. */
static enum rp_status take_ahead(struct rp_cuda *cuda, void *to, const void *host, size_t bytes,
                                 bool *found, struct rp_error *err)
{
    *found = false;
    for (int i = 0; i < AHEAD && !*found; i++) {
        struct ahead *a = &cuda->staging->ahead[i];
        if (!a->full || a->host != host || a->bytes != bytes) continue;
        RP_CUDA_TRY(cudaStreamWaitEvent(cuda->stream, a->fetched, 0));
        RP_CUDA_TRY(cudaMemcpyAsync(to, a->block, bytes, cudaMemcpyDeviceToDevice, cuda->stream));
        RP_CUDA_TRY(cudaEventRecord(a->taken, cuda->stream));
        a->full = false;
        a->was_taken = *found = true;
    }
    return RP_STATUS_OK;
}

/* ---- copies ---------------------------------------------------------------------------------- */

static enum rp_status copy_staged(struct rp_cuda *cuda, void *to, const void *host, size_t bytes,
                                  struct rp_error *err)
{
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

enum rp_status rp_cuda_copy_in(struct rp_device *device, void *to, const void *host, size_t bytes,
                               struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_cuda_staging *s = cuda->staging;
    bool found = false;
    RP_TRY(rp_cuda_graph_cut(cuda, err));
    RP_TRY(take_ahead(cuda, to, host, bytes, &found, err));
    if (found) return RP_STATUS_OK;
    if (!rp_cuda_is_pinned(cuda, host, bytes)) return copy_staged(cuda, to, host, bytes, err);
    RP_CUDA_TRY(cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, cuda->stream));
    RP_CUDA_TRY(cudaEventRecord(s->direct, cuda->stream));
    s->is_direct = true;
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
