/* nvtx_recorder.c - a profiler that only writes down: what NVTX_INJECTION64_PATH names. A line for
 * each range of the domain "reprise" that begins or ends, to the file $RP_NVTX_LOG. */
#define NVTX_SUPPORT_STATIC_INJECTION_LIBRARY 0
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *out;
static struct nvtxDomainRegistration_st {
    int nothing;
} ours, other;

static nvtxDomainHandle_t create(const char *name)
{
    return strcmp(name, "reprise") == 0 ? &ours : &other;
}

static int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *what)
{
    if (domain == &ours) fprintf(out, "push %s\n", what->message.ascii);
    return 0;
}

static int pop(nvtxDomainHandle_t domain)
{
    if (domain == &ours) fprintf(out, "pop\n");
    return 0;
}

static void destroy(nvtxDomainHandle_t domain)
{
    if (domain == &ours) fprintf(out, "end\n");
    fflush(out);
}

__attribute__((visibility("default"))) int
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t tables);

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t tables)
{
    const char *path = getenv("RP_NVTX_LOG");
    const NvtxExportTableCallbacks *callbacks = tables(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table = NULL;
    unsigned size = 0;
    if (!path || !callbacks ||
        !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size))
        return 0;
    out = fopen(path, "w");
    if (!out || size <= NVTX_CBID_CORE2_DomainDestroy) return 0;
    *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)create;
    *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
    *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
    *table[NVTX_CBID_CORE2_DomainDestroy] = (NvtxFunctionPointer)destroy;
    return 1;
}
