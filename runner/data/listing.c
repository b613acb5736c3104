/* listing.c - the files of a data set that may name folders: all that a folder holds, at any depth,
 * in bytewise order of the path within it. */
#include "data/listing.h"

#include "base/sys.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MOST = 32, FILES_MOST = 1 << 17 };

struct walk {
    struct rp_data_source *source;
    const struct rp_spec_file *folder;
    char *root; /* where it lies */
    const char *ending;
    char **found; /* paths within it */
    int n;
};

static bool ends_in(const char *name, const char *ending)
{
    size_t n = strlen(name), m = ending ? strlen(ending) : 0;
    return n > m && (m == 0 || strcmp(name + n - m, ending) == 0);
}

static enum rp_status fail(const struct walk *walk, const char *why, struct rp_error *err)
{
    return rp_spec_fail(walk->source->spec, walk->folder->at, RP_STATUS_DATA, err, "%s: %s",
                        walk->folder->path, why);
}

static enum rp_status visit(struct walk *walk, const char *within, int depth, struct rp_error *err)
{
    char **names = NULL, *folder = rp_sys_join(walk->root, within);
    enum rp_status status = RP_STATUS_OK;
    if (depth > DEPTH_MOST)
        status = fail(walk, "folders within folders too deep; is there a link to one above?", err);
    else
        status = rp_sys_list(folder, &names, err);
    for (char **name = names; status == RP_STATUS_OK && *name; name++) {
        struct rp_sys_stat stat;
        if (**name == '.') continue;
        char *path = *within ? rp_mem_text("%s/%s", within, *name) : rp_mem_copy_text(*name);
        char *whole = rp_sys_join(walk->root, path);
        status = rp_sys_stat(whole, &stat, err);
        if (status == RP_STATUS_OK && stat.is_folder) {
            status = visit(walk, path, depth + 1, err);
        } else if (status == RP_STATUS_OK && stat.is_file && ends_in(*name, walk->ending)) {
            walk->found = rp_mem_grow(walk->found, (size_t)(walk->n + 1) * sizeof *walk->found);
            walk->found[walk->n++] = path;
            path = NULL;
            if (walk->n > FILES_MOST)
                status = fail(walk, "too many files; `reprise tokenize` makes one of them", err);
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

static void add(struct rp_data_source *source, const struct rp_spec_file *file, char *path)
{
    source->listed =
        rp_mem_grow(source->listed, (size_t)(source->n_listed + 1) * sizeof *source->listed);
    source->listed[source->n_listed] = *file;
    source->listed[source->n_listed++].path = path;
}

static enum rp_status add_folder(struct rp_data_source *source, const struct rp_spec_file *file,
                                 const char *root, const char *ending, struct rp_error *err)
{
    struct walk walk = {
        .source = source, .folder = file, .root = rp_mem_copy_text(root), .ending = ending};
    enum rp_status status = RP_STATUS_OK;
    if (file->has_sha256)
        status = rp_spec_fail(source->spec, file->at, RP_STATUS_USAGE, err,
                              "%s is a folder, and `sha256` is of files: name them, or leave "
                              "`sha256` out (the run records the hash of each)",
                              file->path);
    if (status == RP_STATUS_OK) status = visit(&walk, "", 0, err);
    if (status == RP_STATUS_OK && walk.n == 0) {
        char *why = rp_mem_text("the folder holds no %s file", ending ? ending : "text");
        status = fail(&walk, why, err);
        rp_mem_free(why);
    }
    if (walk.n > 1) qsort(walk.found, (size_t)walk.n, sizeof *walk.found, compare_paths);
    for (int i = 0; i < walk.n; i++) {
        if (status == RP_STATUS_OK) add(source, file, rp_sys_join(file->path, walk.found[i]));
        rp_mem_free(walk.found[i]);
    }
    rp_mem_free(walk.found);
    rp_mem_free(walk.root);
    return status;
}

enum rp_status rp_data_source_list(struct rp_data_source *source, const char *ending,
                                   struct rp_error *err)
{
    for (int i = 0; i < source->dataset->n_files; i++) {
        const struct rp_spec_file *file = &source->dataset->files[i];
        struct rp_sys_stat stat = {0};
        char *path = rp_spec_path(source->spec, file->path);
        enum rp_status status = rp_sys_stat(path, &stat, err);
        if (status == RP_STATUS_OK && stat.is_folder)
            status = add_folder(source, file, path, ending, err);
        else if (status == RP_STATUS_OK)
            add(source, file, rp_mem_copy_text(file->path)); /* missing: opening it says so */
        rp_mem_free(path);
        RP_TRY(status);
    }
    return RP_STATUS_OK;
}

void rp_data_source_release(struct rp_data_source *source)
{
    for (int i = 0; i < source->n_listed; i++) rp_mem_free(source->listed[i].path);
    rp_mem_free(source->listed);
    source->listed = NULL;
    source->n_listed = 0;
}

const struct rp_spec_file *rp_data_source_file(const struct rp_data_source *source, int index)
{
    return source->listed ? &source->listed[index] : &source->dataset->files[index];
}
