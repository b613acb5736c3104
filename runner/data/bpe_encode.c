/* bpe_encode.c - words to tokens. Most words have been seen before: a table of a thread's own
 * remembers what they became. Others are merged: short ones by looking at all pairs again after
 * every merge, long ones with a heap. */
#include "data/bpe_int.h"

#include <string.h>

enum {
    SEEN_ROWS = 1 << 15,
    SEEN_BYTES = 22, /* longest word that is remembered */
    SEEN_IDS = 10,
    SHORT_BYTES = 48,       /* longest word without a heap */
    LONGEST_WORD = 1 << 30, /* what is longer is cut there, so that places fit 32 bits */
    FIRST_TOKENS = 1024,
};

/* A word and its tokens; n_bytes 0: free. 64 bytes. */
struct seen {
    uint8_t n_bytes, n_ids;
    char word[SEEN_BYTES];
    int32_t id[SEEN_IDS];
};

/* A piece of a long word: its token and its neighbours, as places of their first bytes. */
struct piece {
    int32_t id; /* -1: taken into the piece before */
    uint32_t previous, next;
};

struct rp_bpe_room {
    uint64_t serial; /* of the tokenizer whose words these are */
    struct seen seen[SEEN_ROWS];
    struct piece *piece;
    size_t piece_room;
    uint64_t *heap; /* rank << 32 | place */
    size_t heap_n, heap_room;
};

/* ---- tokens ---------------------------------------------------------------------------------- */

static void reserve(struct rp_tokens *tokens, int64_t more)
{
    if (tokens->n + more <= tokens->room) return;
    int64_t room = tokens->room ? tokens->room : FIRST_TOKENS;
    while (room < tokens->n + more) room *= 2;
    tokens->id = rp_mem_grow(tokens->id, (size_t)room * sizeof *tokens->id);
    tokens->room = room;
}

void rp_tokens_add(struct rp_tokens *tokens, int32_t id)
{
    reserve(tokens, 1);
    tokens->id[tokens->n++] = id;
}

void rp_tokens_release(struct rp_tokens *tokens)
{
    if (tokens->work) {
        rp_mem_free(tokens->work->piece);
        rp_mem_free(tokens->work->heap);
    }
    rp_mem_free(tokens->work);
    rp_mem_free(tokens->id);
    *tokens = (struct rp_tokens){0};
}

static struct rp_bpe_room *room_of(const struct rp_bpe *bpe, struct rp_tokens *tokens)
{
    if (!tokens->work) tokens->work = RP_NEW(struct rp_bpe_room);
    if (tokens->work->serial != bpe->serial) {
        memset(tokens->work->seen, 0, sizeof tokens->work->seen);
        tokens->work->serial = bpe->serial;
    }
    return tokens->work;
}

/* ---- short words ----------------------------------------------------------------------------- */

/* Merges the `n` bytes of a word into `id`; returns how many tokens they became. */
static int merge_short(const struct rp_bpe *bpe, const char *word, int n, int32_t *id)
{
    const struct bpe_pair *pair[SHORT_BYTES];
    for (int i = 0; i < n; i++) id[i] = bpe->byte_id[(unsigned char)word[i]];
    for (int i = 0; i + 1 < n; i++) pair[i] = bpe_find_pair(bpe, id[i], id[i + 1]);
    for (;;) {
        int best = -1;
        for (int i = 0; i + 1 < n; i++)
            if (pair[i] && (best < 0 || pair[i]->rank < pair[best]->rank)) best = i;
        if (best < 0) return n;
        id[best] = pair[best]->id;
        n--;
        for (int i = best + 1; i < n; i++) {
            id[i] = id[i + 1];
            pair[i] = pair[i + 1];
        }
        if (best > 0) pair[best - 1] = bpe_find_pair(bpe, id[best - 1], id[best]);
        if (best + 1 < n) pair[best] = bpe_find_pair(bpe, id[best], id[best + 1]);
    }
}

/* ---- long words ------------------------------------------------------------------------------ */

