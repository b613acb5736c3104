/* ranges.cu - what the host is doing, for a profiler: a range for each phase of a step and, in it,
 * one for each op, in the domain "reprise" of NVTX.
 *
 * The headers of NVTX load what NVTX_INJECTION64_PATH names, which a profiler sets; else there is
 * no domain, nothing is loaded, and an op costs one test of a pointer. An op has its range where
 * its kernels are launched or captured: of a step that is replayed as a graph there are the phases
 * alone. */
#define NVTX_SUPPORT_STATIC_INJECTION_LIBRARY 0
#include "cuda/gpu.h"

#include <nvtx3/nvToolsExt.h>
#include <stdlib.h>

struct rp_cuda_ranges {
    nvtxDomainHandle_t domain;
    bool in_phase;
};

void rp_cuda_ranges_open(struct rp_cuda *cuda)
{
    nvtxDomainHandle_t domain = nvtxDomainCreateA("reprise");
    if (!domain) return;
    cuda->ranges = (struct rp_cuda_ranges *)calloc(1, sizeof *cuda->ranges);
    if (cuda->ranges) cuda->ranges->domain = domain;
}

void rp_cuda_ranges_close(struct rp_cuda *cuda)
{
    if (!cuda->ranges) return;
    rp_cuda_mark(&cuda->device, NULL);
    nvtxDomainDestroy(cuda->ranges->domain);
    free(cuda->ranges);
    cuda->ranges = NULL;
}

void rp_cuda_range_begin(struct rp_cuda *cuda, const char *op)
{
    nvtxEventAttributes_t what = {};
    what.version = NVTX_VERSION;
    what.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    what.messageType = NVTX_MESSAGE_TYPE_ASCII;
    what.message.ascii = op;
    (void)nvtxDomainRangePushEx(cuda->ranges->domain, &what);
}

void rp_cuda_range_end(struct rp_cuda *cuda)
{
    (void)nvtxDomainRangePop(cuda->ranges->domain);
}

void rp_cuda_mark(struct rp_device *device, const char *phase)
{
    struct rp_cuda *cuda = (struct rp_cuda *)device;
    if (!cuda->ranges) return;
    if (cuda->ranges->in_phase) rp_cuda_range_end(cuda);
    cuda->ranges->in_phase = phase != NULL;
    if (phase) rp_cuda_range_begin(cuda, phase);
}
