/* huggingface_names.c - one table: what a tensor of ours is called by transformers, and where it
 * lies there. It is read in both directions. */
#include "checkpoint/checkpoint_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* `#` stands for the number of the block. Two or three names on the right: their rows, one below
 * another, are ours (q, k, v; gate, up). `conv1d`: GPT-2 keeps (in, out). */
static const struct row {
    const char *ours, *gpt2, *llama[RP_HF_PARTS];
    bool conv1d;
} rows[] = {
    {"wte.weight", "wte.weight", {"embed_tokens.weight"}, false},
    {"wpe.weight", "wpe.weight", {NULL}, false},
    {"h.#.ln_1.weight", "h.#.ln_1.weight", {"layers.#.input_layernorm.weight"}, false},
    {"h.#.ln_1.bias", "h.#.ln_1.bias", {NULL}, false},
    {"h.#.attn.c_attn.weight",
     "h.#.attn.c_attn.weight",
     {"layers.#.self_attn.q_proj.weight", "layers.#.self_attn.k_proj.weight",
      "layers.#.self_attn.v_proj.weight"},
     true},
    {"h.#.attn.c_attn.bias",
     "h.#.attn.c_attn.bias",
     {"layers.#.self_attn.q_proj.bias", "layers.#.self_attn.k_proj.bias",
      "layers.#.self_attn.v_proj.bias"},
     false},
    {"h.#.attn.q_norm.weight", NULL, {"layers.#.self_attn.q_norm.weight"}, false},
    {"h.#.attn.k_norm.weight", NULL, {"layers.#.self_attn.k_norm.weight"}, false},
    {"h.#.attn.c_proj.weight",
     "h.#.attn.c_proj.weight",
     {"layers.#.self_attn.o_proj.weight"},
     true},
    {"h.#.attn.c_proj.bias", "h.#.attn.c_proj.bias", {"layers.#.self_attn.o_proj.bias"}, false},
    {"h.#.ln_2.weight", "h.#.ln_2.weight", {"layers.#.post_attention_layernorm.weight"}, false},
    {"h.#.ln_2.bias", "h.#.ln_2.bias", {NULL}, false},
    {"h.#.mlp.c_fc.weight",
     "h.#.mlp.c_fc.weight",
     {"layers.#.mlp.gate_proj.weight", "layers.#.mlp.up_proj.weight"},
     true},
    {"h.#.mlp.c_fc.bias",
     "h.#.mlp.c_fc.bias",
     {"layers.#.mlp.gate_proj.bias", "layers.#.mlp.up_proj.bias"},
     false},
    {"h.#.mlp.c_proj.weight", "h.#.mlp.c_proj.weight", {"layers.#.mlp.down_proj.weight"}, true},
    {"h.#.mlp.c_proj.bias", "h.#.mlp.c_proj.bias", {"layers.#.mlp.down_proj.bias"}, false},
    {"ln_f.weight", "ln_f.weight", {"norm.weight"}, false},
    {"ln_f.bias", "ln_f.bias", {NULL}, false},
    {"lm_head.weight", "lm_head.weight", {"lm_head.weight"}, false},
};

static const char *prefix_of(enum rp_hf_kind kind)
{
    return kind == RP_HF_GPT2 ? "transformer." : "model.";
}

/* Does `name` follow the pattern? Its number of a block goes to `block` (-1: none). */
static bool follows(const char *pattern, const char *name, int *block)
{
    size_t before = strcspn(pattern, "#"), digits;
    *block = -1;
    if (!pattern[before]) return strcmp(pattern, name) == 0;
    if (strncmp(pattern, name, before) != 0) return false;
    digits = strspn(name + before, "0123456789");
    if (digits == 0 || digits > 6 || (digits > 1 && name[before] == '0')) return false;
    *block = (int)strtol(name + before, NULL, 10);
    return strcmp(pattern + before + 1, name + before + digits) == 0;
}

static void fill_in(const char *pattern, int block, char name[112])
{
    size_t before = strcspn(pattern, "#");
    if (pattern[before])
        snprintf(name, 112, "%.*s%d%s", (int)before, pattern, block, pattern + before + 1);
    else
        snprintf(name, 112, "%s", pattern);
}

/* The names of a row in a family; NULL where it has none. */
static const char *name_in(const struct row *row, enum rp_hf_kind kind, int part)
{
    if (kind == RP_HF_GPT2) return part == 0 ? row->gpt2 : NULL;
    return part < RP_HF_PARTS ? row->llama[part] : NULL;
}

/* Rows of q, k and v, or of gate and up. */
static int64_t rows_of_part(const struct rp_hf_shape *shape, int n_parts, int part, int64_t all)
{
    int64_t head_dim = shape->width / shape->heads;
    if (n_parts == 1) return all;
    if (n_parts == 2) return shape->mlp_width;
    return head_dim * (part == 0 ? shape->heads : shape->kv_heads);
}

bool rp_hf_source_of(enum rp_hf_kind kind, const struct rp_hf_shape *shape, const char *ours,
                     int64_t n_rows, struct rp_hf_source *source)
{
    *source = (struct rp_hf_source){0};
    for (size_t r = 0; r < RP_COUNT(rows); r++) {
        int block;
        if (!follows(rows[r].ours, ours, &block)) continue;
        while (name_in(&rows[r], kind, source->n_parts)) source->n_parts++;
        source->transposed = rows[r].conv1d && kind == RP_HF_GPT2;
        for (int p = 0; p < source->n_parts; p++) {
            char name[sizeof source->part[p].name];
            fill_in(name_in(&rows[r], kind, p), block, name);
            bool bare = strcmp(name, "lm_head.weight") == 0;
            memcpy(source->part[p].name, name, sizeof name);
            snprintf(source->part[p].prefixed, sizeof source->part[p].prefixed, "%s%.90s",
                     bare ? "" : prefix_of(kind), name);
            source->part[p].rows = rows_of_part(shape, source->n_parts, p, n_rows);
        }
        return source->n_parts > 0;
    }
    return false;
}

bool rp_hf_name_here(enum rp_hf_kind kind, const char *theirs, char ours[112])
{
    const char *prefix = prefix_of(kind), *name;
    if (strncmp(theirs, prefix, strlen(prefix)) == 0) theirs += strlen(prefix);
    for (size_t r = 0; r < RP_COUNT(rows); r++) {
        for (int p = 0; (name = name_in(&rows[r], kind, p)); p++) {
            int block;
            if (!follows(name, theirs, &block)) continue;
            fill_in(rows[r].ours, block, ours);
            return true;
        }
    }
    return false;
}

bool rp_hf_is_buffer(const char *theirs)
{
    static const char *const endings[] = {".attn.bias", ".attn.masked_bias",
                                          ".rotary_emb.inv_freq"};
    size_t length = strlen(theirs);
    for (size_t i = 0; i < RP_COUNT(endings); i++) {
        size_t n = strlen(endings[i]);
        if (length > n && strcmp(theirs + length - n, endings[i]) == 0) return true;
    }
    return false;
}
