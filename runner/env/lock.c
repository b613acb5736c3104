/* lock.c - what a lock holds, and an environment and data compared with it. */
#include "env/env_int.h"

#include "base/sys.h"

#include <string.h>

enum { LOCK_VERSION = 1, LOCK_MAX_BYTES = 16 << 20 };
static const char lock_format[] = "reprise-lock";

/* ---- writing and reading --------------------------------------------------------------------- */

json_t *rp_env_lock_new(const struct rp_spec *spec, const json_t *environment,
                        const struct rp_env_file *files, int n_files)
{
    json_t *lock = json_object(), *data = json_array();
    for (int i = 0; i < n_files; i++) {
        char hex[RP_SHA256_HEX];
        json_t *file = json_object();
        rp_sha256_hex(&files[i].sha256, hex);
        json_object_set_new(file, "key", json_string(files[i].key));
        json_object_set_new(file, "size", json_integer((json_int_t)files[i].size));
        json_object_set_new(file, "sha256", json_string(hex));
        json_array_append_new(data, file);
    }
    json_object_set_new(lock, "format", json_string(lock_format));
    json_object_set_new(lock, "version", json_integer(LOCK_VERSION));
    json_object_set_new(lock, "name", json_string(spec->name));
    json_object_set_new(lock, "environment", json_deep_copy(environment));
    json_object_set_new(lock, "data", data);
    return lock;
}

enum rp_status rp_env_lock_read(const char *path, json_t **lock, struct rp_error *err)
{
    char *bytes = NULL;
    size_t length = 0;
    json_error_t why;
    json_t *read = NULL;
    const char *format;
    enum rp_status status = RP_STATUS_OK;
    RP_TRY_GOTO(status,
                rp_sys_read_file(path, LOCK_MAX_BYTES, RP_STATUS_ENVIRONMENT, &bytes, &length, err),
                out);
    read = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &why);
    if (!read) {
        status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                              "%s:%d:%d: not a lock: %s; write it with `reprise lock SPEC`", path,
                              why.line, why.column, why.text);
        goto out;
    }
    format = json_string_value(json_object_get(read, "format"));
    if (!format || strcmp(format, lock_format) != 0 ||
        !json_is_object(json_object_get(read, "environment")) ||
        !json_is_array(json_object_get(read, "data"))) {
        status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                              "%s: JSON, but not a lock; write one with `reprise lock SPEC`", path);
        goto out;
    }
    if (json_integer_value(json_object_get(read, "version")) != LOCK_VERSION) {
        status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                              "%s: this reprise reads locks of version %d; write the lock again "
                              "with `reprise lock SPEC`",
                              path, LOCK_VERSION);
        goto out;
    }
    *lock = read;
    read = NULL;
out:
    json_decref(read);
    rp_mem_free(bytes);
    return status;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void add_row(json_t *rows, const char *what, const json_t *expected, const json_t *found,
                    bool touches)
{
    json_t *row = json_object();
    json_object_set_new(row, "what", json_string(what));
    json_object_set_new(row, "expected", expected ? json_deep_copy(expected) : json_null());
    json_object_set_new(row, "found", found ? json_deep_copy(found) : json_null());
    json_object_set_new(row, "touches_bits", json_boolean(touches));
    json_array_append_new(rows, row);
}

static bool touches_at(enum rp_env_touch touch, enum rp_tier tier)
{
    if (touch == RP_ENV_TOUCH_PINNED) return tier != RP_TIER_PORTABLE;
    return touch == RP_ENV_TOUCH_ALWAYS;
}

/* An absent key and a null say the same. */
static bool same(const json_t *a, const json_t *b)
{
    bool no_a = !a || json_is_null(a), no_b = !b || json_is_null(b);
    return no_a || no_b ? no_a && no_b : json_equal(a, b);
}

/* Facts with a place of their own. Where a program or a library lies is no fact that is compared.
 */
