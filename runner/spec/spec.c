/* spec.c - the life of a spec: bytes in, every problem or a complete struct out. */
#include "spec/spec_int.h"

#include "base/sys.h"

#include <string.h>

static struct rp_spec *new_spec(const char *path, const char *bytes, size_t n_bytes,
                                const struct rp_spec_options *options)
{
    struct rp_spec *spec = RP_NEW(struct rp_spec);
    spec->tree = RP_NEW(struct rp_spec_tree);
    struct rp_arena *arena = &spec->tree->arena;
    char *folder = rp_sys_folder_of(path);
    const char *start = options && options->data_folder ? options->data_folder : folder;
    spec->path = rp_arena_text(arena, path, strlen(path));
    spec->folder = rp_arena_text(arena, start, strlen(start));
    spec->by_name = options && options->data_folder;
    spec->bytes = rp_arena_text(arena, bytes, n_bytes);
    spec->n_bytes = n_bytes;
    rp_mem_free(folder);
    return spec;
}

/* A file of another version, or of no version, is told that first: its other keys may be right. */
static void check_version(const struct rp_node *root, struct rp_problems *problems)
{
    const struct rp_node *version = rp_node_get(root, "reprise");
    int64_t number = 0;
    if (!version) return;
    if (version->kind == RP_NODE_SCALAR && rp_scalar_kind(version) == RP_SCALAR_INT &&
        rp_scalar_int(version, &number) && number > RP_SPEC_VERSION) {
        rp_problems_add(problems, version->at, version->set,
                        "spec version %lld; this program reads up to %d: a newer reprise is needed",
                        (long long)number, RP_SPEC_VERSION);
        problems->stop = true;
        return;
    }
    for (int i = 1; i < root->n; i++)
        if (strcmp(root->entry[i].key, "reprise") == 0 && !root->entry[i].value->set)
            rp_problems_add(problems, root->entry[i].key_at, NULL,
                            "`reprise: 1` must be the first key of the file");
}

static struct rp_node *read_tree(struct rp_spec *spec, const struct rp_spec_options *options,
                                 struct rp_problems *problems)
{
    struct rp_arena *arena = &spec->tree->arena;
    rp_spec_check_text(problems);
    if (problems->stop) return NULL;
    struct rp_node *root = rp_tree_read(spec->bytes, spec->n_bytes, NULL, arena, problems);
    if (problems->stop) return NULL;
    if (!root || root->kind != RP_NODE_MAP) {
        struct rp_spec_place at = root ? root->at : (struct rp_spec_place){0, 0};
        rp_problems_add(problems, at, NULL,
                        "%s; a spec is a map of keys that starts with `reprise: 1`",
                        !root ? "nothing in the file" : "not a map of keys");
        return NULL;
    }
    for (const char *const *set = options ? options->set : NULL; set && *set; set++)
        rp_tree_set(root, *set, arena, problems);
    check_version(root, problems);
    return problems->stop ? NULL : root;
}

enum rp_status rp_spec_parse(const char *path, const char *bytes, size_t n_bytes,
                             const struct rp_spec_options *options, struct rp_spec **result,
                             struct rp_error *err)
{
    *result = NULL;
    struct rp_spec *spec = new_spec(path, bytes, n_bytes, options);
    struct rp_problems *problems = RP_NEW(struct rp_problems);
    problems->path = spec->path;
    problems->bytes = spec->bytes;
    problems->n_bytes = spec->n_bytes;
    struct rp_bind bind = {
        .arena = &spec->tree->arena, .problems = problems, .table = &rp_schema_table};

    spec->tree->node = read_tree(spec, options, problems);
    if (spec->tree->node) {
        spec->tree->value = rp_bind_root(&bind, spec->tree->node);
        rp_fill(spec, bind.arena, spec->tree->value);
        rp_rules_check(spec, spec->tree->value, problems);
    }
    enum rp_status status = rp_problems_report(problems, RP_STATUS_USAGE, err);
    rp_problems_release(problems);
    rp_mem_free(problems);
    if (status == RP_STATUS_OK)
        *result = spec;
    else
        rp_spec_free(spec);
    return status;
}

enum rp_status rp_spec_load(const char *path, const struct rp_spec_options *options,
                            struct rp_spec **spec, struct rp_error *err)
{
    char *bytes = NULL;
    size_t n_bytes = 0;
    struct rp_sys_stat stat;
    *spec = NULL;
    if (rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && !stat.exists)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "there is no file %s; `reprise init` writes a spec for data or from a "
                            "template",
                            path);
    if (stat.is_folder)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s is a folder; name the spec, a file (of a run: `reprise rerun %s`)",
                            path, path);
    RP_TRY(rp_sys_read_file(path, RP_SPEC_MAX_BYTES, RP_STATUS_USAGE, &bytes, &n_bytes, err));
    enum rp_status status = rp_spec_parse(path, bytes, n_bytes, options, spec, err);
    rp_mem_free(bytes);
    return status;
}

void rp_spec_free(struct rp_spec *spec)
{
    if (!spec) return;
    rp_arena_release(&spec->tree->arena);
    rp_mem_free(spec->tree);
    rp_mem_free(spec);
}

static bool exists(const char *path)
{
    struct rp_sys_stat stat;
    return rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.exists;
}

char *rp_spec_path(const struct rp_spec *spec, const char *path)
{
    char *plain = rp_sys_join(spec->folder, path), *name = strrchr(path, '/');
    if (path[0] != '/' || !spec->by_name || exists(plain)) return plain;
    char *named = rp_sys_join(spec->folder, name + 1);
    bool there = name[1] && exists(named);
    rp_mem_free(there ? plain : named);
    return there ? named : plain;
}
