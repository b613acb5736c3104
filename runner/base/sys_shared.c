/* sys_shared.c - the part of sys.h about memory that processes of this host share. */
#include "base/sys.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAME "reprise"

enum { NOT_EXECUTABLE = 8 /* MFD_NOEXEC_SEAL, which some systems demand and older ones refuse */ };

static int create(void)
{
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING | NOT_EXECUTABLE);
    return fd < 0 && errno == EINVAL ? memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING) : fd;
}

/* Every page is had now and nobody can take one away: whoever touches a page that is not to be had
 * ends by SIGBUS. The system would rather kill than refuse, so it is not asked for what it has not.
 */
static bool fill(int fd, uint64_t bytes)
{
    int result;
    if (bytes > rp_sys_memory_limit()) {
        errno = ENOMEM;
        return false;
    }
    do result = fallocate(fd, 0, 0, (off_t)bytes);
    while (result != 0 && errno == EINTR);
    return result == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
}

static bool map(struct rp_sys_shared *shared)
{
    void *at = mmap(NULL, shared->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fd, 0);
    if (at != MAP_FAILED) shared->at = at;
    return at != MAP_FAILED;
}

enum rp_status rp_sys_shared_new(uint64_t bytes, struct rp_sys_shared *shared, struct rp_error *err)
{
    *shared = (struct rp_sys_shared){.bytes = bytes, .fd = create()};
    if (shared->fd >= 0 && fill(shared->fd, bytes) && map(shared)) return RP_STATUS_OK;
    int reason = errno;
    bool full = reason == ENOMEM || reason == ENOSPC;
    rp_sys_shared_close(shared);
    if (full)
        return rp_error_set(err, RP_STATUS_MEMORY,
                            "cannot allocate %llu bytes of memory for processes to share: %s",
                            (unsigned long long)bytes, strerror(reason));
    return rp_error_set(err, RP_STATUS_ENVIRONMENT,
                        "this system gives no memory for processes to share (memfd): %s",
                        strerror(reason));
}

/* What another program may have at that number is not even opened. */
static bool is_ours(const char *path)
{
    char target[64] = "";
    return readlink(path, target, sizeof target - 1) > 0 &&
           strncmp(target, "/memfd:" NAME, strlen("/memfd:" NAME)) == 0;
}

static bool is_whole(int fd, uint64_t bytes)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);
    return fstat(fd, &st) == 0 && (uint64_t)st.st_size == bytes && seals >= 0 &&
           (seals & F_SEAL_SHRINK) != 0;
}

enum rp_status rp_sys_shared_open(int pid, int fd, uint64_t bytes, struct rp_sys_shared *shared,
                                  struct rp_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
    *shared = (struct rp_sys_shared){.bytes = bytes, .fd = -1};
    if (!is_ours(path))
        return rp_error_set(err, RP_STATUS_ENVIRONMENT, "%s is not its memory, or not for us",
                            path);
    shared->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (shared->fd >= 0 && is_whole(shared->fd, bytes) && map(shared)) return RP_STATUS_OK;
    int reason = errno;
    rp_sys_shared_close(shared);
    return rp_error_set(err, reason == ENOMEM ? RP_STATUS_MEMORY : RP_STATUS_ENVIRONMENT,
                        "%s cannot be opened: %s", path, strerror(reason));
}

void rp_sys_shared_forget(struct rp_sys_shared *shared)
{
    rp_sys_close(shared->fd);
    shared->fd = -1;
}

void rp_sys_shared_close(struct rp_sys_shared *shared)
{
    if (shared->at) munmap(shared->at, shared->bytes);
    shared->at = NULL;
    rp_sys_shared_forget(shared);
}

#ifdef __SSE2__
void rp_sys_shared_write(void *to, const void *from, size_t bytes)
{
    char *at = to;
    const char *source = from;
    for (; bytes >= 4 * sizeof(__m128i); bytes -= 4 * sizeof(__m128i)) {
        __m128i *line = (__m128i *)(void *)at;
        const __m128i *values = (const __m128i *)(const void *)source;
        for (int i = 0; i < 4; i++) _mm_stream_si128(&line[i], _mm_loadu_si128(&values[i]));
        at += 4 * sizeof(__m128i);
        source += 4 * sizeof(__m128i);
    }
    memcpy(at, source, bytes);
    _mm_sfence(); /* before whoever is told of it reads it */
}
#else
void rp_sys_shared_write(void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
}
#endif

/* ---- waiting --------------------------------------------------------------------------------- */

void rp_sys_wait(_Atomic(uint32_t) *word, uint32_t seen, double seconds)
{
    struct timespec longest = {.tv_sec = (time_t)seconds,
                               .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &longest, NULL, 0);
}

void rp_sys_wake(_Atomic(uint32_t) *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}
