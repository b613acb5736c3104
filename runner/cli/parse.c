/* parse.c - words and options of one command line. */
#include "cli/cli_int.h"

#include "base/nearest.h"

#include <string.h>

static const struct rp_cli_option *find_in(const struct rp_cli_option *options, const char *name,
                                           size_t length)
{
    for (; options && options->name; options++)
        if (strlen(options->name) == length && strncmp(options->name, name, length) == 0)
            return options;
    return NULL;
}

/* Commands have few options; a list of the command's own and the common ones, with their values. */
struct rp_cli_slot *rp_cli_find_slot(struct rp_cli_line *line, const char *name, size_t length)
{
    const struct rp_cli_option *option = find_in(line->command->options, name, length);
    if (!option) option = find_in(rp_cli_common_options(), name, length);
    if (!option) return NULL;
    for (int i = 0; i < line->n_slots; i++)
        if (line->slot[i].option == option) return &line->slot[i];
    struct rp_cli_slot *slot = &line->slot[line->n_slots++];
    slot->option = option;
    return slot;
}

static enum rp_status unknown_option(const struct rp_cli_line *line, const char *text,
                                     size_t length, struct rp_error *err)
{
    const struct rp_cli_option *lists[] = {line->command->options, rp_cli_common_options()};
    const char *names[2 * RP_CLI_MAX_SLOTS];
    int n = 0;
    for (size_t i = 0; i < RP_COUNT(lists); i++)
        for (const struct rp_cli_option *option = lists[i]; option && option->name; option++)
            if (n < 2 * RP_CLI_MAX_SLOTS) names[n++] = option->name;
    char *name = rp_mem_text("%.*s", (int)length, text);
    const char *near = rp_nearest_word(name, names, n);
    bool sets = find_in(line->command->options, "--set", strlen("--set")) != NULL;
    enum rp_status status = rp_error_set(
        err, RP_STATUS_USAGE, "%s: unknown option %s; %s%s%s%s`reprise %s --help` lists them",
        line->command->name, text, near ? "did you mean " : "", near ? near : "", near ? "? " : "",
        sets && !near ? "a key of the spec goes in as --set train.optimizer.lr=3e-4; " : "",
        line->command->name);
    rp_mem_free(name);
    return status;
}

enum rp_status rp_cli_parse(int argc, char **argv, struct rp_cli_line *line, struct rp_error *err)
{
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const char *text = argv[i];
        if (only_words || text[0] != '-' || strcmp(text, "-") == 0) {
            if (line->n_words == RP_CLI_MAX_WORDS)
                return rp_error_set(err, RP_STATUS_USAGE, "%s: too many arguments",
                                    line->command->name);
            line->word[line->n_words++] = text;
            continue;
        }
        if (strcmp(text, "--") == 0) {
            only_words = true;
            continue;
        }
        const char *equals = strchr(text, '=');
        size_t length = equals ? (size_t)(equals - text) : strlen(text);
        if (strcmp(text, "-h") == 0) text = "--help", length = 6;
        struct rp_cli_slot *slot = rp_cli_find_slot(line, text, length);
        if (!slot) return unknown_option(line, text, length, err);
        const char *value = "";
        if (slot->option->type != RP_CLI_FLAG) {
            if (!equals && i + 1 >= argc)
                return rp_error_set(err, RP_STATUS_USAGE, "%s: %s needs a value: %s %s",
                                    line->command->name, slot->option->name, slot->option->name,
                                    slot->option->value);
            value = equals ? equals + 1 : argv[++i];
        } else if (equals) {
            return rp_error_set(err, RP_STATUS_USAGE, "%s: %s takes no value", line->command->name,
                                slot->option->name);
        }
        if (slot->n_values == RP_CLI_MAX_VALUES)
            return rp_error_set(err, RP_STATUS_USAGE, "%s: %s given too often", line->command->name,
                                slot->option->name);
        if (slot->option->type == RP_CLI_LIST || slot->n_values == 0)
            slot->value[slot->n_values++] = value;
        else
            slot->value[slot->n_values - 1] = value;
    }
    return RP_STATUS_OK;
}

static const struct rp_cli_slot *given(const struct rp_cli_args *args, const char *name)
{
    const struct rp_cli_line *line = args->line;
    for (int i = 0; i < line->n_slots; i++)
        if (strcmp(line->slot[i].option->name, name) == 0 && line->slot[i].n_values > 0)
            return &line->slot[i];
    return NULL;
}

bool rp_cli_has(const struct rp_cli_args *args, const char *name)
{
    return given(args, name) != NULL;
}

const char *rp_cli_text(const struct rp_cli_args *args, const char *name)
{
    const struct rp_cli_slot *slot = given(args, name);
    return slot ? slot->value[slot->n_values - 1] : NULL;
}

const char *const *rp_cli_list(const struct rp_cli_args *args, const char *name)
{
    const struct rp_cli_slot *slot = given(args, name);
    return slot ? slot->value
                : NULL; /* the slot is zeroed and one longer than it fills: NULL-terminated */
}
