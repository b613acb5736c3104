/* hashes.c - SHA-256 of the program and of each library it has loaded, on a thread of its own: some
 * 10 MB are nothing beside a run, and much beside the start of one. */
#include "env/env_int.h"

#include "base/host.h"
#include "base/json_text.h"
#include "base/sys.h"

#include <pthread.h>
#include <string.h>

static struct {
    pthread_mutex_t lock;
    pthread_t thread;
    bool begun, running;
    json_t *binary, *libraries; /* owned; complete when begun and not running */
} hashes = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* The hash of a file as text; null where it cannot be read (deleted under a running program). */
static json_t *hash_of(const char *path)
{
    struct rp_sha256 hash;
    char hex[RP_SHA256_HEX];
    if (rp_sha256_of_file(path, &hash, NULL, NULL) != RP_STATUS_OK) return json_null();
    rp_sha256_hex(&hash, hex);
    return json_string(hex);
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void *hash_all(void *unused)
{
    (void)unused;
    char *self = rp_sys_self();
    hashes.binary = json_object();
    json_object_set_new(hashes.binary, "path", rp_json_text(self ? self : ""));
    json_object_set_new(hashes.binary, "sha256", self ? hash_of(self) : json_null());
    rp_mem_free(self);

    char **paths = rp_host_libraries();
    hashes.libraries = json_array();
    for (char **path = paths; *path; path++) {
        json_t *library = json_object();
        json_object_set_new(library, "name", rp_json_text(name_of(*path)));
        json_object_set_new(library, "path", rp_json_text(*path));
        json_object_set_new(library, "sha256", hash_of(*path));
        json_array_append_new(hashes.libraries, library);
    }
    rp_sys_free_names(paths);
    return NULL;
}

void rp_env_begin(void)
{
    pthread_mutex_lock(&hashes.lock);
    if (!hashes.begun) {
        hashes.begun = true;
        hashes.running = pthread_create(&hashes.thread, NULL, hash_all, NULL) == 0;
        if (!hashes.running) hash_all(NULL);
    }
    pthread_mutex_unlock(&hashes.lock);
}

void rp_env_end(void)
{
    pthread_mutex_lock(&hashes.lock);
    if (hashes.running) pthread_join(hashes.thread, NULL);
    hashes.running = false;
    pthread_mutex_unlock(&hashes.lock);
}

void rp_env_hashes(json_t **binary, json_t **libraries)
{
    rp_env_begin();
    rp_env_end();
    pthread_mutex_lock(&hashes.lock);
    *binary = json_incref(hashes.binary);
    *libraries = json_incref(hashes.libraries);
    pthread_mutex_unlock(&hashes.lock);
}
