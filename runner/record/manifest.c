/* manifest.c - manifest.json: read whole, written whole, and only by the newest segment. */
#include "record/record_int.h"

#include "base/json_text.h"
#include "base/sys.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, MAX_MANIFEST = 64 << 20 };

static enum rp_status load(const char *path, bool *found, json_t **root, struct rp_error *err)
{
    struct rp_sys_stat stat;
    char *text = NULL;
    size_t length = 0;
    json_error_t why;
    *found = false;
    *root = NULL;
    RP_TRY(rp_sys_stat(path, &stat, err));
    if (!stat.exists) return RP_STATUS_OK;
    RP_TRY(rp_sys_read_file(path, MAX_MANIFEST, RP_STATUS_DATA, &text, &length, err));
    *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &why);
    rp_mem_free(text);
    if (!json_is_object(*root)) {
        json_decref(*root);
        *root = NULL;
        return rp_error_set(err, RP_STATUS_DATA,
                            "%s is damaged (no JSON object); restore it, or start again "
                            "with --fresh",
                            path);
    }
    json_int_t format = json_integer_value(json_object_get(*root, "format"));
    if (format != FORMAT) {
        json_decref(*root);
        *root = NULL;
        return rp_error_set(err, RP_STATUS_USAGE,
                            "%s has format %lld; this reprise reads format %d", path,
                            (long long)format, FORMAT);
    }
    *found = true;
    return RP_STATUS_OK;
}

enum rp_status rp_manifest_read(const char *run, bool *found, struct rp_manifest *manifest,
                                struct rp_error *err)
{
    *manifest = (struct rp_manifest){.path = rp_sys_join(run, "manifest.json"), .segment = -1};
    enum rp_status status = load(manifest->path, found, &manifest->root, err);
    if (status != RP_STATUS_OK || !*found) rp_manifest_release(manifest);
    return status;
}

void rp_manifest_begin(const char *run, struct rp_manifest *manifest)
{
    *manifest = (struct rp_manifest){.path = rp_sys_join(run, "manifest.json"), .segment = -1};
    manifest->root = json_pack("{s:i, s:[]}", "format", FORMAT, "segments");
}

/* The list of segments, made when there is none. Not owned by the caller. */
static json_t *segments_of(json_t *root)
{
    json_t *segments = json_object_get(root, "segments");
    if (json_is_array(segments)) return segments;
    segments = json_array();
    json_object_set_new(root, "segments", segments);
    return segments;
}

void rp_manifest_add_segment(struct rp_manifest *manifest, json_t *facts)
{
    char host[256], utc[32], id[RP_HEX64];
    double now = rp_sys_wall();
    json_t *segments = segments_of(manifest->root);
    manifest->segment = (int)json_array_size(segments);
    rp_sys_host(host);
    rp_sys_utc(now, utc);
    rp_hex64(rp_sys_random(), id);
    json_t *segment = json_pack("{s:i, s:s, s:f, s:s, s:n, s:n, s:o, s:i}", "segment",
                                manifest->segment, "id", id, "start", now, "start_utc", utc, "stop",
                                "why", "host", rp_json_text(host), "pid", rp_sys_pid());
    if (facts) json_object_update(segment, facts);
    json_decref(facts);
    json_array_append_new(segments, segment);
}

void rp_manifest_set(struct rp_manifest *manifest, const char *key, json_t *value)
{
    json_t *segment = json_array_get(segments_of(manifest->root), (size_t)manifest->segment);
    json_object_set_new(segment, key,
                        value); /* without a segment the value is freed all the same */
}

void rp_manifest_end_segment(struct rp_manifest *manifest, const char *why, uint64_t step)
{
    json_t *segment = json_array_get(segments_of(manifest->root), (size_t)manifest->segment);
    if (!segment) return;
    char utc[32];
    double now = rp_sys_wall();
    rp_sys_utc(now, utc);
    json_object_set_new(segment, "stop", json_real(now));
    json_object_set_new(segment, "stop_utc", json_string(utc));
    json_object_set_new(segment, "why", json_string(why));
    json_object_set_new(segment, "step_last", json_integer((json_int_t)step));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

enum rp_status rp_manifest_check(const struct rp_manifest *manifest, struct rp_error *err)
{
    json_t *disk = NULL;
    bool found = false;
    enum rp_status status = load(manifest->path, &found, &disk, err);
    if (status != RP_STATUS_OK || !found) return status;
    const json_t *theirs = json_object_get(disk, "segments");
    const json_t *ours =
        json_array_get(json_object_get(manifest->root, "segments"), (size_t)manifest->segment);
    size_t n = json_array_size(theirs), mine = (size_t)manifest->segment;
    const json_t *newest = json_array_get(theirs, n ? n - 1 : 0);
    bool newer = n > mine + 1;
    bool other = n == mine + 1 && strcmp(text_of(newest, "id"), text_of(ours, "id")) != 0;
    if (newer || other)
        status = rp_error_set(
            err, RP_STATUS_BUSY,
            "%s: process %lld on %s took this run over at %s; nothing more is written here",
            manifest->path, (long long)json_integer_value(json_object_get(newest, "pid")),
            text_of(newest, "host"), text_of(newest, "start_utc"));
    json_decref(disk);
    return status;
}

enum rp_status rp_manifest_write(struct rp_manifest *manifest, struct rp_error *err)
{
    if (manifest->segment < 0)
        return rp_error_set(err, RP_STATUS_INTERNAL,
                            "%s: a manifest without a segment of ours is not written",
                            manifest->path);
    RP_TRY(rp_manifest_check(manifest, err));
    char *text = json_dumps(manifest->root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!text)
        return rp_error_set(err, RP_STATUS_INTERNAL, "%s: cannot be written as JSON",
                            manifest->path);
    struct rp_text whole = {0};
    rp_text_add(&whole, "%s\n", text);
    enum rp_status status = rp_sys_write_file(manifest->path, whole.bytes, whole.length, err);
    rp_text_release(&whole);
    free(text);
    return status;
}

void rp_manifest_release(struct rp_manifest *manifest)
{
    json_decref(manifest->root);
    rp_mem_free(manifest->path);
    *manifest = (struct rp_manifest){.segment = -1};
}

const char *rp_manifest_status(const struct rp_manifest *manifest, const char *run)
{
    const char *status = json_string_value(json_object_get(manifest->root, "status"));
    if (!status) return "lost";
    if (strcmp(status, "running") == 0 && !rp_hold_is_held(run)) return "lost";
    return status;
}
