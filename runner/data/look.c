/* look.c - which of a few files are inputs and which targets. Every choice follows a rule that is
 * written into the notes. */
#include "data/look_int.h"

#include "base/sys.h"

#include <stdio.h>
#include <string.h>

struct look_source *look_source_new(const char *const *paths, int n)
{
    static char folder[] = ".";
    struct look_source *s = RP_NEW(struct look_source);
    s->spec.path = (char *)(uintptr_t) "init";
    s->spec.folder = folder;
    for (int i = 0; i < n && i < RP_SPEC_MAX_FILES; i++)
        s->dataset.files[s->dataset.n_files++].path = (char *)(uintptr_t)paths[i];
    s->source = (struct rp_data_source){
        .spec = &s->spec, .dataset = &s->dataset, .key = "data.train", .describe = true};
    return s;
}

void look_source_free(struct look_source *source)
{
    rp_mem_free(source);
}

/* ---- several files together ------------------------------------------------------------------ */

static void add_path(struct rp_data_look *look, const char *path)
{
    if (look->n_paths < RP_SPEC_MAX_FILES) look->path[look->n_paths++] = rp_mem_copy_text(path);
}

static void add_test(struct rp_data_look *look, const char *path)
{
    if (look->n_test < RP_SPEC_MAX_FILES) look->test[look->n_test++] = rp_mem_copy_text(path);
}

static const struct look_file *find_idx(const struct look_file *files, int n, bool labels,
                                        int64_t count)
{
    for (int i = 0; i < n; i++)
        if ((files[i].n_dims == 1) == labels && (count < 0 || files[i].n == count))
            return &files[i];
    return NULL;
}

/* Images and labels of as many samples belong together; the larger pair is trained on. */
static enum rp_status pair_idx(const struct look_file *files, int n, struct rp_data_look *look,
                               struct rp_error *err)
{
    const struct look_file *best = NULL, *other = NULL;
    look->format = RP_FORMAT_IDX;
    for (int i = 0; i < n; i++) {
        if (files[i].n_dims == 1 || !find_idx(files, n, true, files[i].n)) continue;
        if (!best || files[i].n > best->n) {
            other = best;
            best = &files[i];
        } else if (!other) {
            other = &files[i];
        }
    }
    const struct look_file *labels = best ? find_idx(files, n, true, best->n) : NULL;
    if (!labels)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is an IDX file; it takes two with as many samples, one of images "
                            "and one of labels: name both",
                            files[0].path);
    add_path(look, best->path);
    add_path(look, labels->path);
    const struct look_file *test = other ? find_idx(files, n, true, other->n) : NULL;
    if (other && other->n == best->n) test = NULL;
    if (test) {
        add_test(look, other->path);
        add_test(look, test->path);
        rp_text_add(&look->notes,
                    "two pairs of files: the one with more samples (%s) is trained on, the other "
                    "is data.test\n",
                    look_name_of(best->path));
    }
    return RP_STATUS_OK;
}

static enum rp_status join_cifar(const struct look_file *files, int n, struct rp_data_look *look,
                                 struct rp_error *err)
{
    look->format = RP_FORMAT_CIFAR;
    look->cifar_classes = files[0].cifar_classes;
    for (int i = 0; i < n; i++) {
        if (files[i].cifar_classes != look->cifar_classes)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "%s holds CIFAR-%d, %s CIFAR-%d: name the files of one of them",
                                files[0].path, files[0].cifar_classes, files[i].path,
                                files[i].cifar_classes);
        if (n > 1 && strncmp(look_name_of(files[i].path), "test", 4) == 0)
            add_test(look, files[i].path);
        else
            add_path(look, files[i].path);
    }
    if (look->n_paths == 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "only files of test images: name one to train on");
    if (look->n_test)
        rp_text_add(&look->notes, "files whose name begins with `test` are data.test\n");
    return RP_STATUS_OK;
}

/* Does a name say that it holds targets? */
static bool is_target_name(const char *name)
{
    static const char *const begins[] = {"y", "label", "target", "class", "train_y", "train_label"};
    for (size_t i = 0; i < RP_COUNT(begins); i++) {
        size_t n = strlen(begins[i]);
        if (strncasecmp(name, begins[i], n) == 0 &&
            (n > 1 || !name[1] || !strchr("abcdefghijklmnopqrstuvwxyz", name[1] | 32)))
            return true;
    }
    return strstr(name, "_y.") || strstr(name, "-y.") || strstr(name, "label");
}

