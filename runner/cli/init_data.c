/* init_data.c - `reprise init FILE... | FOLDER`: a commented spec for data that nobody has
 * described yet. The data is opened as a run would open it, measured, and a model chosen whose
 * training takes minutes on a processor. */
#include "cli/init_int.h"

#include "base/json_text.h"
#include "base/log.h"
#include "base/sys.h"
#include "env/env.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

enum { NAME_MOST = 40 };

/* ---- names and paths ------------------------------------------------------------------------- */

/* The name of a job, from the file or folder: [A-Za-z0-9][A-Za-z0-9._-]{0,39}, without endings. */
static char *job_name(const char *path)
{
    char name[NAME_MOST + 1];
    size_t n = 0, length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/') start--;
    for (size_t i = start; i < length && n < NAME_MOST; i++) {
        char c = path[i];
        bool good = isalnum((unsigned char)c) || (n > 0 && strchr("_-", c));
        if (c == '.' && i > start) break;
        if (good) name[n++] = c;
    }
    name[n] = '\0';
    char *images = strstr(name, "-images");
    if (images && images > name) *images = '\0';
    return rp_mem_copy_text(name[0] ? name : "job");
}

/* A path as the spec at `out` has to write it: paths start at the folder of the spec. */
char *init_path(const struct init *init, const char *path)
{
    char *folder = rp_sys_folder_of(init->out), *here = rp_sys_absolute(folder);
    char *absolute = rp_sys_absolute(path), *result;
    size_t n = strlen(here);
    if (strcmp(folder, ".") == 0 && path[0] != '/')
        result = rp_mem_copy_text(path);
    else if (strncmp(absolute, here, n) == 0 && absolute[n] == '/')
        result = rp_mem_copy_text(absolute + n + 1);
    else
        result = rp_mem_copy_text(absolute);
    rp_mem_free(absolute);
    rp_mem_free(here);
    rp_mem_free(folder);
    return result;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Messages of the readers name the file; the spec that it stands in does not exist yet. */
static void forget_places(struct rp_spec *spec)
{
    struct rp_spec_dataset *sets[] = {&spec->train_data, &spec->valid_data, &spec->test_data};
    for (size_t s = 0; s < RP_COUNT(sets); s++) {
        sets[s]->at = (struct rp_spec_place){0, 0};
        for (int i = 0; i < sets[s]->n_files; i++)
            sets[s]->files[i].at = (struct rp_spec_place){0, 0};
    }
}

static void show_hashing(const char *what, double fraction)
{
    rp_log_progress("%s: %.0f %%", what, 100 * fraction);
}

/* Opens what was found, through the smallest spec that names it. */
static enum rp_status open_data(struct init *init, struct rp_error *err)
{
    struct rp_text text = {0};
    struct rp_data_options options = {.with_test = true, .progress = show_hashing};
    struct rp_spec *spec = NULL;
    rp_text_add(&text, "reprise: 1\nname: init\nseed: 1\ndata:\n");
    init_write_datasets(init, &text);
    rp_text_add(&text,
                "model: %s\n"
                "train: {for: 1 step, batch: 1, loss: %s, optimizer: {kind: sgd, lr: 0}}\n",
                init->look.target == RP_TARGET_TOKENS
                    ? "{kind: gpt, layers: 1, heads: 1, width: 8, context: 1}"
                    : "{kind: mlp, hidden: []}",
                init->look.target == RP_TARGET_VALUES ? "mse" : "cross_entropy");
    enum rp_status status =
        rp_spec_parse(init->out, rp_text_get(&text), text.length, NULL, &spec, err);
    if (status == RP_STATUS_OK) {
        forget_places(spec);
        spec->path = (char *)(uintptr_t) "init";
        status = rp_data_open(spec, &options, &init->data, err);
    }
    rp_log_progress_clear();
    rp_spec_free(spec);
    rp_text_release(&text);
    return status;
}

/* A network begins with values about 0 and of size 1; far from there it takes long to arrive. */
static void note_scale(struct init *init)
{
    double mean, std;
    rp_data_measure_values(init->data, &mean, &std);
    if (fabs(mean) < 10 && std < 10 && std > 0.1) return;
    rp_text_add(&init->look.notes,
                "the values have mean %.4g and deviation %.4g, and are taken as they are: training "
                "gains much from a file with (value - mean) / deviation\n",
                mean, std);
}

static enum rp_status measure(struct init *init, struct rp_error *err)
{
    init->shape = *rp_data_shape(init->data);
    if (init->shape.target == RP_TARGET_TOKENS) {
        init->n_tokens = init->shape.n_train + 1; /* windows of one token and the next */
        return init_choose_context(init, err);
    }
    init->channels = rp_data_measure(init->data, RP_SPEC_MAX_CHANNELS, init->mean, init->std);
    if (init->shape.n_train < 2)
        return rp_error_set(err, RP_STATUS_DATA, "%s: one sample; training takes at least two",
                            init->look.path[0]);
    if (init->shape.target == RP_TARGET_CLASSES && init->shape.n_classes < 2)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: all samples are of one class; there is nothing to tell apart",
                            init->look.path[0]);
    if (init->shape.target == RP_TARGET_VALUES) note_scale(init);
    return RP_STATUS_OK;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* A spec among the texts would be read as one of them, as would be the runs beside it. */
static enum rp_status check_outside(const struct init *init, const char *folder,
                                    struct rp_error *err)
{
    char *texts = rp_sys_absolute(folder), *where = rp_sys_folder_of(init->out);
    char *spec = rp_sys_absolute(where);
    size_t n = strlen(texts);
    while (n > 1 && texts[n - 1] == '/') n--;
    bool inside = strncmp(spec, texts, n) == 0 && (spec[n] == '/' || !spec[n]);
    rp_mem_free(spec);
    rp_mem_free(where);
    rp_mem_free(texts);
    if (!inside || strcmp(init->out, "-") == 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "the spec would lie in the folder of texts, and be trained on: go to the "
                        "folder above, or name another place with --out");
}

static enum rp_status find_data(struct init *init, const struct rp_cli_args *args, json_t *result,
                                struct rp_error *err)
{
    const char *label = rp_cli_text(args, "--target");
    if (args->n_words == 1 && init_is_images(args->word[0])) {
        if (label)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "--target names a column of a csv; %s is a folder of images",
                                args->word[0]);
        return init_pack(init, args, result, err);
    }
    if (rp_cli_has(args, "--size") || rp_cli_has(args, "--skip-broken"))
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--size and --skip-broken are for a folder of images");
    RP_TRY(rp_data_look(args->word, args->n_words, label, &init->look, err));
    return init->look.is_folder ? check_outside(init, args->word[0], err) : RP_STATUS_OK;
}

