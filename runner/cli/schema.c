/* schema.c - `reprise schema`: the keys of a spec, for editors and for people. */
#include "cli/cli.h"

#include "spec/spec.h"

#include <jansson.h>
#include <stdio.h>

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    (void)err;
    struct rp_text text = {0};
    bool reference = rp_cli_has(args, "--reference");
    if (reference)
        rp_spec_reference(&text);
    else
        rp_spec_json_schema(&text);
    if (!args->json)
        fputs(rp_text_get(&text), stdout);
    else if (reference)
        json_object_set_new(result, "reference", json_string(rp_text_get(&text)));
    else
        json_object_set_new(result, "schema", json_loads(rp_text_get(&text), 0, NULL));
    rp_text_release(&text);
    return RP_STATUS_OK;
}

static const struct rp_cli_option options[] = {
    {"--reference", RP_CLI_FLAG, NULL, "the page specs/README.md instead"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_schema = {
    .name = "schema",
    .usage = "",
    .summary = "prints the JSON Schema of a spec; --reference: every key as a page",
    .min_words = 0,
    .max_words = 0,
    .options = options,
    .run = run};
