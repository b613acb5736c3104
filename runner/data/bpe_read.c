/* bpe_read.c - the vocabulary, the added tokens and the merges of a tokenizer, from its files. */
#include "data/bpe_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MOST = 1 << 28 };

/* ---- the alphabet of bytes ------------------------------------------------------------------- */

/* Files write each byte as a character that can be seen: itself where it is one of Latin-1's, else
 * the next free one from U+0100. Code point to byte, or -1. */
static int byte_of(uint32_t code_point)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {{0, 32}, {127, 160}, {173, 173}}; /* in the order that U+0100.. take them */
    for (size_t i = 0; i < RP_COUNT(hidden); i++)
        if (code_point >= hidden[i].first && code_point <= hidden[i].last) return -1;
    if (code_point < 256) return (int)code_point;
    uint32_t k = code_point - 256;
    for (size_t i = 0; i < RP_COUNT(hidden); i++) {
        uint32_t n = hidden[i].last - hidden[i].first + 1;
        if (k < n) return (int)(hidden[i].first + k);
        k -= n;
    }
    return -1;
}

/* `written` (n bytes of UTF-8) as the bytes it stands for: their number, at most n, or -1. */
static int64_t bytes_of(const char *written, size_t n, char *bytes)
{
    int64_t length = 0;
    for (size_t i = 0; i < n;) {
        struct bpe_char c = bpe_char_at(written + i, n - i);
        int byte = c.code_point == UINT32_MAX ? -1 : byte_of(c.code_point);
        if (byte < 0) return -1;
        bytes[length++] = (char)byte;
        i += (size_t)c.length;
    }
    return length;
}

/* ---- the vocabulary -------------------------------------------------------------------------- */

static void source_init(struct bpe_source *source, const char *path, size_t room)
{
    *source = (struct bpe_source){.path = path, .room = (int64_t)room};
    source->text = RP_NEW_ARRAY(char *, room + 1);
    source->length = RP_NEW_ARRAY(size_t, room + 1);
    source->in_vocabulary = RP_NEW_ARRAY(bool, room + 1);
}

static void source_release(struct bpe_source *source)
{
    for (int64_t id = 0; id < source->room; id++) rp_mem_free(source->text[id]);
    rp_mem_free(source->text);
    rp_mem_free(source->length);
    rp_mem_free(source->in_vocabulary);
    *source = (struct bpe_source){0};
}

/* Reads the id of the entry `name`; says why it can be none. */
static enum rp_status read_id(const struct bpe_source *source, const char *name, const json_t *json,
                              int64_t *id, struct rp_error *err)
{
    if (!json_is_integer(json))
        return rp_error_set(err, RP_STATUS_DATA, "%s: `%s`: expected an id, a whole number",
                            source->path, name);
    *id = (int64_t)json_integer_value(json);
    if (*id < 0 || *id >= source->room)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: `%s`: the id %lld, but there are %lld tokens: ids must begin at 0 "
                            "and not have gaps",
                            source->path, name, (long long)*id, (long long)source->room);
    return RP_STATUS_OK;
}

static void put(struct bpe_source *source, int64_t id, const char *bytes, size_t n)
{
    source->text[id] = rp_mem_new(n + 1);
    memcpy(source->text[id], bytes, n);
    source->length[id] = n;
    if (id >= source->n) source->n = id + 1;
}

/* Entry `name` of the vocabulary. An added token that is in the vocabulary too has been put: its
 * text is written as it is. */
static enum rp_status put_entry(struct bpe_source *source, const char *name, const json_t *json,
                                struct rp_error *err)
{
    int64_t id = 0;
    RP_TRY(read_id(source, name, json, &id, err));
    size_t n = strlen(name);
    if (source->text[id]) {
        bool same = !source->in_vocabulary[id] && strcmp(source->text[id], name) == 0;
        source->in_vocabulary[id] = true;
        if (same) return RP_STATUS_OK;
        return rp_error_set(err, RP_STATUS_DATA, "%s: `%s`: a second token with the id %lld",
                            source->path, name, (long long)id);
    }
    char *bytes = rp_mem_new(n + 1);
    int64_t length = bytes_of(name, n, bytes);
    if (length > 0) put(source, id, bytes, (size_t)length);
    source->in_vocabulary[id] = true;
    rp_mem_free(bytes);
    if (length > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s: `%s` (id %lld) is not written in the alphabet of byte-level BPE",
                        source->path, name, (long long)id);
}

