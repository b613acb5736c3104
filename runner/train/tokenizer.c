/* tokenizer.c - the tokenizer that a language model was trained with, opened and copied. */
#include "train/tokenizer.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sys.h"
#include "train/train_int.h"

#include <stdio.h>
#include <string.h>

enum { MAX_FILE = 1 << 30 };

enum rp_status rp_tokenizer_open(const struct rp_spec *spec, const char *path, struct rp_bpe **bpe,
                                 struct rp_error *err)
{
    *bpe = NULL;
    if (path) return rp_bpe_open(path, bpe, err);
    if (!spec->train_data.tokenizer) return RP_STATUS_OK;
    char *own = rp_spec_path(spec, spec->train_data.tokenizer);
    enum rp_status status = rp_bpe_open(own, bpe, err);
    rp_mem_free(own);
    return status;
}

/* The first token that is another; their size when there is none. */
static int32_t first_difference(const struct rp_bpe *a, const struct rp_bpe *b)
{
    int32_t n = rp_bpe_size(a), id = 0;
    if (rp_bpe_size(b) < n) n = rp_bpe_size(b);
    for (; id < n; id++) {
        const char *x = NULL, *y = NULL;
        size_t length = rp_bpe_decode_one(a, id, &x);
        if (rp_bpe_decode_one(b, id, &y) != length || memcmp(x, y, length) != 0) break;
    }
    return id;
}

static enum rp_status has_tokenizer(const char *folder, bool *has, struct rp_error *err)
{
    static const char *const names[] = {"tokenizer.json", "vocab.json"};
    *has = false;
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        struct rp_sys_stat stat;
        char *path = rp_sys_join(folder, names[i]);
        enum rp_status status = rp_sys_stat(path, &stat, err);
        rp_mem_free(path);
        RP_TRY(status);
        *has |= stat.exists;
    }
    return RP_STATUS_OK;
}

/* Every token means what it means to the weights; `from` names them. */
static enum rp_status compare(const struct rp_spec *spec, const struct rp_bpe *theirs,
                              const char *from, const char *write, struct rp_error *err)
{
    struct rp_bpe *own = NULL;
    RP_TRY(rp_tokenizer_open(spec, NULL, &own, err));
    int32_t at = first_difference(own, theirs);
    enum rp_status status = RP_STATUS_OK;
    if (at < rp_bpe_size(own) || at < rp_bpe_size(theirs))
        status = rp_spec_fail(spec, spec->train_data.tokenizer_at, RP_STATUS_DATA, err,
                              "the weights in %s were trained with the tokenizer %s (%d tokens), "
                              "this one has %d and another token %d: write `tokenizer: %s`",
                              from, strcmp(from, write) == 0 ? "beside them" : write,
                              (int)rp_bpe_size(theirs), (int)rp_bpe_size(own), (int)at, write);
    rp_bpe_free(own);
    return status;
}

static enum rp_status refuse_bytes(const struct rp_spec *spec, const char *from, const char *write,
                                   struct rp_error *err)
{
    return rp_spec_fail(spec, spec->train_data.at, RP_STATUS_DATA, err,
                        "the weights in %s were trained with the tokenizer %s, and here a token is "
                        "a byte: write `tokenizer: %s` in data.train",
                        from, strcmp(from, write) == 0 ? "beside them" : write, write);
}

/* A table of tokens that is drawn anew knows none of them. */
static bool draws_tokens(const struct rp_spec *spec)
{
    return rp_weights_skipped(spec, "wte.weight");
}

static bool is_text(const struct rp_spec *spec)
{
    enum rp_format format = spec->train_data.format;
    return format == RP_FORMAT_TEXT || format == RP_FORMAT_JSONL;
}

