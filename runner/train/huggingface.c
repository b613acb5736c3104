/* huggingface.c - a gpt model of a spec beside a folder of transformers: weights in. */
#include "train/huggingface.h"

#include "base/mem.h"
#include "train/tokenizer.h"

#include <stdio.h>
#include <string.h>

struct rp_hf_shape rp_hf_shape_of(const struct rp_spec *spec, int64_t vocab)
{
    static const char *const mlps[] = {[RP_GPT_MLP_GELU] = "gelu",
                                       [RP_GPT_MLP_GELU_TANH] = "gelu_tanh",
                                       [RP_GPT_MLP_SWIGLU] = "swiglu"};
    static const char *const norms[] = {
        [RP_GPT_NORM_LAYER] = "layernorm", [RP_GPT_NORM_RMS] = "rmsnorm"};
    static const char *const positions[] = {[RP_GPT_POSITION_LEARNED] = "learned",
                                            [RP_GPT_POSITION_ROPE] = "rope",
                                            [RP_GPT_POSITION_NONE] = "none"};
    const struct rp_spec_gpt *gpt = &spec->model.gpt;
    return (struct rp_hf_shape){.layers = gpt->layers,
                                .heads = gpt->heads,
                                .kv_heads = gpt->kv_heads,
                                .width = gpt->width,
                                .context = spec->model.context,
                                .vocab = vocab,
                                .mlp_width = gpt->mlp_width,
                                .mlp = mlps[gpt->mlp],
                                .norm = norms[gpt->norm],
                                .position = positions[gpt->position],
                                .norm_eps = (double)gpt->norm_eps,
                                .rope_base = (double)gpt->rope_base,
                                .bias = gpt->bias,
                                .tied = gpt->tied,
                                .qk_norm = gpt->qk_norm};
}

/* The tensors that the model keeps, without data, and which of them the spec draws anew. */
static struct rp_st_tensor *list_tensors(const struct rp_spec *spec, const struct rp_model *model,
                                         bool **skip)
{
    struct rp_st_tensor *tensors = RP_NEW_ARRAY(struct rp_st_tensor, model->n_kept + 1);
    *skip = RP_NEW_ARRAY(bool, model->n_kept + 1);
    for (int i = 0; i < model->n_kept; i++) {
        snprintf(tensors[i].name, sizeof tensors[i].name, "%s", model->kept[i].name);
        tensors[i].shape = model->kept[i].shape;
        (*skip)[i] = rp_weights_skipped(spec, model->kept[i].name);
    }
    return tensors;
}

static enum rp_status check_keys(const struct rp_spec *spec, const struct rp_model *model,
                                 struct rp_hf *hf, struct rp_error *err)
{
    struct rp_hf_shape shape = rp_hf_shape_of(spec, model->kept[0].shape.dims[0]);
    struct rp_text lines = {0};
    enum rp_status status = RP_STATUS_OK;
    if (rp_hf_compare(hf, &shape, &lines) > 0) {
        lines.bytes[lines.length - 1] = '\0'; /* the last end of line */
        status = rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_DATA, err,
                              "the weights in %s are of another model: write\n  model:\n%s",
                              hf->folder, lines.bytes);
    }
    rp_text_release(&lines);
    return status;
}

static enum rp_status check_open(const struct rp_spec *spec, const struct rp_model *model,
                                 struct rp_hf *hf, struct rp_error *err)
{
    bool *skip = NULL;
    struct rp_st_tensor *tensors = NULL;
    RP_TRY(rp_tokenizer_check(spec, hf->folder, err)); /* first: vocab may come from it */
    RP_TRY(check_keys(spec, model, hf, err));
    tensors = list_tensors(spec, model, &skip);
    enum rp_status status = rp_hf_check(hf, tensors, skip, model->n_kept, err);
    rp_mem_free(tensors);
    rp_mem_free(skip);
    return status;
}

enum rp_status rp_hf_check_spec(const struct rp_spec *spec, const struct rp_model *model,
                                const char *folder, struct rp_error *err)
{
    struct rp_hf hf = {0};
    if (spec->model.kind != RP_MODEL_GPT)
        return rp_spec_fail(spec, spec->model.init_from.at, RP_STATUS_USAGE, err,
                            "%s is a folder; that of a language model is for `kind: gpt`, other "
                            "weights are a safetensors file",
                            folder);
    enum rp_status status = rp_hf_open(folder, &hf, err);
    if (status == RP_STATUS_OK) status = check_open(spec, model, &hf, err);
    rp_hf_close(&hf);
    return status;
}

static enum rp_status load_tensor(struct rp_trainer *t, const struct rp_hf *hf,
                                  const struct rp_st_tensor *tensor, void *to, struct rp_error *err)
{
    size_t bytes = rp_tensor_bytes(&tensor->shape);
    float *values = rp_mem_try(bytes);
    if (!values)
        return rp_error_set(err, RP_STATUS_MEMORY, "no memory for the %zu bytes of %s", bytes,
                            tensor->name);
    enum rp_status status = rp_hf_load(hf, tensor, values, err);
    if (status == RP_STATUS_OK)
        status = t->device->table->copy_in(t->device, to, values, bytes, err);
    rp_mem_free(values);
    return status;
}

enum rp_status rp_hf_load_model(struct rp_trainer *t, struct rp_hf *hf, const struct rp_stop *stop,
                                struct rp_error *err)
{
    bool *skip = NULL;
    struct rp_st_tensor *tensors = list_tensors(t->spec, t->model, &skip);
    enum rp_status status = check_open(t->spec, t->model, hf, err);
    for (int i = 0; i < t->model->n_kept && status == RP_STATUS_OK; i++) {
        status = rp_stop_look(stop, hf->folder, err);
        if (status == RP_STATUS_OK && !skip[i])
            status = load_tensor(t, hf, &tensors[i], t->kept[i], err);
    }
    rp_mem_free(tensors);
    rp_mem_free(skip);
    return status;
}
