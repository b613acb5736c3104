/* listing.c - the files of a data set that may name folders. */
#include "data/listing.h"

#include "data/folder.h"

#include "base/sys.h"

enum { FILES_MOST = 1 << 17 };

static void add(struct rp_data_source *source, const struct rp_spec_file *file, char *path)
{
    source->listed =
        rp_mem_grow(source->listed, (size_t)(source->n_listed + 1) * sizeof *source->listed);
    source->listed[source->n_listed] = *file;
    source->listed[source->n_listed++].path = path;
}

static enum rp_status check_folder(const struct rp_data_source *source,
                                   const struct rp_spec_file *file, const struct rp_folder *found,
                                   const char *ending, struct rp_error *err)
{
    if (file->has_sha256)
        return rp_spec_fail(source->spec, file->at, RP_STATUS_USAGE, err,
                            "%s is a folder, and `sha256` is of files: name them, or leave "
                            "`sha256` out (the run records the hash of each)",
                            file->path);
    if (found->n == 0)
        return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err,
                            "%s: the folder holds no %s file", file->path,
                            ending ? ending : "text");
    if (found->n > FILES_MOST)
        return rp_spec_fail(source->spec, file->at, RP_STATUS_DATA, err,
                            "%s: too many files; `reprise tokenize` makes one of them", file->path);
    return RP_STATUS_OK;
}

static enum rp_status add_folder(struct rp_data_source *source, const struct rp_spec_file *file,
                                 const char *root, const char *ending, struct rp_error *err)
{
    struct rp_folder found;
    struct rp_error why = {0};
    enum rp_status status = rp_folder_list(root, ending, &found, &why);
    if (status == RP_STATUS_OK)
        status = check_folder(source, file, &found, ending, err);
    else
        status = rp_spec_fail(source->spec, file->at, status, err, "%s: %s", file->path, why.text);
    for (int i = 0; i < found.n && status == RP_STATUS_OK; i++)
        add(source, file, rp_sys_join(file->path, found.file[i]));
    rp_folder_release(&found);
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
