/* load.c - finding and opening NCCL. */
#include "comm/nccl/nccl_int.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME "libnccl.so.2"

static bool find_symbol(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol); /* ISO C has no cast from data to code */
    return symbol != NULL;
}

/* The first that is missing, or NULL. */
static const char *find_functions(void *library, struct rp_nccl *nccl)
{
#define RP_NCCL(name, arguments)                                                                   \
    if (!find_symbol(library, "nccl" #name, &nccl->name)) return "nccl" #name;
    RP_NCCL_FUNCTIONS
#undef RP_NCCL
    if (!find_symbol(library, "ncclGetErrorString", &nccl->GetErrorString))
        return "ncclGetErrorString";
    return find_symbol(library, "ncclGetLastError", &nccl->GetLastError) ? NULL
                                                                         : "ncclGetLastError";
}

void rp_nccl_version_text(int version, char text[32])
{
    snprintf(text, 32, "%d.%d.%d", version / 10000, version / 100 % 100, version % 100);
}

enum rp_status rp_nccl_load(const char *path, struct rp_nccl *nccl, char why[RP_COMM_WHY_BYTES])
{
    const char *wanted = path && path[0] ? path : NAME, *missing = NULL;
    char version[32] = "?";
    void *library = dlopen(wanted, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(
            why, RP_COMM_WHY_BYTES,
            "ranks on GPUs need NVIDIA's NCCL: looked for %s (%.200s); install it (the package "
            "libnccl2), or name the file in REPRISE_NCCL, or take one rank",
            wanted, dlerror());
        return RP_STATUS_ENVIRONMENT;
    }
    missing = find_functions(library, nccl);
    if (!missing && nccl->GetVersion(&nccl->version) != RP_NCCL_SUCCESS) missing = "its version";
    if (!missing && nccl->version >= RP_NCCL_OLDEST) return RP_STATUS_OK;
    if (nccl->version) rp_nccl_version_text(nccl->version, version);
    snprintf(
        why, RP_COMM_WHY_BYTES,
        "%s is NCCL %s%s%s: version 2.14 is the least; install a newer one, or name the file in "
        "REPRISE_NCCL",
        wanted, version, missing ? ", without " : "", missing ? missing : "");
    dlclose(library);
    return RP_STATUS_ENVIRONMENT;
}
