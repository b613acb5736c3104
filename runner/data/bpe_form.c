/* bpe_form.c - what a tokenizer.json asks for besides its tables: it is followed exactly, or
 * refused by name. What only concerns batches (truncation, padding) or what stands around a text
 * (post_processor) does not touch the tokens of the text itself. */
#include "data/bpe_int.h"

#include <jansson.h>
#include <string.h>

static bool is_type(const json_t *json, const char *type)
{
    const char *text = json_string_value(json_object_get(json, "type"));
    return text && strcmp(text, type) == 0;
}

static const char *type_of(const json_t *json)
{
    const char *text = json_string_value(json_object_get(json, "type"));
    return text ? text : "without a type";
}

static enum rp_status refuse(const char *path, const char *what, const char *which,
                             struct rp_error *err)
{
    return rp_error_set(err, RP_STATUS_DATA, "%s: %s %s is not supported here", path, what, which);
}

static bool is_set(const json_t *json)
{
    return json && !json_is_null(json) && !json_is_false(json) &&
           !(json_is_string(json) && json_string_length(json) == 0) &&
           !(json_is_number(json) && json_number_value(json) == 0);
}

static enum rp_status read_model(struct rp_bpe *bpe, const json_t *model, const char *path,
                                 struct rp_error *err)
{
    static const char *const unknown[] = {"dropout", "continuing_subword_prefix",
                                          "end_of_word_suffix", "byte_fallback"};
    if (json_object_get(model, "type") && !is_type(model, "BPE"))
        return refuse(path, "model: the type", type_of(model), err);
    for (size_t i = 0; i < RP_COUNT(unknown); i++)
        if (is_set(json_object_get(model, unknown[i])))
            return refuse(path, "model: the key", unknown[i], err);
    bpe->whole_words = json_is_true(json_object_get(model, "ignore_merges"));
    return RP_STATUS_OK;
}

/* Each match a word of its own, said in one of the two ways that mean it. */
static enum rp_status read_split(struct rp_bpe *bpe, const json_t *split, const char *path,
                                 struct rp_error *err)
{
    const char *behavior = json_string_value(json_object_get(split, "behavior"));
    const char *text =
        json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    bool invert = json_is_true(json_object_get(split, "invert"));
    if (!behavior || strcmp(behavior, invert ? "Removed" : "Isolated") != 0)
        return refuse(path, "pre_tokenizer: Split with the behavior", behavior ? behavior : "-",
                      err);
    for (int pattern = 0; text && pattern < BPE_PATTERN_COUNT; pattern++) {
        const char *known = bpe_pattern_text((enum bpe_pattern)pattern);
        if (!known || strcmp(text, known) != 0) continue;
        bpe->pattern = (enum bpe_pattern)pattern;
        return RP_STATUS_OK;
    }
    return rp_error_set(
        err, RP_STATUS_DATA,
        "%s: pre_tokenizer: this pattern is none of GPT-2's, Llama 3's and Qwen2's: "
        "%s",
        path, text ? text : "(no Regex)");
}

static enum rp_status read_byte_level(const json_t *level, bool with_pattern, const char *path,
                                      struct rp_error *err)
{
    const json_t *use_regex = json_object_get(level, "use_regex");
    if (!is_type(level, "ByteLevel")) return refuse(path, "pre_tokenizer", type_of(level), err);
    if (!json_is_false(json_object_get(level, "add_prefix_space")))
        return refuse(path, "pre_tokenizer:", "ByteLevel with add_prefix_space", err);
    if (json_is_false(use_regex) == with_pattern)
        return refuse(path, "pre_tokenizer:",
                      with_pattern ? "ByteLevel without a pattern (use_regex: false)"
                                   : "ByteLevel with use_regex after a Split",
                      err);
    return RP_STATUS_OK;
}

static enum rp_status read_pre_tokenizer(struct rp_bpe *bpe, const json_t *json, const char *path,
                                         struct rp_error *err)
{
    const json_t *list = json_object_get(json, "pretokenizers");
    const json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    bpe->pattern = BPE_PATTERN_GPT2;
    if (!is_set(json)) return refuse(path, "pre_tokenizer", "null", err);
    if (!is_type(json, "Sequence")) return read_byte_level(json, true, path, err);
    if (json_array_size(list) == 2 && is_type(first, "Digits")) {
        if (!json_is_true(json_object_get(first, "individual_digits")))
            return refuse(path, "pre_tokenizer:", "Digits without individual_digits", err);
        bpe->pattern = BPE_PATTERN_DIGITS;
        return read_byte_level(second, true, path, err);
    }
    if (json_array_size(list) != 2 || !is_type(first, "Split"))
        return refuse(
            path, "pre_tokenizer:", "a Sequence other than Split or Digits, then ByteLevel", err);
    RP_TRY(read_split(bpe, first, path, err));
    return read_byte_level(second, false, path, err);
}

enum rp_status bpe_read_form(struct rp_bpe *bpe, const json_t *root, const char *path,
                             struct rp_error *err)
{
    const json_t *normalizer = json_object_get(root, "normalizer");
    const json_t *decoder = json_object_get(root, "decoder");
    RP_TRY(read_model(bpe, json_object_get(root, "model"), path, err));
    if (is_set(normalizer)) return refuse(path, "normalizer", type_of(normalizer), err);
    RP_TRY(read_pre_tokenizer(bpe, json_object_get(root, "pre_tokenizer"), path, err));
    if (is_set(decoder) && !is_type(decoder, "ByteLevel"))
        return refuse(path, "decoder", type_of(decoder), err);
    return RP_STATUS_OK;
}
