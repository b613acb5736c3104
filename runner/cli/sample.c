/* sample.c - `reprise sample RUN`: a language model goes on from a prompt. */
#include "base/json_text.h"
#include "base/number.h"
#include "base/sys.h"
#include "cli/cli.h"
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TOKENS = 200, MAX_PROMPT = 1 << 26 };

static enum rp_status read_number(const struct rp_cli_args *args, const char *name, double low,
                                  double high, double *value, struct rp_error *err)
{
    const char *text = rp_cli_text(args, name);
    if (!text) return RP_STATUS_OK;
    if (rp_number_parse(text, value) && *value >= low && *value <= high) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s %s: expected a number from %g to %g", name, text,
                        low, high);
}

static enum rp_status read_count(const struct rp_cli_args *args, const char *name, uint64_t high,
                                 uint64_t *value, struct rp_error *err)
{
    const char *text = rp_cli_text(args, name);
    char *end = NULL;
    if (!text) return RP_STATUS_OK;
    bool digits = text[0] && !text[strspn(text, "0123456789")] && strlen(text) < 20;
    *value = strtoull(text, &end, 10);
    if (digits && *value <= high) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "%s %s: expected a whole number from 0 to %llu", name,
                        text, (unsigned long long)high);
}

static enum rp_status read_options(const struct rp_cli_args *args,
                                   struct rp_sample_options *options, struct rp_error *err)
{
    double temperature = 1, top_p = 1;
    uint64_t tokens = TOKENS, top_k = 0, seed = 0;
    RP_TRY(read_count(args, "--tokens", 1 << 30, &tokens, err));
    RP_TRY(read_count(args, "--top-k", INT32_MAX, &top_k, err));
    RP_TRY(read_count(args, "--seed", INT64_MAX, &seed, err));
    RP_TRY(read_number(args, "--temperature", 0, 1000, &temperature, err));
    RP_TRY(read_number(args, "--top-p", 0, 1, &top_p, err));
    options->n_tokens = (int64_t)tokens;
    options->top_k = (int64_t)top_k;
    options->seed = seed;
    options->temperature = (float)temperature;
    options->top_p = top_p;
    options->at = rp_cli_text(args, "--at");
    options->tokenizer = rp_cli_text(args, "--tokenizer");
    return RP_STATUS_OK;
}

static enum rp_status read_prompt(const struct rp_cli_args *args, char **text, size_t *length,
                                  struct rp_error *err)
{
    const char *prompt = rp_cli_text(args, "--prompt"), *file = rp_cli_text(args, "--prompt-file");
    *text = NULL;
    *length = 0;
    if (prompt && file)
        return rp_error_set(err, RP_STATUS_USAGE, "give one of --prompt and --prompt-file");
    if (file) return rp_sys_read_file(file, MAX_PROMPT, RP_STATUS_DATA, text, length, err);
    *text = rp_mem_copy_text(prompt ? prompt : "");
    *length = strlen(*text);
    return RP_STATUS_OK;
}

/* Straight to a reader who waits for it. A terminal gets no control characters, which a model may
 * have learnt; the bytes of a character may come one by one. */
static bool print(void *context, const char *bytes, size_t n)
{
    bool bare = !*(const bool *)context;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        bool fine = bare || (c >= ' ' && c != 0x7f) || c == '\n' || c == '\t';
        if ((fine ? putchar(c) : printf("\\x%02x", c)) < 0) return false;
    }
    return fflush(stdout) == 0;
}

static bool collect(void *context, const char *bytes, size_t n)
{
    rp_text_add_bytes(context, bytes, n);
    return true;
}

static void fill_result(const struct rp_sample_options *options,
                        const struct rp_sample_result *done, const char *text, json_t *result)
{
    json_t *tokens = json_array(), *json_text = json_string(text);
    for (int64_t i = 0; i < done->n_new; i++)
        json_array_append_new(tokens, json_integer(done->tokens[i]));
    json_object_set_new(result, "run", rp_json_text(options->run));
    json_object_set_new(result, "step", json_integer((json_int_t)done->step));
    json_object_set_new(result, "text", json_text ? json_text : json_null());
    json_object_set_new(result, "tokens", tokens);
    json_object_set_new(result, "prompt_tokens", json_integer((json_int_t)done->n_prompt));
    json_object_set_new(result, "stopped",
                        json_string(done->why == RP_SAMPLE_END_OF_TEXT ? "end_of_text" : "length"));
    json_object_set_new(result, "slides", json_integer((json_int_t)done->n_slides));
    json_object_set_new(result, "prompt_seconds", json_real(done->prompt_seconds));
    json_object_set_new(result, "seconds", json_real(done->seconds));
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    bool to_terminal = isatty(STDOUT_FILENO);
    struct rp_sample_options options = {.say = print, .context = &to_terminal};
    struct rp_sample_result done = {0};
    struct rp_text text = {0};
    char *found = NULL, *prompt = NULL;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, read_options(args, &options, err), out);
    RP_TRY_GOTO(status, read_prompt(args, &prompt, &options.prompt_bytes, err), out);
    RP_TRY_GOTO(status, rp_run_find(args->n_words ? args->word[0] : NULL, &found, err), out);
    options.run = found;
    options.prompt = prompt;
    if (args->json) {
        options.say = collect;
        options.context = &text;
    }
    status = rp_train_sample(&options, &done, err);
    if (status == RP_STATUS_OK) fill_result(&options, &done, rp_text_get(&text), result);
    if (status == RP_STATUS_OK && !args->json) printf("\n");
out:
    rp_sample_result_release(&done);
    rp_text_release(&text);
    rp_mem_free(found);
    rp_mem_free(prompt);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--prompt", RP_CLI_TEXT, "TEXT", "what the text begins with (default: nothing)"},
    {"--prompt-file", RP_CLI_TEXT, "F", "the same from a file"},
    {"--tokens", RP_CLI_TEXT, "N", "how many tokens at most (default: 200)"},
    {"--temperature", RP_CLI_TEXT, "T",
     "below 1: likely tokens more often; 0: always the likeliest (default: 1)"},
    {"--top-k", RP_CLI_TEXT, "K", "draw from the K likeliest only (default: 0, all)"},
    {"--top-p", RP_CLI_TEXT, "P",
     "draw from the fewest likeliest that have this probability together (default: 1, all)"},
    {"--seed", RP_CLI_TEXT, "S", "another text for each; the same text for the same (default: 0)"},
    {"--at", RP_CLI_TEXT, "best|last|STEP", "which checkpoint (default: last)"},
    {"--tokenizer", RP_CLI_TEXT, "PATH",
     "the tokenizer of a run on token files (default: the one that the spec names)"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_sample = {
    .name = "sample",
    .usage = "[RUN]",
    .summary = "text from a language model, the same for the same seed",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run,
};
