/* export.c - `reprise export RUN --to F --out PLACE`: a checkpoint for other programs. */
#include "base/json_text.h"
#include "cli/cli.h"
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static enum rp_status read_form(const char *to, enum rp_export_form *form, struct rp_error *err)
{
    *form = to && strcmp(to, "huggingface") == 0 ? RP_EXPORT_HUGGINGFACE : RP_EXPORT_SAFETENSORS;
    if (to && (*form == RP_EXPORT_HUGGINGFACE || strcmp(to, "safetensors") == 0))
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "--to %s: expected huggingface or safetensors",
                        to ? to : "is missing");
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_export_options options = {.at = rp_cli_text(args, "--at"),
                                        .out = rp_cli_text(args, "--out"),
                                        .tokenizer = rp_cli_text(args, "--tokenizer")};
    struct rp_export_result done;
    char *found = NULL;
    RP_TRY(read_form(rp_cli_text(args, "--to"), &options.form, err));
    if (!options.out) return rp_error_set(err, RP_STATUS_USAGE, "--out is missing: where to write");
    RP_TRY(rp_run_find(args->n_words ? args->word[0] : NULL, &found, err));
    options.run = found;
    enum rp_status status = rp_train_export(&options, &done, err);
    if (status == RP_STATUS_OK) {
        json_object_set_new(result, "run", rp_json_text(found));
        json_object_set_new(result, "step", json_integer((json_int_t)done.step));
        json_object_set_new(result, "out", rp_json_text(options.out));
        json_object_set_new(result, "tensors", json_integer(done.n_tensors));
        json_object_set_new(result, "tokenizer", json_boolean(done.has_tokenizer));
        if (!args->json)
            rp_cli_print("out      %s\nstep     %llu\n", options.out,
                         (unsigned long long)done.step);
    }
    rp_mem_free(found);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--to", RP_CLI_TEXT, "huggingface|safetensors",
     "a folder that transformers loads (gpt models), or the tensors in one file"},
    {"--out", RP_CLI_TEXT, "DIR|FILE", "where to write; it must not exist"},
    {"--at", RP_CLI_TEXT, "best|last|STEP", "which checkpoint (default: last)"},
    {"--tokenizer", RP_CLI_TEXT, "PATH",
     "the tokenizer to put beside the weights (default: the one that the spec names)"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_export = {
    .name = "export",
    .usage = "[RUN] --to F --out PLACE",
    .summary = "writes a checkpoint for other programs",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
