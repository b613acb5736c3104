/* huggingface_config.c - config.json, read and written: the shape of a model in transformers'
 * words.
 */
#include "checkpoint/checkpoint_int.h"

#include "base/number.h"
#include "base/sys.h"

#include <jansson.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 24 };

struct config {
    const char *path;
    const json_t *root;
    struct rp_error *err;
};

#define REFUSE(config, ...) rp_error_set((config)->err, RP_STATUS_DATA, __VA_ARGS__)

/* ---- values: absent and null give the default ------------------------------------------------ */

static const json_t *value_of(const struct config *c, const char *key)
{
    const json_t *value = json_object_get(c->root, key);
    return json_is_null(value) ? NULL : value;
}

/* A size from 1 on; `otherwise` 0: it must be there. */
static enum rp_status get_size(const struct config *c, const char *key, int64_t otherwise,
                               int64_t *size)
{
    const json_t *value = value_of(c, key);
    *size = value ? json_integer_value(value) : otherwise;
    if (*size >= 1 && *size <= INT32_MAX && (!value || json_is_integer(value))) return RP_STATUS_OK;
    return REFUSE(c, "%s: `%s` is %s", c->path, key, value ? "no size" : "missing");
}

static enum rp_status get_number(const struct config *c, const char *key, double otherwise,
                                 double *number)
{
    const json_t *value = value_of(c, key);
    *number = value ? json_number_value(value) : otherwise;
    if (*number > 0 && (!value || json_is_number(value))) return RP_STATUS_OK;
    return REFUSE(c, "%s: `%s` is no positive number", c->path, key);
}

static enum rp_status get_flag(const struct config *c, const char *key, bool otherwise, bool *flag)
{
    const json_t *value = value_of(c, key);
    *flag = value ? json_is_true(value) : otherwise;
    if (!value || json_is_boolean(value)) return RP_STATUS_OK;
    return REFUSE(c, "%s: `%s` is neither true nor false", c->path, key);
}

/* A flag with one value that has an equal here. */
static enum rp_status need_flag(const struct config *c, const char *key, bool only)
{
    bool flag;
    RP_TRY(get_flag(c, key, only, &flag));
    if (flag == only) return RP_STATUS_OK;
    return REFUSE(c, "%s: `%s: %s` has no equal here; only %s is read", c->path, key,
                  flag ? "true" : "false", only ? "true" : "false");
}

static enum rp_status need_absent(const struct config *c, const char *key)
{
    if (!value_of(c, key)) return RP_STATUS_OK;
    return REFUSE(c, "%s: `%s` has no equal here", c->path, key);
}

/* ---- gpt2 ------------------------------------------------------------------------------------ */

static enum rp_status get_activation(const struct config *c, const char *key, const char *otherwise,
                                     bool gated, const char **mlp)
{
    static const struct {
        const char *theirs, *ours;
        bool gated;
    } known[] = {
        {"gelu_new", "gelu_tanh", false}, {"gelu_pytorch_tanh", "gelu_tanh", false},
        {"gelu", "gelu", false},          {"silu", "swiglu", true},
        {"swish", "swiglu", true},
    };
    const json_t *value = value_of(c, key);
    const char *theirs = value ? json_string_value(value) : otherwise;
    for (size_t i = 0; theirs && i < RP_COUNT(known); i++) {
        if (known[i].gated != gated || strcmp(known[i].theirs, theirs) != 0) continue;
        *mlp = known[i].ours;
        return RP_STATUS_OK;
    }
    return REFUSE(c, "%s: `%s: %.40s` has no equal here; %s", c->path, key, theirs ? theirs : "?",
                  gated ? "only silu is read"
                        : "only gelu_new, gelu_pytorch_tanh and gelu are read");
}

static enum rp_status read_gpt2(const struct config *c, struct rp_hf_shape *shape)
{
    *shape = (struct rp_hf_shape){.norm = "layernorm", .position = "learned", .bias = true};
    RP_TRY(get_size(c, "n_layer", 0, &shape->layers));
    RP_TRY(get_size(c, "n_head", 0, &shape->heads));
    RP_TRY(get_size(c, "n_embd", 0, &shape->width));
    RP_TRY(get_size(c, value_of(c, "n_positions") ? "n_positions" : "n_ctx", 0, &shape->context));
    RP_TRY(get_size(c, "vocab_size", 0, &shape->vocab));
    RP_TRY(get_size(c, "n_inner", 4 * shape->width, &shape->mlp_width));
    RP_TRY(get_activation(c, "activation_function", "gelu_new", false, &shape->mlp));
    RP_TRY(get_number(c, "layer_norm_epsilon", 1e-5, &shape->norm_eps));
    RP_TRY(get_flag(c, "tie_word_embeddings", true, &shape->tied));
    RP_TRY(need_flag(c, "scale_attn_weights", true));
    RP_TRY(need_flag(c, "scale_attn_by_inverse_layer_idx", false));
    RP_TRY(need_flag(c, "add_cross_attention", false));
    shape->kv_heads = shape->heads;
    return RP_STATUS_OK;
}

