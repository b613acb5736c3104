/* cli.c - help, one command, its result as JSON, its error as one line, its status as exit code. */
#include "cli/cli_int.h"

#include "base/log.h"
#include "base/nearest.h"
#include "base/sys.h"
#include "base/utf8.h"
#include "env/env.h"

#include <jansson.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void print_options(const struct rp_cli_option *option)
{
    for (; option && option->name; option++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", option->name, option->value ? " " : "",
                 option->value ? option->value : "");
        printf("  %-28s %s\n", left, option->help);
    }
}

static void print_command_help(const struct rp_command *command)
{
    printf("usage: reprise %s%s%s [OPTION...]\n\n%s\n\n", command->name,
           command->usage[0] ? " " : "", command->usage, command->summary);
    print_options(command->options);
    print_options(rp_cli_common_options());
}

static void print_help(void)
{
    printf("reprise %s - a training runner that gives the same bits again\n\n"
           "usage: reprise COMMAND [ARGUMENT...] [OPTION...]\n\n",
           RP_VERSION);
    for (const struct rp_command *const *command = rp_commands(); *command; command++)
        printf("  %-12s %-18s %s\n", (*command)->name, (*command)->usage, (*command)->summary);
    printf("  %-12s %-18s %s\n\n", "--version", "", "prints the version");
    printf("RUN is a folder, a name (its newest run), first digits of a digest, or nothing (the "
           "newest).\n"
           "Start with: reprise init digits-mlp --out job.yaml && reprise run job.yaml\n");
}

/* What other programs call it, and how it is done here. */
static const struct {
    const char *names, *here;
} foreign[] = {
    {"train fit start resume continue",
     "here `reprise run JOB.yaml` starts a job and goes on with it"},
    {"status logs log describe watch tail info", "here `reprise show RUN`"},
    {"ls ps get jobs queue squeue runs", "here `reprise list`"},
    {"evaluate test score", "here `reprise eval RUN`"},
    {"infer inference", "here `reprise predict RUN --data FILE`"},
    {"generate chat", "here `reprise sample RUN --prompt TEXT`"},
    {"reproduce repeat replay", "here `reprise rerun RUN`"},
    {"diff", "here `reprise compare A B`"},
    {"submit sbatch apply", "here `reprise launch JOB.yaml --on slurm --submit` (or kubernetes)"},
    {"convert save", "here `reprise export RUN --to F --out PLACE`"},
    {"stop cancel kill scancel",
     "here a signal to the run does that: Ctrl-C, or `kill PID`; it saves first"},
    {"rm delete remove clean", "here a run is its folder: remove that"},
    {"new create", "here `reprise init` writes a spec"},
    {"sweep tune", "here `reprise run JOB.yaml --sweep KEY=A,B`"},
    {"profile", "here `reprise run JOB.yaml --profile`"},
    {"version", "here `reprise --version`"},
};

static bool is_among(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; n && !strchr(word, ' ') && (at = strstr(at, word)) != NULL;
         at += n)
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || !at[n])) return true;
    return false;
}

/* "did you mean `run`? ", or nothing; caller frees. */
static char *near_command(const char *name)
{
    for (size_t i = 0; i < RP_COUNT(foreign); i++)
        if (is_among(foreign[i].names, name)) return rp_mem_text("%s; ", foreign[i].here);
    const char *names[RP_CLI_MAX_SLOTS];
    int n = 0;
    for (const struct rp_command *const *command = rp_commands(); *command; command++)
        if (n < RP_CLI_MAX_SLOTS) names[n++] = (*command)->name;
    const char *near = rp_nearest_word(name, names, n);
    return near ? rp_mem_text("did you mean `reprise %s`? ", near) : rp_mem_text("%s", "");
}

static const struct rp_command *find_command(const char *name)
{
    for (const struct rp_command *const *command = rp_commands(); *command; command++)
        if (strcmp((*command)->name, name) == 0) return *command;
    return NULL;
}

/* NO_COLOR (any value), TERM=dumb and a standard error that is no terminal turn colours off. */
static bool wants_color(const char *when)
{
    if (when && strcmp(when, "always") == 0) return true;
    if (when && strcmp(when, "never") == 0) return false;
    const char *no_color = rp_sys_env("NO_COLOR"), *term = rp_sys_env("TERM");
    return !(no_color && no_color[0]) && term && strcmp(term, "dumb") != 0 && rp_log_is_terminal();
}

static void print_result(json_t *result, enum rp_status status, const struct rp_error *err)
{
    if (!json_object_get(result, "status"))
        json_object_set_new(result, "status",
                            json_string(status == RP_STATUS_OK ? "ok" : rp_status_name(status)));
    json_object_set_new(result, "exit_code", json_integer(status));
    if (status != RP_STATUS_OK) json_object_set_new(result, "error", json_string(err->text));
    char *text = json_dumps(result, JSON_COMPACT | JSON_REAL_PRECISION(17));
    printf("%s\n", text ? text : "{}");
    free(text);
}

/* Nobody but us can do anything about it. */
static void add_advice(struct rp_error *err)
{
    size_t length = strlen(err->text);
    snprintf(err->text + length, sizeof err->text - length, "%s",
             length ? "; a fault of reprise: please report it with this message" : "");
}

