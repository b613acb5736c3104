/* sys_file.c - the files part of sys.h. */
#include "base/sys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MODE_FILE = 0666, MODE_FOLDER = 0777 };

static enum rp_status fail(struct rp_error *err, enum rp_status status, const char *what,
                           const char *path)
{
    int reason = errno;
    const char *advice = "";
    if (reason == ENOSPC || reason == EDQUOT || reason == EFBIG)
        advice = "; free space and run again";
    else if (reason == EACCES || reason == EPERM)
        advice = "; its owner can allow it (chmod)";
    else if (reason == EROFS)
        advice = "; name a place that can be written, with --out";
    else if (reason == ENOENT && strcmp(what, "write") == 0)
        advice = "; make its folder first, or name another place";
    else if (reason == EIO)
        advice = "; the storage is failing: save what is on it, and go on elsewhere";
    return rp_error_set(err, status, "cannot %s %s: %s%s", what, path, strerror(reason), advice);
}

/* ---- reading --------------------------------------------------------------------------------- */

enum rp_status rp_sys_stat(const char *path, struct rp_sys_stat *result, struct rp_error *err)
{
    struct stat st;
    *result = (struct rp_sys_stat){0};
    if (stat(path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) return RP_STATUS_OK;
        return fail(err, RP_STATUS_STORAGE, "look at", path);
    }
    result->exists = true;
    result->is_file = S_ISREG(st.st_mode);
    result->is_folder = S_ISDIR(st.st_mode);
    result->size = (uint64_t)st.st_size;
    result->inode = (uint64_t)st.st_ino;
    result->device = (uint64_t)st.st_dev;
    result->mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return RP_STATUS_OK;
}

