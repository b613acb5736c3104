#include "base/log.h"

#include "base/mem.h"
#include "base/sys.h"
#include "base/utf8.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_REASON_BYTES = 1000 /* a pod's reason has 4096 */ };

static struct rp_log_style style;
static int file_fd = -1;
static bool progress_shown;
static char prefix[300]; /* "[rank 3 node7] ": then only errors are said */
static bool muted;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void rp_log_configure(const struct rp_log_style *new_style)
{
    style = *new_style;
}

void rp_log_as_rank(int rank, const char *host)
{
    snprintf(prefix, sizeof prefix, "[rank %d %.255s] ", rank, host);
    style.quiet = true;
    rp_sys_silence_output();
}

void rp_log_mute(void)
{
    muted = true;
}

void rp_log_to_file(int fd)
{
    pthread_mutex_lock(&lock);
    file_fd = fd;
    pthread_mutex_unlock(&lock);
}

bool rp_log_is_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

/* A terminal or pipe that has gone away never stops a run: failures to print are ignored on
 * purpose. */
static void put(int fd, const char *bytes, size_t length)
{
    while (length) {
        ssize_t written = write(fd, bytes, length);
        if (written <= 0) return;
        bytes += written;
        length -= (size_t)written;
    }
}

static void clear_progress_locked(void)
{
    if (!progress_shown) return;
    put(STDERR_FILENO, "\r\033[K", 4);
    progress_shown = false;
}

static void put_dated_locked(const char *kind, const char *text)
{
    char utc[32];
    struct rp_text dated = {0};
    if (file_fd < 0) return;
    rp_sys_utc(rp_sys_wall(), utc);
    rp_text_add(&dated, "%s %s%s\n", utc, kind, text);
    put(file_fd, dated.bytes, dated.length);
    rp_text_release(&dated);
}

static void emit(const char *color, const char *kind, const char *text, bool even_quiet)
{
    struct rp_text line = {0};
    bool colored = style.color && color;
    rp_text_add(&line, "%s%sreprise: %s%s%s\n", prefix, colored ? color : "", kind, text,
                colored ? "\033[0m" : "");
    pthread_mutex_lock(&lock);
    if ((!style.quiet || even_quiet) && !muted) {
        clear_progress_locked();
        put(STDERR_FILENO, line.bytes, line.length);
    }
    put_dated_locked(kind, text);
    pthread_mutex_unlock(&lock);
    rp_text_release(&line);
}

static void emit_formatted(const char *color, const char *kind, const char *format, va_list args)
{
    char raw[RP_ERROR_TEXT_BYTES], text[RP_ERROR_TEXT_BYTES];
    vsnprintf(raw, sizeof raw, format, args);
    rp_utf8_show(raw, true, text, sizeof text);
    emit(color, kind, text, false);
}

void rp_log_info(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit_formatted(NULL, "", format, args);
    va_end(args);
}

void rp_log_warning(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    emit_formatted("\033[33m", "warning: ", format, args);
    va_end(args);
}

/* Kubernetes shows of a container that ended what it has written into a file that its manifest
 * names; a pod's ranks share it. Those that only follow another's end add nothing to what is said.
 */
static void tell_scheduler(const char *text)
{
    const char *path = rp_sys_env("REPRISE_TERMINATION_LOG");
    struct rp_sys_stat stat = {0};
    struct rp_text line = {0};
    int fd = -1;
    if (!path || !path[0]) return;
    bool said = rp_sys_stat(path, &stat, NULL) == RP_STATUS_OK && stat.size > 0;
    if ((muted && said) || rp_sys_open_append(path, &fd, NULL) != RP_STATUS_OK) return;
    rp_text_add(&line, "%s%.*s\n", prefix, MOST_REASON_BYTES, text);
    put(fd, line.bytes, line.length);
    rp_sys_close(fd);
    rp_text_release(&line);
}

void rp_log_error(const char *text)
{
    emit("\033[31m", "error: ", text, true);
    tell_scheduler(text);
}

void rp_log_note(const char *text)
{
    pthread_mutex_lock(&lock);
    put_dated_locked("error: ", text);
    pthread_mutex_unlock(&lock);
}

void rp_log_progress(const char *format, ...)
{
    if (style.quiet || !rp_log_is_terminal()) return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    pthread_mutex_lock(&lock);
    clear_progress_locked();
    put(STDERR_FILENO, text, strlen(text));
    progress_shown = true;
    pthread_mutex_unlock(&lock);
}

void rp_log_progress_clear(void)
{
    pthread_mutex_lock(&lock);
    clear_progress_locked();
    pthread_mutex_unlock(&lock);
}
