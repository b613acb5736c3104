/* state.c - state.json and COMMITTED: what a checkpoint knows beside its tensors.
 *
 * Every value comes back exactly: integers above 2^63 stand as decimal text, doubles as hex floats
 * with the decimal beside them for people. */
#include "checkpoint/checkpoint_int.h"

#include "base/number.h"
#include "base/sys.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Shards came with 2; what a single rank writes is as it was. */
enum { FORMAT = 1, FORMAT_SHARDS = 2, MAX_STATE = 16 << 20 };

/* ---- writing --------------------------------------------------------------------------------- */

static void add_u64(struct rp_text *text, const char *key, uint64_t value)
{
    const char *quote = value > INT64_MAX ? "\"" : "";
    rp_text_add(text, "  \"%s\": %s%" PRIu64 "%s,\n", key, quote, value, quote);
}

static void add_double(struct rp_text *text, const char *key, double value)
{
    char hex[RP_NUMBER_BYTES], decimal[RP_NUMBER_BYTES];
    rp_number_hex(value, hex);
    rp_number_text(value, decimal);
    const char *quote = strpbrk(decimal, "NI") ? "\"" : "";
    rp_text_add(text, "  \"%s\": {\"hex\": \"%s\", \"decimal\": %s%s%s},\n", key, hex, quote,
                decimal, quote);
}

static void add_hash(struct rp_text *text, const char *key, const struct rp_sha256 *hash)
{
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(hash, hex);
    rp_text_add(text, "  \"%s\": \"%s\",\n", key, hex);
}

static void add_file(struct rp_text *text, const char *name, const struct rp_checkpoint_file *file,
                     const char *end)
{
    char hex[RP_SHA256_HEX];
    rp_sha256_hex(&file->hash, hex);
    rp_text_add(text, "    \"%s\": {\"size\": %" PRIu64 ", \"sha256\": \"%s\"}%s\n", name,
                file->bytes, hex, end);
}

static const char *const kind_names[] = {"model", "optimizer"};

/* In which shard each tensor lies. */
static void add_order(struct rp_text *text, const struct rp_checkpoint_hashes *hashes)
{
    rp_text_add(text, "  \"shards\": %d,\n  \"order\": {\n", hashes->n_shards);
    for (int kind = 0; kind < 2; kind++) {
        const struct rp_checkpoint_files *files = &hashes->kind[kind];
        rp_text_add(text, "    \"%s\": [", kind_names[kind]);
        for (int i = 0; i < files->n_tensors; i++)
            rp_text_add(text, "%s%d", i ? ", " : "", files->shard_of[i]);
        rp_text_add(text, "]%s\n", kind == 0 ? "," : "");
    }
    rp_text_add(text, "  },\n");
}

static void add_files(struct rp_text *text, const struct rp_checkpoint_hashes *hashes)
{
    rp_text_add(text, "  \"files\": {\n");
    for (int kind = 0; kind < 2; kind++) {
        for (int r = 0; r < hashes->n_shards; r++) {
            char name[RP_CHECKPOINT_NAME_BYTES];
            bool last = kind == 1 && r == hashes->n_shards - 1 && hashes->n_shards == 1;
            rp_checkpoint_file_name((enum rp_checkpoint_kind)kind, r, hashes->n_shards, name);
            add_file(text, name, &hashes->kind[kind].shard[r], last ? "" : ",");
        }
    }
    if (hashes->n_shards > 1) add_file(text, RP_CHECKPOINT_INDEX, &hashes->index, "");
    rp_text_add(text, "  }\n}\n");
}

