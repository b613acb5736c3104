/* validate.c - `reprise validate SPEC...`: everything that can be known without a device, reading
 * no more of the data than headers. All specs are looked at; the exit code is that of the first
 * that failed. */
#include "cli/cli.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"
#include "env/env.h"
#include "plan/plan.h"
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>

/* The numeric digest is bound to the content of files, which nobody has read yet. A spec that names
 * no file has nothing to bind. */
static bool is_bound(const struct rp_spec *spec)
{
    return spec->train_data.n_files == 0 && spec->valid_data.n_files == 0 &&
           !spec->model.init_from.given;
}

static void show_digests(const struct rp_spec *spec, bool json, json_t *entry)
{
    char hex[3][RP_SHA256_HEX];
    bool bound = is_bound(spec);
    for (int i = 0; i < 3; i++) {
        struct rp_sha256 digest = rp_spec_digest(spec, (enum rp_section)i);
        rp_sha256_hex(&digest, hex[i]);
    }
    if (!json && bound) printf("  numeric  %s\n", hex[0]);
    if (!json && !bound)
        printf("  numeric: unbound; the data has not been read (of the spec alone: %.16s)\n",
               hex[0]);
    if (!json) printf("  policy   %s\n  place    %s\n", hex[1], hex[2]);
    json_object_set_new(entry, "digests",
                        json_pack("{s:s, s:s, s:s, s:s}", "numeric", bound ? hex[0] : "unbound",
                                  "spec", hex[0], "policy", hex[1], "place", hex[2]));
}

/* The parts that need headers of the data files. A file that is not here is no fault of the spec:
 * it is said that this was left out. */
static enum rp_status check_shapes(const struct rp_spec *spec, const char **left_out,
                                   struct rp_error *err)
{
    const struct rp_spec_dataset *sets[] = {&spec->train_data, &spec->valid_data, &spec->test_data};
    for (int i = 0; i < 3; i++)
        for (int f = 0; f < sets[i]->n_files; f++) {
            struct rp_sys_stat stat;
            char *path = rp_spec_path(spec, sets[i]->files[f].path);
            enum rp_status status = rp_sys_stat(path, &stat, err);
            rp_mem_free(path);
            RP_TRY(status);
            if (!stat.exists) *left_out = "shapes (a data file is not here; see --data)";
        }
    if (*left_out) return RP_STATUS_OK;
    struct rp_data_shape shape;
    struct rp_plan *plan = NULL;
    RP_TRY(rp_data_describe(spec, false, &shape, err));
    if (shape.n_train < 0 || (shape.target == RP_TARGET_CLASSES && shape.n_classes < 0)) {
        *left_out = shape.target == RP_TARGET_TOKENS
                        ? "shapes (text becomes tokens in `plan` and `run`)"
                        : "shapes (csv is read in full by `plan` and `run`)";
        return RP_STATUS_OK;
    }
    enum rp_status status = rp_plan_make(spec, &shape, rp_env_threads(spec), &plan, err);
    if (status == RP_STATUS_OK) status = rp_train_check_weights(spec, plan->model, err);
    rp_plan_free(plan);
    return status;
}

static void show(const struct rp_spec *spec, const char *path, const char *left_out,
                 const struct rp_cli_args *args, json_t *entry)
{
    json_t *checks = json_array();
    if (left_out) json_array_append_new(checks, json_string(left_out));
    json_array_append_new(checks, json_string("content and hashes of the data"));
    if (spec->model.init_from.given)
        json_array_append_new(checks, json_string("the weights of model.init_from"));
    json_array_append_new(checks, json_string("memory and devices"));
    if (!args->json) {
        size_t i = 0;
        json_t *check = NULL;
        rp_cli_print("%s: valid\n", path);
        json_array_foreach(checks, i, check)
            printf("%s%s", i ? "; " : "  not checked: ", json_string_value(check));
        printf("\n");
    }
    json_object_set_new(entry, "not_checked", checks);
    show_digests(spec, args->json, entry);
}

static enum rp_status validate_one(const char *path, const struct rp_cli_args *args, json_t *entry,
                                   struct rp_error *err)
{
    struct rp_spec_options options = {.data_folder = rp_cli_text(args, "--data"),
                                      .set = rp_cli_list(args, "--set")};
    struct rp_spec *spec = NULL;
    const char *left_out = NULL;
    enum rp_status status;
    RP_TRY_GOTO(status, rp_spec_load(path, &options, &spec, err), done);
    RP_TRY_GOTO(status, check_shapes(spec, &left_out, err), done);
    if (!rp_cli_has(args, "--resolved")) {
        show(spec, path, left_out, args, entry);
        goto done;
    }
    struct rp_text text = {0};
    rp_spec_resolved(spec, &text);
    json_object_set_new(entry, "resolved", json_string(rp_text_get(&text)));
    if (!args->json) fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
done:
    rp_spec_free(spec);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    enum rp_status first = RP_STATUS_OK;
    json_t *specs = json_array();
    for (int i = 0; i < args->n_words; i++) {
        struct rp_error *why = RP_NEW(struct rp_error);
        json_t *entry = json_pack("{s:o}", "path", rp_json_text(args->word[i]));
        enum rp_status status = validate_one(args->word[i], args, entry, why);
        json_object_set_new(entry, "valid", json_boolean(status == RP_STATUS_OK));
        if (status != RP_STATUS_OK) json_object_set_new(entry, "error", json_string(why->text));
        json_array_append_new(specs, entry);
        /* the last failure is printed by main, those before it here */
        if (status != RP_STATUS_OK && first != RP_STATUS_OK) {
            rp_log_error(err->text);
            rp_error_clear(err);
        }
        if (status != RP_STATUS_OK) {
            if (first == RP_STATUS_OK) first = status;
            first = rp_error_set(err, first, "%s", why->text);
        }
        rp_mem_free(why);
    }
    json_object_set_new(result, "specs", specs);
    return first;
}

static const struct rp_cli_option options[] = {
    {"--resolved", RP_CLI_FLAG, NULL, "print the spec with every value present"},
    {"--set", RP_CLI_LIST, "KEY=VALUE", "changes one key of the spec"},
    {"--data", RP_CLI_TEXT, "DIR", "where relative paths of the spec start"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_validate = {
    .name = "validate",
    .usage = "SPEC...",
    .summary = "checks all that can be known without a device; all errors at once",
    .min_words = 1,
    .max_words = -1,
    .options = options,
    .run = run};
