/* hold.c - one process per run folder.
 *
 * RUN/lock carries an fcntl open-file-description lock, which the kernel drops with the process,
 * however it ends. Where the file system only pretends to lock (found out by taking a conflicting
 * lock through a second descriptor), the holder instead raises a counter in the same file, and a
 * newcomer watches it by its own clock. What else stands in the file is for messages. Behind both
 * stands the manifest: whoever is no longer the newest segment commits nothing. */
#include "record/record_int.h"

#include "base/log.h"
#include "base/sys.h"
#include "base/utf8.h"

#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct rp_hold_tuning rp_hold_tuning = {.raise_every = 5, .standstill = 30, .settle = 1};

enum { NOTE_BYTES = 640 };

/* What stands in the lock file. by: "lock" or "counter" while held, "nobody" after release. */
struct note {
    char by[16], host[256], since[32], id[RP_HEX64];
    uint64_t counter;
    int pid;
};

struct rp_hold {
    char *run, *path;
    int fd;
    bool by_counter, thread_started, stop, lost;
    struct note note;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};

/* ---- the note -------------------------------------------------------------------------------- */

static void copy_string(char *to, size_t capacity, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(to, capacity, "%s", text ? text : "");
    /* It goes to a terminal, and anybody may have written it. */
    for (; *to; to++)
        if ((unsigned char)*to < 0x20 || *to == 0x7f) *to = '?';
}

/* An empty or foreign file reads as a note by nobody. */
static void read_note(const char *path, struct note *note)
{
    char *text = NULL;
    size_t length = 0;
    *note = (struct note){.by = "nobody"};
    if (rp_sys_read_file(path, NOTE_BYTES * 2, RP_STATUS_STORAGE, &text, &length, NULL) ==
        RP_STATUS_OK) {
        json_t *root = json_loadb(text, length, 0, NULL);
        if (json_is_object(root)) {
            copy_string(note->by, sizeof note->by, root, "by");
            copy_string(note->host, sizeof note->host, root, "host");
            copy_string(note->since, sizeof note->since, root, "since");
            copy_string(note->id, sizeof note->id, root, "id");
            note->counter = (uint64_t)json_integer_value(json_object_get(root, "counter"));
            note->pid = (int)json_integer_value(json_object_get(root, "pid"));
        }
        json_decref(root);
    }
    rp_mem_free(text);
}

/* One write of a fixed size: a reader sees the old note or the new one. */
static enum rp_status write_note(const struct rp_hold *hold, struct rp_error *err)
{
    const struct note *note = &hold->note;
    struct rp_text text = {0};
    rp_text_add(&text,
                "{\"by\": \"%s\", \"counter\": %" PRIu64 ", \"id\": \"%s\", \"host\": ", note->by,
                note->counter, note->id);
    char *host = rp_utf8_escaped(note->host, strlen(note->host));
    rp_text_add_json(&text, host);
    rp_mem_free(host);
    rp_text_add(&text, ", \"pid\": %d, \"since\": \"%s\"}", note->pid, note->since);
    while (text.length < NOTE_BYTES - 1) rp_text_add_bytes(&text, " ", 1);
    rp_text_add_bytes(&text, "\n", 1);
    enum rp_status status = rp_sys_write_at(hold->fd, 0, text.bytes, text.length, hold->path, err);
    rp_text_release(&text);
    return status;
}

static enum rp_status busy(const char *run, const struct note *note, struct rp_error *err)
{
    if (!note->host[0])
        return rp_error_set(err, RP_STATUS_BUSY,
                            "%s is in use by another process; wait for it, or use --out", run);
    return rp_error_set(err, RP_STATUS_BUSY,
                        "%s is in use by process %d on %s since %s; wait for it, or use --out", run,
                        note->pid, note->host, note->since);
}

/* ---- without locks --------------------------------------------------------------------------- */

static void lock_and_wait(struct rp_hold *hold, double seconds)
{
    double whole = rp_sys_clock() + seconds; /* the condition waits by the same clock */
    struct timespec until = {.tv_sec = (time_t)whole};
    until.tv_nsec = (long)((whole - (double)until.tv_sec) * 1e9);
    pthread_cond_timedwait(&hold->wake, &hold->mutex, &until);
}

