/* print.c - a plan for people, and as JSON. */
#include "plan/plan_int.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

/* 1.23e9 as "1.23 G". */
static void large_text(double value, char text[32])
{
    static const char *const units[] = {"", " k", " M", " G", " T", " P", " E"};
    size_t unit = 0;
    for (; value >= 1000.0 && unit + 1 < RP_COUNT(units); unit++) value /= 1000.0;
    snprintf(text, 32, unit ? "%.2f%s" : "%.0f%s", value, units[unit]);
}

/* What training takes in: samples, and of text the tokens of their windows. */
static void print_length(const struct rp_plan *plan, struct rp_text *text)
{
    uint64_t samples = plan->n_steps * (uint64_t)plan->batch;
    double epochs = (double)samples / (double)plan->data.n_train;
    if (plan->data.target == RP_TARGET_TOKENS)
        rp_text_add(text,
                    "steps       %" PRIu64 " of %" PRId64 " windows of %" PRId64 " tokens: %" PRIu64
                    " tokens, %.4g epochs\n",
                    plan->n_steps, plan->batch, plan->data.dims[0],
                    samples * (uint64_t)plan->data.dims[0], epochs);
    else
        rp_text_add(text,
                    "steps       %" PRIu64 " of %" PRId64 " samples: %" PRIu64
                    " samples, %.4g epochs\n",
                    plan->n_steps, plan->batch, samples, epochs);
}

static void print_training(const struct rp_plan *plan, struct rp_text *text)
{
    char flops[32], total[32];
    bool tokens = plan->data.target == RP_TARGET_TOKENS;
    rp_text_add(text, "data        %" PRId64 " %s to train, %" PRId64 " to validate\n",
                plan->data.n_train, tokens ? "windows" : "samples",
                plan->data.n_valid > 0 ? plan->data.n_valid : 0);
    print_length(plan, text);
    rp_text_add(text, "shards      %" PRId64 " of %" PRId64 " samples; at most %d ranks\n",
                plan->shards, plan->samples_per_shard, plan->max_ranks);
    rp_text_add(
        text, "passes      %d per step%s, each %" PRId64 " samples; evaluation %" PRId64 "\n",
        plan->n_passes, plan->ranks > 1 ? " and rank" : "", plan->pass_samples, plan->eval_samples);
    large_text(plan->flops_per_step, flops);
    large_text(plan->flops_per_step * (double)plan->n_steps, total);
    rp_text_add(text, "arithmetic  %sFLOP per step, %sFLOP in all\n", flops, total);
    rp_text_add(text, "checkpoint  %.1f MiB\n", (double)plan->checkpoint_bytes / 1048576.0);
}

static void digest_hex(const struct rp_spec *spec, enum rp_section section, char hex[RP_SHA256_HEX])
{
    struct rp_sha256 digest = rp_spec_digest(spec, section);
    rp_sha256_hex(&digest, hex);
}

/* The numeric digest takes files by their content, which nobody has read here. A spec that names no
 * file has nothing to bind. */
static bool is_bound(const struct rp_spec *spec)
{
    return spec->train_data.n_files == 0 && spec->valid_data.n_files == 0 &&
           !spec->model.init_from.given;
}

