/* explain.c - `reprise explain WORD`: a key of the spec, a metric, a digest, an exit code, a file
 * of a run folder. */
#include "cli/cli.h"

#include "spec/spec.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

struct topic {
    const char *name, *what;
};

/* A name that ends in a dash stands for all that begin with it. */
static const struct topic files[] = {
    {"spec.yaml", "the spec as it was given, byte for byte; overrides of --set stand beside it"},
    {"overrides.txt", "what --set gave, a line each; only when it was used"},
    {"resolved.yaml", "the same job with every value present and overrides applied; rerun uses it"},
    {"manifest.json", "digests, code, environment, hashes and shape of the data, every start and "
                      "stop, the status, the exit code"},
    {"metrics.jsonl", "one line per logged step and evaluation; numbers read back exactly"},
    {"digests.jsonl", "one line per step: loss bits, a digest of all that the model keeps, and the "
                      "chain over all steps; `run --against` compares with it"},
    {"checkpoints", "one folder per saved step; it counts once it holds COMMITTED"},
    {"step-", "a checkpoint: the state after this many steps"},
    {"COMMITTED", "a checkpoint without it was not finished and is never loaded"},
    {"model.safetensors", "weights and running statistics, under the field's names"},
    {"optimizer.safetensors", "the optimizer's tensors"},
    {"model-", "the same of one rank of several: whole tensors, each in one of the files"},
    {"optimizer-", "the optimizer's tensors of one rank of several"},
    {"model.safetensors.index.json", "which tensor lies in whose file, for other readers"},
    {"state.json", "step, chain, and what else a run needs to go on; hashes of the tensor files"},
    {"logs", "what each rank printed"},
    {"rank-", "what this rank printed, of every start one after another"},
    {"lock", "who holds the folder while it runs; it stays behind, and a stale one needs no help"},
    {"trace.json", "time per op of `run --profile`, for Perfetto (ui.perfetto.dev)"},
};

/* Without the split: train/loss is `loss` measured on training batches. */
static const struct topic metrics[] = {
    {"loss", "mean over the samples of the loss that train.loss names: of the batch at a logged "
             "step (train), of the whole split at an evaluation (valid); less is better. Its bits "
             "of every step stand in digests.jsonl"},
    {"lr", "the learning rate of the step, after the schedule"},
    {"grad_norm", "root of the sum of squares of all gradients, before clipping; made in fp64"},
    {"samples_per_second",
     "speed since this start, evaluation and saving included; it differs from "
     "run to run and enters no digest"},
    {"tokens_per_second", "the same of text, in tokens"},
    {"perplexity", "e to the loss: of how many equally likely tokens the model seems to choose"},
    {"bits_per_byte",
     "the loss of all tokens of the split in bits, over the bytes of the text that they stand for: "
     "comparable between tokenizers; where the data is text"},
    {"accuracy", "part of the samples for which the largest logit is that of the target, from 0 to "
                 "1; of equal ones the first counts; more is better"},
    {"top5_accuracy",
     "part of the samples for which at most 4 classes come before the target; with "
     "more than 5 classes only"},
    {"mse",
     "`eval` of values: mean of (output - target)^2, in fp64; with train.loss: mse it is the "
     "loss but for its last digits"},
    {"mae", "`eval` of values: mean of |output - target|, in fp64"},
    {"r2", "`eval` of values: 1 - (sum of squared errors) / (sum of squares about the mean of the "
           "targets), the mean over the values that vary; 1 is perfect, 0 as good as the mean"},
    {"precision",
     "`eval`, per class: how many of the samples taken for it are of it; 0 for a class "
     "that occurs and is never named"},
    {"recall", "`eval`, per class: how many of its samples are taken for it"},
    {"f1", "`eval`, per class: 2 right / (support + predicted), between precision and recall"},
    {"support", "`eval`, per class: how many samples it has"},
    {"confusion",
     "`eval`: a row per class, in it how many of its samples were taken for each class; "
     "above 20 classes the most frequent confusions alone"},
    {"mean", "`eval`: precision, recall and f1 averaged over the classes that occur, each class "
             "weighing the same"},
    {"undecided", "`eval`: samples for which an output is not a number; they count as wrong"},
};

static const struct topic digests[] = {
    {"numeric",
     "digest of all that can change a bit of the model: numeric keys, content of data and "
     "initial weights; equal at portable means equal bits"},
    {"policy", "digest of the keys that say when to evaluate, save and log"},
    {"place", "digest of the keys that say where it runs"},
    {"final", "digest of a finished run: the chain, and every tensor of the last checkpoint, the "
              "optimizer's included; two runs are equal when it is"},
    {"chain",
     "SHA-256 over the chain of the step before, the step, the bits of its loss, and params"},
    {"params", "64 bits over every tensor that the model keeps, after a step"},
};