void rp_checkpoint_write_state(const struct rp_checkpoint_state *state,
                               const struct rp_checkpoint_hashes *hashes, struct rp_text *text)
{
    char params[RP_HEX64];
    rp_hex64(state->params_digest, params);
    rp_text_add(text, "{\n  \"format\": %d,\n", hashes->n_shards > 1 ? FORMAT_SHARDS : FORMAT);
    add_u64(text, "step", state->step);
    add_u64(text, "t", state->t);
    add_double(text, "beta1_power", state->beta1_power);
    add_double(text, "beta2_power", state->beta2_power);
    add_hash(text, "chain", &state->chain);
    rp_text_add(text, "  \"params\": \"%s\",\n", params);
    add_u64(text, "metrics_bytes", state->metrics_bytes);
    add_u64(text, "digests_bytes", state->digests_bytes);
    rp_text_add(text, "  \"has_best\": %s,\n", state->has_best ? "true" : "false");
    add_double(text, "best_value", state->best_value);
    add_u64(text, "best_step", state->best_step);
    rp_text_add(text, "  \"has_watched\": %s,\n", state->has_watched ? "true" : "false");
    add_double(text, "watched_value", state->watched_value);
    add_u64(text, "bad_evals", state->bad_evals);
    add_u64(text, "evaluated_step", state->evaluated_step);
    add_double(text, "seconds", state->seconds);
    add_hash(text, "tensors", &hashes->tensors);
    if (hashes->n_shards > 1) add_order(text, hashes);
    add_files(text, hashes);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* One object being read; the first key that is missing or wrong is kept. */
struct fields {
    const json_t *object;
    const char *wrong;
};

static void note(struct fields *fields, bool good, const char *key)
{
    if (!good && !fields->wrong) fields->wrong = key;
}

static uint64_t get_u64(struct fields *fields, const char *key)
{
    const json_t *value = json_object_get(fields->object, key);
    const char *text = json_string_value(value);
    uint64_t result = 0;
    bool good = false;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        result = (uint64_t)json_integer_value(value);
        good = true;
    } else if (text && strlen(text) == strspn(text, "0123456789") &&
               strlen(text) == 19 + (text[0] == '1')) {
        result = strtoull(text, NULL, 10);
        good = result > INT64_MAX;
    }
    note(fields, good, key);
    return result;
}

static double get_double(struct fields *fields, const char *key)
{
    const char *hex =
        json_string_value(json_object_get(json_object_get(fields->object, key), "hex"));
    double value = 0;
    note(fields, hex && rp_number_parse(hex, &value), key);
    return value;
}

static struct rp_sha256 get_hash(struct fields *fields, const char *key)
{
    struct rp_sha256 hash = {{0}};
    const char *hex = json_string_value(json_object_get(fields->object, key));
    note(fields, hex && rp_sha256_from_hex(hex, &hash), key);
    return hash;
}

static uint64_t get_hex64(struct fields *fields, const char *key)
{
    uint64_t value = 0;
    const char *hex = json_string_value(json_object_get(fields->object, key));
    note(fields, hex && rp_hex64_parse(hex, &value), key);
    return value;
}

static void get_file(struct fields *fields, const char *name, struct rp_checkpoint_file *to)
{
    struct fields file = {.object =
                              json_object_get(json_object_get(fields->object, "files"), name)};
    to->hash = get_hash(&file, "sha256");
    to->bytes = get_u64(&file, "size");
    note(fields, file.object && !file.wrong, "files");
}

static void get_order(struct fields *fields, int kind, struct rp_checkpoint_hashes *hashes)
{
    const json_t *list =
        json_object_get(json_object_get(fields->object, "order"), kind_names[kind]);
    struct rp_checkpoint_files *files = &hashes->kind[kind];
    int n = (int)json_array_size(list);
    note(fields, json_is_array(list), "order");
    files->shard_of = RP_NEW_ARRAY(int, n + 1);
    files->n_tensors = n;
    for (int i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        json_int_t shard = json_integer_value(item);
        bool good = json_is_integer(item) && shard >= 0 && shard < hashes->n_shards;
        note(fields, good, "order");
        files->shard_of[i] = good ? (int)shard : 0;
    }
}

static void get_files(struct fields *fields, struct rp_checkpoint_hashes *hashes)
{
    uint64_t format = get_u64(fields, "format"), shards = 1;
    note(fields, format == FORMAT || format == FORMAT_SHARDS, "format");
    if (format == FORMAT_SHARDS) shards = get_u64(fields, "shards");
    bool good = format == FORMAT || (shards > 1 && shards <= RP_CHECKPOINT_MAX_SHARDS);
    note(fields, good, "shards");
    hashes->n_shards = good ? (int)shards : 1;
    for (int kind = 0; kind < 2; kind++) {
        for (int r = 0; r < hashes->n_shards; r++) {
            char name[RP_CHECKPOINT_NAME_BYTES];
            rp_checkpoint_file_name((enum rp_checkpoint_kind)kind, r, hashes->n_shards, name);
            get_file(fields, name, &hashes->kind[kind].shard[r]);
        }
        if (hashes->n_shards > 1) get_order(fields, kind, hashes);
    }
    if (hashes->n_shards > 1) get_file(fields, RP_CHECKPOINT_INDEX, &hashes->index);
}

