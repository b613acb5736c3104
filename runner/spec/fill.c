/* fill.c - values into struct rp_spec: one line for each key, nothing decided here but names. */
#include "spec/spec_int.h"

#include <string.h>

/* ---- reading values: absent or bad ones give nought, rules.c is not run then ---- */

static const struct rp_value *get(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = map ? rp_value_get(map, name) : NULL;
    return value && value->present && !value->bad ? value : NULL;
}

static int64_t get_int(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = get(map, name);
    return value ? value->whole : 0;
}

static double get_number(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = get(map, name);
    return value ? value->number : 0;
}

static bool get_bool(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = get(map, name);
    return value && value->yes;
}

static char *get_text(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = get(map, name);
    return value ? (char *)value->text : NULL;
}

static struct rp_spec_place get_place(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = get(map, name);
    return value && value->given ? value->at : (struct rp_spec_place){0, 0};
}

/* The position of a choice's text in `names`, which the enum repeats. */
static int index_of(const char *text, const char *const *names, int n)
{
    for (int i = 0; text && i < n; i++)
        if (strcmp(text, names[i]) == 0) return i;
    return 0;
}
#define GET_ENUM(map, name, names) index_of(get_text(map, name), names, (int)RP_COUNT(names))

static void get_span(const struct rp_value *map, const char *name, struct rp_span *span)
{
    const struct rp_value *value = get(map, name);
    if (!value || value->automatic || value->span.value == 0) return;
    *span = value->span;
}

static void get_spans(const struct rp_value *map, const char *name, struct rp_spans *spans)
{
    const struct rp_value *value = get(map, name);
    for (int i = 0; value && i < value->n && i < RP_SPEC_MAX_SPANS; i++)
        spans->item[spans->n++] = value->item[i].span;
}

static void get_pair(const struct rp_value *map, const char *name, int pair[2])
{
    const struct rp_value *value = get(map, name);
    for (int i = 0; value && i < value->n && i < 2; i++) pair[i] = (int)value->item[i].whole;
}

/* ---- data ---- */

static void add_file(struct rp_spec_dataset *data, const struct rp_value *value)
{
    if (!value || data->n_files == RP_SPEC_MAX_FILES) return;
    struct rp_spec_file *file = &data->files[data->n_files++];
    file->path = (char *)value->text;
    file->at = value->at;
}

static void fill_files(struct rp_spec_dataset *data, const struct rp_value *map)
{
    const struct rp_value *files = get(map, "files"), *hashes = get(map, "sha256");
    add_file(data, get(map, "images"));
    add_file(data, get(map, "labels"));
    add_file(data, get(map, "file"));
    for (int i = 0; files && i < files->n; i++) add_file(data, &files->item[i]);
    const struct rp_value *indicators = get(map, "indicators");
    for (int i = 0; indicators && i < indicators->n && i < RP_SPEC_MAX_INDICATORS; i++)
        data->csv_indicators[data->n_csv_indicators++] = (char *)indicators->item[i].text;
    if (data->format == RP_FORMAT_NPY) {
        add_file(data, get(map, "x"));
        add_file(data, get(map, "y"));
    }
    for (int i = 0; hashes && i < hashes->n && i < data->n_files; i++) {
        data->files[i].has_sha256 = true;
        data->files[i].sha256 = hashes->item[i].sha256;
    }
}

