/* folder.c - all files that a folder holds, at any depth, in bytewise order of the path within it.
 */
#include "data/folder.h"

#include "base/mem.h"
#include "base/sys.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 32 };

/* Takes `path`. */
static void add(struct rp_folder *list, char *path)
{
    size_t n = (size_t)list->n;
    if ((n & (n - 1)) == 0)
        list->file = rp_mem_grow(list->file, (n ? 2 * n : 1) * sizeof *list->file);
    list->file[list->n++] = path;
}

static enum rp_status visit(const char *root, const char *within, const char *ending, int depth,
                            struct rp_folder *list, struct rp_error *err)
{
    char **names = NULL, *folder = rp_sys_join(root, within);
    enum rp_status status = RP_STATUS_OK;
    if (depth > DEPTH_MOST)
        status = rp_error_set(err, RP_STATUS_DATA,
                              "folders within folders too deep; is there a link to one above?");
    else
        status = rp_sys_list(folder, &names, err);
    for (char **name = names; status == RP_STATUS_OK && *name; name++) {
        struct rp_sys_stat stat;
        if (**name == '.') continue;
        char *path = *within ? rp_mem_text("%s/%s", within, *name) : rp_mem_copy_text(*name);
        char *whole = rp_sys_join(root, path);
        status = rp_sys_stat(whole, &stat, err);
        if (status == RP_STATUS_OK && stat.is_folder) {
            status = visit(root, path, ending, depth + 1, list, err);
        } else if (status == RP_STATUS_OK && stat.is_file && rp_text_ends(*name, ending)) {
            add(list, path);
            path = NULL;
        }
        rp_mem_free(whole);
        rp_mem_free(path);
    }
    if (names) rp_sys_free_names(names);
    rp_mem_free(folder);
    return status;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

enum rp_status rp_folder_list(const char *root, const char *ending, struct rp_folder *list,
                              struct rp_error *err)
{
    *list = (struct rp_folder){0};
    RP_TRY(visit(root, "", ending ? ending : "", 0, list, err));
    if (list->n > 1) qsort(list->file, (size_t)list->n, sizeof *list->file, compare_paths);
    return RP_STATUS_OK;
}

void rp_folder_release(struct rp_folder *list)
{
    for (int i = 0; i < list->n; i++) rp_mem_free(list->file[i]);
    rp_mem_free(list->file);
    *list = (struct rp_folder){0};
}
