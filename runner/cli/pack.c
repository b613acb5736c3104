/* pack.c - `reprise pack FOLDER`: images decoded once, into one file that training maps. */
#include "cli/data_int.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE_MOST = 8192, BROKEN_SHOWN = 20, BAR = 24 };

bool rp_cli_parse_size(const char *text, int64_t *height, int64_t *width)
{
    char *end;
    long h = strtol(text, &end, 10), w = h;
    if (end == text) return false;
    if (*end == 'x') {
        const char *second = end + 1;
        w = strtol(second, &end, 10);
        if (end == second) return false;
    }
    *height = h;
    *width = w;
    return !*end && h >= 1 && w >= 1 && h <= SIDE_MOST && w <= SIDE_MOST;
}

static void show_progress(int64_t done, int64_t total)
{
    char bar[BAR + 1];
    int full = (int)(BAR * done / total);
    for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
    bar[BAR] = '\0';
    rp_log_progress("%s %lld/%lld images", bar, (long long)done, (long long)total);
}

/* The first broken images on standard error, all of them in JSON. */
static void show_broken(const struct rp_pack_result *packed, json_t *result)
{
    json_t *list = json_object_get(result, "broken");
    int shown = 0;
    const char *end;
    if (!list) json_object_set_new(result, "broken", list = json_array());
    for (const char *line = rp_text_get(&packed->broken); *line; line = end + 1) {
        end = strchr(line, '\n');
        json_array_append_new(list, rp_json_bytes(line, (size_t)(end - line)));
        if (shown++ < BROKEN_SHOWN) rp_log_warning("%.*s", (int)(end - line), line);
    }
    if (shown > BROKEN_SHOWN) rp_log_warning("and %d more", shown - BROKEN_SHOWN);
}

enum rp_status rp_cli_pack(const struct rp_pack_options *wanted, struct rp_pack_result *packed,
                           json_t *result, struct rp_error *err)
{
    struct rp_pack_options options = *wanted;
    options.progress = show_progress;
    options.stop = &rp_cli_stop;
    rp_cli_catch_stop();
    if (options.threads <= 0) options.threads = rp_sys_cpus();
    enum rp_status status = rp_data_pack(&options, packed, err);
    rp_cli_release_stop();
    rp_log_progress_clear();
    show_broken(packed, result);
    if (status != RP_STATUS_OK) return status;
    if (packed->n_other)
        rp_log_info("%lld other file%s passed over: no .png, .jpg or .jpeg of a class",
                    (long long)packed->n_other, packed->n_other == 1 ? "" : "s");
    return RP_STATUS_OK;
}

static void show(const char *out, const struct rp_pack_result *packed, bool json, json_t *result)
{
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&packed->sha256, hex);
    json_object_update_new(
        result,
        json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "path", rp_json_text(out), "images",
                  (json_int_t)packed->n, "classes", (json_int_t)packed->n_classes, "height",
                  (json_int_t)packed->height, "width", (json_int_t)packed->width, "channels",
                  (json_int_t)packed->channels, "bytes", (json_int_t)packed->bytes, "sha256", hex));
    if (json) return;
    bool one = packed->n_classes == 1; /* nothing to tell apart, but a model may be applied */
    rp_cli_print(
        "%s\nimages  %lld of %lld x %lld x %lld, %lld class%s\nbytes   %llu\nsha256  %s\n\n"
        "reprise %s %s\n",
        out, (long long)packed->n, (long long)packed->height, (long long)packed->width,
        (long long)packed->channels, (long long)packed->n_classes, one ? "" : "es",
        (unsigned long long)packed->bytes, hex, one ? "predict RUN --data" : "init", out);
}

static enum rp_status read_options(const struct rp_cli_args *args, struct rp_pack_options *options,
                                   struct rp_error *err)
{
    const char *size = rp_cli_text(args, "--size"), *channels = rp_cli_text(args, "--channels");
    const char *fit = rp_cli_text(args, "--fit"), *threads = rp_cli_text(args, "--threads");
    *options = (struct rp_pack_options){.folder = args->word[0],
                                        .out = rp_cli_text(args, "--out"),
                                        .skip_broken = rp_cli_has(args, "--skip-broken")};
    if (!size || !rp_cli_parse_size(size, &options->height, &options->width))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--size %s: expected H or HxW, each 1 to %d: --size 224, --size 96x128",
                            size ? size : "is missing", SIDE_MOST);
    if (!options->out)
        return rp_error_set(err, RP_STATUS_USAGE, "--out is missing: --out images.packed");
    if (channels && strcmp(channels, "grey") == 0)
        options->channels = RP_PACK_GREY;
    else if (channels && strcmp(channels, "rgb") == 0)
        options->channels = RP_PACK_COLOUR;
    else if (channels && strcmp(channels, "auto") != 0)
        return rp_error_set(err, RP_STATUS_USAGE, "--channels %s: expected auto, grey or rgb",
                            channels);
    if (fit && strcmp(fit, "stretch") == 0)
        options->stretch = true;
    else if (fit && strcmp(fit, "crop") != 0)
        return rp_error_set(err, RP_STATUS_USAGE, "--fit %s: expected crop or stretch", fit);
    if (threads && (options->threads = atoi(threads)) <= 0)
        return rp_error_set(err, RP_STATUS_USAGE, "--threads %s: expected a number above 0",
                            threads);
    return RP_STATUS_OK;
}

static enum rp_status run(const struct rp_cli_args *args, json_t *result, struct rp_error *err)
{
    struct rp_pack_options options;
    struct rp_pack_result packed = {0};
    RP_TRY(read_options(args, &options, err));
    enum rp_status status = rp_cli_pack(&options, &packed, result, err);
    if (status == RP_STATUS_OK) show(options.out, &packed, args->json, result);
    rp_pack_result_release(&packed);
    return status;
}

static const struct rp_cli_option options[] = {
    {"--size", RP_CLI_TEXT, "H[xW]", "height and width that every image gets"},
    {"--out", RP_CLI_TEXT, "FILE", "where to write it; replaced when it is there"},
    {"--fit", RP_CLI_TEXT, "crop|stretch",
     "cut the middle out of an image of another shape (default), or distort it"},
    {"--channels", RP_CLI_TEXT, "auto|grey|rgb", "auto (default): rgb when any image has colour"},
    {"--skip-broken", RP_CLI_FLAG, NULL,
     "leave out images that do not decode, instead of exit code 4"},
    {"--threads", RP_CLI_TEXT, "N", "default: one for each processor"},
    {NULL, RP_CLI_FLAG, NULL, NULL}};

const struct rp_command rp_command_pack = {
    .name = "pack",
    .usage = "FOLDER",
    .summary = "decodes a folder of PNG and JPEG, a subfolder per class, into one file",
    .min_words = 1,
    .max_words = 1,
    .options = options,
    .run = run};