static void heap_push(struct rp_bpe_room *room, uint64_t value)
{
    if (room->heap_n == room->heap_room) {
        room->heap_room = room->heap_room ? 2 * room->heap_room : FIRST_TOKENS;
        room->heap = rp_mem_grow(room->heap, room->heap_room * sizeof *room->heap);
    }
    size_t i = room->heap_n++;
    for (; i > 0 && room->heap[(i - 1) / 2] > value; i = (i - 1) / 2)
        room->heap[i] = room->heap[(i - 1) / 2];
    room->heap[i] = value;
}

static uint64_t heap_pop(struct rp_bpe_room *room)
{
    uint64_t top = room->heap[0], value = room->heap[--room->heap_n];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < room->heap_n) {
        if (child + 1 < room->heap_n && room->heap[child + 1] < room->heap[child]) child++;
        if (room->heap[child] >= value) break;
        room->heap[i] = room->heap[child];
        i = child;
    }
    room->heap[i] = value;
    return top;
}

/* The pair that begins at place `i` of a word of n bytes, or NULL. */
static const struct bpe_pair *pair_at(const struct rp_bpe *bpe, const struct rp_bpe_room *room,
                                      uint32_t i, uint32_t n)
{
    const struct piece *piece = &room->piece[i];
    if (piece->id < 0 || piece->next >= n) return NULL;
    return bpe_find_pair(bpe, piece->id, room->piece[piece->next].id);
}

static void push_pair(const struct rp_bpe *bpe, struct rp_bpe_room *room, uint32_t i, uint32_t n)
{
    const struct bpe_pair *pair = pair_at(bpe, room, i, n);
    if (pair) heap_push(room, (uint64_t)pair->rank << 32 | i);
}

static void merge_long(const struct rp_bpe *bpe, struct rp_bpe_room *room, const char *word,
                       uint32_t n, struct rp_tokens *out)
{
    if (room->piece_room < n) {
        room->piece_room = n;
        room->piece = rp_mem_grow(room->piece, n * sizeof *room->piece);
    }
    for (uint32_t i = 0; i < n; i++)
        room->piece[i] = (struct piece){bpe->byte_id[(unsigned char)word[i]], i ? i - 1 : 0, i + 1};
    room->heap_n = 0;
    for (uint32_t i = 0; i + 1 < n; i++) push_pair(bpe, room, i, n);
    while (room->heap_n) {
        uint64_t top = heap_pop(room);
        uint32_t i = (uint32_t)top;
        struct piece *piece = &room->piece[i];
        const struct bpe_pair *pair = pair_at(bpe, room, i, n);
        if (!pair || (uint64_t)pair->rank != top >> 32) continue; /* merged otherwise since */
        struct piece *right = &room->piece[piece->next];
        piece->id = pair->id;
        right->id = -1;
        piece->next = right->next;
        if (piece->next < n) room->piece[piece->next].previous = i;
        if (i > 0) push_pair(bpe, room, piece->previous, n);
        push_pair(bpe, room, i, n);
    }
    for (uint32_t i = 0; i < n; i = room->piece[i].next) out->id[out->n++] = room->piece[i].id;
}

/* ---- any word -------------------------------------------------------------------------------- */

/* Appends the tokens of one word; there is room for a token per byte. */
static void merge(const struct rp_bpe *bpe, struct rp_bpe_room *room, const char *word, size_t n,
                  struct rp_tokens *out)
{
    int32_t whole = bpe->whole_words ? bpe_find_word(bpe, word, n) : -1;
    if (whole >= 0)
        out->id[out->n++] = whole;
    else if (n <= SHORT_BYTES)
        out->n += merge_short(bpe, word, (int)n, out->id + out->n);
    else
        merge_long(bpe, room, word, (uint32_t)n, out);
}

static void encode_word(const struct rp_bpe *bpe, struct rp_bpe_room *room, const char *word,
                        size_t n, struct rp_tokens *out)
{
    reserve(out, (int64_t)n);
    if (n > SEEN_BYTES) {
        merge(bpe, room, word, n, out);
        return;
    }
    struct seen *seen = &room->seen[bpe_hash(word, n) % SEEN_ROWS];
    if (seen->n_bytes != n || memcmp(seen->word, word, n) != 0) {
        int64_t first = out->n;
        merge(bpe, room, word, n, out);
        if (out->n - first > SEEN_IDS) return;
        seen->n_bytes = (uint8_t)n;
        seen->n_ids = (uint8_t)(out->n - first);
        memcpy(seen->word, word, n);
        memcpy(seen->id, out->id + first, seen->n_ids * sizeof *seen->id);
        return;
    }
    memcpy(out->id + out->n, seen->id, seen->n_ids * sizeof *seen->id);
    out->n += seen->n_ids;
}