/* ---- llama, qwen3 ---------------------------------------------------------------------------- */

/* Frequencies by the plain rule; old versions keep the base beside, new ones in an object. */
static enum rp_status read_rope(const struct config *c, double *base)
{
    static const char *const keys[] = {"rope_scaling", "rope_parameters"};
    RP_TRY(get_number(c, "rope_theta", 10000, base));
    for (size_t i = 0; i < RP_COUNT(keys); i++) {
        struct config inner = {.path = c->path, .root = value_of(c, keys[i]), .err = c->err};
        if (!inner.root) continue;
        const json_t *type = json_object_get(inner.root, "rope_type");
        if (!type) type = json_object_get(inner.root, "type");
        const char *name = type ? json_string_value(type) : i == 1 ? "default" : NULL;
        if (!name || strcmp(name, "default") != 0)
            return REFUSE(c,
                          "%s: `%s` of type %.40s has no equal here; only plain rotary "
                          "positions are read",
                          c->path, keys[i], name ? name : "?");
        RP_TRY(get_number(&inner, "rope_theta", *base, base));
        RP_TRY(need_absent(&inner, "partial_rotary_factor"));
    }
    return need_absent(c, "partial_rotary_factor");
}

static enum rp_status read_llama(const struct config *c, enum rp_hf_kind kind,
                                 struct rp_hf_shape *shape)
{
    bool mlp_bias;
    int64_t head_dim;
    *shape =
        (struct rp_hf_shape){.norm = "rmsnorm", .position = "rope", .qk_norm = kind == RP_HF_QWEN3};
    RP_TRY(get_size(c, "num_hidden_layers", 0, &shape->layers));
    RP_TRY(get_size(c, "num_attention_heads", 0, &shape->heads));
    RP_TRY(get_size(c, "num_key_value_heads", shape->heads, &shape->kv_heads));
    RP_TRY(get_size(c, "hidden_size", 0, &shape->width));
    RP_TRY(get_size(c, "max_position_embeddings", 0, &shape->context));
    RP_TRY(get_size(c, "vocab_size", 0, &shape->vocab));
    RP_TRY(get_size(c, "intermediate_size", 0, &shape->mlp_width));
    RP_TRY(get_activation(c, "hidden_act", "silu", true, &shape->mlp));
    RP_TRY(get_number(c, "rms_norm_eps", 1e-6, &shape->norm_eps));
    RP_TRY(get_flag(c, "tie_word_embeddings", false, &shape->tied));
    RP_TRY(get_flag(c, "attention_bias", false, &shape->bias));
    RP_TRY(get_flag(c, "mlp_bias", false, &mlp_bias));
    RP_TRY(need_flag(c, "use_sliding_window", false));
    RP_TRY(get_size(c, "head_dim", kind == RP_HF_QWEN3 ? 128 : shape->width / shape->heads,
                    &head_dim));
    if (head_dim * shape->heads != shape->width)
        return REFUSE(c,
                      "%s: heads of %lld have no equal here: %lld heads of a width of %lld are "
                      "%lld wide",
                      c->path, (long long)head_dim, (long long)shape->heads,
                      (long long)shape->width, (long long)(shape->width / shape->heads));
    if (shape->bias != mlp_bias)
        return REFUSE(c, "%s: biases in one of attention and mlp have no equal here", c->path);
    return read_rope(c, &shape->rope_base);
}

static enum rp_status read_shape(const struct config *c, enum rp_hf_kind *kind,
                                 struct rp_hf_shape *shape)
{
    const char *type = json_string_value(value_of(c, "model_type"));
    RP_TRY(need_absent(c, "quantization_config"));
    if (type && strcmp(type, "gpt2") == 0) {
        *kind = RP_HF_GPT2;
        RP_TRY(read_gpt2(c, shape));
    } else if (type && (strcmp(type, "llama") == 0 || strcmp(type, "qwen3") == 0)) {
        *kind = type[0] == 'l' ? RP_HF_LLAMA : RP_HF_QWEN3;
        RP_TRY(read_llama(c, *kind, shape));
    } else {
        return REFUSE(c, "%s: model_type is %.40s; gpt2, llama and qwen3 are read", c->path,
                      type ? type : "missing");
    }
    if (shape->width % shape->heads || shape->heads % shape->kv_heads)
        return REFUSE(c, "%s: %lld heads (%lld of k and v) do not divide a width of %lld", c->path,
                      (long long)shape->heads, (long long)shape->kv_heads, (long long)shape->width);
    return RP_STATUS_OK;
}

