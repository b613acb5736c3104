/* slow_read.c - preloaded into the program: a read of a file whose path holds $SLOW_READ takes
 * $SLOW_READ_MS longer, as from a disk that is far away. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void wait_for_disk(int fd)
{
    char link[64], path[4096];
    const char *slow = getenv("SLOW_READ"), *delay = getenv("SLOW_READ_MS");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = slow && delay ? readlink(link, path, sizeof path - 1) : -1;
    if (n <= 0) return;
    path[n] = '\0';
    if (!strstr(path, slow)) return;
    long ms = strtol(delay, NULL, 10);
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0) continue;
}

__attribute__((visibility("default"))) ssize_t read(int fd, void *bytes, size_t n)
{
    ssize_t (*real)(int, void *, size_t) =
        (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    wait_for_disk(fd);
    return real(fd, bytes, n);
}

__attribute__((visibility("default"))) ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    wait_for_disk(fd);
    return real(fd, bytes, n, at);
}