static void encode_words(const struct rp_bpe *bpe, const char *text, size_t n,
                         struct rp_tokens *out)
{
    struct rp_bpe_room *room = room_of(bpe, out);
    for (size_t i = 0; i < n;) {
        size_t length = bpe_word_length(bpe->pattern, text + i, n - i);
        if (length > LONGEST_WORD) length = LONGEST_WORD;
        encode_word(bpe, room, text + i, length, out);
        i += length;
    }
}

/* ---- texts ----------------------------------------------------------------------------------- */

const struct bpe_added *bpe_added_at(const struct rp_bpe *bpe, bool with_special, const char *text,
                                     size_t n)
{
    if (!bpe->added_first[with_special][(unsigned char)text[0]]) return NULL;
    for (int i = 0; i < bpe->n_added; i++) {
        const struct bpe_added *added = &bpe->added[i];
        if (added->special && !with_special) continue;
        if (added->n <= n && memcmp(added->text, text, added->n) == 0) return added;
    }
    return NULL;
}

/* Added tokens are cut out of the text first; each part between is a text of its own. */
static void encode(const struct rp_bpe *bpe, bool with_special, const char *text, size_t n,
                   struct rp_tokens *out)
{
    size_t begin = 0, i = bpe->n_added ? 0 : n;
    while (i < n) {
        const struct bpe_added *added = bpe_added_at(bpe, with_special, text + i, n - i);
        if (!added) {
            i++;
            continue;
        }
        encode_words(bpe, text + begin, i - begin, out);
        rp_tokens_add(out, added->id);
        begin = i += added->n;
    }
    encode_words(bpe, text + begin, n - begin, out);
}

void rp_bpe_encode(const struct rp_bpe *bpe, const char *text, size_t n, struct rp_tokens *out)
{
    encode(bpe, false, text, n, out);
}

void rp_bpe_encode_prompt(const struct rp_bpe *bpe, const char *text, size_t n,
                          struct rp_tokens *out)
{
    encode(bpe, true, text, n, out);
}

/* ---- places to cut --------------------------------------------------------------------------- */

/* Does an added token begin before place p and end after it? */
static bool added_crosses(const struct rp_bpe *bpe, const char *text, size_t n, size_t p)
{
    size_t first = p > bpe->added_longest ? p - bpe->added_longest : 0;
    for (size_t i = bpe->n_added ? first : p; i < p; i++) {
        const struct bpe_added *added = bpe_added_at(bpe, true, text + i, n - i);
        if (added && i + added->n > p) return true;
    }
    return false;
}

/* Do two words meet between a character of class `last` and `c`, whatever stands around them? In
 * all three patterns a word that has a letter ends with one, and a word that has a number; after
 * other characters a space is a word of its own, but for the line ends that Llama 3's pattern takes
 * with them. After a space nobody knows: how many of a run go to the next word depends on what
 * follows. */
static bool words_meet(enum bpe_class last, const struct bpe_char *c)
{
    if (last == BPE_CLASS_LETTER || last == BPE_CLASS_NUMBER) return c->class != last;
    if (last == BPE_CLASS_SPACE) return false;
    return c->class == BPE_CLASS_NUMBER ||
           (c->class == BPE_CLASS_SPACE && c->code_point != '\r' && c->code_point != '\n');
}

size_t rp_bpe_cut(const struct rp_bpe *bpe, const char *text, size_t n, size_t from, bool more)
{
    enum bpe_class last = BPE_CLASS_SPACE;
    size_t ahead = bpe->added_longest > 4 ? bpe->added_longest : 4; /* a character, a token */
    if (more && n < ahead) return n;
    size_t end = more ? n - ahead : n;
    while (from < n && ((unsigned char)text[from] & 0xC0) == 0x80) from++; /* inside a character */
    for (size_t i = from; i < end;) {
        struct bpe_char c = bpe_char_at(text + i, n - i);
        if (words_meet(last, &c) && !added_crosses(bpe, text, n, i)) return i;
        last = c.class;
        i += (size_t)c.length;
    }
    return n;
}
