/* apply_data.c - the data that a finished model is applied to: a split of the run's own, checked by
 * hash, or other files in one of the formats. */
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/apply_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static void show_reading(const char *what, double fraction)
{
    rp_log_progress("%s: %.0f %%", what, 100 * fraction);
}

/* A list of texts of the manifest, NULL-terminated; NULL when it is empty. Caller frees the list,
 * its texts belong to the manifest. */
static const char **texts_of(const struct rp_manifest *manifest, const char *key)
{
    const json_t *list = json_object_get(manifest->root, key);
    size_t n = json_array_size(list);
    const char **texts = n ? RP_NEW_ARRAY(const char *, n + 1) : NULL;
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        texts[i] = text ? text : "";
    }
    return texts;
}

/* ---- the run's own data ---------------------------------------------------------------------- */

static const struct rp_spec_dataset *dataset_of(const struct rp_spec *spec, enum rp_split split)
{
    if (split == RP_SPLIT_TRAIN) return &spec->train_data;
    return split == RP_SPLIT_TEST ? &spec->test_data : &spec->valid_data;
}

static enum rp_status check_there_is(const struct rp_apply_state *state, enum rp_split split,
                                     struct rp_error *err)
{
    const struct rp_spec *spec = state->spec;
    bool there = dataset_of(spec, split)->format != RP_FORMAT_NONE ||
                 (split == RP_SPLIT_VALID && spec->valid_fraction > 0);
    if (there) return RP_STATUS_OK;
    return rp_error_set(
        err, RP_STATUS_USAGE,
        "the spec of %s has no data.%s; choose another --split, or name files after "
        "--data",
        state->run, split == RP_SPLIT_TEST ? "test" : "valid");
}

/* ---- other files ----------------------------------------------------------------------------- */

/* By its first bytes, or its name; NONE when it could be anything. */
static enum rp_status guess_format(const char *path, enum rp_format *format, struct rp_error *err)
{
    unsigned char bytes[6] = {0};
    size_t got = 0;
    int fd = -1;
    *format = RP_FORMAT_NONE;
    RP_TRY(rp_sys_open_read(path, RP_STATUS_DATA, &fd, err));
    enum rp_status status = rp_sys_read(fd, bytes, sizeof bytes, &got, path, RP_STATUS_DATA, err);
    rp_sys_close(fd);
    if (got == sizeof bytes && memcmp(bytes, "\x93NUMPY", 6) == 0)
        *format = RP_FORMAT_NPY;
    else if (got == sizeof bytes && memcmp(bytes, "RPPACK", 6) == 0)
        *format = RP_FORMAT_PACKED;
    else if (got >= 4 && memcmp(bytes, "PK\3\4", 4) == 0)
        *format = RP_FORMAT_NPZ;
    else if (got >= 4 && ((memcmp(bytes, "\0\0\x8", 3) == 0 && bytes[3] <= 4) ||
                          (bytes[0] == 0x1f && bytes[1] == 0x8b)))
        *format = RP_FORMAT_IDX;
    else if (rp_text_ends(path, ".csv") || rp_text_ends(path, ".tsv"))
        *format = RP_FORMAT_CSV;
    return status;
}

/* Images are no data yet. */
static enum rp_status check_packed(const struct rp_apply_state *state, const char *path,
                                   struct rp_error *err)
{
    const struct rp_data_shape *shape = &state->shape;
    const char *dot = strrchr(path, '.');
    char size[64] = "";
    bool folder = rp_data_holds_images(path);
    if (!folder && !(dot && (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 ||
                             strcasecmp(dot, ".jpeg") == 0)))
        return RP_STATUS_OK;
    if (shape->n_dims == 3)
        snprintf(size, sizeof size, " --size %lldx%lld", (long long)shape->dims[0],
                 (long long)shape->dims[1]);
    return rp_error_set(err, RP_STATUS_USAGE,
                        "--data %s: images are packed before they are read: %s`reprise pack "
                        "%s%s --out new.packed`, then --data new.packed",
                        path, folder ? "" : "put them into a folder, ", folder ? path : "FOLDER",
                        size);
}

static int most_files(enum rp_format format)
{
    switch (format) {
    case RP_FORMAT_IDX:
    case RP_FORMAT_NPY:
        return 2;
    case RP_FORMAT_CIFAR:
    case RP_FORMAT_TEXT:
    case RP_FORMAT_TOKENS:
    case RP_FORMAT_JSONL:
        return RP_SPEC_MAX_FILES;
    default:
        return 1;
    }
}

static enum rp_status check_files(const struct rp_apply_options *options,
                                  const struct rp_spec_dataset *dataset, struct rp_error *err)
{
    const char *first = options->files[0];
    bool pair = dataset->format == RP_FORMAT_IDX || dataset->format == RP_FORMAT_NPY;
    if (dataset->format == RP_FORMAT_NONE || dataset->format == RP_FORMAT_SYNTHETIC)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--data %s: expected a file of idx, .npy, .npz, .csv or of the format "
                            "that the run was trained on",
                            first);
    if (dataset->format == RP_FORMAT_CSV && !dataset->csv_label && !options->without_targets)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--data %s: the run was not trained on a table, so nothing says which "
                            "column holds the target; `reprise predict` takes it",
                            first);
    if (dataset->n_files > most_files(dataset->format))
        return rp_error_set(err, RP_STATUS_USAGE, "--data: %d files, but %d is the most here",
                            dataset->n_files, most_files(dataset->format));
    if (pair && dataset->n_files < 2 && !options->without_targets)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--data %s: a second file is needed, that of the %s: --data %s %s",
                            first, dataset->format == RP_FORMAT_IDX ? "labels" : "targets", first,
                            dataset->format == RP_FORMAT_IDX ? "LABELS" : "Y");
    return RP_STATUS_OK;
}

