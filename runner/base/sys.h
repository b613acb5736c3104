/* sys.h - the only door to the outside: environment, clocks, files, randomness, host facts.
 * No other file calls getenv, time, open, rand. Failures name the path and the system's reason. */
#ifndef RP_SYS_H
#define RP_SYS_H

#include "base/base.h"
#include "base/mem.h"

/* ---- environment, clocks, randomness -------------------------------------------------------- */

const char *rp_sys_env(const char *name);                 /* NULL when unset; valid until exit */
void rp_sys_set_env(const char *name, const char *value); /* for a program about to be started */
/* Until the child has ended; `how` is waitpid's. Nothing where `child` is no process. */
void rp_sys_wait_child(int child, int *how);

double rp_sys_clock(void);                   /* seconds, monotonic */
double rp_sys_wall(void);                    /* seconds since 1970 */
void rp_sys_utc(double wall, char text[32]); /* 2026-11-23T16:45:00Z */
void rp_sys_sleep(double seconds);
uint64_t rp_sys_random(void); /* never enters a bit of a model */

/* A program started with a standard stream closed would write its results into the first file that
 * it opens: opens /dev/null in its place. */
void rp_sys_open_streams(void);

/* From now on standard output goes to /dev/null. */
void rp_sys_silence_output(void);

/* ---- host facts ------------------------------------------------------------------------------ */

int rp_sys_cpus(void); /* affinity mask and cgroup quota, at least 1 */
void rp_sys_host(char name[256]);
int rp_sys_columns(void); /* width of the terminal on standard output; 80 when it is none */
char *rp_sys_self(void);  /* absolute path of this program; caller frees */
uint64_t rp_sys_memory_limit(void); /* bytes available: smaller of machine and cgroup */
/* What is another on every machine and after each start of it; "" where nobody knows. */
void rp_sys_boot(char id[64]);

/* ---- paths ----------------------------------------------------------------------------------- */

char *rp_sys_join(const char *folder, const char *path); /* path when absolute; caller frees */
char *rp_sys_folder_of(const char *path);                /* "." when there is none; caller frees */
char *rp_sys_absolute(const char *path);                 /* links not resolved; caller frees */

/* ---- files: reading -------------------------------------------------------------------------- */

struct rp_sys_stat {
    bool exists, is_file, is_folder;
    uint64_t size, inode, device;
    int64_t mtime_ns;
};
/* Follows links. A path that does not exist is no failure: `exists` is false. */
RP_NODISCARD enum rp_status rp_sys_stat(const char *path, struct rp_sys_stat *stat,
                                        struct rp_error *err);
/* Opens for reading; refuses all but regular files (FIFOs, devices, folders) with `status`. */
RP_NODISCARD enum rp_status rp_sys_open_read(const char *path, enum rp_status status, int *fd,
                                             struct rp_error *err);
/* Up to `capacity` bytes; *got 0 at the end. Interrupted calls go on. */
RP_NODISCARD enum rp_status rp_sys_read(int fd, void *bytes, size_t capacity, size_t *got,
                                        const char *path, enum rp_status status,
                                        struct rp_error *err);
/* `size` bytes of an open file mapped for reading; a file that shrinks later ends the process. */
RP_NODISCARD enum rp_status rp_sys_map(int fd, uint64_t size, const char *path, void **map,
                                       struct rp_error *err);
void rp_sys_unmap(void *map, uint64_t size); /* NULL is fine */
/* Bytes that an unprivileged process may still write where `path` lies; 0 when nobody knows. */
uint64_t rp_sys_free_space(const char *path);
/* What user and group may still write there, the smaller; soft limits count. */
enum rp_sys_quota_kind {
    RP_SYS_QUOTA_NONE,   /* no limit that is not free space as well */
    RP_SYS_QUOTA_LIMIT,  /* `left` bytes */
    RP_SYS_QUOTA_UNKNOWN /* there may be one: `why` it cannot be told */
};
struct rp_sys_quota {
    enum rp_sys_quota_kind kind;
    uint64_t left;
    char why[96];
};
struct rp_sys_quota rp_sys_quota(const char *path);
/* The whole file, NUL-terminated after `*length`; more than `limit` bytes is refused. Caller frees
 * with rp_mem_free. */
RP_NODISCARD enum rp_status rp_sys_read_file(const char *path, uint64_t limit,
                                             enum rp_status status, char **bytes, size_t *length,
                                             struct rp_error *err);
