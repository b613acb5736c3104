/* data.c - opening the data sets of a spec: read, agree on one shape, split. */
#include "data/listing.h"
#include "data/tokens.h"

#include <math.h>
#include <string.h>

/* ---- reading --------------------------------------------------------------------------------- */

static enum rp_status read_set(struct rp_data_source *source, struct rp_data_set *set,
                               struct rp_error *err)
{
    set->target = source->dataset->target;
    switch (source->dataset->format) {
    case RP_FORMAT_IDX:
        return rp_data_read_idx(source, set, err);
    case RP_FORMAT_CIFAR:
        return rp_data_read_cifar(source, set, err);
    case RP_FORMAT_CSV:
        return rp_data_read_csv(source, set, err);
    case RP_FORMAT_NPY:
        return rp_data_read_npy(source, set, err);
    case RP_FORMAT_NPZ:
        return rp_data_read_npz(source, set, err);
    case RP_FORMAT_PACKED:
        return rp_data_read_packed(source, set, err);
    case RP_FORMAT_SYNTHETIC:
        return rp_data_make_synthetic(source, set, err);
    case RP_FORMAT_TEXT:
        return rp_data_read_text(source, set, err);
    case RP_FORMAT_TOKENS:
        return rp_data_read_tokens(source, set, err);
    case RP_FORMAT_JSONL:
        return rp_data_read_jsonl(source, set, err);
    case RP_FORMAT_NONE:
        break;
    }
    return rp_error_set(err, RP_STATUS_INTERNAL, "%s has no format", source->key);
}

/* Reads one data set of the spec; the files that it finds are appended to those of `data`. */
static enum rp_status read_part(struct rp_data *data, const struct rp_spec *spec, const char *key,
                                const struct rp_spec_dataset *dataset,
                                const struct rp_data_options *options, bool describe, bool deep,
                                struct rp_data_set *set, struct rp_error *err)
{
    struct rp_data_source source = {.spec = spec,
                                    .dataset = dataset,
                                    .key = key,
                                    .options = options,
                                    .describe = describe,
                                    .deep = deep,
                                    .files = data->files,
                                    .n_files = data->n_files};
    if (set != &data->train) {
        source.class_names = (const char *const *)data->train.class_names;
        source.n_class_names = data->train.class_names ? data->train.n_classes : 0;
        source.vocab = data->train.tokens && data->train.n_classes > 0 ? data->train.n_classes : 0;
    }
    enum rp_status status = read_set(&source, set, err);
    rp_data_source_release(&source);
    data->files = source.files;
    data->n_files = source.n_files;
    return status;
}

static bool shapes_agree(const struct rp_data_set *a, const struct rp_data_set *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dims, b->dims, sizeof a->dims) == 0 &&
           a->target == b->target && a->n_values == b->n_values;
}

static void shape_text(const struct rp_data_set *set, struct rp_text *text)
{
    if (set->target == RP_TARGET_TOKENS)
        rp_text_add(text, "windows of %lld tokens", (long long)set->dims[0]);
    else if (set->n_dims == 3)
        rp_text_add(text, "images of %lld x %lld x %lld", (long long)set->dims[0],
                    (long long)set->dims[1], (long long)set->dims[2]);
    else
        rp_text_add(text, "rows of %lld numbers", (long long)set->dims[0]);
    if (set->target == RP_TARGET_CLASSES)
        rp_text_add(text, " with classes");
    else if (set->target == RP_TARGET_VALUES)
        rp_text_add(text, " with %lld target values", (long long)set->n_values);
}

/* A second data set must look like the training data, and bring no class that training never saw.
 */
