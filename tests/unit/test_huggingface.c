/* Models through Hugging Face's names and back, and folders that are not what they should be. */
#include "test.h"

#include "checkpoint/checkpoint.h"
#include "run_folder.h"

#include <math.h>
#include <stdint.h>

enum { MOST = 64, LAYERS = 2, WIDTH = 8, VOCAB = 11, CONTEXT = 6 };

/* ---- a model with made values ---------------------------------------------------------------- */

struct made {
    struct rp_hf_shape shape;
    struct rp_st_tensor tensor[MOST];
    bool skip[MOST];
    int n;
};

static void add(struct made *made, const char *name, int64_t rows, int64_t columns)
{
    struct rp_st_tensor *tensor = &made->tensor[made->n];
    *tensor = (struct rp_st_tensor){
        .shape = {.dtype = RP_DTYPE_F32, .n_dims = columns ? 2 : 1, .dims = {rows, columns}}};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    int64_t n = rp_tensor_elements(&tensor->shape);
    float *values = rp_mem_try((size_t)n * sizeof *values);
    for (int64_t i = 0; i < n; i++)
        values[i] = (float)(made->n * 1000 + i) / 64 * (i % 2 ? -1.0f : 1.0f);
    tensor->shape.data = values;
    made->n++;
}

static void add_block(struct made *made, int block, const char *name, int64_t rows, int64_t columns)
{
    char full[112];
    snprintf(full, sizeof full, "h.%d.%s.weight", block, name);
    add(made, full, rows, columns);
    bool norm = strncmp(name, "ln_", 3) == 0;
    if (!made->shape.bias || (norm && strcmp(made->shape.norm, "rmsnorm") == 0)) return;
    snprintf(full, sizeof full, "h.%d.%s.bias", block, name);
    add(made, full, rows, 0);
}

static void make_model(struct made *made, const struct rp_hf_shape *shape)
{
    *made = (struct made){.shape = *shape};
    int64_t d = WIDTH / shape->heads, f = shape->mlp_width;
    bool gated = strcmp(shape->mlp, "swiglu") == 0;
    add(made, "wte.weight", VOCAB, WIDTH);
    if (strcmp(shape->position, "learned") == 0) add(made, "wpe.weight", CONTEXT, WIDTH);
    for (int i = 0; i < LAYERS; i++) {
        char name[112];
        add_block(made, i, "ln_1", WIDTH, 0);
        add_block(made, i, "attn.c_attn", (shape->heads + 2 * shape->kv_heads) * d, WIDTH);
        snprintf(name, sizeof name, "h.%d.attn.q_norm.weight", i);
        if (shape->qk_norm) add(made, name, d, 0);
        snprintf(name, sizeof name, "h.%d.attn.k_norm.weight", i);
        if (shape->qk_norm) add(made, name, d, 0);
        add_block(made, i, "attn.c_proj", WIDTH, WIDTH);
        add_block(made, i, "ln_2", WIDTH, 0);
        add_block(made, i, "mlp.c_fc", gated ? 2 * f : f, WIDTH);
        add_block(made, i, "mlp.c_proj", WIDTH, f);
    }
    add(made, "ln_f.weight", WIDTH, 0);
    if (shape->bias && strcmp(shape->norm, "layernorm") == 0) add(made, "ln_f.bias", WIDTH, 0);
    if (!shape->tied) add(made, "lm_head.weight", VOCAB, WIDTH);
}

static void release_model(struct made *made)
{
    for (int i = 0; i < made->n; i++) rp_mem_free(made->tensor[i].shape.data);
}

static const struct rp_hf_shape gpt2 = {.layers = LAYERS,
                                        .heads = 2,
                                        .kv_heads = 2,
                                        .width = WIDTH,
                                        .context = CONTEXT,
                                        .vocab = VOCAB,
                                        .mlp_width = 12,
                                        .mlp = "gelu_tanh",
                                        .norm = "layernorm",
                                        .position = "learned",
                                        .norm_eps = 1e-5,
                                        .bias = true,
                                        .tied = true};
static const struct rp_hf_shape llama = {.layers = LAYERS,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .width = WIDTH,
                                         .context = CONTEXT,
                                         .vocab = VOCAB,
                                         .mlp_width = 10,
                                         .mlp = "swiglu",
                                         .norm = "rmsnorm",
                                         .position = "rope",
                                         .norm_eps = 1e-6,
                                         .rope_base = 10000};

