/* bpe.c - a tokenizer opened: which files, their words in tables, and its answers. */
#include "data/bpe_int.h"

#include "base/sys.h"

#include <stdatomic.h>
#include <string.h>

/* ---- tables ---------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 32;
}

uint64_t bpe_hash(const char *bytes, size_t n)
{
    uint64_t hash = n, part;
    for (; n >= 8; n -= 8, bytes += 8) {
        memcpy(&part, bytes, 8);
        hash = mix(hash ^ part);
    }
    part = 0;
    memcpy(&part, bytes, n);
    return mix(mix(hash ^ part));
}

size_t rp_bpe_decode_one(const struct rp_bpe *bpe, int32_t id, const char **bytes)
{
    if (id < 0 || id >= bpe->size) {
        *bytes = "";
        return 0;
    }
    *bytes = bpe->bytes.bytes + bpe->at[id];
    return bpe->at[id + 1] - bpe->at[id];
}

/* The row of these bytes, or the free one where they would stand. */
static int32_t *word_row(const struct rp_bpe *bpe, const char *bytes, size_t n)
{
    uint32_t row = (uint32_t)bpe_hash(bytes, n) & bpe->word_mask;
    for (;; row = (row + 1) & bpe->word_mask) {
        const char *other;
        if (bpe->word[row] < 0) break;
        if (rp_bpe_decode_one(bpe, bpe->word[row], &other) == n && memcmp(other, bytes, n) == 0)
            break;
    }
    return &bpe->word[row];
}

int32_t bpe_find_word(const struct rp_bpe *bpe, const char *bytes, size_t n)
{
    return *word_row(bpe, bytes, n);
}

static struct bpe_pair *pair_row(const struct rp_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t row = (uint32_t)mix(key) & bpe->pair_mask;
    while (bpe->pair[row].key != key && bpe->pair[row].key != UINT64_MAX)
        row = (row + 1) & bpe->pair_mask;
    return &bpe->pair[row];
}

const struct bpe_pair *bpe_find_pair(const struct rp_bpe *bpe, int32_t left, int32_t right)
{
    const struct bpe_pair *pair = pair_row(bpe, left, right);
    return pair->key == UINT64_MAX ? NULL : pair;
}

/* Rows for n entries, at most half of them taken. */
static uint32_t mask_for(int64_t n)
{
    uint32_t rows = 1024;
    while (rows < 2 * n) rows *= 2;
    return rows - 1;
}

enum rp_status bpe_make_words(struct rp_bpe *bpe, const struct bpe_source *source,
                              struct rp_error *err)
{
    bpe->size = (int32_t)source->n;
    bpe->at = RP_NEW_ARRAY(uint32_t, source->n + 1);
    for (int64_t id = 0; id < source->n; id++) {
        if (!source->text[id])
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: no token has the id %lld, but one has %lld: ids must not have "
                                "gaps",
                                source->path, (long long)id, (long long)source->n - 1);
        rp_text_add_bytes(&bpe->bytes, source->text[id], source->length[id]);
        bpe->at[id + 1] = (uint32_t)bpe->bytes.length;
    }
    bpe->word_mask = mask_for(source->n);
    bpe->word = RP_NEW_ARRAY(int32_t, (size_t)bpe->word_mask + 1);
    memset(bpe->word, 0xFF, ((size_t)bpe->word_mask + 1) * sizeof *bpe->word);
    for (int64_t id = 0; id < source->n; id++)
        if (source->in_vocabulary[id])
            *word_row(bpe, source->text[id], source->length[id]) = (int32_t)id;
    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte;
        bpe->byte_id[byte] = bpe_find_word(bpe, &one, 1);
        if (bpe->byte_id[byte] < 0)
            return rp_error_set(err, RP_STATUS_DATA,
                                "%s: no token for the byte 0x%02x: a byte-level vocabulary has one "
                                "for each of the 256",
                                source->path, (unsigned)byte);
    }
    return RP_STATUS_OK;
}

