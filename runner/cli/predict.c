/* predict.c - `reprise predict RUN --data FILE`: what a model gives for samples without targets:
 * class and probabilities, or values. */
#include "base/json_text.h"
#include "base/sys.h"
#include "cli/apply_args.h"
#include "cli/predict_out.h"

#include <stdio.h>
#include <string.h>

/* Before anything is computed: may the file be written? */
static enum rp_status check_out(const struct rp_cli_args *args, struct rp_error *err)
{
    const char *out = rp_cli_text(args, "--out");
    struct rp_sys_stat stat;
    if (!out) return RP_STATUS_OK;
    if (!rp_text_ends(out, ".csv") && !rp_text_ends(out, ".npy"))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--out %s: expected a name that ends in .csv or .npy", out);
    RP_TRY(rp_sys_stat(out, &stat, err));
    if (stat.is_folder) return rp_error_set(err, RP_STATUS_USAGE, "--out %s is a folder", out);
    if (!stat.exists || rp_cli_has(args, "--overwrite")) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "--out %s exists already; --overwrite replaces it, or choose another name",
                        out);
}

static enum rp_status write_out(const struct rp_cli_args *args,
                                const struct rp_predictions *predictions, json_t *result,
                                struct rp_error *err)
{
    const char *out = rp_cli_text(args, "--out");
    struct rp_text text = {0};
    enum rp_status status = RP_STATUS_OK;
    if (out && rp_text_ends(out, ".npy"))
        rp_predictions_npy(predictions, &text);
    else if (out || !args->json)
        rp_predictions_csv(predictions, &text);
    else
        json_object_set_new(result, "predictions", rp_predictions_json(predictions));
    if (out) status = rp_sys_write_file(out, rp_text_get(&text), text.length, err);
    if (out) json_object_set_new(result, "out", rp_json_text(out));
    if (out && status == RP_STATUS_OK && !args->json)
        rp_cli_print("out      %s\nsamples  %lld\nstep     %llu\n", out,
                     (long long)predictions->apply->n_samples,
                     (unsigned long long)predictions->apply->step);
    else if (!out && !args->json)
        fwrite(rp_text_get(&text), 1, text.length, stdout);
    rp_text_release(&text);
    return status;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_cli_apply cli = {0};
    struct rp_predictions predictions = {0};
    struct rp_apply_means unused;
    RP_TRY(check_out(args, err));
    enum rp_status status = rp_cli_apply_open(args, true, &cli, err);
    if (status == RP_STATUS_OK && cli.apply->width == 0)
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "%s is a language model, which goes on with a text: `reprise sample "
                              "%s --prompt TEXT`, or measure it with `reprise eval`",
                              cli.run, cli.run);
    if (status == RP_STATUS_OK) status = rp_predictions_init(&predictions, cli.apply, err);
    if (status == RP_STATUS_OK)
        status = rp_apply_run(cli.apply, rp_predictions_add, &predictions, &unused, err);
    if (status == RP_STATUS_OK) {
        rp_cli_apply_json(&cli, result);
        status = write_out(args, &predictions, result, err);
    }
    rp_predictions_release(&predictions);
    rp_cli_apply_close(&cli);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--data", RP_CLI_LIST, "FILE...",
     "samples: images (idx), a table (csv), x (.npy), an archive (.npz), cifar; targets are not "
     "needed"},
    {"--out", RP_CLI_TEXT, "F.csv|F.npy",
     "where to write (default: csv on standard output); npy holds probabilities or values"},
    {"--overwrite", RP_CLI_FLAG, NULL, "replace the file of --out"},
    {"--at", RP_CLI_TEXT, "best|last|STEP", "which checkpoint (default: last)"},
    {"--weights", RP_CLI_TEXT, "ema|trained",
     "of a run with train.ema: the averages (default), or the weights that were trained"},
    {NULL, RP_CLI_FLAG, NULL, NULL},
};

const struct rp_command rp_command_predict = {
    .name = "predict",
    .usage = "[RUN] --data FILE",
    .summary = "applies a checkpoint to samples: class and probabilities, or values",
    .min_words = 0,
    .max_words = -1,
    .options = options,
    .run = run,
};
