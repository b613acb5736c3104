/* facts.c - what a run's manifest says, beyond what record/ keeps of its form. */
#include "base/hash.h"
#include "base/json_text.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "env/env.h"
#include "train/start_int.h"

#include <string.h>

const char *rp_facts_text(const struct rp_manifest *manifest, const char *group, const char *key)
{
    const json_t *object = group ? json_object_get(manifest->root, group) : manifest->root;
    return json_string_value(json_object_get(object, key));
}

static json_t *hex_of(const struct rp_sha256 *hash)
{
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(hash, hex);
    return json_string(hex);
}

static json_t *section_digest(const struct rp_spec *spec, enum rp_section section)
{
    struct rp_sha256 hash = rp_spec_digest(spec, section);
    return hex_of(&hash);
}

/* Two specs that differ in nothing but the seed are one experiment: `list` groups by this. */
static json_t *digest_without_seed(const struct rp_spec *spec)
{
    struct rp_text canonical = {0}, kept = {0};
    rp_spec_canonical(spec, RP_SECTION_NUMERIC, &canonical);
    for (const char *line = rp_text_get(&canonical); *line;) {
        size_t length = strcspn(line, "\n") + 1;
        if (strncmp(line, "seed=", 5) != 0) rp_text_add_bytes(&kept, line, length);
        line += length;
    }
    struct rp_sha256 hash = rp_sha256_of(rp_text_get(&kept), kept.length);
    rp_text_release(&kept);
    rp_text_release(&canonical);
    return hex_of(&hash);
}

static json_t *data_files(const struct rp_data *data)
{
    const struct rp_data_file *files = NULL;
    int n = rp_data_files(data, &files);
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:I, s:o, s:I, s:I}", "key", files[i].key, "path",
                            rp_json_text(files[i].path), "size", (json_int_t)files[i].size,
                            "sha256", hex_of(&files[i].sha256), "mtime_ns",
                            (json_int_t)files[i].mtime_ns, "inode", (json_int_t)files[i].inode));
    }
    return list;
}

static json_t *class_names(const struct rp_data *data)
{
    const char *const *names = rp_data_class_names(data);
    json_t *list = json_array();
    for (int64_t i = 0; names && i < rp_data_shape(data)->n_classes; i++)
        json_array_append_new(list, rp_json_text(names[i]));
    return list;
}

/* Names of the features of a table: what a model is applied to later must have them too. JSON
 * cannot hold names in another encoding than UTF-8: then there are none, and columns go by their
 * place. */
static json_t *column_names(const struct rp_data *data)
{
    const char *const *names = rp_data_columns(data);
    json_t *list = json_array();
    for (int64_t i = 0; names && i < rp_data_shape(data)->dims[0]; i++) {
        if (json_array_append_new(list, json_string(names[i])) == 0) continue;
        json_array_clear(list);
        break;
    }
    return list;
}

static json_t *shape_of(const struct rp_data_shape *shape)
{
    json_t *sample = json_array();
    for (int i = 0; i < shape->n_dims; i++)
        json_array_append_new(sample, json_integer((json_int_t)shape->dims[i]));
    static const char *const names[] = {"classes", "values", "tokens"};
    bool values = shape->target == RP_TARGET_VALUES;
    return json_pack("{s:o, s:s, s:I, s:I, s:I}", "sample", sample, "target", names[shape->target],
                     "width", (json_int_t)(values ? shape->n_values : shape->n_classes), "train",
                     (json_int_t)shape->n_train, "valid", (json_int_t)shape->n_valid);
}

