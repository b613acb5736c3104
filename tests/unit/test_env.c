/* test_env.c - what is probed, that no secret is, and which differences are refused at which tier.
 */
#include "test.h"

#include "base/sys.h"
#include "device.h"
#include "env/env.h"

#include <jansson.h>
#include <unistd.h>

static const char canary[] = "CANARY7f3a9c20secret";

static struct rp_spec make_spec(enum rp_tier tier, char *lock)
{
    struct rp_spec spec = {.path = "job.yaml", .folder = "/", .numerics = 1, .name = "job"};
    spec.determinism = tier;
    spec.environment_lock = lock;
    return spec;
}

/* ---- probing --------------------------------------------------------------------------------- */

static const char *text_at(const json_t *object, const char *section, const char *name)
{
    const char *text = json_string_value(json_object_get(json_object_get(object, section), name));
    return text ? text : "(absent)";
}

static void test_probe(void)
{
    json_t *environment = rp_env_probe(NULL, 3);
    struct rp_sha256 hash;
    char hex[RP_SHA256_HEX];
    struct rp_error err = {0};
    char *self = rp_sys_self();

    CHECK_INT(json_integer_value(json_object_get(environment, "numerics")), 1);
    CHECK_INT(json_integer_value(json_object_get(environment, "threads")), 3);
    CHECK_TEXT(text_at(environment, "device", "kind"), "cpu");
    CHECK(strstr(text_at(environment, "device", "paths"), text_at(environment, "device", "path")) !=
          NULL);
    CHECK(strncmp(text_at(environment, "system", "kernel"), "Linux ", 6) == 0);

    /* The hash recorded is the one of the file on disk. */
    CHECK_OK(rp_sha256_of_file(self, &hash, NULL, &err), &err);
    rp_sha256_hex(&hash, hex);
    CHECK_TEXT(text_at(environment, "binary", "sha256"), hex);
    CHECK_TEXT(text_at(environment, "binary", "path"), self);
    rp_mem_free(self);

    struct rp_text text = {0};
    rp_env_print(environment, &text);
    CHECK(strstr(rp_text_get(&text), "binary sha256") != NULL);
    CHECK(strstr(rp_text_get(&text), hex) != NULL);
    rp_text_release(&text);
    json_decref(environment);
}

/* Every library is named once, absolute, with the hash of its file. */
static void test_libraries(void)
{
    json_t *environment = rp_env_probe(NULL, 1), *library;
    json_t *libraries = json_object_get(environment, "libraries");
    size_t i;
    bool has_crypto = false;
    json_array_foreach(libraries, i, library)
    {
        const char *name = json_string_value(json_object_get(library, "name"));
        const char *path = json_string_value(json_object_get(library, "path"));
        struct rp_sha256 hash;
        char hex[RP_SHA256_HEX];
        struct rp_error err = {0};
        CHECK(path && path[0] == '/');
        CHECK_OK(rp_sha256_of_file(path, &hash, NULL, &err), &err);
        rp_sha256_hex(&hash, hex);
        CHECK_TEXT(json_string_value(json_object_get(library, "sha256")), hex);
        if (strncmp(name, "libcrypto", 9) == 0) has_crypto = true;
    }
    /* Absent only where it is linked statically, and then there may be no library at all. */
    CHECK(has_crypto || json_array_size(libraries) < 4);
    json_decref(environment);
}

static void test_threads(void)
{
    struct rp_spec spec = make_spec(RP_TIER_PORTABLE, NULL);
    setenv("OMP_NUM_THREADS", "5,2", 1);
    CHECK_INT(rp_env_threads(&spec), 5);
    CHECK_INT(rp_env_threads(NULL), 5);
    spec.resources.threads = 7;
    CHECK_INT(rp_env_threads(&spec), 7);
    spec.resources.threads = 0;
    static const char *const wrong[] = {"", "0", "-3", "many", "4x", "99999999999999999999x"};
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        setenv("OMP_NUM_THREADS", wrong[i], 1);
        CHECK_INT(rp_env_threads(&spec), rp_sys_cpus());
    }
    unsetenv("OMP_NUM_THREADS");
    CHECK_INT(rp_env_threads(&spec), rp_sys_cpus());
    /* Of several ranks each has a part, unless somebody has said how many. */
    CHECK_INT(rp_env_threads_beside(&spec, 1), rp_sys_cpus());
    CHECK_INT(rp_env_threads_beside(&spec, rp_sys_cpus()), 1);
    CHECK_INT(rp_env_threads_beside(&spec, 4 * rp_sys_cpus()), 1);
    spec.resources.threads = 7;
    CHECK_INT(rp_env_threads_beside(&spec, 4), 7);
    spec.resources.threads = 0;
    setenv("OMP_NUM_THREADS", "5", 1);
    CHECK_INT(rp_env_threads_beside(&spec, 4), 5);
    unsetenv("OMP_NUM_THREADS");
}