/* What a language model has learnt from decides how other files are read, down to the tokenizer;
 * only text and JSON lines tell themselves apart, by their names. */
static void like_own_text(const char *path, struct rp_spec_dataset *dataset)
{
    if (dataset->format != RP_FORMAT_TEXT && dataset->format != RP_FORMAT_JSONL) return;
    if (rp_text_ends(path, ".jsonl")) dataset->format = RP_FORMAT_JSONL;
    if (rp_text_ends(path, ".txt")) dataset->format = RP_FORMAT_TEXT;
    if (dataset->format == RP_FORMAT_TEXT) dataset->jsonl_prompt = NULL;
}

/* The data set of the run with other files in it; another format where the first file says so. */
static enum rp_status other_dataset(struct rp_apply_state *state,
                                    const struct rp_apply_options *options,
                                    struct rp_spec_dataset *dataset, struct rp_error *err)
{
    enum rp_format format = RP_FORMAT_NONE;
    const struct rp_spec_dataset *own = &state->spec->train_data;
    bool tokens = state->shape.target == RP_TARGET_TOKENS;
    if (!tokens) RP_TRY(check_packed(state, options->files[0], err));
    if (!tokens) RP_TRY(guess_format(options->files[0], &format, err));
    if (format == RP_FORMAT_NONE || format == own->format)
        *dataset = *own;
    else
        *dataset = (struct rp_spec_dataset){.format = format, .csv_delimiter = ','};
    if (dataset->format == RP_FORMAT_CSV && rp_text_ends(options->files[0], ".tsv"))
        dataset->csv_delimiter = '\t';
    if (tokens) like_own_text(options->files[0], dataset);
    dataset->at = (struct rp_spec_place){0, 0};
    dataset->target = state->shape.target;
    dataset->n_files = 0;
    for (const char *const *file = options->files; *file; file++) {
        if (dataset->n_files == RP_SPEC_MAX_FILES)
            return rp_error_set(err, RP_STATUS_USAGE, "--data: at most %d files",
                                RP_SPEC_MAX_FILES);
        state->paths[dataset->n_files] = rp_sys_absolute(*file);
        dataset->files[dataset->n_files] =
            (struct rp_spec_file){.path = state->paths[dataset->n_files]};
        dataset->n_files++;
    }
    return check_files(options, dataset, err);
}

/* ---- opening --------------------------------------------------------------------------------- */

static enum rp_status open_alone(struct rp_apply_state *state,
                                 const struct rp_apply_options *options,
                                 const struct rp_data_options *how, struct rp_error *err)
{
    static const char *const keys[] = {"data.train", "data.valid", "data.test"};
    struct rp_spec_dataset *other = RP_NEW(struct rp_spec_dataset);
    const struct rp_spec_dataset *dataset = dataset_of(state->spec, options->split);
    const char **names = texts_of(&state->manifest, "classes");
    const char **columns = texts_of(&state->manifest, "columns");
    struct rp_data_like like = {.shape = state->shape,
                                .class_names = names,
                                .columns = columns,
                                .without_targets = options->without_targets};
    enum rp_status status = RP_STATUS_OK;
    if (options->files) {
        status = other_dataset(state, options, other, err);
        dataset = other;
    }
    state->split = RP_SPLIT_TEST;
    if (status == RP_STATUS_OK)
        status = rp_data_open_alone(state->spec, options->files ? "other" : keys[options->split],
                                    dataset, &like, how, &state->data, err);
    rp_mem_free(columns);
    rp_mem_free(names);
    rp_mem_free(other);
    return status;
}

enum rp_status rp_apply_open_data(struct rp_apply_state *state,
                                  const struct rp_apply_options *options, struct rp_error *err)
{
    struct rp_data_known *known = NULL;
    struct rp_data_options how = {.n_known = rp_facts_known_data(&state->manifest, &known),
                                  .progress = show_reading};
    how.known = known;
    enum rp_status status = RP_STATUS_OK;
    bool part = options->split == RP_SPLIT_TRAIN ||
                (options->split == RP_SPLIT_VALID && state->spec->valid_fraction > 0);
    if (!options->files) status = check_there_is(state, options->split, err);
    state->split = options->split;
    if (status == RP_STATUS_OK)
        status = options->files || !part ? open_alone(state, options, &how, err)
                                         : rp_data_open(state->spec, &how, &state->data, err);
    rp_log_progress_clear();
    if (status == RP_STATUS_OK && !options->files)
        status = rp_facts_check_data(json_object_get(state->manifest.root, "data"), state->data,
                                     "to measure on other data name the files after --data", err);
    rp_mem_free(known);
    return status;
}