enum rp_status rp_hf_read_config(const char *folder, enum rp_hf_kind *kind,
                                 struct rp_hf_shape *shape, struct rp_error *err)
{
    char *path = rp_sys_join(folder, "config.json"), *text = NULL;
    size_t length = 0;
    json_error_t why;
    json_t *root = NULL;
    struct rp_sys_stat stat;
    enum rp_status status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK && !stat.exists)
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s is missing: a folder of Hugging Face has one beside its weights",
                              path);
    if (status == RP_STATUS_OK)
        status = rp_sys_read_file(path, MAX_CONFIG, RP_STATUS_DATA, &text, &length, err);
    if (status == RP_STATUS_OK) {
        root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
        struct config config = {.path = path, .root = root, .err = err};
        status = json_is_object(root) ? read_shape(&config, kind, shape)
                                      : rp_error_set(err, RP_STATUS_DATA, "%s: no JSON object: %s",
                                                     path, root ? "another type" : why.text);
    }
    json_decref(root);
    rp_mem_free(text);
    rp_mem_free(path);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void add_text(struct rp_text *text, const char *key, const char *value)
{
    rp_text_add(text, "  \"%s\": \"%s\",\n", key, value);
}

static void add_size(struct rp_text *text, const char *key, int64_t value)
{
    rp_text_add(text, "  \"%s\": %lld,\n", key, (long long)value);
}

static void add_number(struct rp_text *text, const char *key, double value)
{
    char number[RP_NUMBER_BYTES];
    rp_number_text(value, number);
    rp_text_add(text, "  \"%s\": %s,\n", key, number);
}

static void add_flag(struct rp_text *text, const char *key, bool value)
{
    rp_text_add(text, "  \"%s\": %s,\n", key, value ? "true" : "false");
}

static void add_token(struct rp_text *text, const char *key, int64_t token, const char *end)
{
    if (token < 0)
        rp_text_add(text, "  \"%s\": null%s\n", key, end);
    else
        rp_text_add(text, "  \"%s\": %lld%s\n", key, (long long)token, end);
}

static void add_gpt2(const struct rp_hf_shape *shape, struct rp_text *text)
{
    add_text(text, "model_type", "gpt2");
    rp_text_add(text, "  \"architectures\": [\"GPT2LMHeadModel\"],\n");
    add_text(text, "activation_function", strcmp(shape->mlp, "gelu") == 0 ? "gelu" : "gelu_new");
    add_number(text, "layer_norm_epsilon", shape->norm_eps);
    add_size(text, "n_layer", shape->layers);
    add_size(text, "n_head", shape->heads);
    add_size(text, "n_embd", shape->width);
    add_size(text, "n_inner", shape->mlp_width);
    add_size(text, "n_positions", shape->context);
}

static void add_llama(const struct rp_hf_shape *shape, struct rp_text *text)
{
    add_text(text, "model_type", shape->qk_norm ? "qwen3" : "llama");
    rp_text_add(text, "  \"architectures\": [\"%s\"],\n",
                shape->qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM");
    add_text(text, "hidden_act", "silu");
    add_number(text, "rms_norm_eps", shape->norm_eps);
    add_number(text, "rope_theta", shape->rope_base);
    rp_text_add(text, "  \"rope_scaling\": null,\n");
    add_size(text, "num_hidden_layers", shape->layers);
    add_size(text, "num_attention_heads", shape->heads);
    add_size(text, "num_key_value_heads", shape->kv_heads);
    add_size(text, "head_dim", shape->width / shape->heads);
    add_size(text, "hidden_size", shape->width);
    add_size(text, "intermediate_size", shape->mlp_width);
    add_size(text, "max_position_embeddings", shape->context);
    add_flag(text, "attention_bias", shape->bias);
    if (!shape->qk_norm) add_flag(text, "mlp_bias", shape->bias);
}

static enum rp_status write_file(const char *folder, const char *name, const struct rp_text *text,
                                 struct rp_error *err)
{
    char *path = rp_sys_join(folder, name);
    enum rp_status status = rp_sys_write_file(path, rp_text_get(text), text->length, err);
    rp_mem_free(path);
    return status;
}

enum rp_status rp_hf_write_config(const char *folder, enum rp_hf_kind kind,
                                  const struct rp_hf_shape *shape, int64_t end_of_text,
                                  struct rp_error *err)
{
    struct rp_text config = {0}, generation = {0};
    rp_text_add(&config, "{\n");
    if (kind == RP_HF_GPT2)
        add_gpt2(shape, &config);
    else
        add_llama(shape, &config);
    add_size(&config, "vocab_size", shape->vocab);
    add_flag(&config, "tie_word_embeddings", shape->tied);
    add_text(&config, "torch_dtype", "float32");
    add_token(&config, "bos_token_id", end_of_text, ",");
    add_token(&config, "eos_token_id", end_of_text, "");
    rp_text_add(&config, "}\n");
    rp_text_add(&generation, "{\n");
    add_token(&generation, "bos_token_id", end_of_text, ",");
    add_token(&generation, "eos_token_id", end_of_text, "");
    rp_text_add(&generation, "}\n");
    enum rp_status status = write_file(folder, "config.json", &config, err);
    if (status == RP_STATUS_OK)
        status = write_file(folder, "generation_config.json", &generation, err);
    rp_text_release(&generation);
    rp_text_release(&config);
    return status;
}
