/* completion.c - `reprise completion bash|zsh|fish`: a script that completes commands and options,
 * from the command table. */
#include "cli/cli.h"

#include "spec/spec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static void add_commands(struct rp_text *text)
{
    for (const struct rp_command *const *command = rp_commands(); *command; command++)
        rp_text_add(text, "%s%s", command == rp_commands() ? "" : " ", (*command)->name);
}

static void add_options(const struct rp_command *command, struct rp_text *text)
{
    const struct rp_cli_option *lists[] = {command->options, rp_cli_common_options()};
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(lists); i++)
        for (const struct rp_cli_option *option = lists[i]; option && option->name; option++)
            rp_text_add(text, "%s%s", n++ ? " " : "", option->name);
}

/* Words that are not files: templates, shells. */
static void add_words(const struct rp_command *command, struct rp_text *text)
{
    struct rp_text list = {0};
    struct rp_error err = {0};
    if (strcmp(command->name, "completion") == 0) rp_text_add(text, "bash zsh fish");
    if (strcmp(command->name, "init") == 0 && rp_spec_template(NULL, &list, &err) == RP_STATUS_OK)
        for (const char *line = rp_text_get(&list); *line; line = strchr(line, '\n') + 1) {
            rp_text_add_bytes(text, line, strcspn(line, " "));
            rp_text_add(text, " ");
        }
    rp_text_release(&list);
}

static void write_bash(struct rp_text *text)
{
    rp_text_add(text, "_reprise() {\n"
                      "    local word=${COMP_WORDS[COMP_CWORD]} options= words=\n"
                      "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                      "        COMPREPLY=($(compgen -W \"");
    add_commands(text);
    rp_text_add(text, " --help --version\" -- \"$word\"))\n        return\n    fi\n"
                      "    case ${COMP_WORDS[1]} in\n");
    for (const struct rp_command *const *command = rp_commands(); *command; command++) {
        rp_text_add(text, "    %s) options=\"", (*command)->name);
        add_options(*command, text);
        rp_text_add(text, "\" words=\"");
        add_words(*command, text);
        rp_text_add(text, "\" ;;\n");
    }
    rp_text_add(
        text, "    esac\n"
              "    case $word in\n"
              "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
              "    *) if [ -n \"$words\" ]; then COMPREPLY=($(compgen -W \"$words\" -- \"$word\"));"
              " else COMPREPLY=($(compgen -f -- \"$word\")); fi ;;\n"
              "    esac\n"
              "}\n"
              "complete -o filenames -F _reprise reprise\n");
}

static void write_zsh(struct rp_text *text)
{
    rp_text_add(text, "#compdef reprise\n_reprise() {\n"
                      "    if (( CURRENT == 2 )); then\n        compadd -- ");
    add_commands(text);
    rp_text_add(text, "\n        return\n    fi\n    case $words[2] in\n");
    for (const struct rp_command *const *command = rp_commands(); *command; command++) {
        rp_text_add(text, "    %s) compadd -- ", (*command)->name);
        add_options(*command, text);
        rp_text_add(text, " ");
        add_words(*command, text);
        rp_text_add(text, " ;;\n");
    }
    /* As a file in $fpath it is run at the first completion, which it must then answer too. */
    rp_text_add(text, "    esac\n    _files\n}\n"
                      "if [[ $funcstack[1] == _reprise ]]; then\n    _reprise \"$@\"\n"
                      "else\n    compdef _reprise reprise\nfi\n");
}

/* In single quotes, as fish reads them. */
static void add_fish(struct rp_text *text, const char *words)
{
    rp_text_add(text, "'");
    for (const char *c = words; *c; c++)
        rp_text_add(text, "%s%c", *c == '\'' || *c == '\\' ? "\\" : "", *c);
    rp_text_add(text, "'");
}

static void write_fish(struct rp_text *text)
{
    for (const struct rp_command *const *command = rp_commands(); *command; command++) {
        struct rp_text words = {0};
        rp_text_add(text, "complete -c reprise -n __fish_use_subcommand -f -a %s -d ",
                    (*command)->name);
        add_fish(text, (*command)->summary);
        rp_text_add(text, "\n");
        add_words(*command, &words);
        if (words.length)
            rp_text_add(text,
                        "complete -c reprise -n '__fish_seen_subcommand_from %s' -f -a '%s'\n",
                        (*command)->name, rp_text_get(&words));
        rp_text_release(&words);
        const struct rp_cli_option *lists[] = {(*command)->options, rp_cli_common_options()};
        for (size_t i = 0; i < RP_COUNT(lists); i++)
            for (const struct rp_cli_option *option = lists[i]; option && option->name; option++) {
                rp_text_add(text,
                            "complete -c reprise -n '__fish_seen_subcommand_from %s' -l %s%s -d ",
                            (*command)->name, option->name + 2, option->value ? " -r" : "");
                add_fish(text, option->help);
                rp_text_add(text, "\n");
            }
    }
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    const char *shell = args->word[0];
    struct rp_text text = {0};
    if (strcmp(shell, "bash") == 0)
        write_bash(&text);
    else if (strcmp(shell, "zsh") == 0)
        write_zsh(&text);
    else if (strcmp(shell, "fish") == 0)
        write_fish(&text);
    else
        return rp_error_set(err, RP_STATUS_USAGE,
                            "completion: there is none for %s; it is bash, zsh or fish", shell);
    if (args->json)
        json_object_set_new(result, "script", json_string(rp_text_get(&text)));
    else
        fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
    return RP_STATUS_OK;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_completion = {
    .name = "completion",
    .usage = "bash|zsh|fish",
    .summary = "prints a script for the shell: source <(reprise completion bash)",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run};
