/* slow_read.c - preloaded into the program: a read of a file whose path holds $SLOW_READ takes
 * $SLOW_READ_MS longer, as from a disk that is far away, and a write to one that holds $SLOW_WRITE
 * takes $SLOW_WRITE_MS longer. Of each slow read a line with the process's number is appended to
 * $SLOW_NOTE, before it waits. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static ssize_t write_now(int fd, const void *bytes, size_t n)
{
    ssize_t (*real)(int, const void *, size_t) =
        (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    return real(fd, bytes, n);
}

static void note(void)
{
    const char *file = getenv("SLOW_NOTE");
    char line[32];
    int fd = file ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0) return;
    int n = snprintf(line, sizeof line, "%d\n", (int)getpid());
    if (write_now(fd, line, (size_t)n) != n) abort();
    close(fd);
}

/* Is this file slow? Then it takes its time. */
static void wait_for_disk(int fd, const char *slow, const char *delay, bool noted)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = slow && delay ? readlink(link, path, sizeof path - 1) : -1;
    if (n <= 0) return;
    path[n] = '\0';
    if (!strstr(path, slow)) return;
    if (noted) note();
    long ms = strtol(delay, NULL, 10);
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0) continue;
}

__attribute__((visibility("default"))) ssize_t read(int fd, void *bytes, size_t n)
{
    ssize_t (*real)(int, void *, size_t) =
        (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    wait_for_disk(fd, getenv("SLOW_READ"), getenv("SLOW_READ_MS"), true);
    return real(fd, bytes, n);
}

__attribute__((visibility("default"))) ssize_t pread(int fd, void *bytes, size_t n, off_t at)
{
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread");
    wait_for_disk(fd, getenv("SLOW_READ"), getenv("SLOW_READ_MS"), true);
    return real(fd, bytes, n, at);
}

__attribute__((visibility("default"))) ssize_t write(int fd, const void *bytes, size_t n)
{
    wait_for_disk(fd, getenv("SLOW_WRITE"), getenv("SLOW_WRITE_MS"), false);
    return write_now(fd, bytes, n);
}
