/* look_text.c - texts that nobody has described: files of words, of JSON lines, of token numbers.
 */
#include "data/look_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <string.h>

enum { LINE_MOST = 1 << 20, CHUNK = 1 << 16, HEADER_BYTES = 1024 };

/* ---- which files are for what ---------------------------------------------------------------- */

/* Is `word` part of the name, and no letter beside it? */
static bool has_word(const char *name, const char *word)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    size_t n = strlen(word);
    for (const char *at = name; (at = strcasestr(at, word)) != NULL; at++) {
        bool begins = at == name || !strchr(letters, at[-1] | 32);
        if (begins && (!at[n] || !strchr(letters, at[n] | 32))) return true;
    }
    return false;
}

void look_part_files(const char *const *paths, int n, struct rp_data_look *look)
{
    static const char *const valid[] = {"val", "valid", "validation", "dev"};
    int n_valid = 0, n_test = 0;
    for (int i = 0; i < n; i++) {
        bool is_valid = false, is_test = has_word(look_name_of(paths[i]), "test");
        for (size_t w = 0; w < RP_COUNT(valid); w++)
            is_valid = is_valid || has_word(look_name_of(paths[i]), valid[w]);
        char *path = rp_mem_copy_text(paths[i]);
        if (n > 1 && is_valid && n_valid < RP_SPEC_MAX_FILES)
            look->valid[n_valid++] = path;
        else if (n > 1 && is_test && n_test < RP_SPEC_MAX_FILES)
            look->test[n_test++] = path;
        else
            look->path[look->n_paths++] = path;
    }
    look->n_valid = n_valid;
    look->n_test = n_test;
    if (n_valid) rp_text_add(&look->notes, "files with `val` in their name are data.valid\n");
    if (n_test) rp_text_add(&look->notes, "files with `test` in their name are data.test\n");
}

static enum rp_status check_training(const struct rp_data_look *look, struct rp_error *err)
{
    if (look->n_paths > 0) return RP_STATUS_OK;
    return rp_error_set(err, RP_STATUS_USAGE,
                        "only files to evaluate on, by their names: name one to train on");
}

enum rp_status look_at_texts(const char *const *paths, int n, struct rp_data_look *look,
                             struct rp_error *err)
{
    look->format = RP_FORMAT_TEXT;
    look->target = RP_TARGET_TOKENS;
    look_part_files(paths, n, look);
    rp_text_add(&look->notes, "text: a token is a byte; `tokenizer: FOLDER` would read words\n");
    return check_training(look, err);
}

/* ---- JSON lines ------------------------------------------------------------------------------ */

