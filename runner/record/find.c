/* find.c - RUN as a person writes it. */
#include "record/record_int.h"

#include "base/sys.h"

#include <jansson.h>
#include <string.h>

enum { MIN_DIGITS = 4, MAX_NAMED = 8 };

static bool has_manifest(const char *folder)
{
    struct rp_sys_stat stat = {0};
    char *path = rp_sys_join(folder, "manifest.json");
    bool there = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.is_file;
    rp_mem_free(path);
    return there;
}

static bool starts_with(const char *text, const char *prefix)
{
    return text && strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_digits(const char *what)
{
    size_t n = strlen(what);
    return n >= MIN_DIGITS && n < RP_SHA256_HEX && strspn(what, "0123456789abcdef") == n;
}

/* What matters of one run when looking for one. */
struct candidate {
    char *folder;
    double started; /* of its newest segment */
    bool by_name, by_digest;
};

static bool read_candidate(const char *root, const char *name, const char *what,
                           struct candidate *candidate)
{
    struct rp_manifest manifest;
    bool found = false;
    candidate->folder = rp_sys_join(root, name);
    if (!has_manifest(candidate->folder) ||
        rp_manifest_read(candidate->folder, &found, &manifest, NULL) != RP_STATUS_OK || !found) {
        rp_mem_free(candidate->folder);
        return false;
    }
    const json_t *segments = json_object_get(manifest.root, "segments");
    const json_t *digests = json_object_get(manifest.root, "digests");
    size_t n = json_array_size(segments);
    candidate->started =
        json_number_value(json_object_get(json_array_get(segments, n ? n - 1 : 0), "start"));
    const char *run_name = json_string_value(json_object_get(manifest.root, "name"));
    candidate->by_name =
        what && (strcmp(name, what) == 0 || (run_name && strcmp(run_name, what) == 0));
    candidate->by_digest =
        what && is_digits(what) &&
        (starts_with(json_string_value(json_object_get(digests, "numeric")), what) ||
         starts_with(json_string_value(json_object_get(digests, "final")), what) ||
         (strlen(name) > 9 && name[strlen(name) - 9] == '-' &&
          starts_with(name + strlen(name) - 8, what)));
    rp_manifest_release(&manifest);
    return true;
}

/* Picks among what was read: the newest of a name; the only one of a digest. */
static enum rp_status choose(const char *root, const char *what, const struct candidate *list,
                             size_t n, char **run, struct rp_error *err)
{
    const struct candidate *newest = NULL, *by_digest = NULL;
    size_t n_digest = 0;
    struct rp_text names = {0};
    for (size_t i = 0; i < n; i++) {
        bool fits = !what || list[i].by_name;
        if (fits && (!newest || list[i].started >= newest->started)) newest = &list[i];
        if (!list[i].by_digest) continue;
        by_digest = &list[i];
        if (n_digest++ < MAX_NAMED) rp_text_add(&names, "\n  %s", list[i].folder);
    }
    enum rp_status status = RP_STATUS_OK;
    if (newest)
        *run = rp_mem_copy_text(newest->folder);
    else if (n_digest == 1)
        *run = rp_mem_copy_text(by_digest->folder);
    else if (n_digest > 1)
        status = rp_error_set(err, RP_STATUS_USAGE,
                              "%zu runs have a digest that begins with %s; name one:%s%s", n_digest,
                              what, rp_text_get(&names), n_digest > MAX_NAMED ? "\n  ..." : "");
    else if (!what)
        status = rp_error_set(
            err, RP_STATUS_USAGE,
            "no run under %s; name a run folder, or set REPRISE_RUNS to where they are", root);
    else
        status = rp_error_set(
            err, RP_STATUS_USAGE,
            "%s is no run: no such folder with a manifest.json, and no name or digest of a "
            "run under %s (`reprise list` shows them)",
            what, root);
    rp_text_release(&names);
    return status;
}

enum rp_status rp_run_find(const char *what, char **run, struct rp_error *err)
{
    const char *root = rp_sys_env("REPRISE_RUNS");
    char **names = NULL;
    struct candidate *list = NULL;
    size_t n = 0, count = 0;
    if (!root || !root[0]) root = "runs";
    *run = NULL;
    if (what && what[0] && has_manifest(what)) {
        *run = rp_mem_copy_text(what);
        size_t length = strlen(*run);
        while (length > 1 && (*run)[length - 1] == '/') (*run)[--length] = '\0';
        return RP_STATUS_OK;
    }
    enum rp_status status = rp_sys_list(root, &names, err);
    if (status != RP_STATUS_OK) return status;
    while (names[count]) count++;
    list = RP_NEW_ARRAY(struct candidate, count + 1);
    for (size_t i = 0; i < count; i++) n += read_candidate(root, names[i], what, &list[n]);
    status = choose(root, what, list, n, run, err);
    for (size_t i = 0; i < n; i++) rp_mem_free(list[i].folder);
    rp_mem_free(list);
    rp_sys_free_names(names);
    return status;
}