static void fill_dataset(struct rp_spec_dataset *data, const struct rp_value *map)
{
    static const char *const formats[] = {"",       "idx",       "cifar", "csv",    "npy",  "npz",
                                          "packed", "synthetic", "text",  "tokens", "jsonl"};
    static const char *const tasks[] = {"digits", "blobs", "spirals", "modular_addition"};
    static const char *const targets[] = {"classes", "values"};
    if (!map) return;
    data->at = map->key_at;
    data->format = (enum rp_format)GET_ENUM(map, "format", formats);
    data->target = (enum rp_target)GET_ENUM(map, "target", targets);
    fill_files(data, map);
    if (data->format == RP_FORMAT_CIFAR) {
        const char *classes = get_text(map, "classes");
        data->cifar_classes = classes && strcmp(classes, "100") == 0 ? 100 : 10;
    }
    data->csv_label = get_text(map, "label");
    data->csv_delimiter = get_text(map, "delimiter") ? get_text(map, "delimiter")[0] : ',';
    const struct rp_value *ignore = get(map, "ignore");
    for (int i = 0; ignore && i < ignore->n && i < RP_SPEC_MAX_IGNORE; i++)
        data->csv_ignore[data->n_csv_ignore++] = (char *)ignore->item[i].text;
    if (data->format == RP_FORMAT_NPZ) {
        data->npz_x = get_text(map, "x");
        data->npz_y = get_text(map, "y");
    }
    const char *dtype = get_text(map, "dtype");
    data->token_bytes = dtype && strcmp(dtype, "uint32") == 0 ? 4 : 2;
    data->vocab = get_int(map, "vocab");
    data->tokenizer = get_text(map, "tokenizer");
    data->tokenizer_at = get_place(map, "tokenizer");
    static char text[] = "text";
    data->jsonl_field = get_text(map, "field") ? get_text(map, "field") : text;
    data->jsonl_prompt = get_text(map, "prompt");
    data->jsonl_response = get_text(map, "response");
    if (data->format != RP_FORMAT_SYNTHETIC) return;
    data->synthetic = (enum rp_synthetic)GET_ENUM(map, "task", tasks);
    data->synthetic_samples = get_int(map, "samples");
    data->synthetic_classes = get_int(map, "classes");
    data->synthetic_features = get_int(map, "features");
    data->synthetic_noise = get_number(map, "noise");
    data->synthetic_p = get_int(map, "p");
    const struct rp_value *seed = get(map, "seed");
    data->synthetic_seed = seed ? seed->seed : 0;
}

static void fill_normalize(struct rp_spec_transform *transform, const struct rp_value *map)
{
    const struct rp_value *mean = get(map, "mean"), *std = get(map, "std");
    int n_mean = mean ? mean->n : 0, n_std = std ? std->n : 0;
    transform->n_channels = n_mean > n_std ? n_mean : n_std;
    for (int i = 0; i < transform->n_channels && n_mean && n_std; i++) {
        transform->mean[i] = (float)mean->item[n_mean == 1 ? 0 : i < n_mean ? i : 0].number;
        transform->std[i] = (float)std->item[n_std == 1 ? 0 : i < n_std ? i : 0].number;
    }
}

/* [low, high] of a list of two. */
static void fill_range(struct rp_spec_transform *transform, int i, const struct rp_value *map,
                       const char *name)
{
    const struct rp_value *value = get(map, name);
    if (!value || value->n != 2) return;
    transform->low[i] = (float)value->item[0].number;
    transform->high[i] = (float)value->item[1].number;
}

/* A factor between 1 - by and 1 + by, never below nought. */
static void fill_factor(struct rp_spec_transform *transform, int i, const struct rp_value *map,
                        const char *name)
{
    float by = (float)get_number(map, name);
    transform->low[i] = by < 1.0f ? 1.0f - by : 0.0f;
    transform->high[i] = by > 0.0f ? 1.0f + by : transform->low[i];
}

static void fill_transform(struct rp_spec_transform *transform, const struct rp_value *map)
{
    transform->padding = (int)get_int(map, "padding");
    transform->p = (float)get_number(map, "p");
    transform->alpha = (float)get_number(map, "alpha");
    get_pair(map, "size", transform->size);
    switch (transform->kind) {
    case RP_TRANSFORM_NORMALIZE:
        fill_normalize(transform, map);
        break;
    case RP_TRANSFORM_RANDOM_RESIZED_CROP:
        fill_range(transform, 0, map, "scale");
        fill_range(transform, 1, map, "ratio");
        break;
    case RP_TRANSFORM_RANDOM_ROTATION:
        transform->high[0] = (float)get_number(map, "degrees");
        break;
    case RP_TRANSFORM_COLOR_JITTER:
        fill_factor(transform, 0, map, "brightness");
        fill_factor(transform, 1, map, "contrast");
        fill_factor(transform, 2, map, "saturation");
        break;
    case RP_TRANSFORM_RANDOM_CROP:
    case RP_TRANSFORM_RANDOM_FLIP:
    case RP_TRANSFORM_CUTOUT:
    case RP_TRANSFORM_MIXUP:
    case RP_TRANSFORM_CUTMIX:
        break;
    }
}

static void fill_data(struct rp_spec *spec, const struct rp_value *map)
{
    static const char *const kinds[] = {
        "normalize",       "random_crop",  "random_flip", "random_resized_crop",
        "random_rotation", "color_jitter", "cutout",      "mixup",
        "cutmix"};
    const struct rp_value *valid = get(map, "valid"), *list = get(map, "transform");
    fill_dataset(&spec->train_data, get(map, "train"));
    fill_dataset(&spec->test_data, get(map, "test"));
    spec->valid_fraction = get_number(valid, "fraction");
    if (spec->valid_fraction == 0) fill_dataset(&spec->valid_data, valid);
    for (int i = 0; list && i < list->n && i < RP_SPEC_MAX_TRANSFORMS; i++) {
        const struct rp_value *item = &list->item[i];
        struct rp_spec_transform *transform = &spec->transform[spec->n_transforms++];
        transform->kind = (enum rp_transform_kind)index_of(item->text, kinds, (int)RP_COUNT(kinds));
        transform->at = item->at;
        fill_transform(transform, item->item);
    }
}

