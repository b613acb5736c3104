/* huggingface.c - a folder of transformers as a source of weights. */
#include "checkpoint/checkpoint_int.h"

#include "base/number.h"

#include <stdio.h>
#include <string.h>

enum rp_status rp_hf_open(const char *folder, struct rp_hf *hf, struct rp_error *err)
{
    *hf = (struct rp_hf){.folder = rp_mem_copy_text(folder)};
    enum rp_status status = rp_hf_read_config(folder, &hf->kind, &hf->shape, err);
    if (status == RP_STATUS_OK) status = rp_st_set_open(folder, RP_STATUS_DATA, &hf->weights, err);
    hf->spec_bias = hf->shape.bias;
    if (status != RP_STATUS_OK) rp_hf_close(hf);
    return status;
}

void rp_hf_close(struct rp_hf *hf)
{
    rp_st_set_close(&hf->weights);
    rp_mem_free(hf->folder);
    *hf = (struct rp_hf){0};
}

/* ---- the spec's keys ------------------------------------------------------------------------- */

struct lines {
    struct rp_text *text;
    int n;
};

static void add_line(struct lines *lines, const char *key, const char *theirs, const char *here)
{
    rp_text_add(lines->text, "    %s: %s%*s# %s in the spec\n", key, theirs,
                (int)(strlen(key) + strlen(theirs) < 26 ? 26 - strlen(key) - strlen(theirs) : 2),
                "", here);
    lines->n++;
}

static void compare_size(struct lines *lines, const char *key, int64_t here, int64_t theirs)
{
    char a[24], b[24];
    if (here == theirs) return;
    snprintf(a, sizeof a, "%lld", (long long)theirs);
    snprintf(b, sizeof b, "%lld", (long long)here);
    add_line(lines, key, a, b);
}

static void compare_word(struct lines *lines, const char *key, const char *here, const char *theirs)
{
    if (strcmp(here, theirs) != 0) add_line(lines, key, theirs, here);
}

static void compare_flag(struct lines *lines, const char *key, bool here, bool theirs)
{
    compare_word(lines, key, here ? "true" : "false", theirs ? "true" : "false");
}

/* Both are used as binary32. */
static void compare_number(struct lines *lines, const char *key, double here, double theirs)
{
    char a[RP_NUMBER_BYTES], b[RP_NUMBER_BYTES];
    if ((float)here == (float)theirs) return;
    rp_number_text_float((float)theirs, a);
    rp_number_text_float((float)here, b);
    add_line(lines, key, a, b);
}

