/* rules.c - what must be true of several keys together. Each rule looks only at values that are
 * right by themselves, so that one mistake gives one error. */
#include "spec/spec_int.h"

#include <stdio.h>
#include <string.h>

struct rules {
    const struct rp_spec *spec;
    const struct rp_value *root;
    struct rp_problems *problems;
};

/* The value at a path, when it is there and right. */
static const struct rp_value *good(const struct rules *rules, const char *path)
{
    const struct rp_value *value = rp_value_find(rules->root, path);
    return value && value->present && !value->bad ? value : NULL;
}

#define COMPLAIN(rules, value, ...)                                                                \
    rp_problems_add((rules)->problems, (value)->at, (value)->set, __VA_ARGS__)

static bool is_power_of_two(int64_t n)
{
    return n > 0 && (n & (n - 1)) == 0;
}

/* ---- batch, shards, micro_batch ---- */

static const struct rp_spec_layer *find_batch_norm(const struct rp_spec_layers *layers)
{
    for (int i = 0; i < layers->n; i++) {
        const struct rp_spec_layer *layer = &layers->layer[i];
        if (layer->kind == RP_LAYER_BATCH_NORM) return layer;
        const struct rp_spec_layer *inner = find_batch_norm(&layer->body);
        if (!inner) inner = find_batch_norm(&layer->shortcut);
        if (inner) return inner;
    }
    return NULL;
}

static bool has_batch_norm(const struct rules *rules)
{
    const struct rp_spec_model *model = &rules->spec->model;
    if (!good(rules, "model")) return false;
    return model->kind == RP_MODEL_RESNET || find_batch_norm(&model->layers) != NULL;
}

static void check_micro_batch(const struct rules *rules, int64_t batch, int64_t per_shard)
{
    const struct rp_value *value = good(rules, "train.micro_batch");
    if (!value) return;
    int64_t micro = value->whole;
    if (micro > batch)
        COMPLAIN(rules, value, "`micro_batch` %lld is more than the batch of %lld",
                 (long long)micro, (long long)batch);
    else if (has_batch_norm(rules) && micro % per_shard != 0)
        COMPLAIN(rules, value,
                 "`micro_batch` must be a multiple of batch / shards = %lld, because batch norm "
                 "takes its statistics over a whole shard; found `%lld`",
                 (long long)per_shard, (long long)micro);
    else if (per_shard % micro != 0 && micro % per_shard != 0)
        COMPLAIN(rules, value,
                 "`micro_batch` must divide batch / shards = %lld, or be a multiple of it; found "
                 "`%lld`",
                 (long long)per_shard, (long long)micro);
}

static void check_batch(const struct rules *rules)
{
    const struct rp_value *batch = good(rules, "train.batch");
    const struct rp_value *shards = good(rules, "train.shards");
    if (!batch || !shards) return;
    if (!is_power_of_two(shards->whole)) {
        int64_t lower = 1;
        while (2 * lower < shards->whole) lower *= 2;
        COMPLAIN(rules, shards,
                 "`shards` must be a power of two, such as `%lld` or `%lld`; found `%lld`",
                 (long long)lower, (long long)(2 * lower), (long long)shards->whole);
    } else if (batch->whole % shards->whole != 0) {
        COMPLAIN(rules, shards,
                 "`shards` must divide the batch of %lld; found `%lld`: the nearest batch is %lld",
                 (long long)batch->whole, (long long)shards->whole,
                 (long long)((batch->whole / shards->whole + 1) * shards->whole));
    } else {
        check_micro_batch(rules, batch->whole, batch->whole / shards->whole);
    }
}

static void check_ranks(const struct rules *rules)
{
    const struct rp_value *ranks = good(rules, "resources.ranks");
    const struct rp_value *shards = good(rules, "train.shards");
    if (!ranks || ranks->automatic || !shards || !is_power_of_two(shards->whole)) return;
    int64_t lower = 1;
    while (2 * lower <= ranks->whole && 2 * lower <= shards->whole) lower *= 2;
    if (lower != ranks->whole)
        COMPLAIN(rules, ranks,
                 "`ranks` must be a power of two up to `shards`, which is %lld; found `%lld`: the "
                 "next lower one is %lld",
                 (long long)shards->whole, (long long)ranks->whole, (long long)lower);
}