/* ---- there and back -------------------------------------------------------------------------- */

static void check_back(const char *folder, const struct made *made)
{
    struct rp_error err = {0};
    struct rp_hf hf;
    struct rp_text lines = {0};
    CHECK_OK(rp_hf_open(folder, &hf, &err), &err);
    CHECK_INT(rp_hf_compare(&hf, &made->shape, &lines), 0);
    CHECK_TEXT(rp_text_get(&lines), "");
    CHECK_OK(rp_hf_check(&hf, made->tensor, made->skip, made->n, &err), &err);
    for (int i = 0; i < made->n && !err.text[0]; i++) {
        size_t bytes = rp_tensor_bytes(&made->tensor[i].shape);
        float *values = rp_mem_try(bytes);
        CHECK_OK(rp_hf_load(&hf, &made->tensor[i], values, &err), &err);
        if (memcmp(values, made->tensor[i].shape.data, bytes) != 0) {
            printf("%s came back with other values\n", made->tensor[i].name);
            test_failures++;
        }
        rp_mem_free(values);
    }
    rp_text_release(&lines);
    rp_hf_close(&hf);
    rp_hf_close(&hf); /* safe twice */
}

static void round_trip(const char *folder, struct rp_hf_shape shape, enum rp_hf_kind want)
{
    struct rp_error err = {0};
    struct made made;
    enum rp_hf_kind kind;
    make_model(&made, &shape);
    CHECK_OK(rp_hf_choose(&shape, &kind, &err), &err);
    CHECK_INT(kind, want);
    CHECK_OK(rp_hf_write(folder, kind, &shape, made.tensor, made.n, 10, &err), &err);
    check_back(folder, &made);
    release_model(&made);
}

static void test_round_trips(const char *folder)
{
    struct rp_hf_shape shape = gpt2;
    round_trip(folder, shape, RP_HF_GPT2);
    shape.tied = false, shape.mlp = "gelu";
    round_trip(folder, shape, RP_HF_GPT2);
    shape.bias = false;
    round_trip(folder, shape, RP_HF_GPT2);
    shape = llama;
    round_trip(folder, shape, RP_HF_LLAMA);
    shape.tied = true, shape.bias = true, shape.rope_base = 500000;
    round_trip(folder, shape, RP_HF_LLAMA);
    shape = llama, shape.qk_norm = true;
    round_trip(folder, shape, RP_HF_QWEN3);
}

/* The names and the places of single values, said once more by hand. */
static void test_places(const char *folder)
{
    struct rp_error err = {0};
    struct made made;
    struct rp_st_file file;
    char *path = rp_sys_join(folder, "model.safetensors");
    make_model(&made, &gpt2);
    CHECK_OK(rp_hf_write(folder, RP_HF_GPT2, &gpt2, made.tensor, made.n, -1, &err), &err);
    CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
    const struct rp_st_tensor *t = rp_st_find(&file, "transformer.h.1.attn.c_attn.weight");
    CHECK(t && t->shape.dims[0] == WIDTH && t->shape.dims[1] == 3 * WIDTH);
    for (int i = 0; i < made.n; i++) {
        if (strcmp(made.tensor[i].name, "h.1.attn.c_attn.weight") != 0) continue;
        const float *ours = made.tensor[i].shape.data, *theirs = t->shape.data;
        CHECK(theirs[3 * 3 * WIDTH + 5] == ours[5 * WIDTH + 3]);
        CHECK(theirs[5 * 3 * WIDTH + 3] != ours[5 * WIDTH + 3]);
    }
    CHECK(rp_st_find(&file, "lm_head.weight") == NULL);
    rp_st_release(&file);
    release_model(&made);

    make_model(&made, &llama);
    CHECK_OK(rp_hf_write(folder, RP_HF_LLAMA, &llama, made.tensor, made.n, -1, &err), &err);
    CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
    const struct rp_st_tensor *k = rp_st_find(&file, "model.layers.0.self_attn.k_proj.weight");
    const struct rp_st_tensor *up = rp_st_find(&file, "model.layers.1.mlp.up_proj.weight");
    CHECK(k && k->shape.dims[0] == 4 && k->shape.dims[1] == WIDTH);
    CHECK(up && up->shape.dims[0] == 10);
    for (int i = 0; i < made.n; i++) {
        const float *ours = made.tensor[i].shape.data;
        if (strcmp(made.tensor[i].name, "h.0.attn.c_attn.weight") == 0)
            CHECK(memcmp(k->shape.data, ours + 8 * WIDTH, 4 * WIDTH * sizeof(float)) == 0);
        if (strcmp(made.tensor[i].name, "h.1.mlp.c_fc.weight") == 0)
            CHECK(memcmp(up->shape.data, ours + 10 * WIDTH, 10 * WIDTH * sizeof(float)) == 0);
    }
    CHECK(rp_st_find(&file, "lm_head.weight") != NULL);
    rp_st_release(&file);
    release_model(&made);
    rp_mem_free(path);
}

