/* nccl_abi.h - private to reprise_nccl: the part of NCCL's interface that is used, said once more,
 * so that no machine needs its headers. The library is compatible with programs of older versions
 * back to this one, 2.14; tests/cuda/nccl_abi.c compares with the real header where there is one.
 */
#ifndef RP_NCCL_ABI_H
#define RP_NCCL_ABI_H

#include <stddef.h>

enum rp_nccl_result {
    RP_NCCL_SUCCESS = 0,
    RP_NCCL_CUDA_ERROR = 1, /* ncclUnhandledCudaError */
    RP_NCCL_INVALID_USAGE = 5,
    RP_NCCL_REMOTE_ERROR = 6,
    RP_NCCL_IN_PROGRESS = 7
};
enum { RP_NCCL_UINT8 = 1 /* of ncclDataType_t */ };
enum { RP_NCCL_OLDEST = 21400 /* the first with communicators that do not block */ };

struct rp_nccl_comm; /* ncclComm_t is a pointer to one */

struct rp_nccl_id {
    char bytes[128];
};

/* As in version 2.14; newer ones fill in what they have added. */
struct rp_nccl_config {
    size_t size;
    unsigned magic, version;
    int blocking;
};
enum { RP_NCCL_MAGIC = 0xcafebeef };

/* RP_NCCL(NAME, (ARGUMENTS)) for every function taken, NAME without its prefix "nccl"; each returns
 * an rp_nccl_result. A stream is a cudaStream_t. */
#define RP_NCCL_FUNCTIONS                                                                          \
    RP_NCCL(GetVersion, (int *version))                                                            \
    RP_NCCL(GetUniqueId, (struct rp_nccl_id * id))                                                 \
    RP_NCCL(CommInitRankConfig, (struct rp_nccl_comm * *comm, int n_ranks, struct rp_nccl_id id,   \
                                 int rank, struct rp_nccl_config *config))                         \
    RP_NCCL(CommGetAsyncError, (struct rp_nccl_comm * comm, int *result))                          \
    RP_NCCL(CommFinalize, (struct rp_nccl_comm * comm))                                            \
    RP_NCCL(CommDestroy, (struct rp_nccl_comm * comm))                                             \
    RP_NCCL(CommAbort, (struct rp_nccl_comm * comm))                                               \
    RP_NCCL(GroupStart, (void))                                                                    \
    RP_NCCL(GroupEnd, (void))                                                                      \
    RP_NCCL(Send, (const void *from, size_t n, int type, int peer, struct rp_nccl_comm *comm,      \
                   void *stream))                                                                  \
    RP_NCCL(Recv,                                                                                  \
            (void *to, size_t n, int type, int peer, struct rp_nccl_comm *comm, void *stream))     \
    RP_NCCL(Broadcast, (const void *from, void *to, size_t n, int type, int root,                  \
                        struct rp_nccl_comm *comm, void *stream))                                  \
    RP_NCCL(AllGather, (const void *from, void *to, size_t n, int type, struct rp_nccl_comm *comm, \
                        void *stream))

/* The functions of the library that was opened. */
struct rp_nccl {
#define RP_NCCL(name, arguments) int(*name) arguments;
    RP_NCCL_FUNCTIONS
#undef RP_NCCL
    const char *(*GetErrorString)(int result);
    const char *(*GetLastError)(struct rp_nccl_comm *comm);
    int version; /* 22809: 2.28.9 */
};

#endif