/* Which of two arrays is the target: the one with fewer dimensions, else the one whose name says
 * so. -1: neither can be told. */
static int which_is_y(const struct npz_entry entry[2], const char **rule)
{
    int a = entry[0].array.n_dims, b = entry[1].array.n_dims;
    *rule = "has fewer dimensions";
    if (a != b) return a < b ? 0 : 1;
    *rule = "has a name of targets";
    bool first = is_target_name(entry[0].name), second = is_target_name(entry[1].name);
    if (first != second) return first ? 0 : 1;
    return -1;
}

static void take_target(const struct npy_array *y, const char *name, struct rp_data_look *look)
{
    look->target = y->kind == 'f' ? RP_TARGET_VALUES : RP_TARGET_CLASSES;
    rp_text_add(&look->notes, "%s holds %s: %s\n", name,
                y->kind == 'f' ? "floating-point numbers" : "whole numbers",
                y->kind == 'f' ? "values to fit (regression)" : "classes to tell apart");
}

static enum rp_status describe_npy(const char *path, struct npy_array *array, struct rp_error *err)
{
    struct look_source *s = look_source_new(&path, 1);
    struct npy_input input = {.source = &s->source, .name = ""};
    enum rp_status status = rp_data_stream_open(&s->source, 0, "x", false, &input.stream, err);
    if (status == RP_STATUS_OK) {
        status = npy_read_header(&input, array, err);
        status = rp_data_stream_end(input.stream, status, false, err);
    }
    look_source_free(s);
    return status;
}

static enum rp_status pair_npy(const struct look_file *files, int n, struct rp_data_look *look,
                               struct rp_error *err)
{
    struct npz_entry entry[2] = {{0}, {0}};
    const char *rule;
    look->format = RP_FORMAT_NPY;
    if (n != 2)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%d .npy files: it takes two, the inputs and the targets", n);
    for (int i = 0; i < 2; i++) {
        entry[i].name = (char *)(uintptr_t)look_name_of(files[i].path);
        RP_TRY(describe_npy(files[i].path, &entry[i].array, err));
    }
    int y = which_is_y(entry, &rule);
    if (y < 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s and %s have as many dimensions: call the file of targets y.npy",
                            files[0].path, files[1].path);
    rp_text_add(&look->notes, "%s is the target: it %s\n", entry[y].name, rule);
    take_target(&entry[y].array, entry[y].name, look);
    add_path(look, files[1 - y].path);
    add_path(look, files[y].path);
    return RP_STATUS_OK;
}

static int find_entry_named(const struct npz_entry *entry, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcasecmp(entry[i].name, name) == 0) return i;
    return -1;
}

/* The arrays of an .npz: a pair of well-known names, else the only two there are. */
static enum rp_status choose_arrays(const struct npz_entry *entry, int n, const char *path,
                                    struct rp_data_look *look, struct rp_error *err)
{
    static const char *const pairs[][2] = {{"x", "y"},
                                           {"x_train", "y_train"},
                                           {"train_x", "train_y"},
                                           {"images", "labels"},
                                           {"train_images", "train_labels"},
                                           {"data", "target"},
                                           {"data", "labels"},
                                           {"features", "labels"}};
    int x = -1, y = -1;
    for (size_t i = 0; i < RP_COUNT(pairs) && (x < 0 || y < 0); i++) {
        x = find_entry_named(entry, n, pairs[i][0]);
        y = find_entry_named(entry, n, pairs[i][1]);
    }
    if ((x < 0 || y < 0) && n == 2) {
        const char *rule;
        y = which_is_y(entry, &rule);
        x = 1 - y;
        if (y >= 0)
            rp_text_add(&look->notes, "array `%s` is the target: it %s\n", entry[y].name, rule);
    }
    if (x < 0 || y < 0) {
        struct rp_text names = {0};
        for (int i = 0; i < n; i++) rp_text_add(&names, "%s%s", i ? ", " : "", entry[i].name);
        enum rp_status status = rp_error_set(
            err, RP_STATUS_USAGE,
            "%s: cannot tell which array is the target among %s: save them as `x` and `y`", path,
            rp_text_get(&names));
        rp_text_release(&names);
        return status;
    }
    look->x = rp_mem_copy_text(entry[x].name);
    look->y = rp_mem_copy_text(entry[y].name);
    take_target(&entry[y].array, entry[y].name, look);
    return RP_STATUS_OK;
}

