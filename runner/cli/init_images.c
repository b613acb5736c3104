/* init_images.c - `init` of a folder of images: packed beside the spec first. The folder has a
 * subfolder for each class, or `train`, and perhaps `val` and `test`, that have. */
#include "cli/init_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <string.h>

/* FOLDER/NAME when that holds images by class; NULL when not. Caller frees. */
static char *find_part(const char *folder, const char *const *names)
{
    for (; *names; names++) {
        char *path = rp_sys_join(folder, *names);
        if (rp_data_is_image_folder(path)) return path;
        rp_mem_free(path);
    }
    return NULL;
}

static const char *const train_names[] = {"train", "training", NULL};
static const char *const valid_names[] = {"val", "valid", "validation", NULL};
static const char *const test_names[] = {"test", "testing", NULL};

bool init_is_images(const char *folder)
{
    char *train = find_part(folder, train_names);
    bool found = train != NULL;
    rp_mem_free(train);
    return found || rp_data_is_image_folder(folder);
}

/* NAME.packed or NAME-PART.packed, in the folder of the spec. Caller frees. */
static char *packed_path(const struct init *init, const char *part)
{
    char *folder = rp_sys_folder_of(init->out);
    char *file = rp_mem_text("%s%s%s.packed", init->name, *part ? "-" : "", part);
    char *path = strcmp(folder, ".") == 0 ? rp_mem_copy_text(file) : rp_sys_join(folder, file);
    rp_mem_free(file);
    rp_mem_free(folder);
    return path;
}

/* Packs one folder; size and channels of the first one hold for the others. */
static enum rp_status pack_part(struct init *init, struct rp_pack_options *options,
                                const char *part, char **path, json_t *result, struct rp_error *err)
{
    struct rp_pack_result packed = {0};
    bool chosen = options->height == 0;
    *path = packed_path(init, part);
    options->out = *path;
    enum rp_status status = rp_cli_pack(options, &packed, result, err);
    if (status == RP_STATUS_OK)
        rp_text_add(&init->look.notes, "%lld images packed into %s as %lld x %lld%s\n",
                    (long long)packed.n, *path, (long long)packed.height, (long long)packed.width,
                    chosen ? " (the medians, at most 64; --size H[xW] takes another)" : "");
    options->height = packed.height;
    options->width = packed.width;
    options->channels = packed.channels == 3 ? RP_PACK_COLOUR : RP_PACK_GREY;
    rp_pack_result_release(&packed);
    return status;
}

static enum rp_status pack_parts(struct init *init, const char *folder, const char *train,
                                 struct rp_pack_options *options, json_t *result,
                                 struct rp_error *err)
{
    struct rp_data_look *look = &init->look;
    char *valid = find_part(folder, valid_names), *test = find_part(folder, test_names);
    options->folder = train;
    enum rp_status status =
        pack_part(init, options, "train", &look->path[look->n_paths++], result, err);
    if (status == RP_STATUS_OK && valid) {
        options->folder = valid;
        status = pack_part(init, options, "valid", &look->valid[look->n_valid++], result, err);
    }
    if (status == RP_STATUS_OK && test) {
        options->folder = test;
        status = pack_part(init, options, "test", &look->test[look->n_test++], result, err);
    }
    rp_mem_free(test);
    rp_mem_free(valid);
    return status;
}

enum rp_status init_pack(struct init *init, const struct rp_cli_args *args, json_t *result,
                         struct rp_error *err)
{
    const char *folder = args->word[0], *size = rp_cli_text(args, "--size");
    struct rp_pack_options options = {.folder = folder,
                                      .skip_broken = rp_cli_has(args, "--skip-broken")};
    if (size && !rp_cli_parse_size(size, &options.height, &options.width))
        return rp_error_set(err, RP_STATUS_USAGE, "--size %s: expected H or HxW", size);
    struct rp_data_look *look = &init->look;
    char *train = find_part(folder, train_names);
    look->format = RP_FORMAT_PACKED;
    enum rp_status status =
        train ? pack_parts(init, folder, train, &options, result, err)
              : pack_part(init, &options, "", &look->path[look->n_paths++], result, err);
    if (status == RP_STATUS_OK)
        rp_text_add(&look->notes, "training reads packed files only; the images may go away\n");
    rp_mem_free(train);
    return status;
}