void bpe_make_pairs(struct rp_bpe *bpe, int64_t n)
{
    bpe->pair_mask = mask_for(n);
    bpe->pair = RP_NEW_ARRAY(struct bpe_pair, (size_t)bpe->pair_mask + 1);
    for (size_t row = 0; row <= bpe->pair_mask; row++) bpe->pair[row].key = UINT64_MAX;
}

bool bpe_add_pair(struct rp_bpe *bpe, int32_t left, int32_t right, int32_t rank, int32_t id)
{
    struct bpe_pair *pair = pair_row(bpe, left, right);
    if (pair->key != UINT64_MAX) return false;
    *pair = (struct bpe_pair){(uint64_t)(uint32_t)left << 32 | (uint32_t)right, rank, id};
    return true;
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool is_there(const char *path)
{
    struct rp_sys_stat stat;
    return rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.exists;
}

/* The file to begin with; caller frees. */
static enum rp_status choose_file(const char *path, char **file, struct rp_error *err)
{
    struct rp_sys_stat stat;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists)
        return rp_error_set(err, RP_STATUS_DATA, "%s: no such tokenizer, file or folder", path);
    if (!stat.is_folder) {
        *file = rp_mem_copy_text(path);
        return RP_STATUS_OK;
    }
    *file = rp_sys_join(path, "tokenizer.json");
    if (is_there(*file)) return RP_STATUS_OK;
    rp_mem_free(*file);
    *file = rp_sys_join(path, "vocab.json");
    if (is_there(*file)) return RP_STATUS_OK;
    rp_mem_free(*file);
    *file = NULL;
    return rp_error_set(err, RP_STATUS_DATA,
                        "%s: neither a tokenizer.json nor a vocab.json with a merges.txt in it",
                        path);
}

static void choose_end_of_text(struct rp_bpe *bpe)
{
    static const char *const names[] = {"<|endoftext|>", "<|end_of_text|>", "</s>"};
    bpe->end_of_text = -1;
    for (size_t i = 0; i < RP_COUNT(names) && bpe->end_of_text < 0; i++)
        bpe->end_of_text = rp_bpe_find(bpe, names[i], strlen(names[i]));
}

enum rp_status rp_bpe_open(const char *path, struct rp_bpe **result, struct rp_error *err)
{
    static atomic_uint_fast64_t serial;
    struct rp_bpe *bpe = RP_NEW(struct rp_bpe);
    char *file = NULL;
    enum rp_status status = RP_STATUS_OK;
    *result = NULL;
    RP_TRY_GOTO(status, choose_file(path, &file, err), out);
    bpe->serial = atomic_fetch_add(&serial, 1) + 1;
    RP_TRY_GOTO(status, bpe_read(bpe, file, err), out);
    choose_end_of_text(bpe);
    *result = bpe;
    bpe = NULL;
out:
    rp_mem_free(file);
    rp_bpe_free(bpe);
    return status;
}

void rp_bpe_free(struct rp_bpe *bpe)
{
    if (!bpe) return;
    for (int i = 0; i < bpe->n_added; i++) rp_mem_free(bpe->added[i].text);
    for (size_t i = 0; i < RP_COUNT(bpe->file); i++) rp_mem_free(bpe->file[i]);
    rp_mem_free(bpe->added);
    rp_mem_free(bpe->pair);
    rp_mem_free(bpe->word);
    rp_mem_free(bpe->at);
    rp_text_release(&bpe->bytes);
    rp_mem_free(bpe);
}

/* ---- answers --------------------------------------------------------------------------------- */

const char *const *rp_bpe_files(const struct rp_bpe *bpe)
{
    return (const char *const *)bpe->file;
}

int32_t rp_bpe_size(const struct rp_bpe *bpe)
{
    return bpe->size;
}

int32_t rp_bpe_end_of_text(const struct rp_bpe *bpe)
{
    return bpe->end_of_text;
}

int32_t rp_bpe_find(const struct rp_bpe *bpe, const char *text, size_t n)
{
    for (int i = 0; i < bpe->n_added; i++)
        if (bpe->added[i].n == n && memcmp(bpe->added[i].text, text, n) == 0)
            return bpe->added[i].id;
    return bpe_find_word(bpe, text, n);
}