enum rp_status rp_sys_open_read(const char *path, enum rp_status status, int *fd,
                                struct rp_error *err)
{
    /* Nonblocking, so that a FIFO without a writer is refused and not waited for. */
    int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (opened < 0) return fail(err, status, "open", path);
    if (fstat(opened, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(opened);
        return rp_error_set(err, status, "%s is not a regular file", path);
    }
    *fd = opened;
    return RP_STATUS_OK;
}

enum rp_status rp_sys_read(int fd, void *bytes, size_t capacity, size_t *got, const char *path,
                           enum rp_status status, struct rp_error *err)
{
    *got = 0;
    while (*got < capacity) {
        ssize_t n = read(fd, (char *)bytes + *got, capacity - *got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(err, status, "read", path);
        if (n == 0) break;
        *got += (size_t)n;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_sys_map(int fd, uint64_t size, const char *path, void **map, struct rp_error *err)
{
    *map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    if (*map != MAP_FAILED) return RP_STATUS_OK;
    *map = NULL;
    return fail(err, RP_STATUS_DATA, "map", path);
}

void rp_sys_unmap(void *map, uint64_t size)
{
    if (map) munmap(map, (size_t)size);
}

uint64_t rp_sys_free_space(const char *path)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0) return 0;
    return (uint64_t)st.f_bavail * st.f_frsize;
}

enum rp_status rp_sys_read_file(const char *path, uint64_t limit, enum rp_status status,
                                char **bytes, size_t *length, struct rp_error *err)
{
    int fd = -1;
    struct stat st;
    char *block = NULL;
    enum rp_status result = RP_STATUS_OK;
    RP_TRY_GOTO(result, rp_sys_open_read(path, status, &fd, err), out);
    if (fstat(fd, &st) != 0) {
        result = fail(err, status, "look at", path);
        goto out;
    }
    if ((uint64_t)st.st_size > limit) {
        result = rp_error_set(err, status, "%s holds %lld bytes, more than the %llu allowed here",
                              path, (long long)st.st_size, (unsigned long long)limit);
        goto out;
    }
    block = rp_mem_new((size_t)st.st_size + 1);
    RP_TRY_GOTO(result, rp_sys_read(fd, block, (size_t)st.st_size, length, path, status, err), out);
    block[*length] = '\0';
    *bytes = block;
    block = NULL;
out:
    rp_mem_free(block);
    rp_sys_close(fd);
    return result;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum rp_status rp_sys_list(const char *folder, char ***names, struct rp_error *err)
{
    size_t n = 0, capacity = 16;
    char **list = RP_NEW_ARRAY(char *, capacity);
    DIR *dir = opendir(folder);
    if (!dir && errno != ENOENT) {
        rp_mem_free(list);
        return fail(err, RP_STATUS_STORAGE, "list", folder);
    }
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (n + 2 > capacity) list = rp_mem_grow(list, (capacity *= 2) * sizeof *list);
        list[n++] = rp_mem_copy_text(entry->d_name);
    }
    if (dir) closedir(dir);
    list[n] = NULL;
    qsort(list, n, sizeof *list, compare_names);
    *names = list;
    return RP_STATUS_OK;
}

void rp_sys_free_names(char **names)
{
    for (char **name = names; name && *name; name++) rp_mem_free(*name);
    rp_mem_free(names);
}

/* ---- writing --------------------------------------------------------------------------------- */

enum rp_status rp_sys_make_folder(const char *path, struct rp_error *err)
{
    char *part = rp_mem_copy_text(path);
    enum rp_status status = RP_STATUS_OK;
    for (char *slash = part + 1; slash && status == RP_STATUS_OK;) {
        slash = strchr(slash, '/');
        if (slash) *slash = '\0';
        if (mkdir(part, MODE_FOLDER) != 0 && errno != EEXIST)
            status = fail(err, RP_STATUS_STORAGE, "make folder", part);
        if (slash) *slash++ = '/';
    }
    struct stat st;
    if (status == RP_STATUS_OK && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
        status =
            rp_error_set(err, RP_STATUS_STORAGE, "%s is not a folder; name another place", path);
    rp_mem_free(part);
    return status;
}

/* For writing; messages are about `file`, which `path` may be a step towards. */
static enum rp_status open_for(const char *path, const char *file, int flags, int *fd,
                               struct rp_error *err)
{
    *fd = open(path, flags | O_CREAT | O_CLOEXEC, MODE_FILE);
    return *fd < 0 ? fail(err, RP_STATUS_STORAGE, "write", file) : RP_STATUS_OK;
}

enum rp_status rp_sys_open_append(const char *path, int *fd, struct rp_error *err)
{
    return open_for(path, path, O_WRONLY | O_APPEND, fd, err);
}

enum rp_status rp_sys_create(const char *path, int *fd, struct rp_error *err)
{
    return open_for(path, path, O_WRONLY | O_TRUNC, fd, err);
}

enum rp_status rp_sys_write(int fd, const void *bytes, size_t length, const char *path,
                            struct rp_error *err)
{
    const char *at = bytes;
    while (length) {
        ssize_t n = write(fd, at, length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail(err, RP_STATUS_STORAGE, "write", path);
        at += n;
        length -= (size_t)n;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_sys_sync(int fd, const char *path, struct rp_error *err)
{
    /* Some file systems cannot sync some things; that is their word on durability, not a failure.
     */
    if (fsync(fd) != 0 && errno != EINVAL && errno != ENOSYS)
        return fail(err, RP_STATUS_STORAGE, "sync", path);
    return RP_STATUS_OK;
}

enum rp_status rp_sys_sync_folder(const char *path, struct rp_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail(err, RP_STATUS_STORAGE, "open folder", path);
    enum rp_status status = rp_sys_sync(fd, path, err);
    close(fd);
    return status;
}

enum rp_status rp_sys_rename(const char *from, const char *to, struct rp_error *err)
{
    /* As root it would take the place of /dev/null for everybody. */
    struct stat st;
    if (stat(to, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is a device or a pipe, and no file takes its place; name another "
                            "file",
                            to);
    if (rename(from, to) == 0) return RP_STATUS_OK;
    return fail(err, RP_STATUS_STORAGE, "rename to", to);
}

enum rp_status rp_sys_write_file(const char *path, const void *bytes, size_t length,
                                 struct rp_error *err)
{
    char *temp = rp_mem_text("%s.tmp.%d", path, (int)getpid()), *folder = rp_sys_folder_of(path);
    int fd = -1;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, open_for(temp, path, O_WRONLY | O_TRUNC, &fd, err), out);
    RP_TRY_GOTO(status, rp_sys_write(fd, bytes, length, path, err), out);
    RP_TRY_GOTO(status, rp_sys_sync(fd, path, err), out);
    RP_TRY_GOTO(status, rp_sys_rename(temp, path, err), out);
    status = rp_sys_sync_folder(folder, err);
out:
    rp_sys_close(fd);
    if (status != RP_STATUS_OK) unlink(temp);
    rp_mem_free(folder);
    rp_mem_free(temp);
    return status;
}

enum rp_status rp_sys_truncate(const char *path, uint64_t size, struct rp_error *err)
{
    if (truncate(path, (off_t)size) == 0) return RP_STATUS_OK;
    return fail(err, RP_STATUS_STORAGE, "cut", path);
}

enum rp_status rp_sys_remove(const char *path, struct rp_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0)
        return errno == ENOENT ? RP_STATUS_OK : fail(err, RP_STATUS_STORAGE, "remove", path);
    if (!S_ISDIR(st.st_mode))
        return unlink(path) == 0 ? RP_STATUS_OK : fail(err, RP_STATUS_STORAGE, "remove", path);
    char **names = NULL;
    enum rp_status status = rp_sys_list(path, &names, err);
    for (char **name = names; status == RP_STATUS_OK && *name; name++) {
        char *inner = rp_sys_join(path, *name);
        status = rp_sys_remove(inner, err);
        rp_mem_free(inner);
    }
    if (status == RP_STATUS_OK && rmdir(path) != 0)
        status = fail(err, RP_STATUS_STORAGE, "remove", path);
    rp_sys_free_names(names);
    return status;
}

void rp_sys_open_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) < 0) return;
}

void rp_sys_silence_output(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    dup2(fd, STDOUT_FILENO);
    close(fd);
}

void rp_sys_close(int fd)
{
    if (fd >= 0) close(fd);
}
