#include "base/sys.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *rp_sys_env(const char *name)
{
    return getenv(name);
}

static double read_clock(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void rp_sys_set_env(const char *name, const char *value)
{
    setenv(name, value, 1);
}

double rp_sys_clock(void)
{
    return read_clock(CLOCK_MONOTONIC);
}
double rp_sys_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}

void rp_sys_utc(double wall, char text[32])
{
    time_t seconds = (time_t)wall;
    struct tm parts;
    gmtime_r(&seconds, &parts);
    snprintf(text, 32, "%04d-%02d-%02dT%02d:%02d:%02dZ", (parts.tm_year + 1900) % 10000,
             parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

void rp_sys_wait_child(int child, int *how)
{
    while (child > 0 && waitpid(child, how, 0) < 0 && errno == EINTR) continue;
}

void rp_sys_sleep(double seconds)
{
    struct timespec left = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

uint64_t rp_sys_random(void)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof value, 0) != (ssize_t)sizeof value)
        value = (uint64_t)(rp_sys_wall() * 1e9) ^ (uint64_t)getpid() << 32;
    return value;
}

/* ---- host facts ------------------------------------------------------------------------------ */

/* First line of a small file of the kernel's, or "". */
static void read_line(const char *path, char *line, size_t capacity)
{
    line[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file) return;
    if (!fgets(line, (int)capacity, file)) line[0] = '\0';
    fclose(file);
    line[strcspn(line, "\n")] = '\0';
}

void rp_sys_boot(char id[64])
{
    read_line("/proc/sys/kernel/random/boot_id", id, 64);
}

/* CPUs that the cgroup's quota allows (rounded up), or a large number. Version 2, then version 1.
 */
static int quota_cpus(void)
{
    char line[128];
    long long quota = -1, period = 100000;
    read_line("/sys/fs/cgroup/cpu.max", line, sizeof line);
    if (line[0]) {
        if (sscanf(line, "%lld %lld", &quota, &period) < 1) quota = -1;
    } else {
        read_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line);
        if (line[0]) quota = atoll(line);
        read_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line);
        if (line[0]) period = atoll(line);
    }
    if (quota <= 0 || period <= 0) return 1 << 20;
    return (int)((quota + period - 1) / period);
}

int rp_sys_cpus(void)
{
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    int quota = quota_cpus();
    if (quota < n) n = quota;
    return n > 0 ? n : 1;
}

void rp_sys_host(char name[256])
{
    if (gethostname(name, 256) != 0) snprintf(name, 256, "unknown");
    name[255] = '\0';
}

int rp_sys_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return size.ws_col;
}

char *rp_sys_self(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length < 0) return rp_mem_copy_text("reprise");
    path[length] = '\0';
    return rp_mem_copy_text(path);
}

uint64_t rp_sys_memory_limit(void)
{
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[128];
    read_line("/sys/fs/cgroup/memory.max", line, sizeof line);
    if (!line[0]) read_line("/sys/fs/cgroup/memory/memory.limit_in_bytes", line, sizeof line);
    unsigned long long group = 0;
    if (sscanf(line, "%llu", &group) == 1 && group > 0 && group < limit) limit = group;
    return limit;
}

/* ---- paths ----------------------------------------------------------------------------------- */

char *rp_sys_join(const char *folder, const char *path)
{
    if (path[0] == '/' || !folder[0] || strcmp(folder, ".") == 0) return rp_mem_copy_text(path);
    bool slash = folder[strlen(folder) - 1] == '/';
    return rp_mem_text("%s%s%s", folder, slash ? "" : "/", path);
}

char *rp_sys_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return rp_mem_copy_text(".");
    if (slash == path) return rp_mem_copy_text("/");
    return rp_mem_text("%.*s", (int)(slash - path), path);
}

char *rp_sys_absolute(const char *path)
{
    if (path[0] == '/') return rp_mem_copy_text(path);
    char *here = getcwd(NULL, 0);
    if (strncmp(path, "./", 2) == 0) path += 2;
    char *absolute = strcmp(path, ".") == 0 ? rp_mem_copy_text(here ? here : "/")
                                            : rp_sys_join(here ? here : "/", path);
    free(here);
    return absolute;
}
