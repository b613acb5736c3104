/* run_folder.h - a temporary folder per test, and files in it. */
#ifndef RP_TEST_RUN_FOLDER_H
#define RP_TEST_RUN_FOLDER_H

#include "base/mem.h"
#include "base/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A new folder under $TMPDIR or /tmp; remove_folder takes it away again. */
static inline char *new_folder(void)
{
    const char *root = rp_sys_env("TMPDIR");
    char *path = rp_mem_text("%s/reprise-test-XXXXXX", root ? root : "/tmp");
    if (!mkdtemp(path)) {
        printf("cannot make %s\n", path);
        exit(1);
    }
    return path;
}

static inline void remove_folder(char *path)
{
    enum rp_status ignored = rp_sys_remove(path, NULL);
    (void)ignored;
    rp_mem_free(path);
}

static inline void put_file(const char *folder, const char *name, const void *bytes, size_t length)
{
    char *path = rp_sys_join(folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, length, file) != length || fclose(file) != 0) {
        printf("cannot write %s\n", path);
        exit(1);
    }
    rp_mem_free(path);
}

static inline void put_text(const char *folder, const char *name, const char *text)
{
    put_file(folder, name, text, strlen(text));
}

/* The whole file; NULL when it is missing. Caller frees. */
static inline char *get_file(const char *folder, const char *name, size_t *length)
{
    char *path = rp_sys_join(folder, name), *bytes = NULL;
    size_t ignored = 0;
    if (rp_sys_read_file(path, 1u << 30, RP_STATUS_DATA, &bytes, length ? length : &ignored,
                         NULL) != RP_STATUS_OK)
        bytes = NULL;
    rp_mem_free(path);
    return bytes;
}

static inline bool there(const char *folder, const char *name)
{
    struct rp_sys_stat stat = {0};
    char *path = rp_sys_join(folder, name);
    bool exists = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.exists;
    rp_mem_free(path);
    return exists;
}

/* Flips one bit of a file in place. */
static inline void flip_bit(const char *folder, const char *name, size_t at)
{
    size_t length = 0;
    char *bytes = get_file(folder, name, &length);
    if (!bytes || at >= length) {
        printf("no byte %zu in %s\n", at, name);
        exit(1);
    }
    bytes[at] ^= 1;
    put_file(folder, name, bytes, length);
    rp_mem_free(bytes);
}

#endif
