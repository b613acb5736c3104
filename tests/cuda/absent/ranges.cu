/* ranges.cu - in the place of kernels/cuda/ranges.cu where there are no headers of NVTX. */
#include "cuda/gpu.h"

void rp_cuda_ranges_open(struct rp_cuda *cuda)
{
    (void)cuda;
}
void rp_cuda_ranges_close(struct rp_cuda *cuda)
{
    (void)cuda;
}
void rp_cuda_mark(struct rp_device *device, const char *phase)
{
    (void)device;
    (void)phase;
}
void rp_cuda_range_begin(struct rp_cuda *cuda, const char *op)
{
    (void)cuda;
    (void)op;
}
void rp_cuda_range_end(struct rp_cuda *cuda)
{
    (void)cuda;
}
