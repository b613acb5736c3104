/* cli.h - the command table, options, and the output contract of DESIGN section 5. Private to cli/
 * and main. */
#ifndef RP_CLI_H
#define RP_CLI_H

#include "base/base.h"
#include "base/mem.h"

struct json_t;

/* One option of a command. The parser knows nothing else. */
enum rp_cli_type { RP_CLI_FLAG, RP_CLI_TEXT, RP_CLI_LIST };
struct rp_cli_option {
    const char *name; /* "--out" */
    enum rp_cli_type type;
    const char *value; /* what stands behind it in help: "DIR"; NULL for a flag */
    const char *help;
};

/* Arguments after parsing; valid while the command runs. */
struct rp_cli_line;
struct rp_cli_args {
    const char *const *word; /* positional, NULL-terminated */
    int n_words;
    bool json;
    const struct rp_cli_line *line; /* private: options given */
    int *end_by;                    /* a signal to end by, once all is said */
};
bool rp_cli_has(const struct rp_cli_args *args, const char *name);
const char *rp_cli_text(const struct rp_cli_args *args, const char *name);
const char *const *rp_cli_list(const struct rp_cli_args *args,
                               const char *name); /* NULL-terminated, or NULL */

/* --json: a command fills `result` (a JSON object); main prints it as the last line of standard
 * output with "status" and "exit_code" added, errors included. Without --json the command prints
 * for people. */
struct rp_command {
    const char *name;
    const char *usage;        /* "SPEC" , "A B" */
    const char *summary;      /* one line */
    int min_words, max_words; /* max -1: any */
    const struct rp_cli_option
        *options; /* ends with a NULL name; --json --quiet --color --help are common */
    enum rp_status (*run)(const struct rp_cli_args *args, struct json_t *result,
                          struct rp_error *err);
};
#define RP_COMMAND(name) extern const struct rp_command rp_command_##name;
#include "commands.def"
#undef RP_COMMAND
const struct rp_command *const *rp_commands(void); /* NULL-terminated, in help order */
const struct rp_cli_option *
rp_cli_common_options(void); /* --json --quiet --color --help; NULL name ends */

/* printf to standard output for people: control characters and odd bytes of names, which must not
 * drive a terminal, become \xNN. Not for what is to be saved, or pasted into a shell. */
void rp_cli_print(const char *format, ...) RP_PRINTF(1, 2);

/* The whole program: parses, runs the command, prints the error, returns the exit code. */
int rp_cli_main(int argc, char **argv);

#endif