bool rp_facts_shape(const struct rp_manifest *manifest, struct rp_data_shape *shape)
{
    const json_t *object = json_object_get(manifest->root, "shape");
    const json_t *sample = json_object_get(object, "sample");
    const char *target = json_string_value(json_object_get(object, "target"));
    int64_t width = json_integer_value(json_object_get(object, "width"));
    size_t n = json_array_size(sample);
    if (!target || (n != 1 && n != 3) || width < 1) return false;
    *shape = (struct rp_data_shape){.n_dims = (int)n, .dims = {1, 1, 1}};
    for (size_t i = 0; i < n; i++) shape->dims[i] = json_integer_value(json_array_get(sample, i));
    shape->target = strcmp(target, "values") == 0   ? RP_TARGET_VALUES
                    : strcmp(target, "tokens") == 0 ? RP_TARGET_TOKENS
                                                    : RP_TARGET_CLASSES;
    shape->n_classes = shape->target == RP_TARGET_VALUES ? 0 : width;
    shape->n_values = shape->target == RP_TARGET_VALUES ? width : 0;
    shape->n_train = json_integer_value(json_object_get(object, "train"));
    shape->n_valid = json_integer_value(json_object_get(object, "valid"));
    for (int i = 0; i < shape->n_dims; i++)
        if (shape->dims[i] < 1) return false;
    return shape->n_train > 0 && shape->n_valid >= 0;
}

/* A word as a POSIX shell reads it back. */
static void add_word(struct rp_text *line, const char *word)
{
    bool plain =
        word[0] &&
        !word[strspn(word,
                     "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,@%+-")];
    rp_text_add(line, plain ? " " : " '");
    for (const char *c = word; *c; c++) rp_text_add(line, *c == '\'' ? "'\\''" : "%c", *c);
    if (!plain) rp_text_add(line, "'");
}

/* The line that goes on with this run, from wherever it is pasted. */
static json_t *command_line(const struct rp_start *start)
{
    struct rp_text line = {0};
    char *spec = rp_sys_absolute(start->spec->path), *run = rp_sys_absolute(start->run),
         *folder = rp_sys_absolute(start->spec->folder);
    rp_text_add(&line, "reprise run");
    add_word(&line, spec);
    rp_text_add(&line, " --out");
    add_word(&line, run);
    rp_text_add(&line, " --data");
    add_word(&line, folder);
    for (const char *const *set = start->options->set; set && *set; set++) {
        rp_text_add(&line, " --set");
        add_word(&line, *set);
    }
    json_t *text = rp_json_text(rp_text_get(&line));
    rp_mem_free(folder);
    rp_mem_free(run);
    rp_mem_free(spec);
    rp_text_release(&line);
    return text;
}

void rp_facts_describe(struct rp_start *start)
{
    json_t *root = start->manifest.root;
    char *folder = rp_sys_absolute(start->spec->folder);
    json_object_set_new(root, "format", json_integer(1));
    json_object_set_new(root, "name", json_string(start->spec->name));
    json_object_set_new(root, "status", json_string("running"));
    json_object_set_new(root, "exit_code", json_null());
    json_object_set_new(root, "digests",
                        json_pack("{s:o, s:o, s:o, s:o, s:o, s:n}", "numeric",
                                  hex_of(&start->numeric), "numeric_unbound",
                                  hex_of(&start->spec_digest), "numeric_without_seed",
                                  digest_without_seed(start->spec), "policy",
                                  section_digest(start->spec, RP_SECTION_POLICY), "place",
                                  section_digest(start->spec, RP_SECTION_PLACE), "final"));
    json_object_set_new(root, "steps", json_integer((json_int_t)start->plan->n_steps));
    json_object_set_new(root, "step", json_integer(0));
    json_object_set_new(root, "data_folder", rp_json_text(folder));
    json_object_set_new(root, "data", data_files(start->data));
    json_object_set_new(root, "shape", shape_of(rp_data_shape(start->data)));
    json_object_set_new(root, "classes", class_names(start->data));
    json_object_set_new(root, "columns", column_names(start->data));
    rp_mem_free(folder);
}

