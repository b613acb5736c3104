/* init_write.c - the text of a spec, with a comment wherever something was measured or chosen. */
#include "cli/init_int.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PER_LINE = 8 };

/* ---- scalars --------------------------------------------------------------------------------- */

/* A text as YAML: plain where it can be, else in double quotes. */
static void add_scalar(struct rp_text *text, const char *value)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+= ";
    static const char *const words[] = {"null", "Null",  "NULL",  "true", "True",
                                        "TRUE", "false", "False", "FALSE"};
    size_t n = strlen(value);
    double number;
    bool good = n > 0 && strspn(value, plain) == n && !strchr("-+=. ", value[0]) &&
                value[n - 1] != ' ' && !rp_number_parse(value, &number) &&
                !(value[0] >= '0' && value[0] <= '9');
    for (size_t i = 0; i < RP_COUNT(words); i++) good = good && strcmp(value, words[i]) != 0;
    if (good)
        rp_text_add(text, "%s", value);
    else
        rp_text_add_json(text, value);
}

/* Four digits say all that a normalisation needs; of small spreads the exponent. */
static void add_number(struct rp_text *text, double value)
{
    char digits[RP_NUMBER_BYTES];
    snprintf(digits, sizeof digits, "%.5g", value);
    rp_number_parse(digits, &value);
    rp_number_text(value, digits);
    rp_text_add(text, "%s", digits);
}

static void add_numbers(struct rp_text *text, const double *value, int64_t n, bool is_std,
                        const char *indent)
{
    if (n > 1) rp_text_add(text, "[");
    for (int64_t i = 0; i < n; i++) {
        if (i) rp_text_add(text, i % PER_LINE ? ", " : ",\n%s", indent);
        /* A column that never changes carries nothing: any scale will do. */
        bool constant = is_std && !(value[i] > 1e-12);
        add_number(text, constant ? 1.0 : value[i]);
    }
    if (n > 1) rp_text_add(text, "]");
}

/* ---- data ------------------------------------------------------------------------------------ */

static void add_path_key(const struct init *init, struct rp_text *text, const char *key,
                         const char *path)
{
    char *written = init_path(init, path);
    rp_text_add(text, "    %s: ", key);
    add_scalar(text, written);
    rp_text_add(text, "\n");
    rp_mem_free(written);
}

static void add_list_key(struct rp_text *text, const char *key, char *const *item, int n)
{
    rp_text_add(text, "    %s: [", key);
    for (int i = 0; i < n; i++) {
        rp_text_add(text, "%s", i ? ", " : "");
        add_scalar(text, item[i]);
    }
    rp_text_add(text, "]\n");
}

static void add_files(const struct init *init, char *const *path, int n, struct rp_text *text)
{
    const struct rp_data_look *look = &init->look;
    char *written[RP_SPEC_MAX_FILES] = {0};
    switch (look->format) {
    case RP_FORMAT_IDX:
        add_path_key(init, text, "images", path[0]);
        add_path_key(init, text, "labels", path[1]);
        return;
    case RP_FORMAT_NPY:
        add_path_key(init, text, "x", path[0]);
        add_path_key(init, text, "y", path[1]);
        return;
    case RP_FORMAT_CIFAR:
    case RP_FORMAT_TEXT:
    case RP_FORMAT_TOKENS:
    case RP_FORMAT_JSONL:
        if (n == 1 && look->format != RP_FORMAT_CIFAR) {
            add_path_key(init, text, "files", path[0]);
            return;
        }
        for (int i = 0; i < n; i++) written[i] = init_path(init, path[i]);
        add_list_key(text, "files", written, n);
        for (int i = 0; i < n; i++) rp_mem_free(written[i]);
        return;
    default:
        add_path_key(init, text, "file", path[0]);
    }
}

static void add_text_key(struct rp_text *text, const char *key, const char *value)
{
    if (!value) return;
    rp_text_add(text, "    %s: ", key);
    add_scalar(text, value);
    rp_text_add(text, "\n");
}