int rp_hf_compare(struct rp_hf *hf, const struct rp_hf_shape *spec, struct rp_text *text)
{
    const struct rp_hf_shape *folder = &hf->shape;
    struct lines lines = {.text = text};
    compare_size(&lines, "layers", spec->layers, folder->layers);
    compare_size(&lines, "heads", spec->heads, folder->heads);
    compare_size(&lines, "kv_heads", spec->kv_heads, folder->kv_heads);
    compare_size(&lines, "width", spec->width, folder->width);
    if (spec->context > folder->context)
        compare_size(&lines, "context", spec->context, folder->context);
    compare_size(&lines, "vocab", spec->vocab, folder->vocab);
    compare_word(&lines, "mlp", spec->mlp, folder->mlp);
    compare_size(&lines, "mlp_width", spec->mlp_width, folder->mlp_width);
    compare_word(&lines, "norm", spec->norm, folder->norm);
    compare_number(&lines, "norm_eps", spec->norm_eps, folder->norm_eps);
    compare_word(&lines, "position", spec->position, folder->position);
    if (strcmp(folder->position, "rope") == 0)
        compare_number(&lines, "rope_base", spec->rope_base, folder->rope_base);
    /* GPT-2 always has biases; a model without was written with zeros (rp_hf_write). */
    if (hf->kind != RP_HF_GPT2 || spec->bias)
        compare_flag(&lines, "bias", spec->bias, folder->bias);
    compare_flag(&lines, "tied", spec->tied, folder->tied);
    compare_flag(&lines, "qk_norm", spec->qk_norm, folder->qk_norm);
    hf->spec_bias = spec->bias;
    return lines.n;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* With the usual prefix or without. */
static const struct rp_st_entry *find_part(const struct rp_hf *hf,
                                           const struct rp_hf_source *source, int part)
{
    const struct rp_st_entry *entry = rp_st_set_find(&hf->weights, source->part[part].prefixed);
    return entry ? entry : rp_st_set_find(&hf->weights, source->part[part].name);
}

static bool is_positions(const struct rp_st_tensor *tensor)
{
    return strcmp(tensor->name, "wpe.weight") == 0;
}

/* The shape that a part must have in the folder. Of positions there may be more rows. */
static bool part_fits(const struct rp_st_tensor *tensor, const struct rp_hf_source *source,
                      int part, const struct rp_st_entry *entry)
{
    int n = tensor->shape.n_dims;
    int64_t rows = source->part[part].rows;
    if (entry->n_dims != n || n < 1 || n > 2) return false;
    int64_t columns = n == 2 ? tensor->shape.dims[1] : 1;
    int64_t their_rows = entry->dims[source->transposed && n == 2];
    int64_t their_columns = n == 2 ? entry->dims[!source->transposed] : 1;
    if (their_columns != columns) return false;
    return is_positions(tensor) ? their_rows >= rows : their_rows == rows;
}

static bool is_readable(const struct rp_st_entry *entry)
{
    return strcmp(entry->dtype, "F32") == 0 || strcmp(entry->dtype, "F16") == 0 ||
           strcmp(entry->dtype, "BF16") == 0;
}

/* What a part is, and what it should be. */
static enum rp_status refuse_shape(const struct rp_hf *hf, const struct rp_st_tensor *tensor,
                                   const struct rp_hf_source *source, int part,
                                   const struct rp_st_entry *entry, struct rp_error *err)
{
    struct rp_text found = {0};
    char want[64];
    long long rows = source->part[part].rows, columns = tensor->shape.dims[1];
    for (int d = 0; d < entry->n_dims; d++)
        rp_text_add(&found, "%s%lld", d ? " x " : "", (long long)entry->dims[d]);
    if (tensor->shape.n_dims == 1)
        snprintf(want, sizeof want, "%lld", rows);
    else
        snprintf(want, sizeof want, "%lld x %lld", source->transposed ? columns : rows,
                 source->transposed ? rows : columns);
    enum rp_status status =
        rp_error_set(err, RP_STATUS_DATA, "%s: tensor %s is %s, but this model needs %s",
                     hf->folder, entry->name, entry->n_dims ? found.bytes : "one number", want);
    rp_text_release(&found);
    return status;
}

/* The parts of a tensor: all there, of the right shape and dtype. Missing ones are counted. */
static enum rp_status check_tensor(const struct rp_hf *hf, const struct rp_st_tensor *tensor,
                                   struct rp_text *missing, int *n_missing, struct rp_error *err)
{
    struct rp_hf_source source;
    int64_t rows = 0;
    if (!rp_hf_source_of(hf->kind, &hf->shape, tensor->name, tensor->shape.dims[0], &source))
        return rp_error_set(err, RP_STATUS_DATA, "%s: such a model has no tensor %s", hf->folder,
                            tensor->name);
    for (int p = 0; p < source.n_parts; p++) {
        const struct rp_st_entry *entry = find_part(hf, &source, p);
        rows += source.part[p].rows;
        if (!entry) {
            if (++*n_missing <= 4)
                rp_text_add(missing, "%s%s", *n_missing > 1 ? ", " : "", source.part[p].prefixed);
            continue;
        }
        if (!part_fits(tensor, &source, p, entry))
            return refuse_shape(hf, tensor, &source, p, entry, err);
        if (!is_readable(entry))
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: tensor %s is %s; F32, F16 and BF16 are read", hf->folder,
                                entry->name, entry->dtype);
    }
    if (rows != tensor->shape.dims[0])
        return rp_error_set(err, RP_STATUS_INTERNAL, "%s: %s has other rows than its parts",
                            hf->folder, tensor->name);
    return RP_STATUS_OK;
}

static bool is_bias(const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".bias") == 0;
}

/* Where the spec has no biases: those of the folder must say nothing. */
static enum rp_status check_zeros(const struct rp_hf *hf, const struct rp_st_entry *entry,
                                  struct rp_error *err)
{
    int64_t n = rp_st_entry_elements(entry);
    float *values = RP_NEW_ARRAY(float, n + 1);
    enum rp_status status = rp_st_set_read(&hf->weights, entry, RP_STATUS_DATA, values, err);
    for (int64_t i = 0; i < n && status == RP_STATUS_OK; i++)
        if (!(values[i] == 0))
            status = rp_error_set(err, RP_STATUS_DATA,
                                  "%s: %s is not zero, and the model has no biases: write `bias: "
                                  "true` under `model`",
                                  hf->folder, entry->name);
    rp_mem_free(values);
    return status;
}