/* Names in a folder in bytewise order, without . and ..; NULL-terminated, free with
 * rp_sys_free_names. A missing folder gives an empty list. */
RP_NODISCARD enum rp_status rp_sys_list(const char *folder, char ***names, struct rp_error *err);
void rp_sys_free_names(char **names);

/* ---- files: writing (STORAGE on failure) ----------------------------------------------------- */

RP_NODISCARD enum rp_status rp_sys_make_folder(const char *path,
                                               struct rp_error *err); /* and parents */
RP_NODISCARD enum rp_status rp_sys_open_append(const char *path, int *fd, struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_create(const char *path, int *fd,
                                          struct rp_error *err); /* truncates */
RP_NODISCARD enum rp_status rp_sys_write(int fd, const void *bytes, size_t length, const char *path,
                                         struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_sync(int fd, const char *path, struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_sync_folder(const char *path, struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_rename(const char *from, const char *to, struct rp_error *err);
/* temp file beside it, write, fsync, rename, fsync of the folder: all or nothing. */
RP_NODISCARD enum rp_status rp_sys_write_file(const char *path, const void *bytes, size_t length,
                                              struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_truncate(const char *path, uint64_t size, struct rp_error *err);
/* A file, or a folder with all it holds; missing is fine. Links are removed, never followed. */
RP_NODISCARD enum rp_status rp_sys_remove(const char *path, struct rp_error *err);
void rp_sys_close(int fd); /* -1 is fine */

/* ---- locks and places within a file (sys_lock.c) --------------------------------------------- */

int rp_sys_pid(void);
/* Opens for reading and writing, made when missing. */
RP_NODISCARD enum rp_status rp_sys_open_lock(const char *path, int *fd, struct rp_error *err);
enum rp_sys_lock { RP_SYS_LOCK_TAKEN, RP_SYS_LOCK_CONFLICT, RP_SYS_LOCK_UNSUPPORTED };
/* An exclusive open-file-description lock on the first byte; never waits. It ends with the last
 * descriptor of this opening, so with the process at the latest. */
enum rp_sys_lock rp_sys_lock_try(int fd);
/* What rp_sys_lock_try would say, taking nothing; a descriptor for reading will do. */
enum rp_sys_lock rp_sys_lock_ask(int fd);
bool rp_sys_same_file(int fd, const char *path); /* is `path` still the file that is open? */
RP_NODISCARD enum rp_status rp_sys_write_at(int fd, uint64_t offset, const void *bytes,
                                            size_t length, const char *path, struct rp_error *err);
RP_NODISCARD enum rp_status rp_sys_read_at(int fd, uint64_t offset, void *bytes, size_t capacity,
                                           size_t *got, const char *path, enum rp_status status,
                                           struct rp_error *err);

/* ---- memory that processes of this host share (sys_shared.c) --------------------------------- */

struct rp_sys_shared {
    void *at;
    uint64_t bytes;
    int fd;
};
/* It has no name in any file system: it is gone with the last process that has it, however that
 * ends. Zeroed, and all of it is there: MEMORY when it is not; ENVIRONMENT: not on this system. */
RP_NODISCARD enum rp_status rp_sys_shared_new(uint64_t bytes, struct rp_sys_shared *shared,
                                              struct rp_error *err);
/* That of process `pid`, which has it open under the number `fd`. What it holds should prove that
 * it is the one that was meant. */
RP_NODISCARD enum rp_status rp_sys_shared_open(int pid, int fd, uint64_t bytes,
                                               struct rp_sys_shared *shared, struct rp_error *err);
void rp_sys_shared_forget(struct rp_sys_shared *shared); /* nobody can open it any more */
void rp_sys_shared_close(struct rp_sys_shared *shared);
/* Past the caches, where the processor can: another one is to read it next, from the machine's
 * memory sooner than out of our cache. `to` is 16-byte aligned. */
void rp_sys_shared_write(void *to, const void *from, size_t bytes);
/* Sleeps until somebody wakes `word`, which lies in such memory, or for `seconds`; not at all when
 * the word is no longer `seen`. May return early. */
void rp_sys_wait(_Atomic(uint32_t) *word, uint32_t seen, double seconds);
void rp_sys_wake(_Atomic(uint32_t) *word); /* one sleeper */

#endif