static void test_choose(void)
{
    static const struct {
        const char *key, *mlp, *norm, *position;
        bool qk_norm;
        int64_t kv_heads;
    } cases[] = {
        {"`position: none`", "gelu", "layernorm", "none", false, 2},
        {"`norm: rmsnorm`", "gelu", "rmsnorm", "learned", false, 2},
        {"`norm: layernorm`", "swiglu", "layernorm", "rope", false, 2},
        {"`mlp: swiglu`", "swiglu", "layernorm", "learned", false, 2},
        {"`mlp: gelu`", "gelu", "rmsnorm", "rope", false, 2},
        {"`qk_norm: true`", "gelu", "layernorm", "learned", true, 2},
        {"`kv_heads:", "gelu", "layernorm", "learned", false, 1},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_error err = {0};
        struct rp_hf_shape shape = gpt2;
        enum rp_hf_kind kind;
        shape.mlp = cases[i].mlp, shape.norm = cases[i].norm, shape.position = cases[i].position;
        shape.qk_norm = cases[i].qk_norm, shape.kv_heads = cases[i].kv_heads;
        CHECK_INT(rp_hf_choose(&shape, &kind, &err), RP_STATUS_USAGE);
        if (!strstr(err.text, cases[i].key)) {
            printf("case %zu: %s\n", i, err.text);
            test_failures++;
        }
    }
}

/* ---- config.json ----------------------------------------------------------------------------- */

static void write_gpt2(const char *folder, struct made *made)
{
    struct rp_error err = {0};
    make_model(made, &gpt2);
    CHECK_OK(rp_hf_write(folder, RP_HF_GPT2, &gpt2, made->tensor, made->n, -1, &err), &err);
}

static void test_differences(const char *folder)
{
    struct rp_error err = {0};
    struct made made;
    struct rp_hf hf;
    struct rp_text lines = {0};
    struct rp_hf_shape other = gpt2;
    write_gpt2(folder, &made);
    other.layers = 3, other.heads = 4, other.kv_heads = 1, other.width = 16, other.context = 7;
    other.vocab = 12, other.mlp = "gelu", other.mlp_width = 64, other.norm = "rmsnorm";
    other.norm_eps = 1e-6, other.position = "rope", other.tied = false, other.qk_norm = true;
    CHECK_OK(rp_hf_open(folder, &hf, &err), &err);
    CHECK_INT(rp_hf_compare(&hf, &other, &lines), 13);
    CHECK(strstr(rp_text_get(&lines), "    layers: 2 ") && strstr(lines.bytes, "# 3 in the spec"));
    CHECK(strstr(rp_text_get(&lines), "    context: 6 ") && strstr(lines.bytes, "mlp: gelu_tanh"));
    CHECK(strstr(rp_text_get(&lines), "    norm_eps: 1e-05 "));
    rp_text_release(&lines);
    other = gpt2, other.context = 4; /* fewer positions: the first rows */
    CHECK_INT(rp_hf_compare(&hf, &other, &lines), 0);
    for (int i = 0; i < made.n; i++)
        if (strcmp(made.tensor[i].name, "wpe.weight") == 0) {
            float rows[4 * WIDTH];
            made.tensor[i].shape.dims[0] = 4;
            CHECK_OK(rp_hf_check(&hf, made.tensor, made.skip, made.n, &err), &err);
            CHECK_OK(rp_hf_load(&hf, &made.tensor[i], rows, &err), &err);
            CHECK(memcmp(rows, made.tensor[i].shape.data, sizeof rows) == 0);
        }
    rp_text_release(&lines);
    rp_hf_close(&hf);
    release_model(&made);
}