static enum rp_status check_like_train(const struct rp_spec *spec, const char *key,
                                       const struct rp_spec_dataset *dataset,
                                       const struct rp_data_set *train,
                                       const struct rp_data_set *set, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    struct rp_text want = {0}, got = {0};
    if (!shapes_agree(train, set)) {
        shape_text(train, &want);
        shape_text(set, &got);
        status =
            rp_spec_fail(spec, dataset->at, RP_STATUS_DATA, err, "%s has %s, but data.train has %s",
                         key, rp_text_get(&got), rp_text_get(&want));
    } else if (set->target == RP_TARGET_CLASSES && set->n_classes > train->n_classes &&
               train->n_classes >= 0) {
        status = rp_spec_fail(spec, dataset->at, RP_STATUS_DATA, err,
                              "%s has a label %lld, but the labels of data.train end at %lld", key,
                              (long long)set->n_classes - 1, (long long)train->n_classes - 1);
    } else if (set->target == RP_TARGET_TOKENS && set->n_classes > train->n_classes &&
               train->n_classes >= 0) {
        status = rp_spec_fail(spec, dataset->at, RP_STATUS_DATA, err,
                              "%s has a vocabulary of %lld, but that of data.train has %lld", key,
                              (long long)set->n_classes, (long long)train->n_classes);
    }
    rp_text_release(&got);
    rp_text_release(&want);
    return status;
}

static enum rp_status read_second(struct rp_data *data, const struct rp_spec *spec, const char *key,
                                  const struct rp_spec_dataset *dataset,
                                  const struct rp_data_options *options, bool describe, bool deep,
                                  struct rp_data_set *set, struct rp_error *err)
{
    if (dataset->format == RP_FORMAT_NONE) return RP_STATUS_OK;
    RP_TRY(read_part(data, spec, key, dataset, options, describe, deep, set, err));
    return check_like_train(spec, key, dataset, &data->train, set, err);
}

static enum rp_status read_all(struct rp_data *data, const struct rp_spec *spec,
                               const struct rp_data_options *options, bool describe, bool deep,
                               bool with_test, struct rp_error *err)
{
    RP_TRY(read_part(data, spec, "data.train", &spec->train_data, options, describe, deep,
                     &data->train, err));
    RP_TRY(rp_data_transforms_check(spec, &data->train, err));
    RP_TRY(read_second(data, spec, "data.valid", &spec->valid_data, options, describe, deep,
                       &data->valid, err));
    if (!with_test) return RP_STATUS_OK;
    return read_second(data, spec, "data.test", &spec->test_data, options, describe, deep,
                       &data->test, err);
}

/* ---- the shape and the split ----------------------------------------------------------------- */

/* valid.fraction of n samples, to the nearest whole number, halves up, and at least one of each. */
static enum rp_status count_valid(const struct rp_spec *spec, int64_t n, int64_t *n_valid,
                                  struct rp_error *err)
{
    int64_t count = (int64_t)floor(spec->valid_fraction * (double)n + 0.5);
    if (count < 1) count = 1;
    *n_valid = count;
    if (count < n) return RP_STATUS_OK;
    return rp_spec_fail(
        spec, spec->train_data.at, RP_STATUS_USAGE, err,
        "data.valid.fraction takes %lld of %lld samples and leaves none to train on",
        (long long)count, (long long)n);
}

static enum rp_status find_shape(struct rp_data *data, const struct rp_spec *spec,
                                 struct rp_error *err)
{
    const struct rp_data_set *train = &data->train;
    struct rp_data_shape *shape = &data->shape;
    shape->n_dims = train->n_dims;
    memcpy(shape->dims, train->dims, sizeof shape->dims);
    shape->target = train->target;
    shape->n_classes = train->target == RP_TARGET_VALUES ? 0 : train->n_classes;
    shape->n_values = train->target == RP_TARGET_VALUES ? train->n_values : 0;
    shape->n_train = train->n;
    shape->mapped =
        spec->train_data.format == RP_FORMAT_PACKED || spec->train_data.format == RP_FORMAT_TOKENS;
    for (int i = 0; i < spec->n_transforms; i++)
        shape->mixes = shape->mixes || spec->transform[i].kind >= RP_TRANSFORM_MIXUP;
    shape->n_valid = spec->valid_data.format == RP_FORMAT_NONE ? 0 : data->valid.n;
    data->split = spec->valid_fraction > 0;
    if (train->tokens && !train->tokens->stride) return rp_windows_find_shape(data, spec, err);
    if (!data->split) return RP_STATUS_OK;
    shape->n_valid = -1;
    if (train->n < 0) return RP_STATUS_OK;
    RP_TRY(count_valid(spec, train->n, &shape->n_valid, err));
    shape->n_train = train->n - shape->n_valid;
    return RP_STATUS_OK;
}

