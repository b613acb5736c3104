/* site.c - a site file: the way of a spec (text, tree, bind) with the table site_v1.def. */
#include "spec/spec_int.h"

#include "base/sys.h"

#include <stdio.h>
#include <string.h>

#define RP_KEY(path, type, form, when, domain, fallback, rule, since, example, help)               \
    {path,     RP_TYPE_##type, RP_FORM_##form, when,    domain,                                    \
     fallback, RP_RULE_##rule, since,          example, help},
static const struct rp_key rows[] = {
#include "spec/site_v1.def"
};
#undef RP_KEY
static const struct rp_table table = {rows, (int)RP_COUNT(rows), false};

/* ---- values into the struct ------------------------------------------------------------------ */

static const char *text_of(const struct rp_value *root, const char *path)
{
    const struct rp_value *value = rp_value_find(root, path);
    return value && value->present ? value->text : NULL;
}

static int64_t number_of(const struct rp_value *root, const char *path)
{
    const struct rp_value *value = rp_value_find(root, path);
    return value && value->present ? value->whole : 0;
}

static void fill_texts(const struct rp_value *root, const char *path, struct rp_site_texts *texts)
{
    const struct rp_value *value = rp_value_find(root, path);
    for (int i = 0; value && value->present && i < value->n && i < RP_SITE_MAX_ITEMS; i++)
        texts->item[texts->n++] = value->item[i].text;
}

static struct rp_site_mount mount_of(const struct rp_value *map)
{
    struct rp_site_mount mount = {0};
    if (!map || !map->present) return mount;
    mount.claim = text_of(map, "claim");
    mount.path = text_of(map, "path");
    return mount;
}

static void fill(struct rp_site *site, const struct rp_value *root)
{
    site->slurm.partition = text_of(root, "slurm.partition");
    site->slurm.account = text_of(root, "slurm.account");
    site->slurm.qos = text_of(root, "slurm.qos");
    site->slurm.time = text_of(root, "slurm.time");
    site->slurm.mem = text_of(root, "slurm.mem");
    site->slurm.gpus_type = text_of(root, "slurm.gpus_type");
    site->slurm.container = text_of(root, "slurm.container");
    site->slurm.ranks_per_node = number_of(root, "slurm.ranks_per_node");
    site->slurm.grace = number_of(root, "slurm.grace");
    fill_texts(root, "slurm.sbatch", &site->slurm.sbatch);
    fill_texts(root, "slurm.before", &site->slurm.before);
    site->kubernetes.image = text_of(root, "kubernetes.image");
    site->kubernetes.namespace = text_of(root, "kubernetes.namespace");
    site->kubernetes.queue = text_of(root, "kubernetes.queue");
    site->kubernetes.patch = text_of(root, "kubernetes.patch");
    site->kubernetes.ranks_per_node = number_of(root, "kubernetes.ranks_per_node");
    site->kubernetes.grace = number_of(root, "kubernetes.grace");
    fill_texts(root, "kubernetes.env_from", &site->kubernetes.env_from);
    site->kubernetes.runs = mount_of(rp_value_find(root, "kubernetes.runs"));
    const struct rp_value *data = rp_value_find(root, "kubernetes.data");
    for (int i = 0; data && data->present && i < data->n && i < RP_SITE_MAX_ITEMS; i++)
        site->kubernetes.data[site->kubernetes.n_data++] = mount_of(&data->item[i]);
    static const char *const kinds[] = {
        [RP_SITE_JOB] = "job", [RP_SITE_JOBSET] = "jobset", [RP_SITE_TRAINJOB] = "trainjob"};
    const char *kind = text_of(root, "kubernetes.kind");
    for (size_t i = 0; kind && i < RP_COUNT(kinds); i++)
        if (strcmp(kind, kinds[i]) == 0) site->kubernetes.kind = (enum rp_site_kind)i;
}

/* ---- reading --------------------------------------------------------------------------------- */

static enum rp_status parse(struct rp_site *site, const char *bytes, size_t n_bytes,
                            struct rp_error *err)
{
    struct rp_problems *problems = RP_NEW(struct rp_problems);
    problems->path = site->path;
    problems->bytes = bytes;
    problems->n_bytes = n_bytes;
    struct rp_bind bind = {.arena = site->arena, .problems = problems, .table = &table};
    rp_spec_check_text(problems);
    struct rp_node *root =
        problems->stop ? NULL : rp_tree_read(bytes, n_bytes, NULL, site->arena, problems);
    if (!problems->stop && (!root || root->kind != RP_NODE_MAP))
        rp_problems_add(problems, root ? root->at : (struct rp_spec_place){0, 0}, NULL,
                        "%s; a site file is a map with `slurm:` or `kubernetes:`",
                        root ? "not a map of keys" : "nothing in the file");
    else if (!problems->stop)
        fill(site, rp_bind_root(&bind, root));
    enum rp_status status = rp_problems_report(problems, RP_STATUS_USAGE, err);
    rp_problems_release(problems);
    rp_mem_free(problems);
    return status;
}

/* The file to read, or NULL. Caller frees. */
static char *find_file(const char *path)
{
    const char *named = path ? path : rp_sys_env("REPRISE_SITE"), *home = rp_sys_env("HOME");
    if (named && named[0]) return rp_mem_copy_text(named);
    char *places[] = {home && home[0] ? rp_sys_join(home, ".config/reprise/site.yaml") : NULL,
                      rp_mem_copy_text("/etc/reprise/site.yaml")};
    char *found = NULL;
    for (size_t i = 0; i < RP_COUNT(places); i++) {
        struct rp_sys_stat stat = {0};
        if (places[i] && !found && rp_sys_stat(places[i], &stat, NULL) == RP_STATUS_OK &&
            stat.exists)
            found = places[i];
        else
            rp_mem_free(places[i]);
    }
    return found;
}

enum rp_status rp_site_load(const char *path, struct rp_site **result, struct rp_error *err)
{
    struct rp_site *site = RP_NEW(struct rp_site);
    char *file = find_file(path), *bytes = NULL;
    size_t n_bytes = 0;
    enum rp_status status = RP_STATUS_OK;
    site->arena = RP_NEW(struct rp_arena);
    *result = NULL;
    if (file) {
        site->path = rp_arena_text(site->arena, file, strlen(file));
        status = rp_sys_read_file(file, RP_SPEC_MAX_BYTES, RP_STATUS_USAGE, &bytes, &n_bytes, err);
        if (status == RP_STATUS_OK) status = parse(site, bytes, n_bytes, err);
    }
    rp_mem_free(bytes);
    rp_mem_free(file);
    if (status == RP_STATUS_OK)
        *result = site;
    else
        rp_site_free(site);
    return status;
}

void rp_site_free(struct rp_site *site)
{
    if (!site) return;
    rp_arena_release(site->arena);
    rp_mem_free(site->arena);
    rp_mem_free(site);
}

/* ---- what is missing, and an example --------------------------------------------------------- */

enum rp_status rp_site_lacks(const struct rp_site *site, const char *path, struct rp_error *err)
{
    const struct rp_key *key = &rows[0];
    int target = (int)strcspn(path, ".");
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        if (strcmp(rows[i].path, path) == 0) key = &rows[i];
    if (!site->path)
        return rp_error_set(
            err, RP_STATUS_USAGE,
            "no site file (--site FILE, $REPRISE_SITE, ~/.config/reprise/site.yaml or "
            "/etc/reprise/site.yaml), and `%s` is needed, the %s; write a file with\n"
            "%.*s:\n  %s: %s\nor start from `reprise launch --site-example %.*s`",
            path, key->help, target, path, rp_key_name(key), key->example, target, path);
    return rp_error_set(err, RP_STATUS_USAGE,
                        "%s lacks `%s`, the %s; below `%.*s:` add the line\n"
                        "  %s: %s",
                        site->path, path, key->help, target, path, rp_key_name(key), key->example);
}

enum rp_status rp_site_example(const char *target, struct rp_text *text, struct rp_error *err)
{
    if (strcmp(target, "slurm") != 0 && strcmp(target, "kubernetes") != 0)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "--site-example %s: there is one for slurm and one for kubernetes",
                            target);
    rp_text_add(
        text,
        "# Facts of this site for `reprise launch --on %s`. Lines that begin with `#` are off.\n"
        "# It is found as --site FILE, $REPRISE_SITE, ~/.config/reprise/site.yaml or "
        "/etc/reprise/site.yaml.\n%s:\n",
        target, target);
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const char *path = rows[i].path;
        if (!rp_key_is_child(&rows[i], target)) continue;
        bool needed = strcmp(path, "slurm.time") == 0 || strcmp(path, "kubernetes.image") == 0 ||
                      strcmp(path, "kubernetes.runs") == 0;
        rp_text_add(text, "  # %s\n  %s%s: %s\n", rows[i].help, needed ? "" : "# ",
                    rp_key_name(&rows[i]), rows[i].example);
    }
    return RP_STATUS_OK;
}