static const struct {
    const char *section, *name; /* name NULL: the section is the value */
    enum rp_env_touch touch;
} facts[] = {
    {"numerics", NULL, RP_ENV_TOUCH_ALWAYS},
    {"code", "version", RP_ENV_TOUCH_NEVER},
    {"code", "commit", RP_ENV_TOUCH_NEVER},
    {"code", "dirty", RP_ENV_TOUCH_NEVER},
    /* The kernels are in the program: at portable their arithmetic is tested by the self-test. */
    {"code", "source_sha256", RP_ENV_TOUCH_PINNED},
    {"build", "compiler", RP_ENV_TOUCH_PINNED},
    {"build", "flags", RP_ENV_TOUCH_PINNED},
    {"build", "type", RP_ENV_TOUCH_PINNED},
    {"binary", "sha256", RP_ENV_TOUCH_PINNED},
    {"device", "kind", RP_ENV_TOUCH_PINNED},
    {"device", "model", RP_ENV_TOUCH_PINNED},
    {"device", "path", RP_ENV_TOUCH_PINNED},
    {"device", "paths", RP_ENV_TOUCH_NEVER},
    {"device", "id", RP_ENV_TOUCH_NEVER},
    {"device", "processors", RP_ENV_TOUCH_NEVER}, /* no order of additions knows them */
    {"device", "driver", RP_ENV_TOUCH_NEVER},
    {"device", "runtime", RP_ENV_TOUCH_NEVER},
    {"threads", NULL, RP_ENV_TOUCH_NEVER}, /* no sum crosses threads, at any tier */
    {"system", "kernel", RP_ENV_TOUCH_NEVER},
    {"system", "machine", RP_ENV_TOUCH_PINNED},
    {"system", "libc", RP_ENV_TOUCH_NEVER}, /* nothing of libm is called */
    {"container", "kind", RP_ENV_TOUCH_NEVER},
    {"container", "image", RP_ENV_TOUCH_NEVER},
};

static void compare_facts(json_t *rows, const json_t *expected, const json_t *found,
                          enum rp_tier tier)
{
    for (size_t i = 0; i < RP_COUNT(facts); i++) {
        const json_t *a = json_object_get(expected, facts[i].section);
        const json_t *b = json_object_get(found, facts[i].section);
        char what[64];
        snprintf(what, sizeof what, "%s%s%s", facts[i].section, facts[i].name ? "." : "",
                 facts[i].name ? facts[i].name : "");
        if (facts[i].name) {
            a = json_object_get(a, facts[i].name);
            b = json_object_get(b, facts[i].name);
        }
        if (!same(a, b)) add_row(rows, what, a, b, touches_at(facts[i].touch, tier));
    }
}

/* A fact of `names` in either object, compared by its name in both. */
static void compare_names(json_t *rows, const char *prefix, const json_t *expected,
                          const json_t *found, enum rp_env_touch (*touch)(const char *name),
                          enum rp_tier tier)
{
    const char *name;
    json_t *value;
    json_t *names = json_object();
    if (expected) json_object_update(names, (json_t *)expected);
    if (found) json_object_update(names, (json_t *)found);
    json_object_foreach(names, name, value)
    {
        const json_t *a = json_object_get(expected, name), *b = json_object_get(found, name);
        char what[300];
        snprintf(what, sizeof what, "%s %s", prefix, name);
        if (!same(a, b)) add_row(rows, what, a, b, touches_at(touch(name), tier));
    }
    json_decref(names);
}

/* {name: sha256} of a list of libraries. */
static json_t *hashes_by_name(const json_t *libraries)
{
    size_t i;
    json_t *library, *by_name = json_object();
    json_array_foreach((json_t *)libraries, i, library)
    {
        const char *name = json_string_value(json_object_get(library, "name"));
        json_t *hash = json_object_get(library, "sha256");
        if (name) json_object_set(by_name, name, hash ? hash : json_null());
    }
    return by_name;
}

/* Libraries that compute no float of a model: those of the host program and what they pull in. A
 * library that is not known to be harmless, a preloaded one above all, counts as one that is not.
 */