static void check_comm(const struct rules *rules)
{
    const struct rp_value *comm = good(rules, "resources.comm");
    const struct rp_value *device = good(rules, "resources.device");
    if (!comm || !device || strcmp(comm->text, "auto") == 0) return;
    bool for_gpu = strcmp(comm->text, "nccl") == 0;
    if (strcmp(device->text, for_gpu ? "cpu" : "cuda") == 0)
        COMPLAIN(rules, comm,
                 "`comm: %s` moves bytes between %s, and `device` is `%s`; write `comm: auto`",
                 comm->text, for_gpu ? "GPUs" : "CPUs", device->text);
}

/* ---- lengths ---- */

static const struct rp_value *token_span(const struct rp_value *value)
{
    for (int i = 0; value && value->list && i < value->n; i++)
        if (value->item[i].span.unit == RP_UNIT_TOKENS) return &value->item[i];
    return value && !value->list && value->span.unit == RP_UNIT_TOKENS ? value : NULL;
}

static bool is_gpt(const struct rules *rules)
{
    const struct rp_value *kind = good(rules, "model.kind");
    return kind && strcmp(kind->text, "gpt") == 0;
}

static bool is_text(const struct rules *rules)
{
    const struct rp_value *format = good(rules, "data.train.format");
    const struct rp_value *task = good(rules, "data.train.task");
    if (!format) return false;
    return strcmp(format->text, "text") == 0 || strcmp(format->text, "tokens") == 0 ||
           strcmp(format->text, "jsonl") == 0 ||
           (task && strcmp(task->text, "modular_addition") == 0);
}

static void check_lengths(const struct rules *rules)
{
    static const char *const paths[] = {
        "train.for",  "train.schedule.warmup", "train.schedule.every",  "train.schedule.decay",
        "eval.every", "checkpoint.every",      "checkpoint.keep.every", "log.every"};
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        const struct rp_value *value = token_span(good(rules, paths[i]));
        if (value && !is_text(rules))
            COMPLAIN(rules, value,
                     "tokens are counted in text only, and this data has none; write steps, epochs "
                     "or samples");
    }
    const struct rp_value *length = good(rules, "train.for");
    for (size_t i = 1; length && i < 4; i++) {
        const struct rp_value *part = good(rules, paths[i]);
        if (part && part->span.unit == length->span.unit && part->span.value > length->span.value)
            COMPLAIN(rules, part, "`%s` is longer than the training, which is for %.0f %s",
                     part->name, length->span.value,
                     rp_unit_name(length->span.unit, length->span.value != 1));
    }
}

/* ---- data ---- */

static int count_files(const struct rp_value *data)
{
    static const char *const names[] = {"images", "labels", "file", "files", "x", "y"};
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const struct rp_value *value = rp_value_get(data, names[i]);
        if (value && value->bad) return -1;
        if (value && value->present && value->key->type == RP_TYPE_PATH)
            n += value->list ? value->n : 1;
    }
    return n;
}

static void check_dataset(const struct rules *rules, const char *path)
{
    const struct rp_value *data = rp_value_find(rules->root, path);
    if (!data || !data->present || data->bad) return;
    const struct rp_value *hashes = rp_value_get(data, "sha256");
    const struct rp_value *format = rp_value_get(data, "format");
    if (!format || format->bad || !format->present) return;
    int n_files = count_files(data);
    if (hashes && hashes->present && !hashes->bad && n_files >= 0 && hashes->n != n_files)
        COMPLAIN(rules, hashes, "`sha256` has %d hashes for %d files", hashes->n, n_files);
    const struct rp_value *train = good(rules, "data.train");
    if (!train || train == data || strcmp(format->text, "synthetic") != 0) return;
    const struct rp_value *train_task = rp_value_get(train, "task");
    const struct rp_value *task = rp_value_get(data, "task");
    const struct rp_value *train_seed = rp_value_get(train, "seed");
    const struct rp_value *seed = rp_value_get(data, "seed");
    if (train_task && task && train_seed && seed && train_task->text && task->text && !seed->bad &&
        !train_seed->bad && strcmp(train_task->text, task->text) == 0 &&
        train_seed->seed == seed->seed)
        COMPLAIN(rules, format,
                 "the same samples as data.train: give this data set another `seed`, or write "
                 "`valid: {fraction: 0.1}`");
}