/* ---- model ---- */

static const char *const layer_names[] = {"linear",         "conv2d",  "maxpool2d", "avgpool2d",
                                          "global_avgpool", "relu",    "gelu",      "gelu_tanh",
                                          "silu",           "sigmoid", "tanh",      "batch_norm",
                                          "layer_norm",     "dropout", "flatten",   "residual"};

static void fill_layers(struct rp_arena *arena, const struct rp_value *list,
                        struct rp_spec_layers *layers);

static void fill_init(struct rp_spec_init *init, const struct rp_value *map)
{
    static const char *const names[] = {"kaiming", "xavier", "normal", "zeros"};
    const struct rp_value *value = get(map, "init");
    if (!value) return;
    init->kind = (enum rp_init_kind)index_of(value->text, names, 4);
    init->std = (float)get_number(value->item, "std");
}

static void fill_layer(struct rp_arena *arena, const struct rp_value *item,
                       struct rp_spec_layer *layer)
{
    const struct rp_value *map = item->item;
    layer->kind = (enum rp_layer_kind)index_of(item->text, layer_names, (int)RP_COUNT(layer_names));
    layer->at = item->at;
    layer->out = get_int(map, "out");
    get_pair(map, "kernel", layer->kernel);
    get_pair(map, "stride", layer->stride);
    get_pair(map, "padding", layer->padding);
    layer->groups = (int)get_int(map, "groups");
    layer->bias = get_bool(map, "bias");
    layer->p = (float)get_number(map, "p");
    layer->eps = (float)get_number(map, "eps");
    layer->momentum = (float)get_number(map, "momentum");
    fill_init(&layer->init, map);
    fill_layers(arena, get(map, "body"), &layer->body);
    fill_layers(arena, get(map, "shortcut"), &layer->shortcut);
}

static void fill_layers(struct rp_arena *arena, const struct rp_value *list,
                        struct rp_spec_layers *layers)
{
    if (!list || list->n == 0) return;
    layers->layer = rp_arena_new(arena, sizeof *layers->layer * (size_t)list->n);
    layers->n = list->n;
    for (int i = 0; i < list->n; i++) fill_layer(arena, &list->item[i], &layers->layer[i]);
}

/* Names of tensors, at most 16; returns how many. */
static int fill_patterns(const struct rp_value *map, const char *name, char *patterns[16],
                         struct rp_spec_place at[16])
{
    const struct rp_value *list = get(map, name);
    int n = 0;
    for (; list && n < list->n && n < 16; n++) {
        at[n] = list->item[n].at;
        patterns[n] = (char *)list->item[n].text;
    }
    return n;
}

static void fill_init_from(struct rp_spec_model *model, const struct rp_value *map)
{
    static const char *const loads[] = {"weights", "all"};
    if (!map) return;
    const struct rp_value *hash = get(map, "sha256");
    model->init_from.given = true;
    model->init_from.at = map->key_at;
    model->init_from.run = get_text(map, "run");
    model->init_from.path = get_text(map, "path");
    model->init_from.checkpoint = get_text(map, "at");
    model->init_from.load = (enum rp_init_load)GET_ENUM(map, "load", loads);
    model->init_from.has_sha256 = hash != NULL;
    if (hash) model->init_from.sha256 = hash->sha256;
    model->init_from.n_skip =
        fill_patterns(map, "skip", model->init_from.skip, model->init_from.skip_at);
}

