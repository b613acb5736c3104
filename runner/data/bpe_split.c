/* bpe_split.c - text to words: three regular expressions, by hand, and one of them between digits.
 *
 * Each tries its alternatives in order at every place, so a word begins where the last one ended
 * and depends on nothing before it. */
#include "data/bpe_int.h"

#include <pthread.h>

/* ---- characters ------------------------------------------------------------------------------ */

#define L(start) ((uint32_t)(start) << 2 | BPE_CLASS_LETTER),
#define N(start) ((uint32_t)(start) << 2 | BPE_CLASS_NUMBER),
#define S(start) ((uint32_t)(start) << 2 | BPE_CLASS_SPACE),
#define O(start) ((uint32_t)(start) << 2 | BPE_CLASS_OTHER),
static const uint32_t runs[] = {
#include "data/bpe_unicode.def"
};
#undef L
#undef N
#undef S
#undef O

static enum bpe_class search_runs(uint32_t code_point)
{
    size_t low = 0, high = RP_COUNT(runs);
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (runs[middle] >> 2 <= code_point)
            low = middle;
        else
            high = middle;
    }
    return (enum bpe_class)(runs[low] & 3);
}

/* The code points that texts are made of, looked up without a search. */
enum { FAST = 0x10000 };
static uint8_t fast_class[FAST];
static pthread_once_t fast_once = PTHREAD_ONCE_INIT;

static void fill_fast(void)
{
    for (uint32_t c = 0; c < FAST; c++) fast_class[c] = (uint8_t)search_runs(c);
}

enum bpe_class bpe_class_of(uint32_t code_point)
{
    pthread_once(&fast_once, fill_fast);
    return code_point < FAST ? (enum bpe_class)fast_class[code_point] : search_runs(code_point);
}

