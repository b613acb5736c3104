/* init.c - `reprise init [TEMPLATE | FILE... | FOLDER]`: a commented spec that runs as it is. */
#include "cli/data_int.h"

#include "base/json_text.h"
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

static enum rp_status check_new(const char *path, struct rp_error *err)
{
    struct rp_sys_stat stat = {0};
    if (strcmp(path, "-") != 0) RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s exists and is not overwritten; name another file with --out", path);
}

/* One word that is no file, or the name of a template: `./NAME` is always data. */
static bool names_template(const struct rp_cli_args *args)
{
    struct rp_text text = {0};
    struct rp_sys_stat stat = {0};
    bool known = rp_spec_template(args->word[0], &text, NULL) == RP_STATUS_OK;
    bool there = rp_sys_stat(args->word[0], &stat, NULL) == RP_STATUS_OK && stat.exists;
    rp_text_release(&text);
    return args->n_words == 1 && (known || (!there && !strpbrk(args->word[0], "./")));
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    if (args->n_words == 0) return list(args, result, err);
    const char *name = args->word[0], *out = rp_cli_text(args, "--out");
    struct rp_text text = {0};
    bool is_template = names_template(args);
    char *path = out           ? rp_mem_copy_text(out)
                 : is_template ? rp_mem_text("%s.yaml", name)
                               : rp_mem_copy_text("job.yaml");
    enum rp_status status;
    RP_TRY_GOTO(status, check_new(path, err), done);
    if (is_template)
        RP_TRY_GOTO(status, rp_spec_template(name, &text, err), done);
    else
        RP_TRY_GOTO(status, rp_init_from_data(args, path, &text, result, err), done);
    if (strcmp(path, "-") == 0) {
        if (args->json)
            json_object_set_new(result, "text", json_string(rp_text_get(&text)));
        else
            fputs(rp_text_get(&text), stdout);
        goto done;
    }
    RP_TRY_GOTO(status, rp_sys_write_file(path, text.bytes, text.length, err), done);
    json_object_set_new(result, "path", rp_json_text(path));
    if (!args->json) rp_cli_print("%s\n\nreprise run %s --try\nreprise run %s\n", path, path, path);
done:
    rp_mem_free(path);
    rp_text_release(&text);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--out", RP_CLI_TEXT, "FILE",
     "where to write it (default: job.yaml, or TEMPLATE.yaml); - for standard output"},
    {"--target", RP_CLI_TEXT, "COLUMN",
     "column of a csv to predict (default: one called label, class, target or so; else the only "
     "one of repeated words; else the last)"},
    {"--size", RP_CLI_TEXT, "H[xW]",
     "size that a folder of images is packed in (default: the medians, at most 64)"},
    {"--skip-broken", RP_CLI_FLAG, NULL, "leave out images that do not decode"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_init = {
    .name = "init",
    .usage = "[TEMPLATE|DATA...]",
    .summary = "writes a spec that runs as it is, from a template, or for your files or folder; "
               "alone: lists the templates",
    .min_words = 0,
    .max_words = -1,
    .options = options,
    .run = run};