static void test_configs(const char *folder)
{
#define GPT2                                                                                       \
    "\"model_type\":\"gpt2\",\"n_layer\":2,\"n_head\":2,\"n_embd\":8,\"n_positions\":6,\"vocab_"   \
    "size\":11"
#define LLAMA                                                                                      \
    "\"model_type\":\"llama\",\"num_hidden_layers\":2,\"num_attention_heads\":4,"                  \
    "\"hidden_size\":8,\"intermediate_size\":10,\"max_position_embeddings\":6,\"vocab_size\":11"
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"", "no JSON"},
        {"[]", "no JSON object"},
        {"{}", "model_type is missing"},
        {"{\"model_type\":\"bert\"}", "model_type is bert"},
        {"{\"model_type\":\"gpt2\"}", "`n_layer` is missing"},
        {"{" GPT2 ",\"n_inner\":-1}", "`n_inner` is no size"},
        {"{" GPT2 ",\"n_inner\":1.5}", "`n_inner` is no size"},
        {"{" GPT2 ",\"activation_function\":\"relu\"}", "`activation_function: relu`"},
        {"{" GPT2 ",\"layer_norm_epsilon\":\"x\"}", "`layer_norm_epsilon` is no positive number"},
        {"{" GPT2 ",\"scale_attn_weights\":false}", "`scale_attn_weights: false`"},
        {"{" GPT2 ",\"scale_attn_by_inverse_layer_idx\":true}", "inverse_layer_idx: true`"},
        {"{" GPT2 ",\"tie_word_embeddings\":3}", "neither true nor false"},
        {"{" GPT2 ",\"quantization_config\":{}}", "`quantization_config` has no equal"},
        {"{" GPT2 ",\"n_layer\":2}", "no JSON"},
        {"{" LLAMA ",\"num_key_value_heads\":3}", "do not divide"},
        {"{" LLAMA ",\"hidden_act\":\"gelu\"}", "`hidden_act: gelu`"},
        {"{" LLAMA ",\"head_dim\":4}", "heads of 4"},
        {"{" LLAMA ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8}}", "of type llama3"},
        {"{" LLAMA ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":8}}", "of type linear"},
        {"{" LLAMA ",\"rope_parameters\":{\"rope_type\":\"yarn\"}}", "of type yarn"},
        {"{" LLAMA ",\"partial_rotary_factor\":0.5}", "`partial_rotary_factor` has no equal"},
        {"{" LLAMA ",\"mlp_bias\":true}", "biases in one"},
        {"{" LLAMA ",\"use_sliding_window\":true}", "`use_sliding_window: true`"},
    };
    struct made made;
    struct rp_hf hf;
    write_gpt2(folder, &made);
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_error err = {0};
        put_file(folder, "config.json", cases[i].config, strlen(cases[i].config));
        CHECK_INT(rp_hf_open(folder, &hf, &err), RP_STATUS_DATA);
        if (!strstr(err.text, cases[i].says)) {
            printf("case %zu: %s\n", i, err.text);
            test_failures++;
        }
    }
    static const char good[] =
        "{" LLAMA ",\"rope_scaling\":null,\"rope_parameters\":{\"rope_theta\":7.0}}";
    struct rp_error err = {0};
    put_file(folder, "config.json", good, strlen(good));
    CHECK_OK(rp_hf_open(folder, &hf, &err), &err);
    CHECK(hf.shape.rope_base == 7 && hf.shape.kv_heads == 4 && !hf.shape.tied);
    rp_hf_close(&hf);
    release_model(&made);
}

/* ---- tensors that are missing, too many, of another shape ------------------------------------ */

static enum rp_status check_folder(const char *folder, const struct made *made,
                                   struct rp_error *err)
{
    struct rp_hf hf;
    struct rp_text lines = {0};
    RP_TRY(rp_hf_open(folder, &hf, err));
    (void)rp_hf_compare(&hf, &made->shape, &lines);
    enum rp_status status = rp_hf_check(&hf, made->tensor, made->skip, made->n, err);
    rp_text_release(&lines);
    rp_hf_close(&hf);
    return status;
}