static enum rp_status put_entries(struct bpe_source *source, json_t *vocabulary,
                                  struct rp_error *err)
{
    const char *name;
    json_t *id;
    json_object_foreach(vocabulary, name, id) RP_TRY(put_entry(source, name, id, err));
    return RP_STATUS_OK;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static int compare_added(const void *a, const void *b)
{
    const struct bpe_added *x = a, *y = b;
    return (x->n < y->n) - (x->n > y->n);
}

static void finish_added(struct rp_bpe *bpe)
{
    if (bpe->n_added) qsort(bpe->added, (size_t)bpe->n_added, sizeof *bpe->added, compare_added);
    for (int i = 0; i < bpe->n_added; i++) {
        const struct bpe_added *added = &bpe->added[i];
        unsigned char first = (unsigned char)added->text[0];
        bpe->added_first[true][first] = true;
        if (!added->special) bpe->added_first[false][first] = true;
        if (added->n > bpe->added_longest) bpe->added_longest = added->n;
    }
}

static void add_added(struct rp_bpe *bpe, const char *text, int64_t id, bool special)
{
    struct bpe_added *added = &bpe->added[bpe->n_added++];
    *added = (struct bpe_added){rp_mem_copy_text(text), strlen(text), (int32_t)id, special};
}

static enum rp_status put_added(struct rp_bpe *bpe, struct bpe_source *source, const json_t *json,
                                struct rp_error *err)
{
    static const char *const trims[] = {"lstrip", "rstrip", "single_word"};
    const char *text = json_string_value(json_object_get(json, "content"));
    int64_t id = 0;
    if (!text || !*text)
        return rp_error_set(err, RP_STATUS_DATA, "%s: added_tokens: an entry without `content`",
                            source->path);
    RP_TRY(read_id(source, text, json_object_get(json, "id"), &id, err));
    for (size_t i = 0; i < RP_COUNT(trims); i++)
        if (json_is_true(json_object_get(json, trims[i])))
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: added_tokens: `%s`: %s is not supported here", source->path,
                                text, trims[i]);
    if (source->text[id])
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: added_tokens: `%s`: a second token with the id %lld", source->path,
                            text, (long long)id);
    put(source, id, text, strlen(text));
    add_added(bpe, text, id, json_is_true(json_object_get(json, "special")));
    return RP_STATUS_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* What one merge is called in messages: "merges.txt:12" or "tokenizer.json: merge 11". */
struct merge_place {
    const char *path;
    int64_t line, rank;
};

static enum rp_status fail_merge(const struct merge_place *place, const char *why, const char *text,
                                 size_t n, struct rp_error *err)
{
    if (place->line)
        return rp_error_set(err, RP_STATUS_DATA, "%s:%lld: %s: `%.*s`", place->path,
                            (long long)place->line, why, (int)n, text);
    return rp_error_set(err, RP_STATUS_DATA, "%s: merge %lld: %s: `%.*s`", place->path,
                        (long long)place->rank, why, (int)n, text);
}

static enum rp_status add_merge(struct rp_bpe *bpe, const struct merge_place *place,
                                const char *left, size_t n_left, const char *right, size_t n_right,
                                struct rp_error *err)
{
    static const char unknown[] = "this token is not in the vocabulary";
    enum rp_status status = RP_STATUS_OK;
    char *bytes = rp_mem_new(n_left + n_right + 1);
    int64_t a = bytes_of(left, n_left, bytes);
    int64_t b = a > 0 ? bytes_of(right, n_right, bytes + a) : -1;
    int32_t left_id = a > 0 ? bpe_find_word(bpe, bytes, (size_t)a) : -1;
    int32_t right_id = b > 0 ? bpe_find_word(bpe, bytes + a, (size_t)b) : -1;
    int32_t id = b > 0 ? bpe_find_word(bpe, bytes, (size_t)(a + b)) : -1;
    char *pair = rp_mem_text("%.*s %.*s", (int)n_left, left, (int)n_right, right);
    if (left_id < 0)
        status = fail_merge(place, unknown, left, n_left, err);
    else if (right_id < 0)
        status = fail_merge(place, unknown, right, n_right, err);
    else if (id < 0)
        status =
            fail_merge(place, "what this gives is not in the vocabulary", pair, strlen(pair), err);
    else if (!bpe_add_pair(bpe, left_id, right_id, (int32_t)place->rank, id))
        status = fail_merge(place, "this merge stands here twice", pair, strlen(pair), err);
    rp_mem_free(pair);
    rp_mem_free(bytes);
    return status;
}

/* "left right". */
static enum rp_status add_merge_text(struct rp_bpe *bpe, const struct merge_place *place,
                                     const char *text, size_t n, struct rp_error *err)
{
    const char *space = memchr(text, ' ', n);
    size_t left = space ? (size_t)(space - text) : n;
    if (!space || left == 0 || left + 1 == n || memchr(space + 1, ' ', n - left - 1))
        return fail_merge(place, "expected two tokens with a space between", text, n, err);
    return add_merge(bpe, place, text, left, space + 1, n - left - 1, err);
}

static enum rp_status read_merges_file(struct rp_bpe *bpe, const char *path, struct rp_error *err)
{
    char *text = NULL;
    size_t length = 0;
    struct merge_place place = {path, 0, 0};
    RP_TRY(rp_sys_read_file(path, FILE_MOST, RP_STATUS_DATA, &text, &length, err));
    int64_t lines = 1;
    for (size_t i = 0; i < length; i++) lines += text[i] == '\n';
    bpe_make_pairs(bpe, lines);
    enum rp_status status = RP_STATUS_OK;
    for (size_t i = 0; i < length && status == RP_STATUS_OK;) {
        const char *end = memchr(text + i, '\n', length - i);
        size_t n = end ? (size_t)(end - (text + i)) : length - i, next = i + n + 1;
        place.line++;
        if (n && text[i + n - 1] == '\r') n--;
        if (n && !(n >= 8 && memcmp(text + i, "#version", 8) == 0)) {
            status = add_merge_text(bpe, &place, text + i, n, err);
            place.rank++;
        }
        i = next;
    }
    rp_mem_free(text);
    return status;
}

