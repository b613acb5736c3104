/* init.c - `reprise init [TEMPLATE]`: a commented spec that runs as it is. */
#include "cli/cli.h"

#include "base/sys.h"
#include "spec/spec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static enum rp_status list(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_text text = {0};
    enum rp_status status = rp_spec_template(NULL, &text, err);
    json_t *names = json_array();
    for (const char *line = rp_text_get(&text); *line; line = strchr(line, '\n') + 1)
        json_array_append_new(names, json_stringn(line, strcspn(line, " ")));
    json_object_set_new(result, "templates", names);
    if (!args->json) {
        printf("%s", rp_text_get(&text));
        printf("\nreprise init TEMPLATE writes TEMPLATE.yaml; --out FILE another name, --out - "
               "standard output.\n");
    }
    rp_text_release(&text);
    return status;
}

static enum rp_status write_new(const char *path, const struct rp_text *text, struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (stat.exists)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s exists and is not overwritten; name another file with --out", path);
    return rp_sys_write_file(path, text->bytes, text->length, err);
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    if (args->n_words == 0) return list(args, result, err);
    const char *name = args->word[0], *out = rp_cli_text(args, "--out");
    struct rp_text text = {0};
    char *path = out ? rp_mem_copy_text(out) : rp_mem_text("%s.yaml", name);
    enum rp_status status;
    RP_TRY_GOTO(status, rp_spec_template(name, &text, err), done);
    if (strcmp(path, "-") == 0) {
        if (args->json)
            json_object_set_new(result, "text", json_string(rp_text_get(&text)));
        else
            fputs(rp_text_get(&text), stdout);
        goto done;
    }
    RP_TRY_GOTO(status, write_new(path, &text, err), done);
    json_object_set_new(result, "path", json_string(path));
    if (!args->json) printf("%s\n\nreprise validate %s\nreprise run %s\n", path, path, path);
done:
    rp_mem_free(path);
    rp_text_release(&text);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--out", RP_CLI_TEXT, "FILE", "where to write it; - for standard output"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_init = {
    .name = "init",
    .usage = "[TEMPLATE]",
    .summary = "writes a commented spec that runs as it is; without TEMPLATE lists them",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run};