static void add_format(const struct init *init, struct rp_text *text)
{
    const struct rp_data_look *look = &init->look;
    if (look->format == RP_FORMAT_CIFAR && look->cifar_classes == 100)
        rp_text_add(text, "    classes: 100\n");
    if (look->format == RP_FORMAT_CSV) {
        rp_text_add(text, "    label: ");
        add_scalar(text, look->label);
        rp_text_add(text, "\n");
        if (look->delimiter != ',')
            rp_text_add(text, "    delimiter: \"%s\"\n",
                        look->delimiter == '\t'  ? "\\t"
                        : look->delimiter == ';' ? ";"
                                                 : "|");
        if (look->n_ignore) add_list_key(text, "ignore", look->ignore, look->n_ignore);
        if (look->n_indicators)
            add_list_key(text, "indicators", look->indicators, look->n_indicators);
    }
    if (look->format == RP_FORMAT_NPZ) {
        rp_text_add(text, "    x: ");
        add_scalar(text, look->x);
        rp_text_add(text, "\n    y: ");
        add_scalar(text, look->y);
        rp_text_add(text, "\n");
    }
    add_text_key(text, "field", look->field && strcmp(look->field, "text") ? look->field : NULL);
    add_text_key(text, "prompt", look->prompt);
    add_text_key(text, "response", look->response);
    if (look->format == RP_FORMAT_TOKENS && look->token_bytes == 4)
        rp_text_add(text, "    dtype: uint32\n");
    if (look->format == RP_FORMAT_TOKENS)
        rp_text_add(text, "    vocab: %lld\n", (long long)look->vocab);
    if (look->target == RP_TARGET_VALUES) rp_text_add(text, "    target: values\n");
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The hashes of the files of a data set, once they have been read. */
static void add_hashes(const struct init *init, const char *key, struct rp_text *text)
{
    const struct rp_data_file *file = NULL;
    int n = init->data ? rp_data_files(init->data, &file) : 0, added = 0;
    for (int i = 0; i < n; i++) {
        char hex[RP_SHA256_HEX];
        if (!starts_with(file[i].key, key)) continue;
        rp_sha256_hex(&file[i].sha256, hex);
        rp_text_add(text, added++ ? ",\n             %s" : "    sha256: [%s", hex);
    }
    if (added) rp_text_add(text, "]\n");
}

static void add_dataset(const struct init *init, const char *name, char *const *path, int n,
                        struct rp_text *text)
{
    static const char *const formats[] = {"",       "idx",       "cifar", "csv",    "npy",  "npz",
                                          "packed", "synthetic", "text",  "tokens", "jsonl"};
    if (n == 0) return;
    char *key = rp_mem_text("data.%s", name);
    rp_text_add(text, "  %s:\n    format: %s\n", name, formats[init->look.format]);
    add_files(init, path, n, text);
    add_format(init, text);
    if (!init->look.is_folder) add_hashes(init, key, text);
    rp_mem_free(key);
}

void init_write_datasets(const struct init *init, struct rp_text *text)
{
    const struct rp_data_look *look = &init->look;
    add_dataset(init, "train", look->path, look->n_paths, text);
    add_dataset(init, "valid", look->valid, look->n_valid, text);
    add_dataset(init, "test", look->test, look->n_test, text);
}

static void add_transform(const struct init *init, struct rp_text *text)
{
    const struct rp_data_shape *shape = &init->shape;
    bool images = shape->n_dims == 3, convolution = init->model != INIT_MLP;
    rp_text_add(text, "  transform:\n    - normalize:        # measured on all %lld samples%s\n",
                (long long)shape->n_train,
                images                ? ", bytes as x / 255"
                : init->channels == 1 ? ""
                                      : ", a number per column");
    rp_text_add(text, "        mean: ");
    add_numbers(text, init->mean, init->channels, false, "               ");
    rp_text_add(text, "\n        std: ");
    add_numbers(text, init->std, init->channels, true, "              ");
    rp_text_add(text, "\n");
    if (convolution)
        rp_text_add(text,
                    "    - random_crop: {padding: 2}      # training samples only; photographs "
                    "gain from random_flip too\n");
}

/* ---- model and training ---------------------------------------------------------------------- */

static void add_lenet(const struct init *init, struct rp_text *text)
{
    rp_text_add(text,
                "  kind: sequential\n  layers:\n"
                "    - conv2d: {out: 16, kernel: 5, padding: 2}\n    - relu\n"
                "    - maxpool2d: {kernel: 2}\n"
                "    - conv2d: {out: 32, kernel: 5, padding: 2}\n    - relu\n"
                "    - maxpool2d: {kernel: 2}\n"
                "    - flatten\n    - linear: {out: 128}\n    - relu\n    - dropout: {p: 0.25}\n"
                "    - linear: {out: %lld}\n",
                (long long)(init->shape.target == RP_TARGET_CLASSES ? init->shape.n_classes
                                                                    : init->shape.n_values));
}

static void add_model(const struct init *init, struct rp_text *text)
{
    rp_text_add(text, "model:\n");
    switch (init->model) {
    case INIT_MLP:
        rp_text_add(text, "  kind: mlp\n  hidden: [%lld, %lld]\n", (long long)init->hidden[0],
                    (long long)init->hidden[1]);
        break;
    case INIT_LENET:
        add_lenet(init, text);
        break;
    case INIT_RESNET_SMALL:
        rp_text_add(text,
                    "  kind: resnet\n  depth: 20         # 32 and 56 learn more, and slower\n");
        break;
    case INIT_GPT:
        rp_text_add(text,
                    "  kind: gpt\n  layers: %lld\n  heads: 4\n  width: %lld\n"
                    "  context: %-10lld# tokens that it sees at once\n  dropout: 0.1\n",
                    (long long)init->layers, (long long)init->width, (long long)init->context);
        break;
    case INIT_RESNET_LARGE:
        rp_text_add(text, "  kind: resnet\n  depth: 18\n  stem: imagenet    # for images above 64 "
                          "pixels\n");
        break;
    }
}

static void add_training(const struct init *init, struct rp_text *text)
{
    bool classes = init->shape.target == RP_TARGET_CLASSES;
    bool tokens = init->shape.target == RP_TARGET_TOKENS;
    rp_text_add(text, "train:\n  for: %lld %s%s       # chosen to end in minutes on a processor\n",
                (long long)init->length, init->in_steps ? "step" : "epoch",
                init->length == 1 ? "" : "s");
    rp_text_add(text, "  batch: %lld\n", (long long)init->batch);
    if (!classes && !tokens) rp_text_add(text, "  loss: mse\n");
    rp_text_add(text,
                "  optimizer: {kind: adamw, lr: 1.0e-3%s}\n"
                "  schedule: {kind: cosine, warmup: 5 %%, final_ratio: 0.01}\n%s"
                "eval: {every: 10 %%}\n"
                "checkpoint: {every: [20 %%, 10 min], keep: {last: 2, best: %s}}\n",
                tokens ? ", betas: [0.9, 0.99], weight_decay: 0.1, decay: matrices" : "",
                tokens ? "  clip_norm: 1.0\n" : "", classes ? "valid/accuracy" : "valid/loss");
}

static void add_head(const struct init *init, struct rp_text *text)
{
    const struct rp_data_shape *shape = &init->shape;
    bool tokens = shape->target == RP_TARGET_TOKENS;
    rp_text_add(text, "# %s: %lld ", init->name,
                (long long)(tokens ? init->n_tokens : shape->n_train));
    if (tokens)
        rp_text_add(text, "tokens of %lld\n", (long long)shape->n_classes);
    else if (shape->n_dims == 3)
        rp_text_add(text, "images of %lld x %lld x %lld", (long long)shape->dims[0],
                    (long long)shape->dims[1], (long long)shape->dims[2]);
    else
        rp_text_add(text, "rows of %lld numbers", (long long)shape->dims[0]);
    if (shape->target == RP_TARGET_CLASSES)
        rp_text_add(text, ", %lld classes\n", (long long)shape->n_classes);
    else if (!tokens)
        rp_text_add(text, ", %lld value%s to fit\n", (long long)shape->n_values,
                    shape->n_values == 1 ? "" : "s");
    rp_text_add(text,
                "#\n# Written by `reprise init`; it runs as it is. `reprise explain KEY` tells "
                "what a key does.\n");
    const char *end;
    for (const char *line = rp_text_get(&init->look.notes); *line; line = end + 1) {
        end = strchr(line, '\n');
        rp_text_add(text, "# - %.*s\n", (int)(end - line), line);
    }
}

void init_write(const struct init *init, struct rp_text *text)
{
    add_head(init, text);
    rp_text_add(text, "reprise: 1\nname: %s\nseed: 1\n\ndata:\n", init->name);
    init_write_datasets(init, text);
    if (init->look.n_valid == 0)
        rp_text_add(text, "  valid: {fraction: %.1f}   # of train: %s, never trained on\n",
                    init->fraction, init->model == INIT_GPT ? "its end" : "chosen by the seed");
    if (init->model != INIT_GPT) add_transform(init, text);
    add_model(init, text);
    add_training(init, text);
}