static enum rp_status read_merges_json(struct rp_bpe *bpe, const json_t *merges, const char *path,
                                       struct rp_error *err)
{
    size_t i;
    json_t *merge;
    bpe_make_pairs(bpe, (int64_t)json_array_size(merges));
    json_array_foreach(merges, i, merge)
    {
        struct merge_place place = {path, 0, (int64_t)i};
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        if (json_is_string(merge))
            RP_TRY(add_merge_text(bpe, &place, json_string_value(merge), json_string_length(merge),
                                  err));
        else if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right))
            RP_TRY(add_merge(bpe, &place, json_string_value(left), json_string_length(left),
                             json_string_value(right), json_string_length(right), err));
        else
            return fail_merge(&place, "expected two tokens", "", 0, err);
    }
    return RP_STATUS_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static enum rp_status read_tokenizer(struct rp_bpe *bpe, const json_t *root, const char *path,
                                     struct rp_error *err)
{
    json_t *model = json_object_get(root, "model"), *vocabulary = json_object_get(model, "vocab");
    json_t *merges = json_object_get(model, "merges"),
           *list = json_object_get(root, "added_tokens");
    json_t *added;
    size_t i;
    struct bpe_source source;
    RP_TRY(bpe_read_form(bpe, root, path, err));
    if (!json_is_object(vocabulary) || !json_is_array(merges))
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: model: expected an object `vocab` and an array `merges`", path);
    source_init(&source, path, json_object_size(vocabulary) + json_array_size(list));
    bpe->added = RP_NEW_ARRAY(struct bpe_added, json_array_size(list) + 1);
    enum rp_status status = RP_STATUS_OK;
    json_array_foreach(list, i, added)
        RP_TRY_GOTO(status, put_added(bpe, &source, added, err), out);
    finish_added(bpe);
    RP_TRY_GOTO(status, put_entries(&source, vocabulary, err), out);
    RP_TRY_GOTO(status, bpe_make_words(bpe, &source, err), out);
    RP_TRY_GOTO(status, read_merges_json(bpe, merges, path, err), out);
out:
    source_release(&source);
    return status;
}

/* "gpt2-vocab.json" to "gpt2-merges.txt", any other name to "merges.txt" beside it; caller frees.
 */
static char *merges_path(const char *path)
{
    static const char ending[] = "vocab.json";
    size_t n = strlen(path), n_ending = sizeof ending - 1;
    if (n >= n_ending && strcmp(path + n - n_ending, ending) == 0)
        return rp_mem_text("%.*smerges.txt", (int)(n - n_ending), path);
    char *folder = rp_sys_folder_of(path), *merges = rp_sys_join(folder, "merges.txt");
    rp_mem_free(folder);
    return merges;
}

static enum rp_status read_vocabulary(struct rp_bpe *bpe, json_t *vocabulary, const char *path,
                                      struct rp_error *err)
{
    static const char end_of_text[] = "<|endoftext|>";
    struct bpe_source source;
    source_init(&source, path, json_object_size(vocabulary));
    bpe->file[1] = merges_path(path);
    bpe->added = RP_NEW(struct bpe_added);
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status, put_entries(&source, vocabulary, err), out);
    RP_TRY_GOTO(status, bpe_make_words(bpe, &source, err), out);
    int32_t id = bpe_find_word(bpe, end_of_text, sizeof end_of_text - 1);
    if (id >= 0) add_added(bpe, end_of_text, id, true);
    finish_added(bpe);
    RP_TRY_GOTO(status, read_merges_file(bpe, bpe->file[1], err), out);
out:
    source_release(&source);
    return status;
}

enum rp_status bpe_read(struct rp_bpe *bpe, const char *path, struct rp_error *err)
{
    char *text = NULL;
    size_t length = 0;
    json_error_t problem;
    json_t *root = NULL;
    enum rp_status status = RP_STATUS_OK;
    bpe->file[0] = rp_mem_copy_text(path);
    RP_TRY(rp_sys_read_file(path, FILE_MOST, RP_STATUS_DATA, &text, &length, err));
    root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    rp_mem_free(text);
    if (!root)
        status = rp_error_set(err, RP_STATUS_DATA, "%s:%d:%d: not JSON as expected: %s", path,
                              problem.line, problem.column, problem.text);
    else if (!json_is_object(root))
        status = rp_error_set(err, RP_STATUS_DATA, "%s: expected an object of tokens", path);
    else if (json_is_object(json_object_get(root, "model")))
        status = read_tokenizer(bpe, root, path, err);
    else
        status = read_vocabulary(bpe, root, path, err);
    json_decref(root);
    return status;
}