static void check_normalize(const struct rules *rules)
{
    const struct rp_value *list = good(rules, "data.transform");
    for (int i = 0; list && i < list->n; i++) {
        const struct rp_value *map = list->item[i].item;
        if (strcmp(list->item[i].text, "normalize") != 0) continue;
        const struct rp_value *mean = rp_value_get(map, "mean"), *std = rp_value_get(map, "std");
        if (!mean->bad && !std->bad && mean->n != std->n && mean->n != 1 && std->n != 1)
            COMPLAIN(rules, std, "`std` has %d numbers, `mean` %d; one, or one per channel", std->n,
                     mean->n);
    }
}

/* [low, high] in that order. */
static void check_range(const struct rules *rules, const struct rp_value *map, const char *name)
{
    const struct rp_value *value = rp_value_get(map, name);
    if (value && value->present && !value->bad && value->n == 2 && !value->item[0].bad &&
        !value->item[1].bad && value->item[0].number > value->item[1].number)
        COMPLAIN(rules, value, "`%s` goes from the smaller to the larger number", name);
}

static void check_augmentation(const struct rules *rules)
{
    const struct rp_value *list = good(rules, "data.transform");
    bool normalized = false;
    for (int i = 0; list && i < list->n; i++) {
        const struct rp_value *item = &list->item[i];
        if (item->bad) continue;
        check_range(rules, item->item, "scale");
        check_range(rules, item->item, "ratio");
        if (strcmp(item->text, "color_jitter") == 0 && normalized)
            COMPLAIN(rules, item,
                     "`color_jitter` takes colours from 0 to 1: write it before "
                     "`normalize`");
        normalized = normalized || strcmp(item->text, "normalize") == 0;
    }
}

/* mixup and cutmix: classes only, behind everything else. */
static void check_mixing(const struct rules *rules)
{
    const struct rp_value *list = good(rules, "data.transform");
    const struct rp_value *loss = good(rules, "train.loss");
    const struct rp_value *mixes = NULL;
    for (int i = 0; list && i < list->n; i++) {
        const struct rp_value *item = &list->item[i];
        if (item->bad) continue;
        if (strcmp(item->text, "mixup") != 0 && strcmp(item->text, "cutmix") != 0) {
            if (mixes)
                COMPLAIN(rules, item,
                         "`%s` comes after `%s`, which mixes samples that are finished: write "
                         "`%s` last",
                         item->text, mixes->text, mixes->text);
            continue;
        }
        mixes = item;
        if (loss && strcmp(loss->text, "mse") == 0)
            COMPLAIN(rules, item,
                     "`%s` mixes classes; with `loss: mse` there are none: leave it out",
                     item->text);
    }
}

static void check_loss(const struct rules *rules)
{
    const struct rp_value *loss = good(rules, "train.loss");
    const struct rp_value *format = good(rules, "data.train.format");
    const struct rp_value *target = good(rules, "data.train.target");
    if (!loss || !format) return;
    bool values = target && strcmp(target->text, "values") == 0;
    bool mse = strcmp(loss->text, "mse") == 0;
    if (values && !mse)
        COMPLAIN(rules, loss->given ? loss : target,
                 "`loss: cross_entropy` is for classes; with `target: values` write `loss: mse`");
    else if (mse && !values)
        COMPLAIN(rules, loss, "`loss: mse` is for `target: values`; classes take `cross_entropy`");
}

static const struct rp_value *good_in(const struct rp_value *map, const char *name)
{
    const struct rp_value *value = map ? rp_value_get(map, name) : NULL;
    return value && value->present && !value->bad ? value : NULL;
}