enum rp_status rp_tokenizer_check(const struct rp_spec *spec, const char *folder,
                                  struct rp_error *err)
{
    struct rp_bpe *theirs = NULL;
    bool has = false;
    if (!is_text(spec) || draws_tokens(spec)) return RP_STATUS_OK;
    RP_TRY(has_tokenizer(folder, &has, err));
    if (!has) return RP_STATUS_OK;
    if (!spec->train_data.tokenizer) return refuse_bytes(spec, folder, folder, err);
    RP_TRY(rp_bpe_open(folder, &theirs, err));
    enum rp_status status = compare(spec, theirs, folder, folder, err);
    rp_bpe_free(theirs);
    return status;
}

/* ---- weights of a run ------------------------------------------------------------------------ */

/* File `i` of a tokenizer, as a run recorded it: its path, and whether the file at `now` is the
 * same. NULL: there is none. */
static const char *find_recorded(const struct rp_manifest *manifest, int i, const char *now,
                                 bool *same)
{
    char key[48], hex[RP_SHA256_HEX] = "";
    const json_t *file = NULL;
    size_t at = 0;
    struct rp_sha256 hash;
    struct rp_error ignored = {0};
    *same = false;
    snprintf(key, sizeof key, "data.train.tokenizer[%d]", i);
    json_array_foreach(json_object_get(manifest->root, "data"), at, file)
    {
        const char *theirs = json_string_value(json_object_get(file, "key"));
        const char *path = json_string_value(json_object_get(file, "path"));
        const char *sha256 = json_string_value(json_object_get(file, "sha256"));
        if (!theirs || !path || !sha256 || strcmp(theirs, key) != 0) continue;
        if (rp_sha256_of_file(now ? now : path, &hash, NULL, &ignored) == RP_STATUS_OK)
            rp_sha256_hex(&hash, hex);
        *same = strcmp(hex, sha256) == 0;
        return path;
    }
    return NULL;
}

/* Both of its files, or the one that there is, are those of the run: `files`, NULL-terminated, or
 * what lies now where the run's did. */
static bool are_recorded(const struct rp_manifest *manifest, const char *const *files)
{
    bool same = true;
    for (int i = 0; i < 2 && same; i++)
        if (!find_recorded(manifest, i, files ? files[i] : NULL, &same))
            return i > 0 && (!files || !files[i]);
        else if (files && !files[i])
            return false;
    return same;
}

/* Other files may still hold the same tokens (a tokenizer.json, vocab.json with merges.txt): those
 * of the run are read, if they are there. */
static enum rp_status compare_recorded(const struct rp_spec *spec,
                                       const struct rp_manifest *manifest, const char *run,
                                       struct rp_error *err)
{
    struct rp_bpe *own = NULL, *theirs = NULL;
    struct rp_error ignored = {0};
    bool same;
    const char *path = find_recorded(manifest, 0, NULL, &same);
    if (!path) return RP_STATUS_OK;
    RP_TRY(rp_tokenizer_open(spec, NULL, &own, err));
    same = are_recorded(manifest, rp_bpe_files(own));
    rp_bpe_free(own);
    if (same) return RP_STATUS_OK;
    if (!are_recorded(manifest, NULL) || rp_bpe_open(path, &theirs, &ignored) != RP_STATUS_OK) {
        rp_log_warning("the run %s was trained with another tokenizer, and %s is not what it was: "
                       "whether its tokens are those of `tokenizer: %s` is not known",
                       run, path, spec->train_data.tokenizer);
        return RP_STATUS_OK;
    }
    enum rp_status status = compare(spec, theirs, run, path, err);
    rp_bpe_free(theirs);
    return status;
}