static void fill_gpt(struct rp_spec_model *model, const struct rp_value *map)
{
    static const char *const mlps[] = {"gelu", "gelu_tanh", "swiglu"};
    static const char *const norms[] = {"layernorm", "rmsnorm"};
    static const char *const positions[] = {"learned", "rope", "none"};
    const struct rp_value *dropout = get(map, "dropout");
    struct rp_spec_gpt *gpt = &model->gpt;
    model->context = get_int(map, "context");
    gpt->layers = (int)get_int(map, "layers");
    gpt->heads = (int)get_int(map, "heads");
    gpt->kv_heads = (int)get_int(map, "kv_heads");
    gpt->width = get_int(map, "width");
    gpt->mlp_width = get_int(map, "mlp_width");
    model->vocab = get_int(map, "vocab");
    gpt->vocab_at = get_place(map, "vocab");
    gpt->mlp = (enum rp_gpt_mlp)GET_ENUM(map, "mlp", mlps);
    gpt->norm = (enum rp_gpt_norm)GET_ENUM(map, "norm", norms);
    gpt->norm_eps = (float)get_number(map, "norm_eps");
    gpt->position = (enum rp_gpt_position)GET_ENUM(map, "position", positions);
    gpt->rope_base = (float)get_number(map, "rope_base");
    gpt->bias = get_bool(map, "bias");
    gpt->tied = get_bool(map, "tied");
    gpt->qk_norm = get_bool(map, "qk_norm");
    gpt->dropout_attention = (float)get_number(dropout, "attention");
    gpt->dropout_residual = (float)get_number(dropout, "residual");
    gpt->dropout_embedding = (float)get_number(dropout, "embedding");
}

static void fill_model(struct rp_spec_model *model, struct rp_arena *arena,
                       const struct rp_value *map)
{
    static const char *const kinds[] = {"sequential", "mlp", "resnet", "gpt"};
    const struct rp_value *hidden = get(map, "hidden");
    if (!map) return;
    model->at = map->key_at;
    model->kind = (enum rp_model_kind)GET_ENUM(map, "kind", kinds);
    if (model->kind == RP_MODEL_GPT)
        fill_gpt(model, map);
    else
        fill_layers(arena, get(map, "layers"), &model->layers);
    for (int i = 0; hidden && i < hidden->n && i < RP_SPEC_MAX_HIDDEN; i++)
        model->hidden[model->n_hidden++] = hidden->item[i].whole;
    model->activation = (enum rp_layer_kind)GET_ENUM(map, "activation", layer_names);
    if (model->kind == RP_MODEL_MLP) model->dropout = (float)get_number(map, "dropout");
    const char *depth = get_text(map, "depth"), *stem = get_text(map, "stem");
    for (const char *c = depth; c && *c; c++) model->depth = 10 * model->depth + (*c - '0');
    model->cifar_stem = depth && (!stem || strcmp(stem, "cifar") == 0);
    model->out = get_int(map, "out");
    fill_init_from(model, get(map, "init_from"));
    model->n_freeze = fill_patterns(map, "freeze", model->freeze, model->freeze_at);
}

/* ---- train, policy, place ---- */

static void fill_optimizer(struct rp_spec_train *train, const struct rp_value *map)
{
    static const char *const kinds[] = {"sgd", "adam", "adamw", "lion", "muon"};
    static const char *const decays[] = {"all", "matrices"};
    static const char *const scales[] = {"spectral", "rms"};
    train->optimizer.kind = (enum rp_optimizer)GET_ENUM(map, "kind", kinds);
    train->optimizer.lr = get_number(map, "lr");
    train->optimizer.momentum = get_number(map, "momentum");
    train->optimizer.dampening = get_number(map, "dampening");
    train->optimizer.nesterov = get_bool(map, "nesterov");
    bool muon = train->optimizer.kind == RP_OPTIMIZER_MUON;
    const struct rp_value *betas = get(map, muon ? "adamw_betas" : "betas");
    train->optimizer.beta1 = betas ? betas->item[0].number : 0;
    train->optimizer.beta2 = betas ? betas->item[1].number : 0;
    train->optimizer.eps = get_number(map, muon ? "adamw_eps" : "eps");
    train->optimizer.adamw_lr = get_number(map, "adamw_lr");
    train->optimizer.scale = (enum rp_muon_scale)GET_ENUM(map, "scale", scales);
    train->optimizer.split = get_bool(map, "split");
    train->optimizer.weight_decay = get_number(map, "weight_decay");
    train->optimizer.decay = (enum rp_decay)GET_ENUM(map, "decay", decays);
    train->optimizer.n_no_decay =
        fill_patterns(map, "no_decay", train->optimizer.no_decay, train->optimizer.no_decay_at);
    train->optimizer.n_adamw_for =
        fill_patterns(map, "adamw_for", train->optimizer.adamw_for, train->optimizer.adamw_for_at);
}

static void fill_schedule(struct rp_spec_train *train, const struct rp_value *map)
{
    static const char *const kinds[] = {"constant", "linear", "cosine", "step", "wsd"};
    train->schedule.kind = (enum rp_schedule)GET_ENUM(map, "kind", kinds);
    get_span(map, "warmup", &train->schedule.warmup);
    train->schedule.final_ratio = get_number(map, "final_ratio");
    get_span(map, "every", &train->schedule.every);
    train->schedule.gamma = get_number(map, "gamma");
    get_span(map, "decay", &train->schedule.decay);
}

