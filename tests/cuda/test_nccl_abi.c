/* test_nccl_abi.c - NCCL's own header and library against what runner/comm/nccl says of them:
 * sizes, numbers, arguments; the library opens and tells its version. Needs no GPU. */
#include "comm/nccl/nccl_int.h"

#include <nccl.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct rp_nccl_id) == sizeof(ncclUniqueId), "the id");
_Static_assert(offsetof(struct rp_nccl_config, magic) == offsetof(ncclConfig_t, magic), "magic");
_Static_assert(offsetof(struct rp_nccl_config, version) == offsetof(ncclConfig_t, version),
               "version");
_Static_assert(offsetof(struct rp_nccl_config, blocking) == offsetof(ncclConfig_t, blocking),
               "blocking");
_Static_assert(sizeof(struct rp_nccl_config) <= sizeof(ncclConfig_t), "config");
_Static_assert((int)RP_NCCL_SUCCESS == (int)ncclSuccess, "success");
_Static_assert((int)RP_NCCL_CUDA_ERROR == (int)ncclUnhandledCudaError, "CUDA");
_Static_assert((int)RP_NCCL_INVALID_USAGE == (int)ncclInvalidUsage, "invalid usage");
_Static_assert((int)RP_NCCL_REMOTE_ERROR == (int)ncclRemoteError, "remote error");
_Static_assert((int)RP_NCCL_IN_PROGRESS == (int)ncclInProgress, "in progress");
_Static_assert((int)RP_NCCL_UINT8 == (int)ncclUint8, "uint8");
_Static_assert(sizeof(ncclDataType_t) == sizeof(int), "an enum is an int");
_Static_assert(sizeof(ncclResult_t) == sizeof(int), "an enum is an int");
_Static_assert((int)RP_NCCL_OLDEST <= NCCL_VERSION_CODE, "an older version");

/* Every call as nccl.c makes it, to the functions of the header; never executed. */
int call_all(struct rp_nccl_comm *ours, void *block, size_t n, void *stream_block);
int call_all(struct rp_nccl_comm *ours, void *block, size_t n, void *stream_block)
{
    ncclComm_t comm = (ncclComm_t)(void *)ours;
    cudaStream_t stream = (cudaStream_t)stream_block;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    ncclResult_t state;
    int version = 0;
    int sum = ncclGetVersion(&version);
    sum += ncclGetUniqueId(&id);
    sum += ncclCommInitRankConfig(&comm, 2, id, 0, &config);
    sum += ncclCommGetAsyncError(comm, &state);
    sum += ncclCommFinalize(comm) + ncclCommDestroy(comm) + ncclCommAbort(comm);
    sum += ncclGroupStart() + ncclGroupEnd();
    sum += ncclSend(block, n, ncclUint8, 1, comm, stream);
    sum += ncclRecv(block, n, ncclUint8, 1, comm, stream);
    sum += ncclBroadcast(block, block, n, ncclUint8, 0, comm, stream);
    sum += ncclAllGather(block, block, n, ncclUint8, comm, stream);
    return sum + (int)strlen(ncclGetErrorString(state)) + (int)strlen(ncclGetLastError(comm));
}

int main(void)
{
    const ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    struct rp_nccl nccl = {0};
    char why[RP_COMM_WHY_BYTES] = "", version[32];
    if (config.magic != (unsigned)RP_NCCL_MAGIC) {
        printf("magic: %x here, %x there\n", (unsigned)RP_NCCL_MAGIC, config.magic);
        return 1;
    }
    if (rp_nccl_load(RP_NCCL_FILE, &nccl, why) != RP_STATUS_OK) {
        printf("%s\n", why);
        return 1;
    }
    rp_nccl_version_text(nccl.version, version);
    printf("%s: NCCL %s; header %d\n", RP_NCCL_FILE, version, NCCL_VERSION_CODE);
    if (rp_nccl_load("no-such-library.so", &nccl, why) != RP_STATUS_ENVIRONMENT ||
        !strstr(why, "no-such-library.so")) {
        printf("a library that is not there: \"%s\"\n", why);
        return 1;
    }
    return nccl.version == NCCL_VERSION_CODE ? 0 : 1;
}