static enum rp_status check_line(const struct rp_command *command, const struct rp_cli_args *args,
                                 struct rp_error *err)
{
    int n_words = args->n_words;
    const char *color = rp_cli_text(args, "--color");
    if (color && strcmp(color, "auto") && strcmp(color, "always") && strcmp(color, "never"))
        return rp_error_set(err, RP_STATUS_USAGE, "--color %s: expected auto, always or never",
                            color);
    if (command->max_words >= 0 && n_words > command->max_words)
        return rp_error_set(err, RP_STATUS_USAGE, "%s: %s is one too many: usage: reprise %s%s%s",
                            command->name, args->word[command->max_words], command->name,
                            command->usage[0] ? " " : "", command->usage);
    if (n_words >= command->min_words) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s: an argument is missing: usage: reprise %s %s",
                        command->name, command->name, command->usage);
}

static bool has_json(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--json") == 0) return true;
    return false;
}

static enum rp_status run_command(const struct rp_command *command, int argc, char **argv,
                                  int *end_by, struct rp_error *err)
{
    struct rp_cli_line *line = RP_NEW(struct rp_cli_line);
    line->command = command;
    enum rp_status status = rp_cli_parse(argc, argv, line, err);
    struct rp_cli_args args = {
        .word = line->word, .n_words = line->n_words, .line = line, .end_by = end_by};
    /* A line that is wrong before it comes to --json is answered in JSON, too. */
    args.json = status == RP_STATUS_OK ? rp_cli_has(&args, "--json") : has_json(argc, argv);
    rp_log_configure(&(struct rp_log_style){.quiet = rp_cli_has(&args, "--quiet"),
                                            .color = wants_color(rp_cli_text(&args, "--color"))});
    if (status == RP_STATUS_OK && rp_cli_has(&args, "--help")) {
        print_command_help(command);
    } else {
        json_t *result = json_object();
        if (status == RP_STATUS_OK) status = check_line(command, &args, err);
        if (status == RP_STATUS_OK) status = command->run(&args, result, err);
        if (status == RP_STATUS_INTERNAL) add_advice(err);
        if (args.json) print_result(result, status, err);
        json_decref(result);
    }
    rp_log_progress_clear();
    if (status != RP_STATUS_OK) rp_log_error(err->text[0] ? err->text : rp_status_meaning(status));
    rp_mem_free(line);
    return status;
}

/* What is no command: the version, help, a mistake. */
static enum rp_status run_other(const char *name, bool json, struct rp_error *err)
{
    enum rp_status status = RP_STATUS_OK;
    json_t *result = json_object();
    if (strcmp(name, "--version") == 0) {
        json_object_set_new(result, "version", json_string(RP_VERSION));
        if (!json) printf("reprise %s\n", RP_VERSION);
    } else if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
               strcmp(name, "help") == 0) {
        print_help();
    } else if (strcmp(name, "--json") == 0) {
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "--json stands behind a command; `reprise --help` lists them");
    } else {
        char *near = near_command(name);
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "there is no command %s; %s`reprise --help` lists them", name, near);
        rp_mem_free(near);
    }
    if (json) print_result(result, status, err);
    rp_log_configure(&(struct rp_log_style){.color = wants_color(NULL)});
    if (status != RP_STATUS_OK) rp_log_error(err->text);
    json_decref(result);
    return status;
}

void rp_cli_print(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = rp_mem_text_args(format, args), *shown = rp_utf8_shown(text, true);
    va_end(args);
    fputs(shown, stdout);
    rp_mem_free(shown);
    rp_mem_free(text);
}

/* A full disk behind a redirected result is told; a pipe or terminal closed early is the reader's
 * choice. */
static enum rp_status flush_result(struct rp_error *err)
{
    struct stat out;
    bool whole = fflush(stdout) == 0 && !ferror(stdout);
    if (whole || fstat(STDOUT_FILENO, &out) != 0 || S_ISFIFO(out.st_mode) ||
        S_ISSOCK(out.st_mode) || isatty(STDOUT_FILENO))
        return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_STORAGE,
                        "the result could not be written to standard output: free space where it "
                        "goes");
}

int rp_cli_main(int argc, char **argv)
{
    rp_mem_configure();
    rp_sys_open_streams();
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away never stops a run */
    signal(SIGXFSZ, SIG_IGN); /* a limit on files is a full disk: what writes says so */
    struct rp_error *err = RP_NEW(struct rp_error);
    enum rp_status status = RP_STATUS_OK;
    int end_by = 0;
    const char *name = argc > 1 ? argv[1] : "--help";
    const struct rp_command *command = find_command(name);
    if (command) {
        status = run_command(command, argc - 2, argv + 2, &end_by, err);
    } else {
        status = run_other(name, has_json(argc, argv), err);
        if (argc < 2) status = RP_STATUS_USAGE;
    }
    enum rp_status written = flush_result(err);
    if (written != RP_STATUS_OK && status == RP_STATUS_OK) rp_log_error(err->text);
    if (status == RP_STATUS_OK) status = written;
    rp_env_end();
    rp_mem_free(err);
    if (end_by) { /* the caller's to see: a shell stops its loop only when we end by it */
        signal(end_by, SIG_DFL);
        raise(end_by);
    }
    return (int)status;
}