/* A canary in places where people keep secrets, and in every variable that is read. */
static void test_no_secret(void)
{
    static const char *const names[] = {"AWS_SECRET_ACCESS_KEY",
                                        "HF_TOKEN",
                                        "WANDB_API_KEY",
                                        "MLFLOW_TRACKING_PASSWORD",
                                        "GITHUB_TOKEN",
                                        "DATABASE_URL",
                                        "http_proxy",
                                        "https_proxy",
                                        "LD_LIBRARY_PATH",
                                        "OMP_NUM_THREADS",
                                        "OMP_WAIT_POLICY",
                                        "GLIBC_TUNABLES",
                                        "LANG",
                                        "LC_NUMERIC",
                                        "NCCL_ALGO",
                                        "KUBERNETES_SERVICE_HOST",
                                        "APPTAINER_CONTAINER",
                                        "NVIDIA_TF32_OVERRIDE",
                                        "CUBLASLT_HEURISTICS_LUT_FILE",
                                        "REPRISE_CONTAINER_DIGEST"};
    char url[128];
    snprintf(url, sizeof url, "http://user:%s@proxy:3128/?key=%s", canary, canary);
    for (size_t i = 0; i < RP_COUNT(names); i++)
        setenv(names[i], strstr(names[i], "proxy") ? url : canary, 1);
    json_t *environment = rp_env_probe(NULL, 1);
    char *all = json_dumps(environment, 0);
    struct rp_text text = {0};
    rp_env_print(environment, &text);
    CHECK(strstr(all, canary) == NULL);
    CHECK(strstr(rp_text_get(&text), canary) == NULL);
    /* The control: the variables were read, and a value of the right form does appear. */
    CHECK_TEXT(text_at(environment, "variables", "OMP_WAIT_POLICY"), "(set)");
    CHECK_TEXT(text_at(environment, "container", "kind"), "kubernetes");
    json_decref(environment);
    setenv("OMP_WAIT_POLICY", "PASSIVE", 1);
    setenv("LANG", "de_DE.UTF-8", 1);
    environment = rp_env_probe(NULL, 1);
    CHECK_TEXT(text_at(environment, "variables", "OMP_WAIT_POLICY"), "PASSIVE");
    CHECK_TEXT(text_at(environment, "variables", "LANG"), "de_DE.UTF-8");
    json_decref(environment);
    rp_text_release(&text);
    free(all);
    for (size_t i = 0; i < RP_COUNT(names); i++) unsetenv(names[i]);
}

/* The path asked for is recorded when there is such a path; anything else is not taken over. */
static void test_path(void)
{
    static const char *const wanted[] = {"scalar", "scal", canary, ""};
    for (size_t i = 0; i < RP_COUNT(wanted); i++) {
        setenv("REPRISE_CPU_PATH", wanted[i], 1);
        json_t *environment = rp_env_probe(NULL, 1);
        const char *paths = rp_cpu_paths(), *path = text_at(environment, "device", "path");
        if (i == 0) {
            CHECK_TEXT(path, "scalar");
        } else {
            CHECK(strncmp(path, paths, strlen(path)) == 0);
            CHECK_INT(strlen(path), strcspn(paths, " "));
        }
        json_decref(environment);
    }
    unsetenv("REPRISE_CPU_PATH");
}