static enum rp_status look_at_npz(const char *path, struct rp_data_look *look, struct rp_error *err)
{
    struct look_source *s = look_source_new(&path, 1);
    struct npz_entry entry[NPZ_MAX_ENTRIES] = {{0}};
    int n = 0;
    look->format = RP_FORMAT_NPZ;
    add_path(look, path);
    enum rp_status status = npz_list(&s->source, entry, &n, err);
    if (status == RP_STATUS_OK) status = choose_arrays(entry, n, path, look, err);
    for (int i = 0; i < NPZ_MAX_ENTRIES; i++) rp_mem_free(entry[i].name);
    look_source_free(s);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Files of one kind, or an error that says which do not belong together. */
static enum rp_status check_one_kind(const struct look_file *files, int n, struct rp_error *err)
{
    for (int i = 0; i < n; i++) {
        if (files[i].kind == LOOK_KIND_UNKNOWN)
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: not known what it is; taken are idx, cifar (.bin), npy, npz, "
                                "csv, files of `reprise pack`, a folder with a subfolder of PNG or "
                                "JPEG images for each class; text (.txt), .jsonl, token files "
                                "(.bin)",
                                files[i].path);
        if (files[i].kind != files[0].kind)
            return rp_error_set(
                err, RP_STATUS_USAGE,
                "%s and %s are of different formats: name the files of one data set", files[0].path,
                files[i].path);
    }
    bool single = files[0].kind == LOOK_KIND_CSV || files[0].kind == LOOK_KIND_NPZ ||
                  files[0].kind == LOOK_KIND_PACKED;
    if (n > 1 && single)
        return rp_error_set(err, RP_STATUS_USAGE, "%s and %s: name one, to train on", files[0].path,
                            files[1].path);
    return RP_STATUS_OK;
}

static enum rp_status look_at_all(const struct look_file *files, int n, const char *label,
                                  struct rp_data_look *look, struct rp_error *err)
{
    const char *paths[RP_SPEC_MAX_FILES];
    RP_TRY(check_one_kind(files, n, err));
    for (int i = 0; i < n; i++) paths[i] = files[i].path;
    if (label && files[0].kind != LOOK_KIND_CSV)
        return rp_error_set(err, RP_STATUS_USAGE, "--target names a column of a csv; %s is none",
                            files[0].path);
    switch (files[0].kind) {
    case LOOK_KIND_IDX:
        return pair_idx(files, n, look, err);
    case LOOK_KIND_CIFAR:
        return join_cifar(files, n, look, err);
    case LOOK_KIND_NPY:
        return pair_npy(files, n, look, err);
    case LOOK_KIND_NPZ:
        return look_at_npz(files[0].path, look, err);
    case LOOK_KIND_CSV:
        return look_at_csv(files[0].path, label, look, err);
    case LOOK_KIND_PACKED:
        add_path(look, files[0].path);
        look->format = RP_FORMAT_PACKED;
        return RP_STATUS_OK;
    case LOOK_KIND_TEXT:
        return look_at_texts(paths, n, look, err);
    case LOOK_KIND_JSONL:
        return look_at_jsonl(paths, n, look, err);
    case LOOK_KIND_TOKENS:
        return look_at_tokens(paths, n, look, err);
    case LOOK_KIND_UNKNOWN:
        break;
    }
    return RP_STATUS_OK;
}

/* Does a folder hold a .txt, at any depth that somebody would put one in? */
static bool holds_text(const char *folder, int depth)
{
    char **names = NULL;
    bool found = false;
    if (depth > 8 || rp_sys_list(folder, &names, NULL) != RP_STATUS_OK) return false;
    for (char **name = names; *name && !found; name++) {
        struct rp_sys_stat stat = {0};
        char *path = rp_sys_join(folder, *name);
        if (**name != '.' && rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK)
            found = (stat.is_file && look_ends_with(*name, ".txt")) ||
                    (stat.is_folder && holds_text(path, depth + 1));
        rp_mem_free(path);
    }
    rp_sys_free_names(names);
    return found;
}

static bool has_file(const char *folder, const char *name)
{
    struct rp_sys_stat stat = {0};
    char *path = rp_sys_join(folder, name);
    bool has = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file;
    rp_mem_free(path);
    return has;
}