/* Raises the counter until told to stop, or until the file turns out to be somebody else's. */
static void *raise_counter(void *argument)
{
    struct rp_hold *hold = argument;
    pthread_mutex_lock(&hold->mutex);
    while (!hold->stop && !hold->lost) {
        lock_and_wait(hold, rp_hold_tuning.raise_every);
        if (hold->stop) break;
        struct note seen;
        read_note(hold->path, &seen);
        if (strcmp(seen.id, hold->note.id) != 0) {
            hold->lost = true;
            break;
        }
        hold->note.counter++;
        /* A raise that fails is made up by the next one; six have to fail to lose the folder. */
        enum rp_status ignored = write_note(hold, NULL);
        (void)ignored;
    }
    pthread_mutex_unlock(&hold->mutex);
    return NULL;
}

/* Watches a counter that somebody may still be raising. BUSY at its first change. */
static enum rp_status wait_for_standstill(const char *run, const char *path, struct rp_error *err)
{
    struct note first, now;
    read_note(path, &first);
    if (strcmp(first.by, "nobody") == 0) return RP_STATUS_OK;
    rp_log_info(
        "file locks do not work here: watching for %g s whether process %d on %s still uses %s",
        rp_hold_tuning.standstill, first.pid, first.host, run);
    double start = rp_sys_clock();
    while (rp_sys_clock() - start < rp_hold_tuning.standstill) {
        rp_sys_sleep(rp_hold_tuning.raise_every / 10);
        read_note(path, &now);
        if (now.counter != first.counter || strcmp(now.id, first.id) != 0)
            return busy(run, &now, err);
    }
    return RP_STATUS_OK;
}

static enum rp_status take_by_counter(struct rp_hold *hold, struct rp_error *err)
{
    struct note seen;
    pthread_condattr_t attributes;
    hold->by_counter = true;
    snprintf(hold->note.by, sizeof hold->note.by, "counter");
    RP_TRY(write_note(hold, err));
    /* Two newcomers may have waited side by side: the one that wrote last has it. */
    rp_sys_sleep(rp_hold_tuning.settle);
    read_note(hold->path, &seen);
    if (strcmp(seen.id, hold->note.id) != 0) return busy(hold->run, &seen, err);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&hold->mutex, NULL);
    pthread_cond_init(&hold->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (pthread_create(&hold->thread, NULL, raise_counter, hold) != 0)
        return rp_error_set(err, RP_STATUS_MEMORY, "cannot start the thread that keeps %s",
                            hold->path);
    hold->thread_started = true;
    return RP_STATUS_OK;
}

/* ---- taking and giving back ------------------------------------------------------------------ */

/* After our own lock has been granted: does the file system mean it? */
static bool locks_work(const char *path)
{
    int second = -1;
    if (rp_sys_open_lock(path, &second, NULL) != RP_STATUS_OK) return false;
    bool refused = rp_sys_lock_try(second) == RP_SYS_LOCK_CONFLICT;
    rp_sys_close(second);
    return refused;
}

/* One try. `*again` when the file was replaced between open and lock. */
static enum rp_status try_take(struct rp_hold *hold, bool *again, struct rp_error *err)
{
    struct note note;
    RP_TRY(rp_sys_open_lock(hold->path, &hold->fd, err));
    enum rp_sys_lock lock =
        rp_hold_tuning.locks_are_off ? RP_SYS_LOCK_UNSUPPORTED : rp_sys_lock_try(hold->fd);
    if (lock == RP_SYS_LOCK_CONFLICT) {
        read_note(hold->path, &note);
        return busy(hold->run, &note, err);
    }
    if (!rp_sys_same_file(hold->fd, hold->path)) {
        rp_sys_close(hold->fd);
        hold->fd = -1;
        *again = true;
        return RP_STATUS_OK;
    }
    bool works = lock == RP_SYS_LOCK_TAKEN && locks_work(hold->path);
    read_note(hold->path, &note);
    /* Somebody on a host where locks do not work may be holding it by the counter. */
    if (!works || strcmp(note.by, "counter") == 0)
        RP_TRY(wait_for_standstill(hold->run, hold->path, err));
    if (!works) return take_by_counter(hold, err);
    snprintf(hold->note.by, sizeof hold->note.by, "lock");
    /* The lock holds without its note: a full disk is for the next real write to report. */
    enum rp_status ignored = write_note(hold, NULL);
    (void)ignored;
    return RP_STATUS_OK;
}

