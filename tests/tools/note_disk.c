/* note_disk.c - preloaded into the program: every sync, rename and opening of a file to read
 * appends a line to $NOTE_DISK: "sync PATH", "rename FROM TO", "open PATH". */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static int real_open(const char *path, int flags, int mode)
{
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
    return real(path, flags, mode);
}

static void note(const char *what, const char *path, const char *to)
{
    const char *file = getenv("NOTE_DISK");
    char line[2 * PATH_BYTES + 16];
    int fd = file ? real_open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (fd < 0) return;
    int n = snprintf(line, sizeof line, "%s %s%s%s\n", what, path, to ? " " : "", to ? to : "");
    if (write(fd, line, (size_t)n) != n) abort();
    close(fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    char link[64], path[PATH_BYTES] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) > 0) note("sync", path, NULL);
    return real(fd);
}

__attribute__((visibility("default"))) int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    note("rename", from, to);
    return real(from, to);
}

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if ((flags & O_ACCMODE) == O_RDONLY) note("open", path, NULL);
    return real_open(path, flags, mode);
}