/* A folder of weights as Hugging Face has them: nothing to learn from. */
static enum rp_status refuse_weights(const char *folder, struct rp_error *err)
{
    if (!has_file(folder, "config.json") || (!has_file(folder, "model.safetensors") &&
                                             !has_file(folder, "model.safetensors.index.json")))
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s holds weights, no data to learn from: `reprise init gpt` writes a job "
                        "to edit, which begins with them by `init_from: {path: %s}` under `model`",
                        folder, folder);
}

/* The files of a folder that are of a kind that is known. */
static enum rp_status look_at_folder(const char *folder, const char *label,
                                     struct rp_data_look *look, struct rp_error *err)
{
    char **names = NULL, *paths[RP_SPEC_MAX_FILES] = {0};
    struct look_file files[RP_SPEC_MAX_FILES];
    int n = 0;
    RP_TRY(refuse_weights(folder, err));
    enum rp_status status = rp_sys_list(folder, &names, err);
    for (char **name = names; status == RP_STATUS_OK && *name && n < RP_SPEC_MAX_FILES; name++) {
        struct rp_sys_stat stat;
        char *path = rp_sys_join(folder, *name);
        status = rp_sys_stat(path, &stat, err);
        bool skip = **name == '.' || !stat.is_file || look_ends_with(*name, ".yaml") ||
                    look_ends_with(*name, ".md") || (look_ends_with(*name, ".txt"));
        if (status == RP_STATUS_OK && !skip) status = look_at_file(path, &files[n], err);
        if (status == RP_STATUS_OK && !skip && files[n].kind != LOOK_KIND_UNKNOWN)
            paths[n++] = path;
        else
            rp_mem_free(path);
    }
    bool texts = status == RP_STATUS_OK && n == 0 && !label && holds_text(folder, 0);
    if (status == RP_STATUS_OK && n == 0 && !texts)
        status =
            rp_error_set(err, RP_STATUS_DATA,
                         "%s: no data files in it (idx, cifar, npy, npz, csv, jsonl, txt), and "
                         "no subfolders with PNG or JPEG images, one for each class",
                         folder);
    look->is_folder = texts;
    if (texts)
        status = look_at_texts(&folder, 1, look, err);
    else if (status == RP_STATUS_OK)
        status = look_at_all(files, n, label, look, err);
    for (int i = 0; i < n; i++) rp_mem_free(paths[i]);
    rp_sys_free_names(names);
    return status;
}

enum rp_status rp_data_look(const char *const *paths, int n, const char *label,
                            struct rp_data_look *look, struct rp_error *err)
{
    struct look_file files[RP_SPEC_MAX_FILES];
    struct rp_sys_stat stat;
    *look = (struct rp_data_look){.delimiter = ','};
    if (n > RP_SPEC_MAX_FILES)
        return rp_error_set(err, RP_STATUS_USAGE, "%d files; at most %d are taken", n,
                            RP_SPEC_MAX_FILES);
    RP_TRY(rp_sys_stat(paths[0], &stat, err));
    if (n == 1 && stat.is_folder) return look_at_folder(paths[0], label, look, err);
    for (int i = 0; i < n; i++) {
        RP_TRY(look_at_file(paths[i], &files[i], err));
        if (label && files[i].kind == LOOK_KIND_TEXT)
            files[i].kind = LOOK_KIND_CSV; /* who names a column */
    }
    return look_at_all(files, n, label, look, err);
}

void rp_data_look_release(struct rp_data_look *look)
{
    for (int i = 0; i < look->n_paths; i++) rp_mem_free(look->path[i]);
    for (int i = 0; i < look->n_test; i++) rp_mem_free(look->test[i]);
    for (int i = 0; i < look->n_valid; i++) rp_mem_free(look->valid[i]);
    rp_mem_free(look->response);
    rp_mem_free(look->prompt);
    rp_mem_free(look->field);
    for (int i = 0; i < look->n_ignore; i++) rp_mem_free(look->ignore[i]);
    for (int i = 0; i < look->n_indicators; i++) rp_mem_free(look->indicators[i]);
    rp_mem_free(look->indicators);
    rp_mem_free(look->ignore);
    rp_mem_free(look->label);
    rp_mem_free(look->x);
    rp_mem_free(look->y);
    rp_text_release(&look->notes);
    *look = (struct rp_data_look){0};
}