/* The rules that decided, on standard error and in JSON. */
static void tell(const struct init *init, json_t *result)
{
    json_t *notes = json_array();
    const char *end;
    for (const char *line = rp_text_get(&init->look.notes); *line; line = end + 1) {
        end = strchr(line, '\n');
        rp_log_info("%.*s", (int)(end - line), line);
        json_array_append_new(notes, rp_json_bytes(line, (size_t)(end - line)));
    }
    json_object_set_new(result, "notes", notes);
}

enum rp_status rp_init_from_data(const struct rp_cli_args *args, const char *out,
                                 struct rp_text *text, json_t *result, struct rp_error *err)
{
    struct init *init = RP_NEW(struct init);
    enum rp_status status;
    init->out = out;
    init->name = job_name(args->word[0]);
    RP_TRY_GOTO(status, find_data(init, args, result, err), done);
    RP_TRY_GOTO(status, open_data(init, err), done);
    RP_TRY_GOTO(status, measure(init, err), done);
    init_choose(init);
    RP_TRY_GOTO(status, init_choose_length(init, err), done);
    init_write(init, text);
    tell(init, result);
done:
    rp_data_free(init->data);
    rp_data_look_release(&init->look);
    rp_mem_free(init->name);
    rp_mem_free(init);
    return status;
}