enum rp_status rp_data_describe(const struct rp_spec *spec, bool deep, struct rp_data_shape *shape,
                                struct rp_error *err)
{
    struct rp_data *data = RP_NEW(struct rp_data);
    enum rp_status status = read_all(data, spec, NULL, true, deep, false, err);
    if (status == RP_STATUS_OK) status = find_shape(data, spec, err);
    *shape = data->shape;
    rp_data_free(data);
    return status;
}

/* Windows of a run of tokens have no numbers of their own: splits are stretches of the run. */
static bool is_cut_anywhere(const struct rp_data *data)
{
    return data->train.tokens && !data->train.tokens->stride;
}

static void normalize_floats(const struct rp_data *data, const struct rp_spec *spec,
                             struct rp_data_set *set)
{
    if (set->n > 0 && !set->is_u8 && !set->tokens && !data->transforms.stepwise)
        rp_data_transforms_apply(spec, set);
}

enum rp_status rp_data_open(const struct rp_spec *spec, const struct rp_data_options *options,
                            struct rp_data **out, struct rp_error *err)
{
    static const struct rp_data_options defaults;
    enum rp_status status;
    struct rp_data *data = RP_NEW(struct rp_data);
    if (!options) options = &defaults;
    data->seed = spec->seed;
    RP_TRY_GOTO(status, read_all(data, spec, options, false, true, options->with_test, err), fail);
    RP_TRY_GOTO(status, find_shape(data, spec, err), fail);
    if (data->split && !is_cut_anywhere(data)) {
        data->train_index = RP_NEW_ARRAY(uint32_t, data->shape.n_train);
        data->valid_index = RP_NEW_ARRAY(uint32_t, data->shape.n_valid);
        rp_data_split(data->seed, data->train.n, data->shape.n_valid, data->train_index,
                      data->valid_index);
    }
    rp_data_transforms_init(&data->transforms, spec, &data->train);
    normalize_floats(data, spec, &data->train);
    normalize_floats(data, spec, &data->valid);
    normalize_floats(data, spec, &data->test);
    *out = data;
    return RP_STATUS_OK;
fail:
    rp_data_free(data);
    return status;
}

/* ---- one data set alone ---------------------------------------------------------------------- */

static enum rp_status check_like_trained(const struct rp_data_source *source,
                                         const struct rp_data_like *like,
                                         const struct rp_data_set *set, struct rp_error *err)
{
    const struct rp_data_shape *shape = &like->shape;
    struct rp_data_set trained = {
        .n_dims = shape->n_dims, .target = shape->target, .n_values = shape->n_values};
    memcpy(trained.dims, shape->dims, sizeof trained.dims);
    bool agree = like->without_targets ? trained.n_dims == set->n_dims &&
                                             memcmp(trained.dims, set->dims, sizeof set->dims) == 0
                                       : shapes_agree(&trained, set);
    const char *name = source->dataset->n_files ? source->dataset->files[0].path : source->key;
    enum rp_status status = RP_STATUS_OK;
    if (!agree) {
        struct rp_text want = {0}, got = {0};
        shape_text(&trained, &want);
        shape_text(set, &got);
        status = rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_DATA, err,
                              "%s has %s, but the model was trained on %s", name, rp_text_get(&got),
                              rp_text_get(&want));
        rp_text_release(&got);
        rp_text_release(&want);
    } else if (!like->without_targets && set->target == RP_TARGET_CLASSES &&
               set->n_classes > shape->n_classes) {
        status = rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_DATA, err,
                              "%s has a label %lld, but the model was trained on labels up to %lld",
                              name, (long long)set->n_classes - 1, (long long)shape->n_classes - 1);
    } else if (set->target == RP_TARGET_TOKENS && set->n_classes > shape->n_classes) {
        status = rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_DATA, err,
                              "%s has a vocabulary of %lld, but the model was trained on one of "
                              "%lld",
                              name, (long long)set->n_classes, (long long)shape->n_classes);
    } else if (set->target == RP_TARGET_TOKENS && set->n == 0) {
        status =
            rp_spec_fail(source->spec, source->dataset->at, RP_STATUS_DATA, err,
                         "%s has one token, and nothing to predict: that takes at least 2", name);
    }
    return status;
}