static void test_container_digest(void)
{
    static const char digest[] =
        "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    setenv("REPRISE_CONTAINER_DIGEST", digest, 1);
    json_t *environment = rp_env_probe(NULL, 1);
    CHECK_TEXT(text_at(environment, "container", "image"), digest);
    json_decref(environment);
    unsetenv("REPRISE_CONTAINER_DIGEST");
}

/* ---- the lock -------------------------------------------------------------------------------- */

/* A copy of `environment` with one fact set to another value. */
static json_t *with(const json_t *environment, const char *section, const char *name, json_t *value)
{
    json_t *copy = json_deep_copy(environment);
    if (name)
        json_object_set_new(json_object_get(copy, section), name, value);
    else
        json_object_set_new(copy, section, value);
    return copy;
}

static json_t *with_library(const json_t *environment, const char *name)
{
    json_t *copy = json_deep_copy(environment);
    json_array_append_new(
        json_object_get(copy, "libraries"),
        json_pack("{s:s, s:s, s:s}", "name", name, "path", "/lib/x", "sha256", "00"));
    return copy;
}

static char *temporary_path(void)
{
    static int n;
    const char *folder = rp_sys_env("TMPDIR");
    return rp_mem_text("%s/rp-test-env-%d-%d.json", folder ? folder : "/tmp", (int)getpid(), n++);
}

static char *write_lock(const struct rp_spec *spec, const json_t *environment)
{
    struct rp_error err = {0};
    char *path = temporary_path();
    json_t *lock = rp_env_lock_new(spec, environment, NULL, 0);
    char *bytes = json_dumps(lock, JSON_INDENT(2));
    CHECK_OK(rp_sys_write_file(path, bytes, strlen(bytes), &err), &err);
    free(bytes);
    json_decref(lock);
    return path;
}

/* What one changed fact does at each tier. */
static void test_tiers(void)
{
    json_t *environment = rp_env_probe(NULL, 2);
    struct rp_spec writer = make_spec(RP_TIER_PORTABLE, NULL);
    const struct {
        json_t *found; /* owned */
        const char *what;
        bool portable, pinned; /* refused there */
    } cases[] = {
        {json_deep_copy(environment), NULL, false, false},
        {with(environment, "numerics", NULL, json_integer(2)), "numerics", true, true},
        {with(environment, "device", "model", json_string("Another CPU")), "device.model", false,
         true},
        {with(environment, "device", "path", json_string("scalar512")), "device.path", false, true},
        {with(environment, "build", "compiler", json_string("Clang 99")), "build.compiler", false,
         true},
        {with(environment, "binary", "sha256", json_string("00")), "binary.sha256", false, true},
        {with(environment, "system", "kernel", json_string("Linux 9")), "system.kernel", false,
         false},
        {with(environment, "code", "commit", json_string("abc")), "code.commit", false, false},
        {with(environment, "threads", NULL, json_integer(99)), "threads", false, false},
        {with(environment, "variables", "NVIDIA_TF32_OVERRIDE", json_string("1")),
         "variable NVIDIA_TF32_OVERRIDE", false, true},
        {with(environment, "variables", "LANG", json_string("C")), "variable LANG", false, false},
        {with_library(environment, "libcublasLt.so.12"), "library libcublasLt.so.12", false, true},
        {with_library(environment, "libnghttp2.so.14"), "library libnghttp2.so.14", false, false},
        {with_library(environment, "preloaded.so"), "library preloaded.so", false, true},
        /* Where a file lies is not compared. */
        {with(environment, "binary", "path", json_string("/elsewhere")), NULL, false, false},
    };
    char *lock = write_lock(&writer, environment);
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        for (int t = 0; t < 3; t++) {
            const enum rp_tier tiers[] = {RP_TIER_PORTABLE, RP_TIER_PINNED, RP_TIER_FAST};
            const bool refused[] = {cases[i].portable, cases[i].pinned, false};
            struct rp_spec spec = make_spec(tiers[t], lock);
            struct rp_error err = {0};
            json_t *drift = NULL;
            enum rp_status status = rp_env_check(&spec, cases[i].found, false, &drift, &err);
            CHECK_INT(status, refused[t] ? RP_STATUS_ENVIRONMENT : RP_STATUS_OK);
            CHECK((drift == NULL) == refused[t]);
            if (refused[t]) {
                CHECK(strstr(err.text, cases[i].what) != NULL);
                CHECK(strstr(err.text, "can touch bits") != NULL);
                CHECK(strstr(err.text, "--allow-drift") != NULL);
            } else {
                CHECK_INT(json_array_size(drift), cases[i].what ? 1 : 0);
            }
            json_decref(drift);

            /* --allow-drift passes, and the rows are there to be recorded. */
            rp_error_clear(&err);
            drift = NULL;
            CHECK_OK(rp_env_check(&spec, cases[i].found, true, &drift, &err), &err);
            CHECK_INT(json_array_size(drift), cases[i].what ? 1 : 0);
            if (cases[i].what)
                CHECK_TEXT(json_string_value(json_object_get(json_array_get(drift, 0), "what")),
                           cases[i].what);
            json_decref(drift);
        }
        json_decref(cases[i].found);
    }
    unlink(lock);
    rp_mem_free(lock);
    json_decref(environment);
}