/* The folder's tensors but one that is left out, renamed, or of other rows. */
static void rewrite(const char *folder, const char *name, const char *new_name, int64_t rows)
{
    struct rp_error err = {0};
    struct rp_st_file file;
    char *path = rp_sys_join(folder, "model.safetensors");
    CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
    for (int i = 0; i < file.n; i++) {
        if (strcmp(file.tensor[i].name, name) != 0) continue;
        if (new_name) snprintf(file.tensor[i].name, sizeof file.tensor[i].name, "%s", new_name);
        if (rows) file.tensor[i].shape.dims[0] = rows;
        if (!new_name && !rows) file.tensor[i] = file.tensor[--file.n];
        break;
    }
    struct rp_st_file copy = file;
    CHECK_OK(rp_st_write(path, copy.tensor, copy.n, NULL, NULL, NULL, NULL, &err), &err);
    rp_st_release(&file);
    rp_mem_free(path);
}

static void test_tensors(const char *folder)
{
    static const struct {
        const char *name, *new_name;
        int64_t rows;
        const char *says; /* NULL: fine */
    } cases[] = {
        {"transformer.h.1.ln_2.bias", NULL, 0,
         "1 of its tensors are missing: transformer.h.1.ln_2"},
        {"transformer.h.1.ln_2.bias", NULL, 7, "ln_2.bias is 7, but this model needs 8"},
        {"transformer.wpe.weight", NULL, 5, "wpe.weight is 5 x 8, but this model needs 6 x 8"},
        {"transformer.wte.weight", "wte.weight", 0, NULL},
        {"transformer.h.0.ln_1.bias", "h.0.ln_1.bias", 0, NULL},
        {"transformer.h.0.ln_1.bias", "other", 0, "missing: transformer.h.0.ln_1.bias"},
        {"transformer.h.0.ln_1.bias", "transformer.h.00.ln_1.bias", 0, "missing"},
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        struct rp_error err = {0};
        struct made made;
        write_gpt2(folder, &made);
        rewrite(folder, cases[i].name, cases[i].new_name, cases[i].rows);
        enum rp_status status = check_folder(folder, &made, &err);
        CHECK_INT(status, cases[i].says ? RP_STATUS_DATA : RP_STATUS_OK);
        if (cases[i].says && !strstr(err.text, cases[i].says)) {
            printf("case %zu: %s\n", i, err.text);
            test_failures++;
        }
        release_model(&made);
    }
}

/* A tensor more: a buffer is passed over, a layer too many is not; a bias only when it is zero. */
static void test_more_tensors(const char *folder)
{
    struct rp_error err = {0};
    struct made made;
    struct rp_st_file file;
    char *path = rp_sys_join(folder, "model.safetensors");
    static const struct {
        const char *name, *says;
    } cases[] = {{"h.0.attn.bias", NULL},
                 {"transformer.h.1.attn.masked_bias", NULL},
                 {"lm_head.weight", NULL},
                 {"h.2.ln_1.weight", "h.2.ln_1.weight has no place"},
                 {"score.weight", "score.weight has no place"}};
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        write_gpt2(folder, &made);
        rp_error_clear(&err);
        CHECK_OK(rp_st_read(path, RP_STATUS_DATA, &file, &err), &err);
        struct rp_st_tensor *all = RP_NEW_ARRAY(struct rp_st_tensor, file.n + 1);
        memcpy(all, file.tensor, sizeof *all * (size_t)file.n);
        all[file.n] = file.tensor[0];
        snprintf(all[file.n].name, sizeof all[file.n].name, "%s", cases[i].name);
        CHECK_OK(rp_st_write(path, all, file.n + 1, NULL, NULL, NULL, NULL, &err), &err);
        CHECK_INT(check_folder(folder, &made, &err), cases[i].says ? RP_STATUS_DATA : RP_STATUS_OK);
        CHECK(!cases[i].says || strstr(err.text, cases[i].says));
        rp_mem_free(all);
        rp_st_release(&file);
        release_model(&made);
    }
    struct rp_hf_shape without = gpt2;
    without.bias = false;
    write_gpt2(folder, &made);
    release_model(&made);
    make_model(&made, &without);
    rp_error_clear(&err);
    CHECK_INT(check_folder(folder, &made, &err), RP_STATUS_DATA);
    CHECK(strstr(err.text, "write `bias: true`") != NULL);
    release_model(&made);
    rp_mem_free(path);
}

