/* sys_host.c - facts about the machine and the process, from the kernel's own files. */
#include "base/host.h"

#include "base/mem.h"
#include "base/sys.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* A file under /proc says that it is empty, so it is read until it ends. At most `capacity` - 1
 * bytes; "" when there is no such file. */
static void read_text(const char *path, char *text, size_t capacity)
{
    size_t length = 0;
    FILE *file = fopen(path, "re");
    if (file) {
        length = fread(text, 1, capacity - 1, file);
        fclose(file);
    }
    text[length] = '\0';
}

/* Copies up to the end of the line, runs of blanks as one, no blank at either end. */
static void copy_squeezed(char *to, size_t capacity, const char *from)
{
    size_t length = 0;
    for (; *from && *from != '\n' && length + 1 < capacity; from++) {
        bool blank = *from == ' ' || *from == '\t';
        if (blank && (length == 0 || to[length - 1] == ' ')) continue;
        to[length++] = blank ? ' ' : *from;
    }
    while (length > 0 && to[length - 1] == ' ') length--;
    to[length] = '\0';
}

/* The value of "name : value" in /proc/cpuinfo, of the first processor; NULL when absent. */
static const char *find_cpu_field(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, name, length) != 0) continue;
        const char *colon = line + length;
        while (*colon == ' ' || *colon == '\t') colon++;
        if (*colon == ':') return colon + 1;
    }
    return NULL;
}

static void read_cpu_model(char *model, size_t capacity)
{
    char text[8192];
    read_text("/proc/cpuinfo", text, sizeof text);
    const char *name = find_cpu_field(text, "model name");
    if (!name) name = find_cpu_field(text, "Processor");
    if (name) {
        copy_squeezed(model, capacity, name);
        return;
    }
    const char *implementer = find_cpu_field(text, "CPU implementer");
    const char *part = find_cpu_field(text, "CPU part");
    model[0] = '\0';
    if (!implementer || !part) return;
    char who[32], which[32];
    copy_squeezed(who, sizeof who, implementer);
    copy_squeezed(which, sizeof which, part);
    snprintf(model, capacity, "implementer %s part %s", who, which);
}

void rp_host_system(struct rp_host_system *system)
{
    struct utsname name;
    memset(system, 0, sizeof *system);
    if (uname(&name) == 0) {
        snprintf(system->kernel, sizeof system->kernel, "%s %s", name.sysname, name.release);
        snprintf(system->machine, sizeof system->machine, "%s", name.machine);
    }
#ifdef _CS_GNU_LIBC_VERSION
    if (confstr(_CS_GNU_LIBC_VERSION, system->libc, sizeof system->libc) == 0)
        system->libc[0] = '\0';
#endif
    read_cpu_model(system->cpu, sizeof system->cpu);
}

/* ---- libraries ------------------------------------------------------------------------------- */

struct library_list {
    char **path;
    size_t n;
};

static int add_library(struct dl_phdr_info *info, size_t size, void *context)
{
    struct library_list *list = context;
    (void)size;
    /* The program itself has no name here, the kernel's page a name without a folder. */
    if (!info->dlpi_name || info->dlpi_name[0] != '/') return 0;
    list->path = rp_mem_grow(list->path, (list->n + 2) * sizeof *list->path);
    list->path[list->n++] = rp_mem_copy_text(info->dlpi_name);
    return 0;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char **rp_host_libraries(void)
{
    struct library_list list = {RP_NEW(char *), 0};
    dl_iterate_phdr(add_library, &list);
    list.path[list.n] = NULL;
    qsort(list.path, list.n, sizeof *list.path, compare_paths);
    return list.path;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* A line of /proc/self/status, "VmHWM:   1234 kB", in bytes. */
static uint64_t find_kilobytes(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? 1024 * strtoull(at + strlen(name), NULL, 10) : 0;
}

uint64_t rp_host_peak_memory(void)
{
    char text[8192];
    read_text("/proc/self/status", text, sizeof text);
    uint64_t peak = find_kilobytes(text, "VmHWM:"), files = find_kilobytes(text, "RssFile:");
    files += find_kilobytes(text, "RssShmem:");
    return peak > files ? peak - files : 0;
}

/* ---- container ------------------------------------------------------------------------------- */

static size_t count_hex(const char *text)
{
    return strspn(text, "0123456789abcdef");
}

/* The first run of exactly 64 hex digits that follows `before` in the text. */
static bool find_id(const char *text, const char *before, char id[65])
{
    for (const char *at = strstr(text, before); at; at = strstr(at + 1, before)) {
        const char *digits = at + strlen(before);
        if (count_hex(digits) != 64) continue;
        memcpy(id, digits, 64);
        id[64] = '\0';
        return true;
    }
    return false;
}

static void take_image(const char *hint, char image[72])
{
    const char *digits = hint;
    if (!hint) return;
    if (strncmp(hint, "sha256:", 7) == 0) digits = hint + 7;
    if (count_hex(digits) == 64 && digits[64] == '\0') snprintf(image, 72, "sha256:%s", digits);
}

static bool path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

void rp_host_container(const char *image_hint, bool kubernetes, bool apptainer,
                       struct rp_host_container *container)
{
    /* Where the engine bind-mounts its files, the mount table tells the id even when the control
     * group is hidden by a namespace of its own. */
    static const struct {
        const char *mark, *kind;
    } marks[] = {{"/docker/containers/", "docker"},
                 {"/docker-", "docker"},
                 {"/docker/", "docker"},
                 {"/overlay-containers/", "podman"},
                 {"/libpod-", "podman"},
                 {"/cri-containerd-", "kubernetes"},
                 {"/crio-", "kubernetes"}};
    char cgroup[4096], mounts[65536], podman[4096];
    memset(container, 0, sizeof *container);
    read_text("/proc/self/cgroup", cgroup, sizeof cgroup);
    read_text("/proc/self/mountinfo", mounts, sizeof mounts);
    read_text("/run/.containerenv", podman, sizeof podman);

    const char *kind = "";
    for (size_t i = 0; i < RP_COUNT(marks) && !kind[0]; i++)
        if (find_id(cgroup, marks[i].mark, container->id) ||
            find_id(mounts, marks[i].mark, container->id))
            kind = marks[i].kind;
    if (!kind[0] && path_exists("/.dockerenv")) kind = "docker";
    if (!kind[0] && path_exists("/run/.containerenv")) kind = "podman";
    if (apptainer || path_exists("/.singularity.d")) kind = "apptainer";
    if (kubernetes || strstr(cgroup, "/kubepods")) kind = "kubernetes";
    snprintf(container->kind, sizeof container->kind, "%s", kind);

    char id[65];
    if (find_id(podman, "imageid=\"", id)) snprintf(container->image, 72, "sha256:%s", id);
    take_image(image_hint, container->image);
}