static enum rp_status read_first_line(const char *path, json_t **object, struct rp_error *err)
{
    char *bytes = rp_mem_new(LINE_MOST + 1);
    size_t n = 0;
    int fd = -1;
    enum rp_status status = rp_sys_open_read(path, RP_STATUS_DATA, &fd, err);
    if (status == RP_STATUS_OK)
        status = rp_sys_read(fd, bytes, LINE_MOST, &n, path, RP_STATUS_DATA, err);
    rp_sys_close(fd);
    char *at = bytes + (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    at += strspn(at, " \t\r\n");
    at[strcspn(at, "\n")] = '\0';
    if (status == RP_STATUS_OK) *object = json_loads(at, JSON_DECODE_INT_AS_REAL, NULL);
    if (status == RP_STATUS_OK && !json_is_object(*object)) {
        json_decref(*object);
        *object = NULL;
        status = rp_error_set(err, RP_STATUS_DATA,
                              "%s: its first line is no JSON object {...} of at most %d bytes",
                              path, LINE_MOST);
    }
    rp_mem_free(bytes);
    return status;
}

static bool has_text(const json_t *object, const char *name)
{
    return json_is_string(json_object_get(object, name));
}

/* Prompt and response under names in use, else the text: so called, or the longest there is. */
static enum rp_status choose_fields(const char *path, json_t *object, struct rp_data_look *look,
                                    struct rp_error *err)
{
    static const char *const pairs[][2] = {
        {"prompt", "response"},      {"prompt", "completion"},  {"prompt", "answer"},
        {"instruction", "response"}, {"instruction", "output"}, {"question", "answer"},
        {"input", "output"},         {"user", "assistant"},     {"query", "response"}};
    const char *name, *longest = NULL;
    json_t *value;
    size_t most = 0;
    for (size_t i = 0; i < RP_COUNT(pairs) && !has_text(object, "text"); i++) {
        if (!has_text(object, pairs[i][0]) || !has_text(object, pairs[i][1])) continue;
        look->prompt = rp_mem_copy_text(pairs[i][0]);
        look->response = rp_mem_copy_text(pairs[i][1]);
        rp_text_add(&look->notes,
                    "lines have `%s` and `%s`: the second is learnt, as the response to the first; "
                    "nothing is put between them\n",
                    pairs[i][0], pairs[i][1]);
        return RP_STATUS_OK;
    }
    json_object_foreach(object, name, value)
    {
        if (!json_is_string(value) || json_string_length(value) <= most) continue;
        longest = name;
        most = json_string_length(value);
    }
    if (has_text(object, "text")) longest = "text";
    if (!longest)
        return rp_error_set(err, RP_STATUS_DATA, "%s: its first line has no text in it", path);
    look->field = rp_mem_copy_text(longest);
    rp_text_add(&look->notes, "the text of a line is `%s`%s\n", longest,
                strcmp(longest, "text") == 0 ? "" : ", the longest in the first line");
    return RP_STATUS_OK;
}

enum rp_status look_at_jsonl(const char *const *paths, int n, struct rp_data_look *look,
                             struct rp_error *err)
{
    json_t *object = NULL;
    look->format = RP_FORMAT_JSONL;
    look->target = RP_TARGET_TOKENS;
    look_part_files(paths, n, look);
    RP_TRY(check_training(look, err));
    RP_TRY(read_first_line(look->path[0], &object, err));
    enum rp_status status = choose_fields(look->path[0], object, look, err);
    json_decref(object);
    if (status == RP_STATUS_OK)
        rp_text_add(&look->notes,
                    "text: a token is a byte; `tokenizer: FOLDER` would read words\n");
    return status;
}

/* ---- token numbers --------------------------------------------------------------------------- */

static uint32_t u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

int look_token_header(const unsigned char *bytes, size_t n)
{
    if (n < 12) return 0;
    return u32(bytes) == 20240520 ? 2 : u32(bytes) == 20240801 ? 4 : 0;
}

/* Numbers of 32 bits whose upper halves are all nought, or next to it, are one token each. */
static int guess_width(const unsigned char *bytes, size_t n, uint64_t size)
{
    size_t small = 0, of = n / 4;
    for (size_t i = 0; i < of; i++) small += bytes[4 * i + 2] < 4 && bytes[4 * i + 3] == 0;
    return size % 4 == 0 && of > 4 && small == of ? 4 : 2;
}

/* The largest token of a file, which `look` says how to read. */
static enum rp_status find_largest(const char *path, struct rp_data_look *look, uint32_t *largest,
                                   struct rp_error *err)
{
    unsigned char *bytes = rp_mem_new(CHUNK);
    size_t n = 0;
    int fd = -1, width = 0;
    struct rp_sys_stat stat = {0};
    enum rp_status status = rp_sys_stat(path, &stat, err);
    if (status == RP_STATUS_OK) status = rp_sys_open_read(path, RP_STATUS_DATA, &fd, err);
    for (uint64_t at = 0; status == RP_STATUS_OK && at < stat.size; at += n) {
        status = rp_sys_read(fd, bytes, CHUNK, &n, path, RP_STATUS_DATA, err);
        if (status != RP_STATUS_OK || n == 0) break;
        int header = at == 0 ? look_token_header(bytes, n) : 0;
        if (at == 0) width = header ? header : guess_width(bytes, n, stat.size);
        if (at == 0 && !header) look->token_bytes = width;
        size_t first = header ? HEADER_BYTES : 0;
        for (size_t i = first; i + (size_t)width <= n; i += (size_t)width) {
            uint32_t token = bytes[i] | (uint32_t)bytes[i + 1] << 8;
            if (width == 4) token = u32(bytes + i);
            if (token > *largest) *largest = token;
        }
    }
    rp_sys_close(fd);
    rp_mem_free(bytes);
    return status;
}

enum rp_status look_at_tokens(const char *const *paths, int n, struct rp_data_look *look,
                              struct rp_error *err)
{
    uint32_t largest = 0;
    look->format = RP_FORMAT_TOKENS;
    look->target = RP_TARGET_TOKENS;
    look_part_files(paths, n, look);
    RP_TRY(check_training(look, err));
    for (int i = 0; i < n; i++) RP_TRY(find_largest(paths[i], look, &largest, err));
    if (largest >= INT32_MAX)
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s: not known what it is: as tokens its numbers go up to %u", paths[0],
                            (unsigned)largest);
    look->vocab = (int64_t)largest + 1;
    bool gpt2 = largest >= 40000 && largest < 50257;
    if (gpt2) look->vocab = 50257;
    rp_text_add(&look->notes, "the largest token is %u, so the vocabulary %s %lld\n",
                (unsigned)largest, gpt2 ? "is taken to be GPT-2's of" : "has",
                (long long)look->vocab);
    return RP_STATUS_OK;
}