/* ---- shards, dtypes -------------------------------------------------------------------------- */

static void put_shard(const char *folder, const char *file, const char *tensor, float value)
{
    struct rp_error err = {0};
    struct rp_st_tensor one = {
        .shape = {.data = &value, .dtype = RP_DTYPE_F32, .n_dims = 1, .dims = {1}}};
    char *path = rp_sys_join(folder, file);
    snprintf(one.name, sizeof one.name, "%s", tensor);
    CHECK_OK(rp_st_write(path, &one, 1, NULL, NULL, NULL, NULL, &err), &err);
    rp_mem_free(path);
}

static void put_index(const char *folder, const char *text)
{
    put_file(folder, "model.safetensors.index.json", text, strlen(text));
}

static void test_shards(const char *folder)
{
    static const struct {
        const char *index, *says;
    } cases[] = {
        {"", "no JSON"},
        {"{}", "no weight_map"},
        {"{\"weight_map\":{}}", "no weight_map"},
        {"{\"weight_map\":{\"x\":7}}", "no name of a file"},
        {"{\"weight_map\":{\"x\":\"../a.st\"}}", "no name of a file"},
        {"{\"weight_map\":{\"x\":\"a.st\",\"y\":\"c.st\"}}", "c.st is missing"},
        {"{\"weight_map\":{\"x\":\"b.st\",\"y\":\"a.st\"}}", "x is not in b.st"},
        {"{\"weight_map\":{\"x\":\"a.st\",\"z\":\"b.st\"}}", "z is not in b.st"},
        {"{\"weight_map\":{\"x\":\"a.st\",\"w\":\"d.st\"}}", "both hold a tensor x"},
    };
    struct rp_error err = {0};
    struct rp_st_set set;
    char *one = rp_sys_join(folder, "model.safetensors");
    CHECK_OK(rp_sys_remove(one, &err), &err);
    rp_mem_free(one);
    CHECK_INT(rp_st_set_open(folder, RP_STATUS_DATA, &set, &err), RP_STATUS_DATA);
    CHECK(strstr(err.text, "holds neither") && !strstr(err.text, "pytorch"));
    put_file(folder, "pytorch_model.bin", "x", 1);
    rp_error_clear(&err);
    CHECK_INT(rp_st_set_open(folder, RP_STATUS_DATA, &set, &err), RP_STATUS_DATA);
    CHECK(strstr(err.text, "pytorch_model.bin") != NULL);
    put_shard(folder, "b.st", "y", 2);
    put_shard(folder, "a.st", "x", 1);
    put_shard(folder, "d.st", "x", 4);
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_error_clear(&err);
        put_index(folder, cases[i].index);
        CHECK_INT(rp_st_set_open(folder, RP_STATUS_DATA, &set, &err), RP_STATUS_DATA);
        if (!strstr(err.text, cases[i].says)) {
            printf("case %zu: %s\n", i, err.text);
            test_failures++;
        }
    }
    float value = 0;
    struct rp_sha256 hash, other;
    size_t a_length = 0, b_length = 0;
    rp_error_clear(&err);
    put_index(folder, "{\"weight_map\":{\"y\":\"b.st\",\"x\":\"a.st\"}}");
    CHECK_OK(rp_st_set_open(folder, RP_STATUS_DATA, &set, &err), &err);
    CHECK_INT(set.n_files, 2);
    CHECK_OK(rp_st_set_read(&set, rp_st_set_find(&set, "y"), RP_STATUS_DATA, &value, &err), &err);
    CHECK(value == 2);
    CHECK(rp_st_set_find(&set, "z") == NULL);
    CHECK_OK(rp_st_set_hash(&set, false, NULL, &hash, &err), &err);
    char *a = get_file(folder, "a.st", &a_length), *b = get_file(folder, "b.st", &b_length);
    struct rp_text both = {0};
    rp_text_add_bytes(&both, a, a_length);
    rp_text_add_bytes(&both, b, b_length);
    other = rp_sha256_of(both.bytes, both.length);
    CHECK(rp_sha256_equal(&hash, &other));
    other = rp_sha256_of(both.bytes, both.length - 1);
    CHECK(!rp_sha256_equal(&hash, &other));
    rp_text_release(&both);
    rp_mem_free(a);
    rp_mem_free(b);
    rp_st_set_close(&set);
}