static void test_bad_locks(void)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "{}",
        "{\"format\": \"reprise-lock\", \"format\": \"reprise-lock\"}",
        "{\"format\": \"reprise-lock\", \"version\": 1, \"environment\": [], \"data\": []}",
        "{\"format\": \"reprise-lock\", \"version\": 2, \"environment\": {}, \"data\": []}"};
    struct rp_error err = {0};
    json_t *lock = NULL;
    char *path = temporary_path();
    for (size_t i = 0; i < RP_COUNT(texts); i++) {
        CHECK_OK(rp_sys_write_file(path, texts[i], strlen(texts[i]), &err), &err);
        CHECK_STATUS(rp_env_lock_read(path, &lock, &err), RP_STATUS_ENVIRONMENT, &err);
        CHECK(lock == NULL);
    }
    unlink(path);
    CHECK_STATUS(rp_env_lock_read(path, &lock, &err), RP_STATUS_ENVIRONMENT, &err);
    struct rp_spec spec = make_spec(RP_TIER_PORTABLE, path);
    json_t *environment = json_object();
    CHECK_STATUS(rp_env_check(&spec, environment, true, NULL, &err), RP_STATUS_ENVIRONMENT, &err);
    /* No lock named: nothing to hold against. */
    spec.environment_lock = NULL;
    CHECK_OK(rp_env_check(&spec, environment, false, NULL, &err), &err);
    json_decref(environment);
    rp_mem_free(path);
}

static void test_data(void)
{
    struct rp_env_file files[3] = {{"data.train.images", 10, rp_sha256_of("a", 1)},
                                   {"data.train.labels", 11, rp_sha256_of("b", 1)},
                                   {"data.valid.images", 12, rp_sha256_of("c", 1)}};
    struct rp_spec spec = make_spec(RP_TIER_PORTABLE, NULL);
    json_t *environment = json_object();
    json_t *lock = rp_env_lock_new(&spec, environment, files, 2);
    json_t *rows = rp_env_compare_data(lock, files, 2);
    CHECK_INT(json_array_size(rows), 0);
    json_decref(rows);
    rows = rp_env_compare_data(lock, files, 3); /* one more */
    CHECK_INT(json_array_size(rows), 1);
    json_decref(rows);
    rows = rp_env_compare_data(lock, files, 1); /* one less */
    CHECK_INT(json_array_size(rows), 1);
    json_decref(rows);
    files[1].sha256.bytes[31] ^= 1;
    rows = rp_env_compare_data(lock, files, 2);
    CHECK_INT(json_array_size(rows), 1);
    CHECK_INT(rp_env_count_touching(rows), 1);
    CHECK_TEXT(json_string_value(json_object_get(json_array_get(rows, 0), "what")),
               "data.train.labels");
    json_decref(rows);
    json_decref(lock);
    json_decref(environment);
}

int main(void)
{
    /* A build under test may itself run in a container or with these set. */
    unsetenv("LANG");
    unsetenv("LC_ALL");
    unsetenv("NVIDIA_TF32_OVERRIDE");
    test_probe();
    test_libraries();
    test_threads();
    test_no_secret();
    test_path();
    test_container_digest();
    test_tiers();
    test_bad_locks();
    test_data();
    return test_result();
}