/* What each rank has read of the checkpoint's files. */
static json_t *restored_of(const struct rp_start *start)
{
    json_t *bytes = json_array();
    for (int r = 0; start->origin.restored && r < start->plan->ranks; r++)
        json_array_append_new(bytes, json_integer((json_int_t)start->origin.bytes[r]));
    return json_pack("{s:o}", "bytes_read", bytes);
}

void rp_facts_begin(struct rp_start *start, uint64_t step)
{
    json_t *root = start->manifest.root, *overrides = json_array();
    char device[256], comm[128];
    start->device->table->describe(start->device, device);
    rp_comm_describe(&start->comm, comm);
    for (const char *const *set = start->options->set; set && *set; set++)
        json_array_append_new(overrides, json_string(*set));
    json_object_set_new(root, "status", json_string("running"));
    json_object_set_new(root, "exit_code", json_null());
    json_object_del(root, "error");
    json_object_set_new(root, "command", command_line(start));
    json_object_set(root, "environment", start->environment);
    json_object_set_new(root, "data", data_files(start->data));
    rp_manifest_add_segment(
        &start->manifest,
        json_pack("{s:I, s:i, s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "step_first",
                  (json_int_t)step, "ranks", start->plan->ranks, "threads", start->plan->threads,
                  "device", device, "comm", comm, "policy",
                  section_digest(start->spec, RP_SECTION_POLICY), "place",
                  section_digest(start->spec, RP_SECTION_PLACE), "overrides", overrides, "drift",
                  start->drift ? json_incref(start->drift) : json_array(), "restored",
                  restored_of(start)));
}

/* What moves the bytes between ranks is known when they are connected. */
enum rp_status rp_facts_connected(struct rp_start *start, struct rp_error *err)
{
    json_t *segments = json_object_get(start->manifest.root, "segments");
    json_t *own = json_array_get(segments, (size_t)start->manifest.segment);
    const char *before = json_string_value(json_object_get(own, "comm"));
    char comm[128];
    rp_comm_describe(&start->comm, comm);
    if (!own || (before && strcmp(before, comm) == 0)) return RP_STATUS_OK;
    json_object_set_new(own, "comm", json_string(comm));
    return rp_manifest_write(&start->manifest, err);
}

void rp_facts_end(struct rp_start *start, enum rp_status status, const char *run_status,
                  const char *why, const struct rp_checkpoint_state *state,
                  const struct rp_sha256 *final, const struct rp_error *err)
{
    json_t *root = start->manifest.root, *digests = json_object_get(root, "digests");
    json_object_set_new(root, "status", json_string(run_status));
    json_object_set_new(root, "exit_code", json_integer(status));
    json_object_set_new(root, "step", json_integer((json_int_t)state->step));
    json_object_set_new(root, "seconds", json_real(state->seconds));
    json_object_set_new(digests, "chain", hex_of(&state->chain));
    if (final) json_object_set_new(digests, "final", hex_of(final));
    if (state->has_best)
        json_object_set_new(root, "best",
                            json_pack("{s:s, s:f, s:I}", "metric",
                                      start->spec->checkpoint.keep_best, "value", state->best_value,
                                      "step", (json_int_t)state->best_step));
    if (err && err->text[0]) json_object_set_new(root, "error", json_string(err->text));
    rp_manifest_end_segment(&start->manifest, why, state->step);
}

static void set_seconds(json_t *object, const char *key, double seconds)
{
    if (seconds > 0) json_object_set_new(object, key, json_real(seconds));
}

void rp_facts_measured(struct rp_start *start, const struct rp_loop *loop)
{
    json_t *longest = json_object();
    set_seconds(longest, "step_seconds", loop->longest.step);
    set_seconds(longest, "evaluation_seconds", loop->longest.evaluation);
    set_seconds(longest, "save_seconds", rp_saver_longest(start->saver));
    rp_manifest_set(&start->manifest, "longest", longest);
    if (loop->stopped_why && loop->asked_at > 0)
        rp_manifest_set(&start->manifest, "stop_seconds",
                        json_real(rp_sys_clock() - loop->asked_at));
}

