/* sys_lock.c - the locks part of sys.h. */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int rp_sys_pid(void)
{
    return (int)getpid();
}

enum rp_status rp_sys_open_lock(const char *path, int *fd, struct rp_error *err)
{
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666);
    if (*fd < 0)
        return rp_error_set(err, RP_STATUS_STORAGE, "cannot write %s: %s", path, strerror(errno));
    return RP_STATUS_OK;
}

enum rp_sys_lock rp_sys_lock_try(int fd)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int result;
    do result = fcntl(fd, F_OFD_SETLK, &range);
    while (result != 0 && errno == EINTR);
    if (result == 0) return RP_SYS_LOCK_TAKEN;
    return errno == EAGAIN || errno == EACCES ? RP_SYS_LOCK_CONFLICT : RP_SYS_LOCK_UNSUPPORTED;
}

enum rp_sys_lock rp_sys_lock_ask(int fd)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &range) != 0) return RP_SYS_LOCK_UNSUPPORTED;
    return range.l_type == F_UNLCK ? RP_SYS_LOCK_TAKEN : RP_SYS_LOCK_CONFLICT;
}

bool rp_sys_same_file(int fd, const char *path)
{
    struct stat open_one, named;
    return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 &&
           open_one.st_dev == named.st_dev && open_one.st_ino == named.st_ino;
}

enum rp_status rp_sys_write_at(int fd, uint64_t offset, const void *bytes, size_t length,
                               const char *path, struct rp_error *err)
{
    const char *at = bytes;
    while (length) {
        ssize_t n = pwrite(fd, at, length, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return rp_error_set(err, RP_STATUS_STORAGE, "cannot write %s: %s", path,
                                strerror(errno));
        at += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_sys_read_at(int fd, uint64_t offset, void *bytes, size_t capacity, size_t *got,
                              const char *path, enum rp_status status, struct rp_error *err)
{
    *got = 0;
    while (*got < capacity) {
        ssize_t n = pread(fd, (char *)bytes + *got, capacity - *got, (off_t)(offset + *got));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return rp_error_set(err, status, "cannot read %s: %s", path, strerror(errno));
        if (n == 0) break;
        *got += (size_t)n;
    }
    return RP_STATUS_OK;
}
