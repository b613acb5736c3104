/* cli_int.h - private to cli/: one parsed command line. */
#ifndef RP_CLI_INT_H
#define RP_CLI_INT_H

#include "cli/cli.h"

enum { RP_CLI_MAX_WORDS = 4096, RP_CLI_MAX_VALUES = 256, RP_CLI_MAX_SLOTS = 32 };

struct rp_cli_slot {
    const struct rp_cli_option *option;
    const char *value[RP_CLI_MAX_VALUES + 1];
    int n_values;
};
struct rp_cli_line {
    const struct rp_command *command;
    const char *word[RP_CLI_MAX_WORDS + 1];
    int n_words;
    struct rp_cli_slot slot[RP_CLI_MAX_SLOTS];
    int n_slots;
};

RP_NODISCARD enum rp_status rp_cli_parse(int argc, char **argv, struct rp_cli_line *line,
                                         struct rp_error *err);
struct rp_cli_slot *rp_cli_find_slot(struct rp_cli_line *line, const char *name, size_t length);

#endif