static enum rp_env_touch library_touch(const char *name)
{
    static const char *const harmless[] = {
        "ld-linux",  "ld-musl",    "libc.",      "libm.",        "libpthread.", "libdl.",
        "librt.",    "libresolv.", "libyaml-",   "libjansson",   "libcrypto.",  "libssl.",
        "libz.",     "libcurl",    "libnghttp2", "libidn2",      "librtmp",     "libssh2",
        "libpsl",    "libgssapi",  "libkrb5",    "libk5",        "libcom_err",  "libldap",
        "liblber",   "libzstd",    "libbrotli",  "libunistring", "libgnutls",   "libhogweed",
        "libnettle", "libgmp",     "libp11-kit", "libtasn1",     "libffi",      "libkeyutils",
        "libsasl2",  "libasan",    "libubsan",   "libtsan",      "libgcc_s",    "libstdc++"};
    for (size_t i = 0; i < RP_COUNT(harmless); i++)
        if (strncmp(name, harmless[i], strlen(harmless[i])) == 0) return RP_ENV_TOUCH_NEVER;
    return RP_ENV_TOUCH_PINNED;
}

json_t *rp_env_compare(const json_t *lock, const json_t *environment, enum rp_tier tier)
{
    const json_t *expected = json_object_get(lock, "environment");
    json_t *rows = json_array();
    json_t *libraries[2] = {hashes_by_name(json_object_get(expected, "libraries")),
                            hashes_by_name(json_object_get(environment, "libraries"))};
    compare_facts(rows, expected, environment, tier);
    compare_names(rows, "library", libraries[0], libraries[1], library_touch, tier);
    compare_names(rows, "variable", json_object_get(expected, "variables"),
                  json_object_get(environment, "variables"), rp_env_variable_touch, tier);
    json_decref(libraries[0]);
    json_decref(libraries[1]);
    return rows;
}

/* "1234 bytes, 9f2c..." of a file in a lock; NULL when it has none. */
static char *describe_file(const json_t *file)
{
    const char *hash = json_string_value(json_object_get(file, "sha256"));
    if (!file) return NULL;
    return rp_mem_text("%lld bytes, %.16s",
                       (long long)json_integer_value(json_object_get(file, "size")),
                       hash ? hash : "no hash");
}

static const json_t *find_file(const json_t *files, const char *key)
{
    size_t i;
    json_t *file;
    json_array_foreach((json_t *)files, i, file)
    {
        const char *name = json_string_value(json_object_get(file, "key"));
        if (name && strcmp(name, key) == 0) return file;
    }
    return NULL;
}

static void compare_file(json_t *rows, const char *key, const json_t *expected, const json_t *found)
{
    char *a = describe_file(expected), *b = describe_file(found);
    json_t *text[2] = {a ? json_string(a) : json_null(), b ? json_string(b) : json_null()};
    if (!same(json_object_get(expected, "sha256"), json_object_get(found, "sha256")))
        add_row(rows, key, text[0], text[1], true);
    json_decref(text[0]);
    json_decref(text[1]);
    rp_mem_free(a);
    rp_mem_free(b);
}

json_t *rp_env_compare_data(const json_t *lock, const struct rp_env_file *files, int n_files)
{
    json_t *rows = json_array();
    const json_t *expected = json_object_get(lock, "data");
    json_t *found = json_array(), *file;
    size_t i;
    for (int k = 0; k < n_files; k++) {
        char hex[RP_SHA256_HEX];
        rp_sha256_hex(&files[k].sha256, hex);
        json_array_append_new(found, json_pack("{s:s, s:I, s:s}", "key", files[k].key, "size",
                                               (json_int_t)files[k].size, "sha256", hex));
    }
    json_array_foreach(found, i, file)
    {
        const char *key = json_string_value(json_object_get(file, "key"));
        compare_file(rows, key, find_file(expected, key), file);
    }
    json_array_foreach((json_t *)expected, i, file)
    {
        const char *key = json_string_value(json_object_get(file, "key"));
        if (key && !find_file(found, key)) compare_file(rows, key, file, NULL);
    }
    json_decref(found);
    return rows;
}

int rp_env_count_touching(const json_t *rows)
{
    size_t i;
    json_t *row;
    int n = 0;
    json_array_foreach((json_t *)rows, i, row) n +=
        json_is_true(json_object_get(row, "touches_bits"));
    return n;
}