void rp_facts_lost(struct rp_start *start, enum rp_status status, const struct rp_error *err)
{
    json_t *root = start->manifest.root;
    struct rp_error ignored = {0};
    if (!root || start->manifest.segment < 0) return;
    json_object_set_new(root, "status", json_string("failed"));
    json_object_set_new(root, "exit_code", json_integer(status));
    json_object_set_new(root, "error", json_string(err->text));
    if (rp_manifest_write(&start->manifest, &ignored) != RP_STATUS_OK)
        rp_log_warning("the manifest could not be updated: %s", ignored.text);
}

int rp_facts_known_data(const struct rp_manifest *manifest, struct rp_data_known **known)
{
    json_t *list = json_object_get(manifest->root, "data"), *file = NULL;
    struct rp_data_known *rows = RP_NEW_ARRAY(struct rp_data_known, json_array_size(list) + 1);
    size_t i = 0;
    int n = 0;
    json_array_foreach(list, i, file)
    {
        const char *hex = json_string_value(json_object_get(file, "sha256"));
        struct rp_data_known *row = &rows[n];
        row->path = json_string_value(json_object_get(file, "path"));
        row->size = (uint64_t)json_integer_value(json_object_get(file, "size"));
        row->inode = (uint64_t)json_integer_value(json_object_get(file, "inode"));
        row->mtime_ns = json_integer_value(json_object_get(file, "mtime_ns"));
        if (row->path && hex && rp_sha256_from_hex(hex, &row->sha256)) n++;
    }
    *known = rows;
    return n;
}

static enum rp_status check_hash(const json_t *recorded, const struct rp_data_file *found,
                                 const char *advice, struct rp_error *err)
{
    const json_t *file = NULL;
    size_t i = 0;
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&found->sha256, hex);
    json_array_foreach((json_t *)recorded, i, file)
    {
        const char *key = json_string_value(json_object_get(file, "key"));
        const char *before = json_string_value(json_object_get(file, "sha256"));
        if (!key || !before || strcmp(key, found->key) != 0 || strcmp(before, hex) == 0) continue;
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s is not the %s of this run: SHA-256 %s then, %s now. Restore it; %s",
                            found->path, key, before, hex, advice);
    }
    return RP_STATUS_OK;
}

enum rp_status rp_facts_check_data(const json_t *recorded, const struct rp_data *data,
                                   const char *advice, struct rp_error *err)
{
    const struct rp_data_file *files = NULL;
    int n = rp_data_files(data, &files);
    for (int i = 0; i < n; i++) RP_TRY(check_hash(recorded, &files[i], advice, err));
    return RP_STATUS_OK;
}

/* Where the data was; the caller frees. A name that is no UTF-8 was recorded with escapes. */
static char *recorded_folder(const struct rp_manifest *manifest)
{
    const char *text = rp_facts_text(manifest, NULL, "data_folder");
    struct rp_sys_stat stat = {0};
    if (!text) return NULL;
    bool as_it_is = rp_sys_stat(text, &stat, NULL) == RP_STATUS_OK && stat.is_folder;
    return as_it_is ? rp_mem_copy_text(text) : rp_utf8_unescaped(text);
}

enum rp_status rp_train_load_spec(const char *run, const struct rp_manifest *manifest,
                                  const char *data_folder, const char *const *set,
                                  struct rp_spec **spec, struct rp_error *err)
{
    char *path = rp_sys_join(run, "resolved.yaml"), *recorded = recorded_folder(manifest);
    struct rp_spec_options options = {.data_folder = data_folder ? data_folder : recorded,
                                      .set = set};
    enum rp_status status = rp_spec_load(path, &options, spec, err);
    rp_mem_free(recorded);
    rp_mem_free(path);
    return status;
}
