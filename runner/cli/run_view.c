#include "cli/run_view.h"

#include "base/sys.h"
#include "base/utf8.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *rp_run_view_text(const struct rp_run_view *view, const char *group, const char *key)
{
    const json_t *object =
        group ? json_object_get(view->manifest.root, group) : view->manifest.root;
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

const json_t *rp_run_view_last_segment(const struct rp_run_view *view)
{
    const json_t *segments = json_object_get(view->manifest.root, "segments");
    size_t n = json_array_size(segments);
    return n ? json_array_get(segments, n - 1) : NULL;
}

double rp_run_view_started(const struct rp_run_view *view)
{
    return json_number_value(json_object_get(rp_run_view_last_segment(view), "start"));
}

static uint64_t number_of(const json_t *root, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(root, key));
    return value > 0 ? (uint64_t)value : 0;
}

enum rp_status rp_run_view_open(const char *run, struct rp_run_view *view, struct rp_error *err)
{
    struct rp_digest_line line;
    bool found = false, has_line = false;
    *view = (struct rp_run_view){.manifest = {.segment = -1}};
    RP_TRY(rp_manifest_read(run, &found, &view->manifest, err));
    if (!found)
        return rp_error_set(
            err, RP_STATUS_DATA,
            "%s has no manifest.json: it is no run folder; `reprise list` names those there are",
            run);
    view->run = rp_mem_copy_text(run);
    view->shown = rp_utf8_shown(run, false);
    view->status = rp_manifest_status(&view->manifest, run);
    view->step = number_of(view->manifest.root, "step");
    view->steps = number_of(view->manifest.root, "steps");
    const char *chain = rp_run_view_text(view, "digests", "chain");
    snprintf(view->chain, sizeof view->chain, "%s", chain);
    /* The manifest is written at both ends of a segment; in between, and after a kill, the log
     * knows more. A damaged log is for `verify` to talk about. */
    if (strcmp(view->status, "running") != 0 && strcmp(view->status, "lost") != 0 && chain[0])
        return RP_STATUS_OK;
    char *path = rp_sys_join(run, "digests.jsonl");
    if (rp_digests_last(path, &has_line, &line, NULL) == RP_STATUS_OK && has_line) {
        view->step = line.step;
        rp_sha256_hex(&line.chain, view->chain);
    }
    rp_mem_free(path);
    return RP_STATUS_OK;
}

void rp_run_view_close(struct rp_run_view *view)
{
    rp_manifest_release(&view->manifest);
    rp_mem_free(view->shown);
    rp_mem_free(view->run);
    *view = (struct rp_run_view){.manifest = {.segment = -1}};
}

json_t *rp_json_number(double value)
{
    if (isnan(value)) return json_string("NaN");
    if (isinf(value)) return json_string(value > 0 ? "Infinity" : "-Infinity");
    return json_real(value);
}

void rp_text_add_duration(struct rp_text *text, double seconds)
{
    if (seconds < 120)
        rp_text_add(text, "%.1f s", seconds);
    else if (seconds < 7200)
        rp_text_add(text, "%.1f min", seconds / 60);
    else if (seconds < 172800)
        rp_text_add(text, "%.1f h", seconds / 3600);
    else
        rp_text_add(text, "%.1f days", seconds / 86400);
}

/* "UTF-8" or "utf8", in the first of the three that is set, as setlocale would choose. */
bool rp_terminal_is_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        const char *value = rp_sys_env(names[i]);
        if (!value || !value[0]) continue;
        const char *dot = strchr(value, '.');
        if (!dot) return false;
        return strncasecmp(dot + 1, "utf-8", 5) == 0 || strncasecmp(dot + 1, "utf8", 4) == 0;
    }
    return false;
}
