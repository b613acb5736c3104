/* nearest.c - by edits between two words, and by what they begin with. */
#include "base/nearest.h"

#include <ctype.h>
#include <string.h>

enum { MAX_WORD = 40 };

static size_t least(size_t a, size_t b, size_t c)
{
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

/* Edits between two words: insert, delete, replace, swap of neighbours (optimal string alignment);
 * case does not count. */
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > MAX_WORD || m > MAX_WORD) return MAX_WORD;
    size_t row[3][MAX_WORD + 1];
    for (size_t j = 0; j <= m; j++) row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *before = row[(i + 2) % 3], *earlier = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            now[j] = least(before[j] + 1, now[j - 1] + 1, before[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == y && earlier[j - 2] + 1 < now[j])
                now[j] = earlier[j - 2] + 1;
        }
    }
    return row[n % 3][m];
}

const char *rp_nearest_word(const char *name, const char *const *names, int n)
{
    const char *best = NULL;
    size_t length = strlen(name), limit = length <= 2 ? 0 : length <= 4 ? 1 : length <= 7 ? 2 : 3;
    size_t best_distance = limit + 1;
    for (int i = 0; i < n; i++) {
        size_t d = distance(name, names[i]);
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    for (int i = 0; i < n && !best && length >= 3; i++) {
        size_t m = strlen(names[i]);
        if (m >= 3 && strncmp(name, names[i], m < length ? m : length) == 0) best = names[i];
    }
    return best;
}