/* A tensor of the folder that the model has no place for would be lost without a word. */
static enum rp_status check_entry(const struct rp_hf *hf, const struct rp_st_entry *entry,
                                  const struct rp_st_tensor *tensors, int n, struct rp_error *err)
{
    char ours[112];
    bool known = rp_hf_name_here(hf->kind, entry->name, ours);
    if (!known && rp_hf_is_buffer(entry->name)) return RP_STATUS_OK;
    for (int i = 0; known && i < n; i++)
        if (strcmp(tensors[i].name, ours) == 0) return RP_STATUS_OK;
    if (known && hf->shape.tied && strcmp(ours, "lm_head.weight") == 0) return RP_STATUS_OK;
    if (known && is_bias(ours) && !hf->spec_bias && hf->shape.bias)
        return check_zeros(hf, entry, err);
    return rp_error_set(err, RP_STATUS_DATA, "%s: tensor %s has no place in this model", hf->folder,
                        entry->name);
}

enum rp_status rp_hf_check(const struct rp_hf *hf, const struct rp_st_tensor *tensors,
                           const bool *skip, int n, struct rp_error *err)
{
    struct rp_text missing = {0};
    int n_missing = 0;
    enum rp_status status = RP_STATUS_OK;
    for (int i = 0; i < n && status == RP_STATUS_OK; i++)
        if (!skip[i]) status = check_tensor(hf, &tensors[i], &missing, &n_missing, err);
    if (status == RP_STATUS_OK && n_missing > 0)
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s: %d of its tensors are missing: %s%s; copy the folder again, or "
                              "draw them anew with `skip` under `init_from`",
                              hf->folder, n_missing, rp_text_get(&missing),
                              n_missing > 4 ? ", ..." : "");
    for (int i = 0; i < hf->weights.n && status == RP_STATUS_OK; i++)
        status = check_entry(hf, &hf->weights.entry[i], tensors, n, err);
    rp_text_release(&missing);
    return status;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* One part, by way of a copy where it lies otherwise in the folder. */
static enum rp_status load_part(const struct rp_hf *hf, const struct rp_st_entry *entry,
                                const struct rp_hf_source *source, int64_t rows, int64_t columns,
                                float *values, struct rp_error *err)
{
    int64_t elements = rp_st_entry_elements(entry);
    bool transposed = source->transposed && entry->n_dims == 2;
    if (!transposed && elements == rows * columns)
        return rp_st_set_read(&hf->weights, entry, RP_STATUS_DATA, values, err);
    float *copy = rp_mem_try((size_t)elements * sizeof *copy);
    if (!copy)
        return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the %lld values of %s",
                            (long long)elements, entry->name);
    enum rp_status status = rp_st_set_read(&hf->weights, entry, RP_STATUS_DATA, copy, err);
    if (status == RP_STATUS_OK && transposed)
        rp_hf_transpose(copy, columns, rows, values);
    else if (status == RP_STATUS_OK)
        memcpy(values, copy, (size_t)(rows * columns) * sizeof *values);
    rp_mem_free(copy);
    return status;
}

enum rp_status rp_hf_load(const struct rp_hf *hf, const struct rp_st_tensor *tensor, float *values,
                          struct rp_error *err)
{
    struct rp_hf_source source;
    int64_t columns = tensor->shape.n_dims == 2 ? tensor->shape.dims[1] : 1;
    if (!rp_hf_source_of(hf->kind, &hf->shape, tensor->name, tensor->shape.dims[0], &source))
        return rp_error_set(err, RP_STATUS_INTERNAL, "%s has no source", tensor->name);
    for (int p = 0; p < source.n_parts; p++) {
        const struct rp_st_entry *entry = find_part(hf, &source, p);
        if (!entry)
            return rp_error_set(err, RP_STATUS_INTERNAL, "%s was not checked", tensor->name);
        RP_TRY(load_part(hf, entry, &source, source.part[p].rows, columns, values, err));
        values += source.part[p].rows * columns;
    }
    return RP_STATUS_OK;
}
