/* manual.c - `reprise manual`: the manual page, from the command table, the status list and a few
 * paragraphs. runner/cli/reprise.1 is what it printed last; a test compares. */
#include "cli/cli.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Text for roff: hyphens that are typed stay hyphens, no line begins with a control character. */
static void add_text(struct rp_text *page, const char *text)
{
    if (*text == '.' || *text == '\'') rp_text_add(page, "\\&");
    for (; *text; text++) {
        if (*text == '\\')
            rp_text_add(page, "\\e");
        else if (*text == '-')
            rp_text_add(page, "\\-");
        else
            rp_text_add_bytes(page, text, 1);
    }
}

static void add_heading(struct rp_text *page, const char *name)
{
    rp_text_add(page, ".SH %s\n", name);
}

/* A term in bold, with what stands behind it in italics, and its explanation. */
static void add_term(struct rp_text *page, const char *term, const char *value, const char *help)
{
    rp_text_add(page, ".TP\n\\fB");
    add_text(page, term);
    rp_text_add(page, "\\fR");
    if (value && *value) {
        rp_text_add(page, " \\fI");
        add_text(page, value);
        rp_text_add(page, "\\fR");
    }
    rp_text_add(page, "\n");
    add_text(page, help);
    rp_text_add(page, "\n");
}

static void add_options(struct rp_text *page, const struct rp_cli_option *option)
{
    for (; option && option->name; option++)
        add_term(page, option->name, option->value, option->help);
}

static void add_commands(struct rp_text *page)
{
    add_heading(page, "COMMANDS");
    for (const struct rp_command *const *command = rp_commands(); *command; command++) {
        rp_text_add(page, ".SS reprise ");
        add_text(page, (*command)->name);
        rp_text_add(page, " ");
        add_text(page, (*command)->usage);
        rp_text_add(page, "\n");
        add_text(page, (*command)->summary);
        rp_text_add(page, ".\n");
        add_options(page, (*command)->options);
    }
    rp_text_add(page, ".SS Options of every command\n");
    add_options(page, rp_cli_common_options());
}

