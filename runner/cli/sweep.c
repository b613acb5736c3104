/* sweep.c - the grid of a sweep from its words. */
#include "cli/sweep.h"

#include <stdlib.h>
#include <string.h>

static enum rp_status add_value(struct rp_sweep_key *key, const char *bytes, size_t length,
                                const char *text, struct rp_error *err)
{
    while (length && *bytes == ' ') bytes++, length--;
    while (length && bytes[length - 1] == ' ') length--;
    if (!length)
        return rp_error_set(err, RP_STATUS_USAGE, "--sweep %s: an empty value between two commas",
                            text);
    if (key->n == RP_SWEEP_MAX_MEMBERS)
        return rp_error_set(err, RP_STATUS_USAGE, "--sweep %s: more than %d values", text,
                            RP_SWEEP_MAX_MEMBERS);
    key->value = rp_mem_grow(key->value, (size_t)(key->n + 1) * sizeof *key->value);
    key->value[key->n++] = rp_mem_text("%.*s", (int)length, bytes);
    return RP_STATUS_OK;
}

/* "1..5": every whole number; false when it is no range. */
static bool is_range(const char *bytes, size_t length, long long *first, long long *last)
{
    char *text = rp_mem_text("%.*s", (int)length, bytes), *end;
    bool is = false;
    *first = strtoll(text, &end, 10);
    if (end != text && strncmp(end, "..", 2) == 0) {
        const char *second = end + 2;
        *last = strtoll(second, &end, 10);
        is = end != second && !end[strspn(end, " ")];
    }
    rp_mem_free(text);
    return is;
}

static enum rp_status add_item(struct rp_sweep_key *key, const char *bytes, size_t length,
                               const char *text, struct rp_error *err)
{
    long long first, last;
    if (!is_range(bytes, length, &first, &last)) return add_value(key, bytes, length, text, err);
    if (last < first)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--sweep %s: the range %lld..%lld goes from the larger to the smaller",
                            text, first, last);
    for (long long i = first;; i++) {
        char *number = rp_mem_text("%lld", i);
        enum rp_status status = add_value(key, number, strlen(number), text, err);
        rp_mem_free(number);
        if (status != RP_STATUS_OK || i == last) return status;
    }
}

/* Where the item ends: at a comma outside of brackets and quotes. */
static size_t item_length(const char *at)
{
    int depth = 0;
    char quote = '\0';
    size_t n = 0;
    for (; at[n]; n++) {
        char c = at[n];
        if (quote) {
            if (c == quote) quote = '\0';
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if (c == ']' || c == '}') {
            depth--;
        } else if (c == ',' && depth <= 0) {
            break;
        }
    }
    return n;
}

static enum rp_status parse_key(const char *text, struct rp_sweep *sweep, struct rp_error *err)
{
    const char *equals = strchr(text, '=');
    if (!equals || equals == text || !equals[1])
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--sweep %s: expected KEY=VALUES, such as train.optimizer.lr=1e-4,3e-4 "
                            "or seed=1..5",
                            text);
    if (sweep->n_keys == RP_SWEEP_MAX_KEYS)
        return rp_error_set(err, RP_STATUS_USAGE, "at most %d keys can be swept",
                            RP_SWEEP_MAX_KEYS);
    struct rp_sweep_key *key = &sweep->key[sweep->n_keys++];
    key->key = rp_mem_text("%.*s", (int)(equals - text), text);
    for (int i = 0; i + 1 < sweep->n_keys; i++)
        if (strcmp(sweep->key[i].key, key->key) == 0)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "--sweep names %s twice; write all its values behind one: "
                                "%s=A,B,C",
                                key->key, key->key);
    for (const char *at = equals + 1;;) {
        size_t length = item_length(at);
        RP_TRY(add_item(key, at, length, text, err));
        if (!at[length]) break;
        at += length + 1;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_sweep_parse(const char *const *texts, struct rp_sweep *sweep,
                              struct rp_error *err)
{
    *sweep = (struct rp_sweep){.n_members = 1};
    for (; *texts; texts++) {
        RP_TRY(parse_key(*texts, sweep, err));
        int n = sweep->key[sweep->n_keys - 1].n;
        if (n > RP_SWEEP_MAX_MEMBERS / sweep->n_members)
            return rp_error_set(err, RP_STATUS_USAGE,
                                "the sweep has more than %d members; sweep fewer values at once",
                                RP_SWEEP_MAX_MEMBERS);
        sweep->n_members *= n;
    }
    return RP_STATUS_OK;
}

void rp_sweep_release(struct rp_sweep *sweep)
{
    for (int k = 0; k < sweep->n_keys; k++) {
        for (int i = 0; i < sweep->key[k].n; i++) rp_mem_free(sweep->key[k].value[i]);
        rp_mem_free(sweep->key[k].value);
        rp_mem_free(sweep->key[k].key);
    }
    *sweep = (struct rp_sweep){0};
}

const char *rp_sweep_value(const struct rp_sweep *sweep, int member, int key)
{
    for (int k = sweep->n_keys - 1; k > key; k--) member /= sweep->key[k].n;
    return sweep->key[key].value[member % sweep->key[key].n];
}