static void fill_train(struct rp_spec_train *train, const struct rp_value *map)
{
    static const char *const precisions[] = {"fp32", "tf32", "fp16", "bf16"};
    static const char *const losses[] = {"cross_entropy", "mse"};
    static const char *const nonfinite[] = {"stop", "skip_step"};
    static const char *const recomputes[] = {"none", "block"};
    if (!map) return;
    get_span(map, "for", &train->duration);
    train->batch = get_int(map, "batch");
    train->batch_at = get_place(map, "batch");
    train->shards = get_int(map, "shards");
    train->shards_at = get_place(map, "shards");
    train->micro_batch = get_int(map, "micro_batch");
    train->micro_batch_at = get_place(map, "micro_batch");
    train->recompute = (enum rp_recompute)GET_ENUM(map, "recompute", recomputes);
    train->precision = (enum rp_precision)GET_ENUM(map, "precision", precisions);
    train->loss = (enum rp_loss)GET_ENUM(map, "loss", losses);
    const struct rp_value *loss = get(map, "loss");
    train->label_smoothing = loss ? (float)get_number(loss->item, "label_smoothing") : 0;
    fill_optimizer(train, get(map, "optimizer"));
    fill_schedule(train, get(map, "schedule"));
    train->clip_norm = get_number(map, "clip_norm");
    train->ema_decay = get_number(get(map, "ema"), "decay");
    train->on_nonfinite = (enum rp_nonfinite)GET_ENUM(map, "on_nonfinite", nonfinite);
}

static void fill_policy(struct rp_spec *spec, const struct rp_value *root)
{
    const struct rp_value *eval = get(root, "eval"), *stop = get(eval, "early_stop");
    const struct rp_value *checkpoint = get(root, "checkpoint"), *keep = get(checkpoint, "keep");
    const struct rp_value *log = get(root, "log"), *track = get(log, "track");
    get_spans(eval, "every", &spec->eval.every);
    spec->eval.early_stop.given = stop != NULL;
    spec->eval.early_stop.metric = get_text(stop, "metric");
    spec->eval.early_stop.patience = get_int(stop, "patience");
    spec->eval.early_stop.min_delta = get_number(stop, "min_delta");
    get_spans(checkpoint, "every", &spec->checkpoint.every);
    spec->checkpoint.keep_last = get_int(keep, "last");
    spec->checkpoint.keep_best = get_text(keep, "best");
    get_span(keep, "every", &spec->checkpoint.keep_every);
    get_span(log, "every", &spec->log.every);
    static const char *const trackers[] = {"tensorboard", "mlflow", "prometheus"};
    for (int i = 0; track && i < track->n; i++)
        spec->log.track |= 1u << index_of(track->item[i].text, trackers, 3);
}

static void fill_place(struct rp_spec *spec, const struct rp_value *root)
{
    const struct rp_value *resources = get(root, "resources");
    const struct rp_value *timeout = get(resources, "timeout");
    struct rp_span peer = {0}, step = {0};
    spec->environment_lock = get_text(get(root, "environment"), "lock");
    spec->resources.device = get_text(resources, "device");
    spec->resources.comm = get_text(resources, "comm");
    spec->resources.ranks = get_int(resources, "ranks");
    spec->resources.threads = get_int(resources, "threads");
    get_span(timeout, "peer", &peer);
    get_span(timeout, "step", &step);
    spec->resources.timeout_peer = peer.value;
    spec->resources.timeout_step = step.value;
}

void rp_fill(struct rp_spec *spec, struct rp_arena *arena, const struct rp_value *root)
{
    static const char *const tiers[] = {"portable", "pinned", "fast"};
    const struct rp_value *seed = get(root, "seed");
    const char *name = get_text(root, "name");
    spec->version = (int)get_int(root, "reprise");
    spec->numerics = (int)get_int(root, "numerics");
    for (size_t i = 0; name && name[i] && i + 1 < sizeof spec->name; i++) spec->name[i] = name[i];
    spec->seed = seed ? seed->seed : 0;
    spec->determinism = (enum rp_tier)GET_ENUM(root, "determinism", tiers);
    fill_data(spec, get(root, "data"));
    fill_model(&spec->model, arena, get(root, "model"));
    fill_train(&spec->train, get(root, "train"));
    fill_policy(spec, root);
    fill_place(spec, root);
}
