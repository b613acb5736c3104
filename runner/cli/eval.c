/* eval.c - `reprise eval RUN`: one checkpoint measured exactly, as the run itself measures. Writes
 * nothing. */
#include "cli/apply_args.h"

#include "base/utf8.h"
#include "cli/run_view.h"
#include "cli/tally.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void fill_result(const struct rp_cli_apply *cli, const struct rp_tally *tally,
                        const struct rp_apply_means *means, json_t *result)
{
    json_t *metrics = json_object();
    rp_cli_apply_json(cli, result);
    json_object_set_new(metrics, "loss", rp_json_number(means->loss));
    if (cli->apply->shape.target == RP_TARGET_TOKENS) {
        json_object_set_new(metrics, "perplexity", rp_json_number(means->perplexity));
        if (means->bits_per_byte >= 0)
            json_object_set_new(metrics, "bits_per_byte", rp_json_number(means->bits_per_byte));
    }
    if (tally->value) {
        json_object_set_new(metrics, "mse", rp_json_number(tally->all.mse));
        json_object_set_new(metrics, "mae", rp_json_number(tally->all.mae));
        json_object_set_new(metrics, "r2",
                            isnan(tally->all.r2) ? json_null() : rp_json_number(tally->all.r2));
    } else {
        json_object_set_new(metrics, "accuracy", rp_json_number(means->accuracy));
        if (means->top5 >= 0)
            json_object_set_new(metrics, "top5_accuracy", rp_json_number(means->top5));
    }
    json_object_set_new(result, "metrics", metrics);
    if (cli->apply->shape.target == RP_TARGET_TOKENS)
        json_object_set_new(result, "tokens", json_integer(means->targets));
    else
        rp_tally_json(tally, cli->apply, result);
}

static void print_result(const struct rp_cli_apply *cli, const struct rp_tally *tally,
                         const struct rp_apply_means *means)
{
    const struct rp_apply *apply = cli->apply;
    bool tokens = apply->shape.target == RP_TARGET_TOKENS;
    char *shown = rp_utf8_shown(cli->run, false);
    struct rp_text text = {0};
    printf("%s at step %llu%s%s\n%-12s %s, %lld %s\n%-12s %.6g\n", shown,
           (unsigned long long)apply->step, apply->weights ? ", weights: " : "",
           apply->weights ? apply->weights : "", "data", apply->what,
           (long long)(tokens ? means->targets : apply->n_samples), tokens ? "tokens" : "samples",
           "loss", means->loss);
    if (tokens) printf("%-12s %.6g\n", "perplexity", means->perplexity);
    if (tokens && means->bits_per_byte >= 0)
        printf("%-12s %.6g\n", "bits/byte", means->bits_per_byte);
    if (tally->value) {
        printf("%-12s %.6g\n%-12s %.6g\n", "mse", tally->all.mse, "mae", tally->all.mae);
        if (isnan(tally->all.r2))
            printf("%-12s undefined: the targets are all equal\n", "r2");
        else
            printf("%-12s %.6g\n", "r2", tally->all.r2);
    } else {
        printf("%-12s %.2f %%\n", "accuracy", 100 * means->accuracy);
        if (means->top5 >= 0) printf("%-12s %.2f %%\n", "top-5", 100 * means->top5);
    }
    if (!tokens) rp_tally_print(tally, apply, &text);
    fputs(rp_text_get(&text), stdout);
    rp_text_release(&text);
    rp_mem_free(shown);
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_cli_apply cli;
    struct rp_tally tally = {0};
    struct rp_apply_means means;
    enum rp_status status = rp_cli_apply_open(args, false, &cli, err);
    bool tokens = status == RP_STATUS_OK && cli.apply->shape.target == RP_TARGET_TOKENS;
    if (status == RP_STATUS_OK) {
        if (!tokens) rp_tally_init(&tally, cli.apply);
        status = rp_apply_run(cli.apply, tokens ? NULL : rp_tally_add, &tally, &means, err);
    }
    if (status == RP_STATUS_OK) {
        if (!tokens) rp_tally_end(&tally);
        fill_result(&cli, &tally, &means, result);
        if (!args->json) print_result(&cli, &tally, &means);
    }
    rp_tally_release(&tally);
    rp_cli_apply_close(&cli);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--split", RP_CLI_TEXT, "train|valid|test", "which data of the spec (default: valid)"},
    {"--at", RP_CLI_TEXT, "best|last|STEP", "which checkpoint (default: last)"},
    {"--weights", RP_CLI_TEXT, "ema|trained",
     "of a run with train.ema: the averages (default), or the weights that were trained"},
    {"--data", RP_CLI_LIST, "DIR|FILE...",
     "a folder: where the run's data lies now; files: other data (images and labels, x and y, a "
     "table, texts)"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_eval = {
    .name = "eval",
    .usage = "[RUN]",
    .summary = "measures a checkpoint: loss, accuracy, per-class figures and confusion, or errors",
    .min_words = 0,
    .max_words = -1,
    .options = options,
    .run = run,
};
