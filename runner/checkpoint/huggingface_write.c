/* huggingface_write.c - a model as a folder that transformers loads. */
#include "checkpoint/checkpoint_int.h"

#include "base/sys.h"

#include <stdio.h>
#include <string.h>

/* In squares that fit a cache. */
void rp_hf_transpose(const float *from, int64_t rows, int64_t columns, float *to)
{
    enum { SIDE = 32 };
    for (int64_t r = 0; r < rows; r += SIDE)
        for (int64_t c = 0; c < columns; c += SIDE)
            for (int64_t i = r; i < rows && i < r + SIDE; i++)
                for (int64_t j = c; j < columns && j < c + SIDE; j++)
                    to[j * rows + i] = from[i * columns + j];
}

enum rp_status rp_hf_choose(const struct rp_hf_shape *shape, enum rp_hf_kind *kind,
                            struct rp_error *err)
{
    bool rope = strcmp(shape->position, "rope") == 0;
    const char *family = rope ? "llama" : "gpt2", *key = NULL, *value = NULL;
    *kind = !rope ? RP_HF_GPT2 : shape->qk_norm ? RP_HF_QWEN3 : RP_HF_LLAMA;
    if (strcmp(shape->position, "none") == 0) key = "position", value = "none";
    if (strcmp(shape->norm, rope ? "rmsnorm" : "layernorm") != 0) key = "norm", value = shape->norm;
    if ((strcmp(shape->mlp, "swiglu") == 0) != rope) key = "mlp", value = shape->mlp;
    if (!rope && shape->kv_heads != shape->heads)
        key = "kv_heads", value = "another number than heads";
    if (!rope && shape->qk_norm) key = "qk_norm", value = "true";
    if (*kind == RP_HF_QWEN3 && shape->bias) key = "bias", value = "true";
    if (!key) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "transformers knows no such model: nothing like %s has `%s: %s`; `--to "
                        "safetensors` writes the tensors alone",
                        *kind == RP_HF_QWEN3 ? "qwen3" : family, key, value);
}

/* What is written, and where each tensor comes from. */
struct output {
    struct rp_st_tensor *tensor;
    struct {
        const float *values; /* NULL: zeros */
        bool transposed;
    } * from;
    int n;
    float *buffer; /* of the largest tensor */
};

static const void *take(void *context, const struct rp_st_tensor *tensor)
{
    struct output *output = context;
    if (!tensor) return NULL;
    int64_t i = tensor - output->tensor, n = rp_tensor_elements(&tensor->shape);
    if (!output->from[i].values) {
        memset(output->buffer, 0, (size_t)n * sizeof *output->buffer);
        return output->buffer;
    }
    if (!output->from[i].transposed) return output->from[i].values;
    rp_hf_transpose(output->from[i].values, tensor->shape.dims[1], tensor->shape.dims[0],
                    output->buffer);
    return output->buffer;
}

static void add_output(struct output *output, const char *name, const float *values, int64_t rows,
                       int64_t columns, bool transposed)
{
    struct rp_st_tensor *tensor = &output->tensor[output->n];
    *tensor = (struct rp_st_tensor){
        .shape = {.dtype = RP_DTYPE_F32, .n_dims = columns ? 2 : 1, .dims = {rows, columns}}};
    if (transposed) tensor->shape.dims[0] = columns, tensor->shape.dims[1] = rows;
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    output->from[output->n].values = values;
    output->from[output->n].transposed = transposed;
    output->n++;
}

static bool has_tensor(const struct rp_st_tensor *tensors, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(tensors[i].name, name) == 0) return true;
    return false;
}

/* A weight, its parts; and zeros for a bias that GPT-2 has and the model has not. */
static enum rp_status add_tensor(struct output *output, enum rp_hf_kind kind,
                                 const struct rp_hf_shape *shape,
                                 const struct rp_st_tensor *tensors, int n, int i,
                                 struct rp_error *err)
{
    const struct rp_st_tensor *tensor = &tensors[i];
    struct rp_hf_source source;
    int64_t columns = tensor->shape.n_dims == 2 ? tensor->shape.dims[1] : 0;
    const float *values = tensor->shape.data;
    if (!rp_hf_source_of(kind, shape, tensor->name, tensor->shape.dims[0], &source))
        return rp_error_set(err, RP_STATUS_INTERNAL, "no name for %s", tensor->name);
    for (int p = 0; p < source.n_parts; p++) {
        int64_t rows = source.part[p].rows;
        add_output(output, source.part[p].prefixed, values, rows, columns, source.transposed);
        values += rows * (columns ? columns : 1);
    }
    size_t stem = strlen(tensor->name) - strlen("weight");
    char bias[112];
    snprintf(bias, sizeof bias, "%.*sbias", (int)stem, tensor->name);
    if (kind == RP_HF_GPT2 && strcmp(tensor->name + stem, "weight") == 0 &&
        !has_tensor(tensors, n, bias) &&
        rp_hf_source_of(kind, shape, bias, tensor->shape.dims[0], &source))
        add_output(output, source.part[0].prefixed, NULL, tensor->shape.dims[0], 0, false);
    return RP_STATUS_OK;
}

enum rp_status rp_hf_write(const char *folder, enum rp_hf_kind kind,
                           const struct rp_hf_shape *shape, const struct rp_st_tensor *tensors,
                           int n, int64_t end_of_text, struct rp_error *err)
{
    static const char *const metadata[] = {"format", "pt", NULL};
    char *path = rp_sys_join(folder, "model.safetensors");
    struct output output = {.tensor = RP_NEW_ARRAY(struct rp_st_tensor, RP_HF_PARTS * n + 1)};
    const struct rp_st_source source = {.take = take, .context = &output};
    int64_t largest = 1;
    enum rp_status status = RP_STATUS_OK;
    output.from = rp_mem_new(sizeof *output.from * (size_t)(RP_HF_PARTS * n + 1));
    for (int i = 0; i < n; i++) {
        if (rp_tensor_elements(&tensors[i].shape) > largest)
            largest = rp_tensor_elements(&tensors[i].shape);
        RP_TRY_GOTO(status, add_tensor(&output, kind, shape, tensors, n, i, err), out);
    }
    output.buffer = rp_mem_try((size_t)largest * sizeof *output.buffer);
    if (!output.buffer) {
        status = rp_error_set(err, RP_STATUS_MEMORY, "no memory for the largest tensor, %lld bytes",
                              (long long)largest * 4);
        goto out;
    }
    RP_TRY_GOTO(status, rp_hf_write_config(folder, kind, shape, end_of_text, err), out);
    status = rp_st_write(path, output.tensor, output.n, &source, metadata, NULL, NULL, err);
out:
    rp_mem_free(output.buffer);
    rp_mem_free(output.from);
    rp_mem_free(output.tensor);
    rp_mem_free(path);
    return status;
}
