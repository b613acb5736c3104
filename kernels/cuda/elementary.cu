/* elementary.cu - digests of the elementary functions over runs of inputs, for tests:
 * kernels/README.md chapter 3. Of those that have a faster form, that form. */
#include "cuda/elementary.h"
#include "cuda/gpu.h"

enum function { F_exp, F_sigmoid, F_tanh, F_erf, F_log, F_sin, F_cos, F_COUNT };
static const char *const names[F_COUNT] = {"exp", "sigmoid", "tanh", "erf", "log", "sin", "cos"};
enum { THREADS = 256, BLOCKS = 4096 };

template <int which> static __device__ float value_of(float x)
{
    switch (which) {
    case F_exp:
        return x > 40.0f ? rp_exp(x) : rp_exp_below(x);
    case F_sigmoid:
        return rp_sigmoid_fast(x);
    case F_tanh:
        return rp_tanh_fast(x);
    case F_erf:
        return rp_erf_fast(x);
    case F_log:
        return rp_log(x);
    case F_sin:
        return rp_sin(x);
    default:
        return rp_cos(x);
    }
}

/* Integer additions: any order. */
template <int which>
static __global__ void sum_inputs(uint32_t first, uint64_t n, unsigned long long *digest)
{
    uint64_t stride = (uint64_t)gridDim.x * blockDim.x, sum = 0;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        uint32_t u = first + (uint32_t)i;
        uint32_t bits = rp_float_bits(value_of<which>(rp_float_of_bits(u)));
        sum += ((uint64_t)u + 1) * rp_digest_mix(rp_digest_bits(bits));
    }
    atomicAdd(digest, (unsigned long long)sum);
}

static enum rp_status launch(struct rp_cuda *cuda, int which, uint32_t first, uint64_t n,
                             unsigned long long *digest, struct rp_error *err)
{
    unsigned blocks = (unsigned)BLOCKS;
    if (n < (uint64_t)BLOCKS * THREADS) blocks = rp_blocks((int64_t)n, THREADS);
    switch (which) {
#define CASE(name)                                                                                 \
    case F_##name:                                                                                 \
        RP_LAUNCH(cuda, (sum_inputs<F_##name>), blocks, THREADS, 0, first, n, digest);             \
        break;
        CASE(exp)
        CASE(sigmoid)
        CASE(tanh)
        CASE(erf)
        CASE(log)
        CASE(sin)
        CASE(cos)
#undef CASE
    default:
        return rp_error_set(err, RP_STATUS_USAGE, "no such elementary function");
    }
    return RP_STATUS_OK;
}

enum rp_status rp_cuda_elementary(struct rp_device *device, const char *function, uint32_t first,
                                  uint64_t n, uint64_t *digest, struct rp_error *err)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    void *sum = NULL;
    int which = 0;
    while (which < F_COUNT && strcmp(names[which], function) != 0) which++;
    RP_TRY(device->table->alloc(device, sizeof *digest, &sum, err));
    enum rp_status status = device->table->zero(device, sum, sizeof *digest, err);
    if (status == RP_STATUS_OK)
        status = launch(cuda, which, first, n, (unsigned long long *)sum, err);
    if (status == RP_STATUS_OK)
        status = device->table->copy_out(device, digest, sum, sizeof *digest, err);
    device->table->free(device, sum);
    return status;
}