void rp_plan_print(const struct rp_spec *spec, const struct rp_plan *plan, struct rp_text *text)
{
    char spec_hex[RP_SHA256_HEX], policy[RP_SHA256_HEX], place[RP_SHA256_HEX];
    rp_model_summary(spec, plan->model, text);
    rp_text_add(text, "\n");
    print_training(plan, text);
    rp_text_add(text, "\nmemory per rank, %d thread%s\n", plan->threads,
                plan->threads == 1 ? "" : "s");
    rp_plan_print_memory(plan, text);
    digest_hex(spec, RP_SECTION_NUMERIC, spec_hex);
    digest_hex(spec, RP_SECTION_POLICY, policy);
    digest_hex(spec, RP_SECTION_PLACE, place);
    if (is_bound(spec))
        rp_text_add(text, "\nnumeric     %.16s\n", spec_hex);
    else
        rp_text_add(
            text, "\nnumeric     unbound: the data has not been read (of the spec alone: %.16s)\n",
            spec_hex);
    rp_text_add(text, "policy      %.16s\nplace       %.16s\n", policy, place);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t *layers_json(const struct rp_model *model)
{
    json_t *layers = json_array();
    for (int i = 0; i < model->n_layers; i++) {
        const struct rp_model_layer *layer = &model->layer[i];
        json_t *dims = json_array();
        for (int d = 0; d < layer->n_dims; d++)
            json_array_append_new(dims, json_integer(layer->dims[d]));
        json_array_append_new(layers, json_pack("{s:s, s:s, s:o, s:I}", "name", layer->name, "kind",
                                                layer->kind, "output", dims, "parameters",
                                                (json_int_t)layer->parameters));
    }
    return layers;
}

static json_t *memory_json(const struct rp_plan *plan)
{
    json_t *rows = json_object();
    for (int i = 0; i < plan->n_memory; i++)
        json_object_set_new(rows, plan->memory[i].what,
                            json_integer((json_int_t)plan->memory[i].bytes));
    return rows;
}

static json_t *digests_json(const struct rp_spec *spec)
{
    char numeric[RP_SHA256_HEX], policy[RP_SHA256_HEX], place[RP_SHA256_HEX];
    digest_hex(spec, RP_SECTION_NUMERIC, numeric);
    digest_hex(spec, RP_SECTION_POLICY, policy);
    digest_hex(spec, RP_SECTION_PLACE, place);
    return json_pack("{s:s, s:s, s:s, s:s}", "numeric", is_bound(spec) ? numeric : "unbound",
                     "spec", numeric, "policy", policy, "place", place);
}

struct json_t *rp_plan_json(const struct rp_spec *spec, const struct rp_plan *plan)
{
    int64_t n_valid = plan->data.n_valid > 0 ? plan->data.n_valid : 0;
    json_t *json = json_object();
    json_object_set_new(json, "name", json_string(spec->name));
    json_object_set_new(json, "layers", layers_json(plan->model));
    json_object_set_new(json, "parameters", json_integer(plan->model->parameter_elements));
    json_object_set_new(json, "memory", memory_json(plan));
    json_object_set_new(json, "memory_bytes", json_integer((json_int_t)plan->memory_bytes));
    json_object_set_new(json, "more_between_hosts_bytes",
                        json_integer((json_int_t)plan->more_between_hosts));
    json_object_set_new(json, "device_memory_bytes", json_integer((json_int_t)plan->device_bytes));
    json_object_set_new(json, "train_samples", json_integer(plan->data.n_train));
    json_object_set_new(json, "valid_samples", json_integer(n_valid));
    if (plan->data.target == RP_TARGET_TOKENS)
        json_object_set_new(
            json, "tokens",
            json_integer((json_int_t)plan->n_steps * plan->batch * plan->data.dims[0]));
    json_object_set_new(json, "steps", json_integer((json_int_t)plan->n_steps));
    json_object_set_new(json, "batch", json_integer(plan->batch));
    json_object_set_new(json, "shards", json_integer(plan->shards));
    json_object_set_new(json, "pass_samples", json_integer(plan->pass_samples));
    json_object_set_new(json, "passes", json_integer(plan->n_passes));
    json_object_set_new(json, "eval_samples", json_integer(plan->eval_samples));
    json_object_set_new(json, "ranks", json_integer(plan->ranks));
    json_object_set_new(json, "max_ranks", json_integer(plan->max_ranks));
    json_object_set_new(json, "threads", json_integer(plan->threads));
    json_object_set_new(json, "checkpoint_bytes", json_integer((json_int_t)plan->checkpoint_bytes));
    json_object_set_new(json, "flops_per_step", json_real(plan->flops_per_step));
    json_object_set_new(json, "digests", digests_json(spec));
    return json;
}