static bool explain_code(const char *word, struct rp_text *text)
{
    static const struct {
        const char *name, *meaning, *advice;
        int code;
    } codes[] = {
#define ROW(name, code, meaning, advice) {#name, meaning, advice, code},
        RP_STATUS_LIST(ROW)
#undef ROW
    };
    bool all =
        strcmp(word, "exit") == 0 || strcmp(word, "exit-codes") == 0 || strcmp(word, "codes") == 0;
    for (size_t i = 0; i < RP_COUNT(codes); i++) {
        char number[16];
        snprintf(number, sizeof number, "%d", codes[i].code);
        if (!all && strcmp(word, number) != 0 && strcmp(word, codes[i].name) != 0) continue;
        if (all)
            rp_text_add(text, "%3d  %s\n", codes[i].code, codes[i].meaning);
        else
            rp_text_add(text, "exit code %d\n  %s\n  what to do: %s\n%s", codes[i].code,
                        codes[i].meaning, codes[i].advice,
                        codes[i].code >= RP_STATUS_STOPPED
                            ? "  a scheduler may start the same command again\n"
                            : "");
    }
    if (all) rp_text_add(text, "20 to 24 are the set that a scheduler retries.\n");
    return text->length > 0;
}

/* Splits in front of a metric's name are left out. */
static const char *without_split(const char *word)
{
    static const char *const splits[] = {"train/", "valid/", "test/"};
    for (size_t i = 0; i < RP_COUNT(splits); i++)
        if (strncmp(word, splits[i], strlen(splits[i])) == 0) return word + strlen(splits[i]);
    return word;
}

static bool is_topic(const struct topic *topic, const char *word)
{
    size_t n = strlen(topic->name);
    if (topic->name[n - 1] == '-') return strncmp(word, topic->name, n) == 0;
    return strcmp(word, topic->name) == 0;
}

/* One topic of a table, or all of them when `word` is the name of the table. */
static bool explain_topic(const struct topic *topics, size_t n, const char *table, const char *kind,
                          const char *word, struct rp_text *text)
{
    size_t before = text->length;
    bool all = strcmp(word, table) == 0;
    for (size_t i = 0; i < n; i++) {
        if (all)
            rp_text_add(text, "%-22s %s\n", topics[i].name, topics[i].what);
        else if (is_topic(&topics[i], word))
            rp_text_add(text, "%s, %s\n  %s\n", word, kind, topics[i].what);
    }
    return text->length > before;
}

static bool explain_other(const char *word, struct rp_text *text)
{
    bool code = explain_code(word, text);
    bool file = explain_topic(files, RP_COUNT(files), "run-folder", "in a run folder", word, text);
    bool metric =
        explain_topic(metrics, RP_COUNT(metrics), "metrics", "a metric", without_split(word), text);
    bool digest = explain_topic(digests, RP_COUNT(digests), "digests", "a digest", word, text);
    return code || file || metric || digest;
}

static void list_topics(struct rp_text *text)
{
    rp_text_add(text, "reprise explain KEY         a key of the spec: train.optimizer.lr, or lr; "
                      "`reprise schema --reference` lists all\n"
                      "reprise explain metrics     what each metric means; valid/accuracy: one of "
                      "them\n"
                      "reprise explain run-folder  what each file of a run is; manifest.json: one\n"
                      "reprise explain digests     which digests there are\n"
                      "reprise explain exit-codes  what each exit code means; 7: one, and what to "
                      "do\n");
}

/* `loss` and `lr` are keys and metrics: the key comes first. */
static enum rp_status explain(const char *word, struct rp_text *text, struct rp_error *err)
{
    struct rp_text other = {0};
    struct rp_error why = {0};
    bool found = explain_other(word, &other);
    enum rp_status status = rp_spec_explain(word, text, found ? &why : err);
    if (found) {
        rp_text_add(text, "%s%s", text->length ? "\n" : "", rp_text_get(&other));
        status = RP_STATUS_OK;
    }
    rp_text_release(&other);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_text text = {0};
    enum rp_status status = RP_STATUS_OK;
    if (args->n_words)
        status = explain(args->word[0], &text, err);
    else
        list_topics(&text);
    if (args->json && status == RP_STATUS_OK)
        json_object_set_new(result, "text", json_string(rp_text_get(&text)));
    else
        fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
    return status;
}

static const struct rp_cli_option options[] = {{NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_explain = {
    .name = "explain",
    .usage = "[WORD]",
    .summary = "a key of the spec, a metric, a digest, a file of a run, an exit code",
    .min_words = 0,
    .max_words = 1,
    .options = options,
    .run = run};
