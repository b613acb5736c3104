/* host.h - facts about the machine and the process: system, processor, loaded libraries, container.
 * All read from the kernel's own files; what cannot be learnt is an empty string, never a failure.
 */
#ifndef RP_HOST_H
#define RP_HOST_H

#include "base/base.h"

/* What uname and libc say of themselves. */
struct rp_host_system {
    char kernel[160]; /* "Linux 6.1.0-18-amd64" */
    char machine[65]; /* "x86_64" */
    char libc[64];    /* "glibc 2.36"; "" where libc has no such call */
    char cpu[128];    /* model name, blanks squeezed; implementer and part on arm64 */
};
void rp_host_system(struct rp_host_system *system);

/* Absolute paths of the shared objects loaded now, in bytewise order, without this program and
 * without what the kernel maps; NULL-terminated, free with rp_sys_free_names. */
char **rp_host_libraries(void);

/* The most memory that this process has held, without the pages of files; 0 when nobody says. */
uint64_t rp_host_peak_memory(void);

/* What tells that this process runs in a container. */
struct rp_host_container {
    char kind[32];  /* "docker", "podman", "kubernetes", "apptainer", "container"; "" outside */
    char id[65];    /* 64 hex digits of the container, or "" */
    char image[72]; /* "sha256:" and 64 hex digits of the image, or "" */
};
/* `image_hint` is a value somebody gave for the image; one that is no digest is not taken over. */
void rp_host_container(const char *image_hint, bool kubernetes, bool apptainer,
                       struct rp_host_container *container);

#endif
