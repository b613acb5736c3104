/* table.c - the commands of commands.def in one list. */
#include "cli/cli.h"

const struct rp_command *const *rp_commands(void)
{
    static const struct rp_command *const commands[] = {
#define RP_COMMAND(name) &rp_command_##name,
#include "commands.def"
#undef RP_COMMAND
        NULL,
    };
    return commands;
}

const struct rp_cli_option *rp_cli_common_options(void)
{
    static const struct rp_cli_option options[] = {
        {"--json", RP_CLI_FLAG, NULL, "print one JSON object as the last line of standard output"},
        {"--quiet", RP_CLI_FLAG, NULL, "only errors on standard error"},
        {"--color", RP_CLI_TEXT, "auto|always|never", "colours on standard error"},
        {"--help", RP_CLI_FLAG, NULL, "this help"},
        {NULL, RP_CLI_FLAG, NULL, NULL},
    };
    return options;
}