static bool asked(void *context)
{
    return --*(int *)context < 0;
}

/* What was hashed is what is loaded: a set that is held gives the old values of a file that changes
 * meanwhile. Behind test_shards. */
static void test_held(const char *folder)
{
    struct rp_error err = {0};
    struct rp_st_set held, later;
    struct rp_sha256 first, second;
    float value = 0;
    int looks = 1;
    const struct rp_stop stop = {asked, &looks};
    CHECK_OK(rp_st_set_open(folder, RP_STATUS_DATA, &held, &err), &err);
    CHECK_INT(rp_st_set_hash(&held, true, &stop, &first, &err), RP_STATUS_STOPPED);
    CHECK(strstr(err.text, "b.st was read")); /* the second file */
    rp_error_clear(&err);
    CHECK_OK(rp_st_set_hash(&held, true, NULL, &first, &err), &err);
    put_shard(folder, "b.st", "y", 5);
    CHECK_OK(rp_st_set_read(&held, rp_st_set_find(&held, "y"), RP_STATUS_DATA, &value, &err), &err);
    CHECK(value == 2);
    CHECK_OK(rp_st_set_open(folder, RP_STATUS_DATA, &later, &err), &err);
    CHECK_OK(rp_st_set_read(&later, rp_st_set_find(&later, "y"), RP_STATUS_DATA, &value, &err),
             &err);
    CHECK(value == 5);
    CHECK_OK(rp_st_set_hash(&later, false, NULL, &second, &err), &err);
    CHECK(!rp_sha256_equal(&first, &second));
    CHECK(rp_st_set_bytes(&later) == rp_st_set_bytes(&held));
    rp_st_set_close(&later);
    rp_st_set_close(&held);
}

/* All 2^16 patterns of both, against what they mean. */
static double meaning(uint32_t word, int exponent_bits, int fraction_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1, all = (1 << exponent_bits) - 1;
    int exponent = (int)(word >> fraction_bits) & all,
        fraction = (int)word & ((1 << fraction_bits) - 1);
    double sign = word >> 15 ? -1 : 1;
    if (exponent == all) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

static void test_dtypes(const char *folder)
{
    static const char *const names[] = {"F16", "BF16"};
    float *values = rp_mem_try(65536 * sizeof *values);
    for (int d = 0; d < 2; d++) {
        struct rp_error err = {0};
        struct rp_st_set set;
        struct rp_text header = {0}, text = {0};
        rp_text_add(&header,
                    "{\"a\":{\"dtype\":\"%s\",\"shape\":[65536],\"data_offsets\":[0,131072]}}",
                    names[d]);
        uint64_t length = header.length;
        rp_text_add_bytes(&text, &length, 8);
        rp_text_add_bytes(&text, header.bytes, header.length);
        for (uint32_t word = 0; word < 65536; word++) rp_text_add_bytes(&text, &word, 2);
        put_file(folder, "model.safetensors", text.bytes, text.length);
        CHECK_OK(rp_st_set_open(folder, RP_STATUS_DATA, &set, &err), &err);
        CHECK_OK(rp_st_set_read(&set, &set.entry[0], RP_STATUS_DATA, values, &err), &err);
        int wrong = 0, other = 0;
        for (uint32_t word = 0; word < 65536; word++) {
            double want = d == 0 ? meaning(word, 5, 10) : meaning(word, 8, 7);
            double cross = d == 0 ? meaning(word, 8, 7) : meaning(word, 5, 10);
            bool same = isnan(want) ? isnan(values[word]) : (double)values[word] == want;
            wrong += !same || (!signbit(values[word]) != !(word >> 15));
            other += (double)values[word] != cross;
        }
        CHECK_INT(wrong, 0);
        CHECK(other > 60000);
        rp_st_set_close(&set);
        rp_text_release(&text);
        rp_text_release(&header);
    }
    rp_mem_free(values);
}

int main(void)
{
    char *folder = new_folder();
    test_round_trips(folder);
    test_places(folder);
    test_choose();
    test_differences(folder);
    test_configs(folder);
    test_tensors(folder);
    test_more_tensors(folder);
    test_shards(folder);
    test_held(folder);
    test_dtypes(folder);
    remove_folder(folder);
    return test_result();
}