enum rp_status rp_data_open_alone(const struct rp_spec *spec, const char *key,
                                  const struct rp_spec_dataset *dataset,
                                  const struct rp_data_like *like,
                                  const struct rp_data_options *options, struct rp_data **out,
                                  struct rp_error *err)
{
    struct rp_data *data = RP_NEW(struct rp_data);
    struct rp_data_source source = {.spec = spec,
                                    .dataset = dataset,
                                    .key = key,
                                    .options = options,
                                    .class_names = like->class_names,
                                    .n_class_names = like->class_names ? like->shape.n_classes : 0,
                                    .columns = like->columns,
                                    .vocab = like->shape.n_classes,
                                    .without_targets = like->without_targets};
    data->seed = spec->seed;
    data->shape = like->shape;
    data->shape.n_train = data->shape.n_valid = 0;
    enum rp_status status = read_set(&source, &data->test, err);
    rp_data_source_release(&source);
    data->files = source.files;
    data->n_files = source.n_files;
    if (status == RP_STATUS_OK) status = check_like_trained(&source, like, &data->test, err);
    if (status == RP_STATUS_OK) {
        data->test.n_values = like->shape.n_values;
        data->test.target = like->shape.target;
        rp_data_transforms_init(&data->transforms, spec, &data->test);
        normalize_floats(data, spec, &data->test);
        *out = data;
    } else {
        rp_data_free(data);
    }
    return status;
}

int64_t rp_data_samples(const struct rp_data *data, enum rp_split split)
{
    if (split == RP_SPLIT_TEST) return data->test.n;
    if (split == RP_SPLIT_TRAIN && is_cut_anywhere(data)) return rp_windows_eval_train(data);
    return split == RP_SPLIT_TRAIN ? data->shape.n_train : data->shape.n_valid;
}

void rp_data_free(struct rp_data *data)
{
    if (!data) return;
    for (int i = 0; i < data->n_files; i++) {
        rp_mem_free(data->files[i].key);
        rp_mem_free(data->files[i].path);
    }
    rp_mem_free(data->files);
    rp_mem_free(data->valid_index);
    rp_mem_free(data->train_index);
    rp_data_set_release(&data->test);
    rp_data_set_release(&data->valid);
    rp_data_set_release(&data->train);
    rp_mem_free(data);
}

/* ---- what is known of it --------------------------------------------------------------------- */

const struct rp_data_shape *rp_data_shape(const struct rp_data *data)
{
    return &data->shape;
}

int rp_data_files(const struct rp_data *data, const struct rp_data_file **files)
{
    *files = data->files;
    return data->n_files;
}

const char *const *rp_data_class_names(const struct rp_data *data)
{
    return (const char *const *)data->train.class_names;
}

const char *const *rp_data_columns(const struct rp_data *data)
{
    return (const char *const *)data->train.columns;
}

void rp_data_canonical(const struct rp_data *data, bool valid_counts, struct rp_text *text)
{
    for (int i = 0; i < data->n_files; i++) {
        if (!valid_counts && strncmp(data->files[i].key, "data.valid", strlen("data.valid")) == 0)
            continue;
        char hex[RP_SHA256_HEX];
        rp_sha256_hex(&data->files[i].sha256, hex);
        rp_text_add(text, "%s %llu %s\n", data->files[i].key,
                    (unsigned long long)data->files[i].size, hex);
    }
}
