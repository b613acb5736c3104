/* tokenize.c - `reprise tokenize FILE|FOLDER...`: text to files of tokens that training maps. */
#include "cli/data_int.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BAR = 24 };

/* ---- while it works -------------------------------------------------------------------------- */

static void show_progress(uint64_t done, uint64_t total)
{
    char bar[BAR + 1];
    double part = total ? (double)done / (double)total : 1;
    for (int i = 0; i < BAR; i++) bar[i] = i < BAR * part ? '#' : '.';
    bar[BAR] = '\0';
    rp_log_progress("%s %.0f/%.0f MB", bar, (double)done / 1e6, (double)total / 1e6);
}

/* ---- options --------------------------------------------------------------------------------- */

/* "100M", "500k", "1000": tokens, at most what one file can hold. */
static bool parse_tokens(const char *text, int64_t *tokens)
{
    static const struct {
        char unit;
        int64_t times;
    } units[] = {{'k', 1000}, {'M', 1000000}, {'B', 1000000000}};
    char *end;
    int64_t value = strtoll(text, &end, 10), times = *end ? 0 : 1;
    for (size_t i = 0; i < RP_COUNT(units); i++)
        if (*end == units[i].unit && !end[1]) times = units[i].times;
    if (end == text || times == 0 || value < 1 || value > INT32_MAX / times) return false;
    *tokens = value * times;
    return true;
}

static enum rp_status read_options(const struct rp_cli_args *args,
                                   struct rp_tokenize_options *options, struct rp_error *err)
{
    const char *threads = rp_cli_text(args, "--threads"),
               *shard = rp_cli_text(args, "--shard-tokens");
    *options = (struct rp_tokenize_options){.input = args->word,
                                            .n_inputs = args->n_words,
                                            .tokenizer = rp_cli_text(args, "--tokenizer"),
                                            .end_of_text = rp_cli_text(args, "--end-of-text"),
                                            .field = rp_cli_text(args, "--field"),
                                            .out = rp_cli_text(args, "--out"),
                                            .force = rp_cli_has(args, "--force"),
                                            .threads = rp_sys_cpus(),
                                            .progress = show_progress,
                                            .stop = &rp_cli_stop};
    if (!options->tokenizer)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--tokenizer is missing: --tokenizer gpt2/tokenizer.json, or a folder "
                            "that has one, or a vocab.json beside its merges.txt");
    if (!options->out)
        return rp_error_set(err, RP_STATUS_USAGE, "--out is missing: --out train.bin");
    if (shard && !parse_tokens(shard, &options->shard_tokens))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--shard-tokens %s: expected 1 to %d tokens: --shard-tokens 100M",
                            shard, INT32_MAX);
    if (threads && (options->threads = atoi(threads)) <= 0)
        return rp_error_set(err, RP_STATUS_USAGE, "--threads %s: expected a number above 0",
                            threads);
    return RP_STATUS_OK;
}

/* ---- results --------------------------------------------------------------------------------- */

static json_t *file_json(const struct rp_tokenize_file *file)
{
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&file->sha256, hex);
    json_t *json = json_pack("{s:I, s:s}", "tokens", (json_int_t)file->tokens, "sha256", hex);
    json_object_set_new(json, "path", rp_json_text(file->path));
    return json;
}

static void fill_result(const struct rp_tokenize_result *made, json_t *result)
{
    json_t *files = json_array();
    for (int i = 0; i < made->n_files; i++) json_array_append_new(files, file_json(&made->file[i]));
    json_object_update_new(
        result,
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:i, s:s, s:o}", "inputs",
                  (json_int_t)made->n_inputs, "documents", (json_int_t)made->documents,
                  "empty_documents", (json_int_t)made->n_empty, "tokens", (json_int_t)made->tokens,
                  "text_bytes", (json_int_t)made->text_bytes, "bytes_per_token",
                  (double)made->text_bytes / (double)made->tokens, "vocabulary", made->vocabulary,
                  "dtype", made->token_bytes == 2 ? "uint16" : "uint32", "files", files));
}

static void print_result(const struct rp_tokenize_result *made)
{
    char hex[RP_SHA256_HEX];
    printf("documents  %lld in %lld file%s", (long long)made->documents, (long long)made->n_inputs,
           made->n_inputs == 1 ? "" : "s");
    if (made->n_empty) printf(", and %lld without text", (long long)made->n_empty);
    printf("\ntokens     %lld of %s, vocabulary %d\nbytes      %llu, %.3f a token\n",
           (long long)made->tokens, made->token_bytes == 2 ? "uint16" : "uint32", made->vocabulary,
           (unsigned long long)made->text_bytes, (double)made->text_bytes / (double)made->tokens);
    for (int i = 0; i < made->n_files; i++) {
        rp_sha256_hex(&made->file[i].sha256, hex);
        rp_cli_print("sha256     %s  %s\n", hex, made->file[i].path);
    }
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_tokenize_options options;
    struct rp_tokenize_result made = {0};
    RP_TRY(read_options(args, &options, err));
    rp_cli_catch_stop();
    enum rp_status status = rp_data_tokenize(&options, &made, err);
    rp_cli_release_stop();
    rp_log_progress_clear();
    if (status == RP_STATUS_OK) fill_result(&made, result);
    if (status == RP_STATUS_OK && !args->json) print_result(&made);
    rp_tokenize_result_release(&made);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--tokenizer", RP_CLI_TEXT, "PATH",
     "a tokenizer.json, a vocab.json beside its merges.txt, or a folder with them"},
    {"--out", RP_CLI_TEXT, "FILE", "where to write the tokens, with llm.c's header"},
    {"--field", RP_CLI_TEXT, "KEY",
     "inputs are JSON lines with the text under KEY (default: `text`, of files in .jsonl)"},
    {"--end-of-text", RP_CLI_TEXT, "TOKEN", "what stands between documents (default: found)"},
    {"--shard-tokens", RP_CLI_TEXT, "N",
     "cut the output into FILE_000000, FILE_000001, ... of N tokens (100M)"},
    {"--force", RP_CLI_FLAG, NULL, "replace FILE when it is there"},
    {"--threads", RP_CLI_TEXT, "N", "default: one for each processor"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_tokenize = {.name = "tokenize",
                                               .usage = "FILE|FOLDER...",
                                               .summary =
                                                   "turns text or JSON lines into files of tokens",
                                               .min_words = 1,
                                               .max_words = -1,
                                               .options = options,
                                               .run = run};