enum rp_status rp_tokenizer_check_run(const struct rp_spec *spec, const char *run,
                                      struct rp_error *err)
{
    char *path = rp_sys_join(run, "resolved.yaml");
    struct rp_spec *before = NULL;
    struct rp_manifest manifest = {0};
    struct rp_error ignored = {0};
    bool found = false;
    enum rp_status status = RP_STATUS_OK;
    if (!is_text(spec) || draws_tokens(spec)) goto out;
    if (rp_spec_load(path, &(struct rp_spec_options){0}, &before, &ignored) != RP_STATUS_OK)
        goto out;                   /* the weights themselves say what is wrong with the folder */
    if (!is_text(before)) goto out; /* numbers: nobody knows whose */
    const char *theirs = before->train_data.tokenizer, *own = spec->train_data.tokenizer;
    if (theirs && !own)
        status = refuse_bytes(spec, run, theirs, err);
    else if (own && !theirs)
        status =
            rp_spec_fail(spec, spec->train_data.tokenizer_at, RP_STATUS_DATA, err,
                         "the weights in %s were trained on bytes: leave `tokenizer` out", run);
    else if (own && rp_manifest_read(run, &found, &manifest, &ignored) == RP_STATUS_OK && found)
        status = compare_recorded(spec, &manifest, run, err);
out:
    rp_manifest_release(&manifest);
    rp_spec_free(before);
    rp_mem_free(path);
    return status;
}

int64_t rp_tokenizer_end_of_text(const struct rp_spec *spec, const struct rp_bpe *bpe)
{
    enum rp_format format = spec->train_data.format;
    if (bpe) return rp_bpe_end_of_text(bpe);
    return format == RP_FORMAT_TEXT || format == RP_FORMAT_JSONL ? 0 : -1; /* bytes: a zero */
}

/* vocab.json and merges.txt lose what stands in front (gpt2-vocab.json). */
static const char *name_of(const char *path)
{
    static const char *const names[] = {"tokenizer.json", "vocab.json", "merges.txt"};
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        size_t n = strlen(path), m = strlen(names[i]);
        if (n >= m && strcmp(path + n - m, names[i]) == 0) return names[i];
    }
    return NULL;
}

static enum rp_status copy_file(const char *from, const char *folder, struct rp_error *err)
{
    char *bytes = NULL, *to = NULL;
    size_t length = 0;
    const char *name = name_of(from);
    if (!name)
        return rp_error_set(err, RP_STATUS_DATA, "%s: no file of a tokenizer by its name", from);
    enum rp_status status = rp_sys_read_file(from, MAX_FILE, RP_STATUS_DATA, &bytes, &length, err);
    to = rp_sys_join(folder, name);
    if (status == RP_STATUS_OK) status = rp_sys_write_file(to, bytes, length, err);
    rp_mem_free(to);
    rp_mem_free(bytes);
    return status;
}

static void add_token(struct rp_text *text, const char *key, const struct rp_bpe *bpe, int32_t id)
{
    const char *bytes = NULL;
    size_t n = rp_bpe_decode_one(bpe, id, &bytes);
    char *token = rp_mem_text("%.*s", (int)n, bytes);
    rp_text_add(text, ",\n  \"%s\": ", key);
    rp_text_add_json(text, token);
    rp_mem_free(token);
}

enum rp_status rp_tokenizer_copy(const struct rp_bpe *bpe, const char *folder, int64_t context,
                                 struct rp_error *err)
{
    const char *const *files = rp_bpe_files(bpe);
    int32_t end = rp_bpe_end_of_text(bpe);
    bool fast = strcmp(name_of(files[0]) ? name_of(files[0]) : "", "tokenizer.json") == 0;
    struct rp_text text = {0};
    enum rp_status status = RP_STATUS_OK;
    char *path = rp_sys_join(folder, "tokenizer_config.json");
    for (int i = 0; files[i] && status == RP_STATUS_OK; i++)
        status = copy_file(files[i], folder, err);
    rp_text_add(&text, "{\n  \"tokenizer_class\": \"%s\",\n  \"model_max_length\": %lld",
                fast ? "PreTrainedTokenizerFast" : "GPT2Tokenizer", (long long)context);
    if (end >= 0) {
        add_token(&text, "bos_token", bpe, end);
        add_token(&text, "eos_token", bpe, end);
        if (!fast) add_token(&text, "unk_token", bpe, end);
    }
    rp_text_add(&text, "\n}\n");
    if (status == RP_STATUS_OK) status = rp_sys_write_file(path, text.bytes, text.length, err);
    rp_mem_free(path);
    rp_text_release(&text);
    return status;
}