/* What the tokens of a second data set mean is what they mean in data.train. */
static void check_tokenizer(const struct rules *rules, const char *path)
{
    const struct rp_value *train = good(rules, "data.train"), *data = good(rules, path);
    const struct rp_value *there = good_in(train, "format"), *here = good_in(data, "format");
    if (!there || !here || !is_text(rules)) return;
    const struct rp_value *want = good_in(train, "tokenizer"), *got = good_in(data, "tokenizer");
    bool text = strcmp(here->text, "text") == 0 || strcmp(here->text, "jsonl") == 0;
    bool train_text = strcmp(there->text, "text") == 0 || strcmp(there->text, "jsonl") == 0;
    if (text && train_text && want && (!got || strcmp(want->text, got->text) != 0))
        COMPLAIN(rules, got ? got : here, "not the tokenizer of data.train: write `tokenizer: %s`",
                 want->text);
    else if (text && train_text && got && !want)
        COMPLAIN(rules, got, "data.train has no tokenizer, so its tokens are bytes: write none");
    else if (text && !train_text && !got)
        COMPLAIN(rules, here, "data.train has tokens: write the `tokenizer` that made them");
}

static void check_prompt(const struct rules *rules, const char *path)
{
    const struct rp_value *data = good(rules, path), *format = good_in(data, "format");
    if (!format || strcmp(format->text, "jsonl") != 0) return;
    const struct rp_value *field = good_in(data, "field"), *prompt = good_in(data, "prompt"),
                          *response = good_in(data, "response");
    if (prompt && !response)
        COMPLAIN(rules, prompt, "`prompt` needs `response` beside it, which is what is learnt");
    else if (response && !prompt)
        COMPLAIN(rules, response, "`response` needs `prompt` beside it; of one text write `field`");
    else if (prompt && field)
        COMPLAIN(rules, field, "`field` and `prompt` exclude each other");
}

/* Text is what language models read, and all that they read. */
static void check_text(const struct rules *rules)
{
    const struct rp_value *kind = good(rules, "model.kind");
    const struct rp_value *format = good(rules, "data.train.format");
    const struct rp_value *transform = good(rules, "data.transform");
    if (!kind || !format) return;
    bool gpt = strcmp(kind->text, "gpt") == 0;
    if (is_text(rules) && !gpt)
        COMPLAIN(rules, kind, "this data is text, which takes `kind: gpt`; found `%s`", kind->text);
    if (!is_text(rules) && gpt)
        COMPLAIN(rules, format,
                 "`kind: gpt` reads text: `format: text`, `tokens` or `jsonl`; found `%s`",
                 format->text);
    if (is_text(rules) && transform && transform->n > 0)
        COMPLAIN(rules, transform, "transforms are for numbers, and this data is text");
}

/* ---- evaluation ---- */

static void check_metrics(const struct rules *rules)
{
    static const char *const paths[] = {"eval.early_stop.metric", "checkpoint.keep.best"};
    const struct rp_value *loss = good(rules, "train.loss");
    const struct rp_value *valid = rp_value_find(rules->root, "data.valid");
    const struct rp_value *stop = good(rules, "eval.early_stop");
    bool has_valid = valid && (valid->present || valid->bad);
    const struct rp_value *every = rp_value_find(rules->root, "eval.every");
    if (!has_valid) {
        const struct rp_value *first = stop ? stop
                                       : every && every->given && !every->bad
                                           ? every
                                           : good(rules, paths[1]);
        if (first && good(rules, "data"))
            COMPLAIN(
                rules, first,
                "there is nothing to evaluate on: write `valid: {fraction: 0.1}` under `data`");
        return;
    }
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        const struct rp_value *metric = good(rules, paths[i]);
        if (metric && loss && strcmp(loss->text, "mse") == 0 &&
            strcmp(metric->text, "valid/loss") != 0)
            COMPLAIN(rules, metric, "`%s` is for classes; with `loss: mse` write `valid/loss`",
                     metric->text);
    }
    if (stop && every && !every->present && !every->bad)
        COMPLAIN(
            rules, stop,
            "`early_stop` needs evaluations during the run: write `every: 1 epoch` under `eval`");
}

/* ---- optimizer, initial weights ---- */

static void check_optimizer(const struct rules *rules)
{
    const struct rp_value *nesterov = good(rules, "train.optimizer.nesterov");
    const struct rp_value *momentum = good(rules, "train.optimizer.momentum");
    const struct rp_value *dampening = good(rules, "train.optimizer.dampening");
    if (nesterov && nesterov->yes && momentum && dampening &&
        (momentum->number == 0 || dampening->number != 0))
        COMPLAIN(rules, nesterov, "`nesterov` needs `momentum` above 0 and `dampening` 0");
}

