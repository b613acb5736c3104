/* suggest.c - what somebody meant by a key or word that the schema does not have: the same key
 * elsewhere, another framework's name, a slip of the keys. */
#include "spec/spec_int.h"

#include <ctype.h>
#include <string.h>

enum { MAX_WORD = 40 };

/* ---- names of other frameworks ---- */

static const struct {
    const char *where; /* start of the parent's path, "" anywhere, "<layer>" for layers */
    const char *name;
    const char *advice;
} foreign[] = {
#define RP_FOREIGN(where, name, advice) {where, name, advice},
#include "spec/foreign.def"
#undef RP_FOREIGN
};

/* Letters and digits only, in lower case: BatchNorm2d, batch_norm_2d and nn.BatchNorm2d are one. */
static void fold(const char *name, char folded[MAX_WORD + 1])
{
    size_t n = 0;
    const char *dot = strrchr(name, '.');
    for (const char *c = dot ? dot + 1 : name; *c && n < MAX_WORD; c++)
        if (isalnum((unsigned char)*c)) folded[n++] = (char)tolower((unsigned char)*c);
    folded[n] = '\0';
}

const char *rp_suggest_foreign(const char *name, const char *parent)
{
    char folded[MAX_WORD + 1], other[MAX_WORD + 1];
    const char *general = NULL;
    fold(name, folded);
    if (!*folded) return NULL;
    for (size_t i = 0; i < RP_COUNT(foreign); i++) {
        fold(foreign[i].name, other);
        if (strcmp(folded, other) != 0) continue;
        if (*foreign[i].where && strncmp(parent, foreign[i].where, strlen(foreign[i].where)) == 0)
            return foreign[i].advice;
        if (!*foreign[i].where && !general) general = foreign[i].advice;
    }
    return general;
}

/* ---- unknown keys ---- */

/* Where in the schema a key of this name stands, below `start`: up to four places, "under `eval` or
 * under `log`". */
static int find_elsewhere(const struct rp_table *table, const char *start, const char *name,
                          struct rp_text *places)
{
    const char *seen[4];
    int n = 0;
    for (int row = 0; row < table->n; row++) {
        const struct rp_key *key = &table->row[row];
        const char *path = rp_key_display(key->path);
        if (strcmp(rp_key_name(key), name) != 0 || strncmp(key->path, "<init>", 6) == 0) continue;
        if (strncmp(key->path, start, strlen(start)) != 0) continue;
        if (strncmp(key->path, "<dataset>", 9) == 0) path = "data.train.x";
        size_t length = strlen(path) - strlen(strrchr(path, '.') ? strrchr(path, '.') : path);
        bool again = false;
        for (int i = 0; i < n; i++)
            again = again || (strncmp(seen[i], path, length) == 0 &&
                              (seen[i][length] == '.' || seen[i][length] == '\0'));
        if (again) continue;
        if (n == 4) return 5;
        seen[n] = path;
        if (n++) rp_text_add(places, " or ");
        if (length)
            rp_text_add(places, "under `%.*s`", (int)length, path);
        else
            rp_text_add(places, "at the top level");
    }
    return n;
}

static int names_of(const struct rp_value *map, const char **names, int limit)
{
    int n = 0;
    for (int i = 0; i < map->n && n < limit; i++) names[n++] = map->item[i].name;
    return n;
}

/* A near name anywhere in the schema, as its path. */
static const char *nearest_anywhere(const struct rp_table *table, const char *name)
{
    const char *names[512];
    int n = 0;
    for (int row = 0; row < table->n && n < 512; row++)
        if (table->row[row].path[0] != '<') names[n++] = rp_key_name(&table->row[row]);
    const char *near = strlen(name) >= 5 ? rp_nearest_word(name, names, n) : NULL;
    for (int row = 0; near && row < table->n; row++)
        if (table->row[row].path[0] != '<' && rp_key_name(&table->row[row]) == near)
            return table->row[row].path;
    return NULL;
}

void rp_suggest_key(const struct rp_table *table, const char *parent, const struct rp_value *map,
                    const char *name, struct rp_text *text)
{
    const char *names[64];
    const char *foreign_advice = table->foreign ? rp_suggest_foreign(name, parent) : NULL;
    int n = names_of(map, names, 64);
    const char *near = rp_nearest_word(name, names, n);
    const char *far = near ? NULL : nearest_anywhere(table, name);
    struct rp_text places = {0};
    char *below = rp_mem_text("%s%s", parent, *parent ? "." : "");
    int n_places = find_elsewhere(table, below, name, &places);
    if (n_places == 0) n_places = find_elsewhere(table, "", name, &places);
    rp_mem_free(below);
    rp_text_add(text, "no key `");
    rp_spec_quote(text, name, strlen(name), 60);
    rp_text_add(text, *parent ? "` in `%s`; " : "` at the top level%s; ",
                *parent ? rp_key_display(parent) : "");
    if (n_places > 0 && n_places <= 4 && !foreign_advice) {
        rp_text_add(text, "`%s` belongs %s", name, rp_text_get(&places));
    } else if (foreign_advice) {
        rp_text_add(text, "%s", foreign_advice);
    } else if (near) {
        rp_text_add(text, "did you mean `%s`?", near);
    } else if (far) {
        rp_text_add(text, "did you mean `%s`?", far);
    } else {
        rp_text_add(text, n ? "its keys: " : "it has no keys");
        for (int i = 0; i < n; i++) rp_text_add(text, "%s%s", i ? ", " : "", names[i]);
    }
    rp_text_release(&places);
}
