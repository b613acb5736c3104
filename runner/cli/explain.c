/* explain.c - `reprise explain KEY`: a key of the spec, an exit code, a file of a run folder. */
#include "cli/cli.h"

#include "spec/spec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *what;
} files[] = {
    {"spec.yaml", "the spec as it was given, byte for byte; overrides of --set stand beside it"},
    {"resolved.yaml", "the same job with every value present and overrides applied; rerun uses it"},
    {"manifest.json", "digests, code, environment, hashes of the data, every start and stop, the "
                      "status, the exit code"},
    {"metrics.jsonl", "one line per logged step and evaluation; numbers read back exactly"},
    {"digests.jsonl", "one line per step: loss bits, a digest of all that the model keeps, and the "
                      "chain over all steps"},
    {"checkpoints", "one folder per saved step; it counts once it holds COMMITTED"},
    {"COMMITTED", "a checkpoint without it was not finished and is never loaded"},
    {"model.safetensors", "weights and running statistics, under the field's names"},
    {"optimizer.safetensors", "the optimizer's tensors"},
    {"state.json", "step, chain, and what else a run needs to go on; hashes of the tensor files"},
    {"logs", "what each rank printed"},
};

static bool explain_code(const char *word, struct rp_text *text)
{
    static const struct {
        const char *name, *meaning, *advice;
        int code;
    } codes[] = {
#define ROW(name, code, meaning, advice) {#name, meaning, advice, code},
        RP_STATUS_LIST(ROW)
#undef ROW
    };
    bool all =
        strcmp(word, "exit") == 0 || strcmp(word, "exit-codes") == 0 || strcmp(word, "codes") == 0;
    for (size_t i = 0; i < RP_COUNT(codes); i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", codes[i].code);
        if (!all && strcmp(word, number) != 0 && strcmp(word, codes[i].name) != 0) continue;
        if (all)
            rp_text_add(text, "%3d  %s\n", codes[i].code, codes[i].meaning);
        else
            rp_text_add(text, "exit code %d\n  %s\n  what to do: %s\n", codes[i].code,
                        codes[i].meaning, codes[i].advice);
    }
    if (all) rp_text_add(text, "20 to 24 are the set that a scheduler retries.\n");
    return text->length > 0;
}

static bool explain_file(const char *word, struct rp_text *text)
{
    bool all = strcmp(word, "run-folder") == 0;
    for (size_t i = 0; i < RP_COUNT(files); i++) {
        if (all)
            rp_text_add(text, "%-22s %s\n", files[i].name, files[i].what);
        else if (strcmp(word, files[i].name) == 0)
            rp_text_add(text, "%s, in a run folder\n  %s\n", files[i].name, files[i].what);
    }
    return text->length > 0;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    const char *word = args->word[0];
    struct rp_text text = {0};
    enum rp_status status = RP_STATUS_OK;
    if (!explain_code(word, &text) && !explain_file(word, &text))
        status = rp_spec_explain(word, &text, err);
    if (args->json && status == RP_STATUS_OK)
        json_object_set_new(result, "text", json_string(rp_text_get(&text)));
    else
        fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
    return status;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_explain = {
    .name = "explain",
    .usage = "KEY",
    .summary = "a key of the spec, an exit code (7, exit-codes), a file of a run (run-folder)",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run};