enum rp_status rp_checkpoint_parse_state(const char *text, size_t length, const char *where,
                                         struct rp_checkpoint_state *state,
                                         struct rp_checkpoint_hashes *hashes, struct rp_error *err)
{
    json_error_t why;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    enum rp_status status = RP_STATUS_OK;
    if (!root) return rp_error_set(err, RP_STATUS_DATA, "%s: no JSON: %s", where, why.text);
    struct fields fields = {.object = root};
    *hashes = (struct rp_checkpoint_hashes){0};
    state->step = get_u64(&fields, "step");
    state->t = get_u64(&fields, "t");
    state->beta1_power = get_double(&fields, "beta1_power");
    state->beta2_power = get_double(&fields, "beta2_power");
    state->chain = get_hash(&fields, "chain");
    state->params_digest = get_hex64(&fields, "params");
    state->metrics_bytes = get_u64(&fields, "metrics_bytes");
    state->digests_bytes = get_u64(&fields, "digests_bytes");
    state->has_best = json_is_true(json_object_get(root, "has_best"));
    note(&fields, json_is_boolean(json_object_get(root, "has_best")), "has_best");
    state->best_value = get_double(&fields, "best_value");
    state->best_step = get_u64(&fields, "best_step");
    state->has_watched = json_is_true(json_object_get(root, "has_watched"));
    note(&fields, json_is_boolean(json_object_get(root, "has_watched")), "has_watched");
    state->watched_value = get_double(&fields, "watched_value");
    state->bad_evals = get_u64(&fields, "bad_evals");
    state->evaluated_step = get_u64(&fields, "evaluated_step");
    state->seconds = get_double(&fields, "seconds");
    hashes->tensors = get_hash(&fields, "tensors");
    get_files(&fields, hashes);
    if (fields.wrong)
        status =
            rp_error_set(err, RP_STATUS_DATA, "%s: `%s` is missing or wrong", where, fields.wrong);
    json_decref(root);
    return status;
}

enum rp_status rp_checkpoint_open_state(const char *folder, struct rp_checkpoint_state *state,
                                        struct rp_checkpoint_hashes *hashes, struct rp_error *err)
{
    char *marker = rp_sys_join(folder, RP_CHECKPOINT_COMMITTED), *marker_text = NULL;
    char *path = rp_sys_join(folder, RP_CHECKPOINT_STATE), *text = NULL;
    char hex[RP_SHA256_HEX];
    size_t length = 0, marker_length = 0;
    enum rp_status status = RP_STATUS_OK;
    *hashes = (struct rp_checkpoint_hashes){0};

    RP_TRY_GOTO(status,
                rp_sys_read_file(marker, 1024, RP_STATUS_DATA, &marker_text, &marker_length, err),
                out);
    RP_TRY_GOTO(status, rp_sys_read_file(path, MAX_STATE, RP_STATUS_DATA, &text, &length, err),
                out);
    struct rp_sha256 hash = rp_sha256_of(text, length);
    rp_sha256_hex(&hash, hex);
    marker_text[strcspn(marker_text, "\n")] = '\0';
    if (strcmp(hex, marker_text) != 0)
        status =
            rp_error_set(err, RP_STATUS_DATA, "%s has not the hash that %s gives", path, marker);
    else
        status = rp_checkpoint_parse_state(text, length, path, state, hashes, err);
out:
    rp_mem_free(text);
    rp_mem_free(path);
    rp_mem_free(marker_text);
    rp_mem_free(marker);
    return status;
}

void rp_checkpoint_hashes_release(struct rp_checkpoint_hashes *hashes)
{
    for (int kind = 0; kind < 2; kind++) rp_mem_free(hashes->kind[kind].shard_of);
    hashes->kind[0].shard_of = hashes->kind[1].shard_of = NULL;
}