static bool is_tail(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

/* The length of the valid sequence at the front and its code point; 0: none. */
static int decode(const unsigned char *b, size_t n, uint32_t *code_point)
{
    uint32_t c = b[0];
    int length = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : 4;
    if (length == 4 && (c < 0xF0 || c > 0xF4)) return 0;
    if ((size_t)length > n) return 0;
    if (length > 1) c &= 0x7Fu >> length;
    for (int i = 1; i < length; i++) {
        if (!is_tail(b[i])) return 0;
        c = c << 6 | (b[i] & 0x3Fu);
    }
    if (length == 3 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) return 0;
    if (length == 4 && (c < 0x10000 || c > 0x10FFFF)) return 0;
    *code_point = c;
    return length;
}

struct bpe_char bpe_char_at(const char *text, size_t n)
{
    struct bpe_char c = {1, BPE_CLASS_OTHER, UINT32_MAX};
    int length = decode((const unsigned char *)text, n, &c.code_point);
    if (length == 0) return c;
    c.length = length;
    c.class = bpe_class_of(c.code_point);
    return c;
}

/* ---- runs ------------------------------------------------------------------------------------ */

struct cursor {
    const char *text;
    size_t n;
};

static struct bpe_char at(const struct cursor *cursor, size_t i)
{
    if (i >= cursor->n) return (struct bpe_char){0, BPE_CLASS_OTHER, UINT32_MAX};
    return bpe_char_at(cursor->text + i, cursor->n - i);
}

/* Where the run of `class` that goes on at i ends, after at most `most` characters. */
static size_t run_end(const struct cursor *cursor, size_t i, enum bpe_class class, size_t most)
{
    for (size_t k = 0; k < most && i < cursor->n; k++) {
        struct bpe_char c = at(cursor, i);
        if (c.class != class) break;
        i += (size_t)c.length;
    }
    return i;
}

static bool is_line_end(const struct cursor *cursor, size_t i)
{
    return i < cursor->n && (cursor->text[i] == '\r' || cursor->text[i] == '\n');
}

/* 's 't 're 've 'm 'll 'd at the front: their length, or 0. Ignoring case, U+017F is an s. */
static size_t contraction(const struct cursor *cursor, bool any_case)
{
    static const char second[] = {'r', 'e', 'v', 'e', 'l', 'l'};
    if (cursor->n < 2 || cursor->text[0] != '\'') return 0;
    char fold = any_case ? 0x20 : 0;
    char a = (char)(cursor->text[1] | fold);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (cursor->n < 3) return 0;
    if (any_case && (unsigned char)cursor->text[1] == 0xC5 &&
        (unsigned char)cursor->text[2] == 0xBF)
        return 3;
    char b = (char)(cursor->text[2] | fold);
    for (size_t i = 0; i < sizeof second; i += 2)
        if (a == second[i] && b == second[i + 1]) return 3;
    return 0;
}

/* \s+(?!\S)|\s+ at the front: all of the run of spaces before the end of the text or a single one,
 * else all but its last. */
static size_t spaces(const struct cursor *cursor)
{
    size_t last = 0, i = 0;
    while (i < cursor->n) {
        struct bpe_char c = at(cursor, i);
        if (c.class != BPE_CLASS_SPACE) break;
        last = i;
        i += (size_t)c.length;
    }
    return i == cursor->n || last == 0 ? i : last;
}

/* ---- the expressions ------------------------------------------------------------------------- */

static const char *const pattern_text[BPE_PATTERN_COUNT] = {
    [BPE_PATTERN_GPT2] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|"
                         "\\s+(?!\\S)|\\s+",
    [BPE_PATTERN_LLAMA3] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                           "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                           "\\s+(?!\\S)|\\s+",
    [BPE_PATTERN_QWEN2] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
                          "\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"
                          "\\s+(?!\\S)|\\s+",
};

const char *bpe_pattern_text(enum bpe_pattern pattern)
{
    return pattern_text[pattern];
}

static size_t gpt2_word(const struct cursor *cursor)
{
    size_t length = contraction(cursor, false);
    if (length) return length;
    size_t begin = cursor->text[0] == ' ' && cursor->n > 1;
    enum bpe_class class = at(cursor, begin).class;
    if (class != BPE_CLASS_SPACE) return run_end(cursor, begin, class, SIZE_MAX);
    return spaces(cursor);
}

/* \s*[\r\n]+ at the front: up to the last line end of a run of spaces; 0: there is none. */
static size_t spaces_with_line_end(const struct cursor *cursor)
{
    size_t end = 0;
    for (size_t i = 0; i < cursor->n;) {
        struct bpe_char c = at(cursor, i);
        if (c.class != BPE_CLASS_SPACE) break;
        i += (size_t)c.length;
        if (c.code_point == '\r' || c.code_point == '\n') end = i;
    }
    return end;
}

static size_t llama_word(const struct cursor *cursor, size_t most_digits)
{
    size_t length = contraction(cursor, true);
    if (length) return length;
    struct bpe_char first = at(cursor, 0);
    size_t begin = first.class == BPE_CLASS_LETTER ? 0 : (size_t)first.length;
    if (first.class == BPE_CLASS_NUMBER) return run_end(cursor, 0, BPE_CLASS_NUMBER, most_digits);
    if (!is_line_end(cursor, 0) && begin < cursor->n && at(cursor, begin).class == BPE_CLASS_LETTER)
        return run_end(cursor, begin, BPE_CLASS_LETTER, SIZE_MAX);
    begin = cursor->text[0] == ' ';
    if (begin < cursor->n && at(cursor, begin).class == BPE_CLASS_OTHER) {
        length = run_end(cursor, begin, BPE_CLASS_OTHER, SIZE_MAX);
        while (is_line_end(cursor, length)) length++;
        return length;
    }
    length = spaces_with_line_end(cursor);
    return length ? length : spaces(cursor);
}

/* A number ends what is before it as the end of the text would, spaces too. */
static size_t digits_word(const struct cursor *cursor)
{
    struct bpe_char first = at(cursor, 0);
    if (first.class == BPE_CLASS_NUMBER) return (size_t)first.length;
    size_t end = run_end(cursor, 0, BPE_CLASS_SPACE, SIZE_MAX);
    return end > 0 && at(cursor, end).class == BPE_CLASS_NUMBER ? end : gpt2_word(cursor);
}

size_t bpe_word_length(enum bpe_pattern pattern, const char *text, size_t n)
{
    struct cursor cursor = {text, n};
    if (pattern == BPE_PATTERN_GPT2) return gpt2_word(&cursor);
    if (pattern == BPE_PATTERN_DIGITS) return digits_word(&cursor);
    return llama_word(&cursor, pattern == BPE_PATTERN_LLAMA3 ? 3 : 1);
}
