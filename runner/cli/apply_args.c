/* apply_args.c - the arguments of eval and predict, and what they say of a checkpoint and its data.
 */
#include "cli/apply_args.h"

#include "base/json_text.h"
#include "base/sys.h"

#include <math.h>
#include <string.h>

static enum rp_status parse_split(const char *text, enum rp_split *split, struct rp_error *err)
{
    *split = RP_SPLIT_VALID;
    if (!text || strcmp(text, "valid") == 0) return RP_STATUS_OK;
    *split = strcmp(text, "test") == 0 ? RP_SPLIT_TEST : RP_SPLIT_TRAIN;
    if (*split == RP_SPLIT_TEST || strcmp(text, "train") == 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE, "--split %s: expected train, valid or test", text);
}

/* `--data A --data B`, `--data A B`: words behind RUN are files too. */
static void collect_files(const struct rp_cli_args *args, struct rp_cli_apply *cli)
{
    const char *const *data = rp_cli_list(args, "--data");
    int n = 0;
    while (data && data[n]) n++;
    int more = args->n_words > 1 ? args->n_words - 1 : 0;
    cli->files = RP_NEW_ARRAY(const char *, n + more + 1);
    for (int i = 0; i < n; i++) cli->files[i] = data[i];
    for (int i = 0; i < more; i++) cli->files[n + i] = args->word[1 + i];
}

static enum rp_status sort_files(struct rp_cli_apply *cli, struct rp_error *err)
{
    for (int i = 0; cli->files[i]; i++) {
        struct rp_sys_stat stat;
        RP_TRY(rp_sys_stat(cli->files[i], &stat, err));
        if (!stat.exists)
            return rp_error_set(err, RP_STATUS_DATA, "--data: there is no file %s", cli->files[i]);
        if (stat.is_folder && (i > 0 || cli->files[1]))
            return rp_error_set(err, RP_STATUS_USAGE,
                                "--data %s is a folder: give one folder, in which the run's own "
                                "data lies, or files",
                                cli->files[i]);
        if (stat.is_folder && !rp_data_holds_images(cli->files[0]))
            cli->options.data_folder = cli->files[0];
    }
    if (cli->files[0] && !cli->options.data_folder) cli->options.files = cli->files;
    return RP_STATUS_OK;
}

static enum rp_status read_args(const struct rp_cli_args *args, bool predict,
                                struct rp_cli_apply *cli, struct rp_error *err)
{
    const char *split = predict ? NULL : rp_cli_text(args, "--split");
    collect_files(args, cli);
    if (args->n_words > 1 && !rp_cli_has(args, "--data"))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s: one RUN only; files come after --data: --data %s", args->word[1],
                            args->word[1]);
    RP_TRY(parse_split(split, &cli->options.split, err));
    RP_TRY(rp_run_find(args->n_words ? args->word[0] : NULL, &cli->run, err));
    RP_TRY(sort_files(cli, err));
    cli->options.run = cli->run;
    cli->options.at = rp_cli_text(args, "--at");
    cli->options.weights = rp_cli_text(args, "--weights");
    cli->options.without_targets = predict;
    if (predict && !cli->options.files)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "predict needs files to apply the model to: --data FILE");
    if (split && cli->options.files)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--split names data of the run, and --data FILE other data: give one "
                            "of them");
    return RP_STATUS_OK;
}

enum rp_status rp_cli_apply_open(const struct rp_cli_args *args, bool predict,
                                 struct rp_cli_apply *cli, struct rp_error *err)
{
    *cli = (struct rp_cli_apply){0};
    RP_TRY(read_args(args, predict, cli, err));
    return rp_apply_open(&cli->options, &cli->apply, err);
}

void rp_cli_apply_close(struct rp_cli_apply *cli)
{
    rp_apply_close(cli->apply);
    rp_mem_free(cli->files);
    rp_mem_free(cli->run);
    *cli = (struct rp_cli_apply){0};
}

void rp_cli_apply_json(const struct rp_cli_apply *cli, json_t *json)
{
    const struct rp_apply *apply = cli->apply;
    json_t *files = json_array();
    for (int i = 0; i < apply->n_files; i++) {
        char hex[RP_SHA256_HEX];
        rp_sha256_hex(&apply->files[i].sha256, hex);
        json_t *file = json_object();
        json_object_set_new(file, "path", rp_json_text(apply->files[i].path));
        json_object_set_new(file, "sha256", json_string(hex));
        json_array_append_new(files, file);
    }
    json_object_set_new(json, "run", rp_json_text(cli->run));
    json_object_set_new(json, "step", json_integer((json_int_t)apply->step));
    if (apply->weights) json_object_set_new(json, "weights", json_string(apply->weights));
    json_object_set_new(json, "data", rp_json_text(apply->what));
    json_object_set_new(json, "files", files);
    json_object_set_new(json, "samples", json_integer((json_int_t)apply->n_samples));
}

char *rp_cli_apply_class(const struct rp_apply *apply, int64_t index)
{
    if (apply->class_names && index < apply->shape.n_classes)
        return rp_mem_copy_text(apply->class_names[index]);
    return rp_mem_text("%lld", (long long)index);
}

int64_t rp_cli_apply_argmax(const float *logits, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}