static void check_init_from(const struct rules *rules)
{
    const struct rp_value *map = good(rules, "model.init_from");
    if (!map) return;
    const struct rp_value *run = rp_value_get(map, "run"), *path = rp_value_get(map, "path");
    const struct rp_value *at = rp_value_get(map, "at"), *load = rp_value_get(map, "load");
    if (run->bad || path->bad) return;
    if (!run->present && !path->present)
        COMPLAIN(rules, map, "`init_from` needs `run: FOLDER` or `path: FILE`");
    else if (run->present && path->present)
        COMPLAIN(rules, path, "`run` and `path` exclude each other");
    else if (path->present && at->given && !at->bad && strcmp(at->text, "last") != 0)
        COMPLAIN(rules, at, "`at` is for `run`; a file has one set of weights");
    else if (path->present && load->given && !load->bad && strcmp(load->text, "all") == 0)
        COMPLAIN(rules, load, "`load: all` is for `run`; a file has weights only");
}

/* ---- language models ---- */

/* Complains at `value` unless it divides `whole`. */
static void check_divides(const struct rules *rules, const struct rp_value *value,
                          const struct rp_value *whole)
{
    if (!value || !whole || whole->whole % value->whole == 0) return;
    int64_t below = value->whole, above = value->whole;
    char nearest[64];
    while (below < whole->whole && whole->whole % below) below--;
    while (above < whole->whole && whole->whole % above) above++;
    if (value->whole > whole->whole)
        snprintf(nearest, sizeof nearest, "it can be at most that");
    else
        snprintf(nearest, sizeof nearest, "the nearest are %lld and %lld", (long long)below,
                 (long long)above);
    COMPLAIN(rules, value, "`%s` must divide `%s`, which is %lld; found `%lld`, %s", value->name,
             whole->name, (long long)whole->whole, (long long)value->whole, nearest);
}

static void check_gpt(const struct rules *rules)
{
    if (!is_gpt(rules)) return;
    const struct rp_value *width = good(rules, "model.width"), *heads = good(rules, "model.heads");
    const struct rp_value *kv_heads = good(rules, "model.kv_heads");
    const struct rp_value *position = good(rules, "model.position");
    check_divides(rules, heads, width);
    if (kv_heads && kv_heads->given) check_divides(rules, kv_heads, heads);
    if (heads && width && position && strcmp(position->text, "rope") == 0 &&
        width->whole % heads->whole == 0 && width->whole / heads->whole % 2)
        COMPLAIN(rules, heads,
                 "`position: rope` turns pairs of numbers, and a head has width / heads = %lld / "
                 "%lld = %lld of them, which must be even",
                 (long long)width->whole, (long long)heads->whole,
                 (long long)(width->whole / heads->whole));
}

static void check_recompute(const struct rules *rules)
{
    const struct rp_value *recompute = good(rules, "train.recompute");
    const struct rp_value *kind = good(rules, "model.kind");
    if (recompute && kind && strcmp(recompute->text, "block") == 0 && !is_gpt(rules))
        COMPLAIN(rules, recompute,
                 "`recompute: block` is for `kind: gpt`, whose blocks are alike; here `kind` is "
                 "`%s`",
                 kind->text);
}

void rp_rules_check(const struct rp_spec *spec, const struct rp_value *root,
                    struct rp_problems *problems)
{
    struct rules rules = {spec, root, problems};
    check_batch(&rules);
    check_ranks(&rules);
    check_comm(&rules);
    check_lengths(&rules);
    check_dataset(&rules, "data.train");
    check_dataset(&rules, "data.valid");
    check_dataset(&rules, "data.test");
    check_normalize(&rules);
    check_augmentation(&rules);
    check_mixing(&rules);
    check_loss(&rules);
    check_text(&rules);
    check_tokenizer(&rules, "data.valid");
    check_tokenizer(&rules, "data.test");
    check_prompt(&rules, "data.train");
    check_prompt(&rules, "data.valid");
    check_prompt(&rules, "data.test");
    check_metrics(&rules);
    check_optimizer(&rules);
    check_init_from(&rules);
    check_gpt(&rules);
    check_recompute(&rules);
}
