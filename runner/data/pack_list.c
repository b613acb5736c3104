/* pack_list.c - which images a folder holds: a subfolder for each class, its name the class;
 * without subfolders all of one class, for a model to be applied to. */
#include "data/pack_int.h"

#include "base/sys.h"
#include "base/utf8.h"

#include <string.h>
#include <strings.h>

static bool is_image_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    return name[0] != '.' && dot &&
           (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 ||
            strcasecmp(dot, ".jpeg") == 0);
}

static bool is_folder(const char *path)
{
    struct rp_sys_stat stat = {0};
    return rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_folder;
}

static bool holds_image(const char *folder)
{
    char **names = NULL;
    bool found = false;
    if (rp_sys_list(folder, &names, NULL) != RP_STATUS_OK) return false;
    for (char **name = names; *name && !found; name++) found = is_image_name(*name);
    rp_sys_free_names(names);
    return found;
}

bool rp_data_is_image_folder(const char *path)
{
    char **names = NULL;
    bool found = false;
    if (!is_folder(path) || rp_sys_list(path, &names, NULL) != RP_STATUS_OK) return false;
    for (char **name = names; *name && !found; name++) {
        char *inner = rp_sys_join(path, *name);
        found = **name != '.' && is_folder(inner) && holds_image(inner);
        rp_mem_free(inner);
    }
    rp_sys_free_names(names);
    return found;
}

bool rp_data_holds_images(const char *path)
{
    return rp_data_is_image_folder(path) || (is_folder(path) && holds_image(path));
}

static void add_image(struct pack_list *list, char *path)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 1024;
        list->image = rp_mem_grow(list->image, (size_t)list->capacity * sizeof *list->image);
    }
    list->image[list->n++] =
        (struct pack_image){.path = path, .label = (int32_t)list->n_classes - 1};
}

static void add_class(struct pack_list *list, const char *name)
{
    list->class_names =
        rp_mem_grow(list->class_names, (size_t)(list->n_classes + 1) * sizeof *list->class_names);
    list->class_names[list->n_classes++] = rp_mem_copy_text(name);
}

static enum rp_status read_class(const char *folder, const char *name, struct pack_list *list,
                                 struct rp_error *err)
{
    char **files = NULL;
    bool any = false;
    if (rp_utf8_length(name, strlen(name)) != strlen(name))
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: the name of a class must be UTF-8: rename the folder", folder);
    RP_TRY(rp_sys_list(folder, &files, err));
    for (char **file = files; *file; file++) {
        if (!is_image_name(*file)) {
            list->n_other += **file != '.';
            continue;
        }
        if (!any) add_class(list, name);
        any = true;
        add_image(list, rp_sys_join(folder, *file));
    }
    rp_sys_free_names(files);
    return RP_STATUS_OK;
}

enum rp_status pack_list_read(const char *folder, struct pack_list *list, struct rp_error *err)
{
    char **names = NULL;
    enum rp_status status = RP_STATUS_OK;
    if (!is_folder(folder))
        return rp_error_set(err, RP_STATUS_DATA, "there is no folder %s", folder);
    RP_TRY(rp_sys_list(folder, &names, err));
    for (char **name = names; *name && status == RP_STATUS_OK; name++) {
        char *inner = rp_sys_join(folder, *name);
        bool hidden = **name == '.';
        if (!hidden && is_folder(inner))
            status = read_class(inner, *name, list, err);
        else
            list->n_other += !hidden;
        rp_mem_free(inner);
    }
    rp_sys_free_names(names);
    RP_TRY(status);
    if (list->n == 0) {
        list->n_other = 0;
        RP_TRY(read_class(folder, "unsorted", list, err));
    }
    if (list->n > INT32_MAX || list->n_classes > RP_DATA_MAX_CLASSES)
        return rp_error_set(err, RP_STATUS_DATA, "%s: more images or classes than can be numbered",
                            folder);
    if (list->n > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s: no images; expected a subfolder for each class, with .png, .jpg or "
                        ".jpeg files in it",
                        folder);
}

void pack_list_release(struct pack_list *list)
{
    for (int64_t i = 0; i < list->n; i++) rp_mem_free(list->image[i].path);
    for (int64_t i = 0; i < list->n_classes; i++) rp_mem_free(list->class_names[i]);
    rp_mem_free(list->class_names);
    rp_mem_free(list->image);
    *list = (struct pack_list){0};
}
