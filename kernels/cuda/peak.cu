/* peak.cu - the most that this GPU does: fma chains in registers, and a plain copy. */
#include "cuda/gpu.h"

enum { THREADS = 256, CHAINS = 8, ROUNDS = 4096 };

static __global__ void fma_chains(float *out, float a, float b)
{
    float x[CHAINS];
    for (int i = 0; i < CHAINS; i++) x[i] = (float)(threadIdx.x + (unsigned)i);
    for (int round = 0; round < ROUNDS; round++) {
        RP_UNROLL
        for (int i = 0; i < CHAINS; i++) x[i] = rp_fma(x[i], a, b);
    }
    float sum = 0;
    for (int i = 0; i < CHAINS; i++) sum += x[i];
    out[(size_t)blockIdx.x * THREADS + threadIdx.x] = sum;
}

static __global__ void copy_words(const float4 *from, float4 *to, size_t n)
{
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = from[i];
}

/* Seconds of the best of a few launches. */
template <class launcher>
static enum rp_status best_of(struct rp_cuda *cuda, launcher launch, double *seconds,
                              struct rp_error *err)
{
    cudaEvent_t from = NULL, to = NULL;
    RP_CUDA_TRY(cudaEventCreateWithFlags(&from, 0));
    RP_CUDA_TRY(cudaEventCreateWithFlags(&to, 0));
    *seconds = 1e9;
    for (int i = 0; i < 5; i++) {
        float milliseconds = 0;
        RP_CUDA_TRY(cudaEventRecord(from, cuda->stream));
        RP_TRY(launch());
        RP_CUDA_TRY(cudaEventRecord(to, cuda->stream));
        RP_CUDA_TRY(cudaEventSynchronize(to));
        RP_CUDA_TRY(cudaEventElapsedTime(&milliseconds, from, to));
        if (milliseconds * 1e-3 < *seconds) *seconds = milliseconds * 1e-3;
    }
    (void)cudaEventDestroy(from);
    (void)cudaEventDestroy(to);
    return RP_STATUS_OK;
}

static enum rp_status measure(struct rp_cuda *cuda, unsigned char *block, size_t half,
                              double *flops, double *bytes, struct rp_error *err)
{
    unsigned blocks = 8 * (unsigned)cuda->n_processors;
    double seconds = 1;
    auto run_fma = [&]() -> enum rp_status {
        RP_LAUNCH(cuda, fma_chains, blocks, THREADS, 0, (float *)block, 0.999f, 0.001f);
        return RP_STATUS_OK;
    };
    auto run_copy = [&]() -> enum rp_status {
        RP_LAUNCH(cuda, copy_words, rp_blocks((int64_t)(half / 16), THREADS), THREADS, 0,
                  (const float4 *)block, (float4 *)(block + half), half / 16);
        return RP_STATUS_OK;
    };
    RP_TRY(best_of(cuda, run_fma, &seconds, err));
    *flops = 2.0 * CHAINS * ROUNDS * THREADS * blocks / seconds;
    RP_TRY(best_of(cuda, run_copy, &seconds, err));
    *bytes = 2.0 * (double)half / seconds;
    return RP_STATUS_OK;
}

void rp_cuda_peak(struct rp_device *device, double (*clock)(void), double *flops, double *bytes)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    struct rp_error err = {RP_STATUS_OK, ""};
    void *block = NULL;
    size_t half = (size_t)256 << 20; /* far beyond the caches */
    (void)clock;                     /* the GPU's own events are exact */
    *flops = *bytes = 1;
    if (device->table->alloc(device, 2 * half, &block, &err) != RP_STATUS_OK) return;
    if (measure(cuda, (unsigned char *)block, half, flops, bytes, &err) != RP_STATUS_OK)
        *flops = *bytes = 1;
    device->table->free(device, block);
}