/* "manifest.json.tmp.4711": a process was killed between writing and renaming it. The folder is
 * ours now, so nobody is still at it; what cannot be removed harms nobody. */
static void remove_leftovers(const char *run)
{
    char **names = NULL;
    if (rp_sys_list(run, &names, NULL) != RP_STATUS_OK) return;
    for (char **name = names; *name; name++) {
        const char *mark = strstr(*name, ".tmp.");
        if (!mark || !mark[5] || strspn(mark + 5, "0123456789") != strlen(mark + 5)) continue;
        char *path = rp_sys_join(run, *name);
        enum rp_status ignored = rp_sys_remove(path, NULL);
        (void)ignored;
        rp_mem_free(path);
    }
    rp_sys_free_names(names);
}

enum rp_status rp_hold_take(const char *run, struct rp_hold **result, struct rp_error *err)
{
    struct rp_hold *hold = RP_NEW(struct rp_hold);
    bool again = true;
    enum rp_status status = RP_STATUS_OK;
    hold->fd = -1;
    hold->run = rp_mem_copy_text(run);
    hold->path = rp_sys_join(run, "lock");
    hold->note.pid = rp_sys_pid();
    rp_sys_host(hold->note.host);
    rp_sys_utc(rp_sys_wall(), hold->note.since);
    rp_hex64(rp_sys_random(), hold->note.id);
    RP_TRY_GOTO(status, rp_sys_make_folder(run, err), out);
    for (int tries = 0; again && tries < 100 && status == RP_STATUS_OK; tries++) {
        again = false;
        status = try_take(hold, &again, err);
    }
    if (status == RP_STATUS_OK && again)
        status = rp_error_set(
            err, RP_STATUS_BUSY,
            "%s is being replaced again and again; run again when nothing else starts runs here",
            hold->path);
out:
    if (status == RP_STATUS_OK) {
        remove_leftovers(run);
        *result = hold;
    } else {
        rp_sys_close(hold->fd);
        rp_mem_free(hold->path);
        rp_mem_free(hold->run);
        rp_mem_free(hold);
    }
    return status;
}

bool rp_hold_is_held(const char *run)
{
    char *path = rp_sys_join(run, "lock");
    int fd = -1;
    bool held = false;
    struct note note;
    struct rp_sys_stat stat;
    if (rp_sys_open_read(path, RP_STATUS_STORAGE, &fd, NULL) != RP_STATUS_OK) goto out;
    held = rp_sys_lock_ask(fd) == RP_SYS_LOCK_CONFLICT;
    read_note(path, &note);
    if (!held && strcmp(note.by, "counter") == 0 && rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK)
        held = rp_sys_wall() - 1e-9 * (double)stat.mtime_ns < rp_hold_tuning.standstill;
out:
    rp_sys_close(fd);
    rp_mem_free(path);
    return held;
}

void rp_hold_release(struct rp_hold *hold)
{
    if (!hold) return;
    if (hold->thread_started) {
        pthread_mutex_lock(&hold->mutex);
        hold->stop = true;
        pthread_cond_signal(&hold->wake);
        pthread_mutex_unlock(&hold->mutex);
        pthread_join(hold->thread, NULL);
        pthread_cond_destroy(&hold->wake);
        pthread_mutex_destroy(&hold->mutex);
    }
    if (!hold->lost) {
        snprintf(hold->note.by, sizeof hold->note.by, "nobody");
        enum rp_status ignored = write_note(hold, NULL);
        (void)ignored;
    }
    rp_sys_close(hold->fd);
    rp_mem_free(hold->path);
    rp_mem_free(hold->run);
    rp_mem_free(hold);
}