static void add_exit_codes(struct rp_text *page)
{
    add_heading(page, "EXIT STATUS");
#define ADD_STATUS(name, code, meaning, advice)                                                    \
    add_term(page, #code, NULL, (code) ? meaning ": " advice : meaning);
    RP_STATUS_LIST(ADD_STATUS)
#undef ADD_STATUS
    rp_text_add(page, ".PP\n20 to 24 are the set for schedulers to retry.\n");
}

static void add_terms(struct rp_text *page, const char *const terms[][2], size_t n)
{
    for (size_t i = 0; i < n; i++) add_term(page, terms[i][0], NULL, terms[i][1]);
}

static void add_signals(struct rp_text *page)
{
    static const char *const terms[][2] = {
        {"SIGTERM, SIGUSR1, SIGHUP",
         "save and end with 20 (SIGHUP unless it was ignored at the start)"},
        {"SIGINT", "save, say how to go on, end by SIGINT; twice: at once"},
        {"SIGUSR2", "save and go on"}};
    add_heading(page, "SIGNALS");
    add_terms(page, terms, RP_COUNT(terms));
}

static void add_environment(struct rp_text *page)
{
    static const char *const terms[][2] = {
        {"REPRISE_RUNS", "the folder of run folders, instead of runs"},
        {"REPRISE_MODULES",
         "where modules lie, instead of beside the program or in ../lib/reprise from there"},
        {"REPRISE_CPU_PATH", "avx512, avx2, neon or scalar, instead of the widest that runs; the "
                             "bits are the same"},
        {"REPRISE_SITE", "the site file of launch and plan, instead of ~/.config/reprise/site.yaml "
                         "and /etc/reprise/site.yaml"},
        {"REPRISE_RANK, REPRISE_RANKS, REPRISE_LOCAL_RANK, REPRISE_LOCAL_RANKS",
         "number of this rank and how many there are, in all and on this host, where no launcher "
         "says it"},
        {"REPRISE_NODES",
         "how many hosts have a process of their own, which then starts its ranks"},
        {"REPRISE_ADDRESS, REPRISE_PORT", "host and port of rank 0, where no launcher says it"},
        {"REPRISE_TOKEN", "a secret that every rank of the job must know"},
        {"REPRISE_WAIT", "seconds to wait for the ranks that have not come yet"},
        {"REPRISE_NCCL", "libnccl.so.2, where the system does not find it"},
        {"REPRISE_SHARE_GPU", "1: ranks may share a GPU"},
        {"REPRISE_OVERLAP", "0: ranks exchange gradients when the whole of backward is done"},
        {"REPRISE_BUCKET_BYTES", "gradients that are exchanged together, instead of 25 MiB"},
        {"REPRISE_CONTAINER_DIGEST", "the image this runs in, for the manifest"},
        {"REPRISE_TERMINATION_LOG", "a file that the error line is written to as well"},
        {"OMP_NUM_THREADS", "threads, where the spec says auto"},
        {"NO_COLOR, TERM=dumb", "no colours"}};
    add_heading(page, "ENVIRONMENT");
    add_terms(page, terms, RP_COUNT(terms));
}

static void add_files(struct rp_text *page)
{
    static const char *const terms[][2] = {
        {"spec.yaml, resolved.yaml", "the spec as given, and with every value present"},
        {"manifest.json", "digests, environment, hashes of the data, every start and stop"},
        {"metrics.jsonl", "losses and metrics, a line each"},
        {"digests.jsonl", "a digest of the model after every step"},
        {"checkpoints/step-N/", "weights, optimizer state and position, complete when it holds "
                                "COMMITTED"},
        {"logs/rank-N.txt", "what was printed, with times"}};
    add_heading(page, "FILES OF A RUN FOLDER");
    add_terms(page, terms, RP_COUNT(terms));
}

static void add_examples(struct rp_text *page)
{
    static const char *const terms[][2] = {
        {"reprise init table.csv && reprise run job.yaml", "a model of your own table"},
        {"reprise init photos/ --size 64 && reprise run job.yaml",
         "of a folder with a subfolder of images for each class"},
        {"reprise run job.yaml --try", "will it work, how long will it take, what does it need"},
        {"reprise rerun", "the newest run once more: the same bits, or the first difference"}};
    add_heading(page, "EXAMPLES");
    add_terms(page, terms, RP_COUNT(terms));
}

static void write_page(struct rp_text *page)
{
    rp_text_add(page,
                ".\\\" Written by `reprise manual` from the command table; do not edit.\n"
                ".TH REPRISE 1 \"\" \"reprise %s\" \"User Commands\"\n"
                ".SH NAME\nreprise \\- a training runner that gives the same bits again\n"
                ".SH SYNOPSIS\n\\fBreprise\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR...] "
                "[\\fIOPTION\\fR...]\n"
                ".SH DESCRIPTION\n"
                "One YAML file describes a training job completely. \\fBreprise run\\fR executes "
                "it and leaves a run folder with checkpoints, exact metrics and a manifest; anyone "
                "can run it again, get the same bits, and prove it.\n.PP\n"
                "\\fIRUN\\fR is a folder, a name (its newest run), first digits of a digest, or "
                "nothing (the newest).\n.PP\n"
                "Results go to standard output, all else to standard error; with "
                "\\fB\\-\\-json\\fR the last line of standard output is one object.\n",
                RP_VERSION);
    add_commands(page);
    add_exit_codes(page);
    add_signals(page);
    add_environment(page);
    add_files(page);
    add_examples(page);
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    (void)err;
    struct rp_text page = {0};
    write_page(&page);
    if (args->json)
        json_object_set_new(result, "page", json_string(rp_text_get(&page)));
    else
        fputs(rp_text_get(&page), stdout);
    rp_text_release(&page);
    return RP_STATUS_OK;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_manual = {
    .name = "manual",
    .usage = "",
    .summary = "prints the manual page: reprise manual | man -l -",
    .min_words = 0,
    .max_words = 0,
    .options = options,
    .run = run};
