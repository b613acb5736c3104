/* One process per run folder: with locks that work, and without. */
#include "test.h"

#include "base/log.h"
#include "record/record_int.h"
#include "run_folder.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that takes the folder, says so through a pipe ('y' or 'n'), and holds it until killed. */
static pid_t start_holder(const char *run, char *answer)
{
    int fds[2];
    if (pipe(fds) != 0) exit(1);
    pid_t child = fork();
    if (child == 0) {
        struct rp_hold *hold = NULL;
        struct rp_error err = {0};
        bool good = rp_hold_take(run, &hold, &err) == RP_STATUS_OK;
        if (write(fds[1], good ? "y" : "n", 1) != 1) _exit(1);
        for (;;) pause();
    }
    close(fds[1]);
    if (read(fds[0], answer, 1) != 1) *answer = '?';
    close(fds[0]);
    return child;
}

static void end(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static enum rp_status take_and_release(const char *run, struct rp_error *err)
{
    struct rp_hold *hold = NULL;
    enum rp_status status = rp_hold_take(run, &hold, err);
    if (status == RP_STATUS_OK) rp_hold_release(hold);
    return status;
}

static bool locks_work_here(const char *folder)
{
    char *path = rp_sys_join(folder, "probe");
    int a = -1, b = -1;
    bool work = rp_sys_open_lock(path, &a, NULL) == RP_STATUS_OK &&
                rp_sys_open_lock(path, &b, NULL) == RP_STATUS_OK &&
                rp_sys_lock_try(a) == RP_SYS_LOCK_TAKEN &&
                rp_sys_lock_try(b) == RP_SYS_LOCK_CONFLICT;
    rp_sys_close(a);
    rp_sys_close(b);
    rp_mem_free(path);
    return work;
}

static void test_exclusion(const char *folder)
{
    char *run = rp_sys_join(folder, "runs/exclusive"), answer;
    struct rp_error err = {0};
    CHECK(!rp_hold_is_held(run));
    CHECK(!there(folder, "runs/exclusive")); /* asking made nothing */
    pid_t child = start_holder(run, &answer);
    CHECK_INT(answer, 'y');
    CHECK(rp_hold_is_held(run));
    CHECK_INT(take_and_release(run, &err), RP_STATUS_BUSY);
    char host[256], pid[32];
    rp_sys_host(host);
    snprintf(pid, sizeof pid, "process %d", (int)child);
    CHECK(strstr(err.text, run) && strstr(err.text, host) && strstr(err.text, pid) &&
          strstr(err.text, "--out"));
    rp_error_clear(&err);
    /* Killed: free at once, and again for the next. */
    end(child);
    CHECK(!rp_hold_is_held(run));
    CHECK_OK(take_and_release(run, &err), &err);
    CHECK_OK(take_and_release(run, &err), &err);
    rp_mem_free(run);
}

/* The text says pid 1 of another host since long ago; nobody holds the lock: taken over without
 * waiting. */
static void test_stale_text(const char *folder)
{
    char *run = rp_sys_join(folder, "stale");
    struct rp_error err = {0};
    CHECK_OK(rp_sys_make_folder(run, &err), &err);
    put_text(
        run, "lock",
        "{\"by\": \"lock\", \"counter\": 7, \"id\": \"00\", \"host\": \"elsewhere\", \"pid\": 1, "
        "\"since\": \"2020-01-01T00:00:00Z\"}\n");
    double start = rp_sys_clock();
    CHECK(!rp_hold_is_held(run));
    CHECK_OK(take_and_release(run, &err), &err);
    CHECK(rp_sys_clock() - start < 5);
    put_text(run, "lock", "\x01\x02 no JSON at all {{{");
    CHECK_OK(take_and_release(run, &err), &err);
    rp_mem_free(run);
}

/* What a killed process left half written goes; what only looks like it stays. */
static void test_leftovers(const char *folder)
{
    char *run = rp_sys_join(folder, "leftovers");
    struct rp_error err = {0};
    CHECK_OK(rp_sys_make_folder(run, &err), &err);
    put_text(run, "manifest.json.tmp.4711", "{");
    put_text(run, "notes.tmp.txt", "mine");
    put_text(run, "notes.tmp.", "mine");
    CHECK_OK(take_and_release(run, &err), &err);
    CHECK(!there(run, "manifest.json.tmp.4711"));
    CHECK(there(run, "notes.tmp.txt") && there(run, "notes.tmp."));
    rp_mem_free(run);
}

/* Somebody removes the lock file under us, and another takes the folder: each lets go of its own.
 */
static void test_replaced_file(const char *folder)
{
    char *run = rp_sys_join(folder, "replaced"), *path = rp_sys_join(run, "lock");
    struct rp_hold *hold = NULL, *second = NULL;
    struct rp_error err = {0};
    CHECK_OK(rp_hold_take(run, &hold, &err), &err);
    CHECK_OK(rp_sys_remove(path, &err), &err);
    CHECK(!rp_hold_is_held(run));
    CHECK_OK(rp_hold_take(run, &second, &err), &err);
    rp_hold_release(hold);
    CHECK(rp_hold_is_held(run)); /* the second's is a file of its own */
    rp_hold_release(second);
    CHECK(!rp_hold_is_held(run));
    rp_mem_free(path);
    rp_mem_free(run);
}

/* A child that inherits the descriptor without exec keeps the lock; one that execs does not. */
static void test_exec_drops(const char *folder)
{
    char *run = rp_sys_join(folder, "exec");
    struct rp_hold *hold = NULL;
    struct rp_error err = {0};
    CHECK_OK(rp_hold_take(run, &hold, &err), &err);
    int until_exec[2];
    char byte;
    CHECK(pipe2(until_exec, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (child == 0) {
        execl("/bin/sleep", "sleep", "300", (char *)NULL);
        _exit(1);
    }
    close(until_exec[1]);
    CHECK(read(until_exec[0], &byte, 1) == 0);
    close(until_exec[0]);
    rp_hold_release(hold);
    CHECK(!rp_hold_is_held(run));
    end(child);
    rp_mem_free(run);
}

/* ---- without locks --------------------------------------------------------------------------- */

static void test_counter_excludes(const char *folder)
{
    char *run = rp_sys_join(folder, "counter"), answer;
    struct rp_error err = {0};
    pid_t child = start_holder(run, &answer);
    CHECK_INT(answer, 'y');
    CHECK(rp_hold_is_held(run));
    double start = rp_sys_clock();
    CHECK_STATUS(take_and_release(run, &err), RP_STATUS_BUSY, &err);
    CHECK(rp_sys_clock() - start < rp_hold_tuning.standstill); /* the first raise tells */
    end(child);
    /* Killed: taken over after a standstill, not before. */
    start = rp_sys_clock();
    CHECK_OK(take_and_release(run, &err), &err);
    CHECK(rp_sys_clock() - start >= rp_hold_tuning.standstill);
    /* Released, not killed: free at once. */
    start = rp_sys_clock();
    CHECK_OK(take_and_release(run, &err), &err);
    CHECK(rp_sys_clock() - start < rp_hold_tuning.standstill);
    rp_mem_free(run);
}

/* A holder that was stopped for long and comes back finds that it has lost the folder. */
static void test_counter_lost(const char *folder)
{
    char *run = rp_sys_join(folder, "suspended");
    struct rp_hold *hold = NULL;
    struct rp_error err = {0};
    size_t length = 0;
    CHECK_OK(rp_hold_take(run, &hold, &err), &err);
    put_text(run, "lock",
             "{\"by\": \"counter\", \"counter\": 1, \"id\": \"ffff\", \"host\": \"newcomer\", "
             "\"pid\": 2, "
             "\"since\": \"now\"}\n");
    rp_sys_sleep(3 * rp_hold_tuning.raise_every);
    char *text = get_file(run, "lock", &length);
    CHECK(text && strstr(text, "newcomer")); /* and writes nothing over the newcomer's note */
    rp_mem_free(text);
    rp_hold_release(hold);
    text = get_file(run, "lock", &length);
    CHECK(text && strstr(text, "newcomer"));
    rp_mem_free(text);
    rp_mem_free(run);
}

struct racer {
    const char *run;
    struct rp_hold *hold;
    enum rp_status status;
};

static void *race(void *argument)
{
    struct racer *racer = argument;
    struct rp_error *err = RP_NEW(struct rp_error);
    racer->status = rp_hold_take(racer->run, &racer->hold, err);
    rp_mem_free(err);
    return NULL;
}

/* Several newcomers at once, after a standstill: one has it. */
static void test_race(const char *folder, const char *name)
{
    char *run = rp_sys_join(folder, name);
    struct racer racers[4];
    pthread_t threads[4];
    int winners = 0, busy = 0;
    for (size_t i = 0; i < 4; i++) {
        racers[i] = (struct racer){.run = run};
        pthread_create(&threads[i], NULL, race, &racers[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        winners += racers[i].status == RP_STATUS_OK;
        busy += racers[i].status == RP_STATUS_BUSY;
    }
    CHECK_INT(winners, 1);
    CHECK_INT(busy, 3);
    for (size_t i = 0; i < 4; i++)
        if (racers[i].status == RP_STATUS_OK) rp_hold_release(racers[i].hold);
    rp_mem_free(run);
}

/* Held by counter from a host without locks, asked by one whose locks work: still excluded. */
static void test_mixed(const char *folder)
{
    char *run = rp_sys_join(folder, "mixed"), answer;
    struct rp_error err = {0};
    rp_hold_tuning.locks_are_off = true;
    pid_t child = start_holder(run, &answer);
    rp_hold_tuning.locks_are_off = false;
    CHECK_INT(answer, 'y');
    CHECK(rp_hold_is_held(run));
    CHECK_STATUS(take_and_release(run, &err), RP_STATUS_BUSY, &err);
    end(child);
    CHECK_OK(take_and_release(run, &err), &err);
    rp_mem_free(run);
}

int main(void)
{
    char *folder = new_folder();
    rp_log_configure(&(struct rp_log_style){.quiet = true});
    if (locks_work_here(folder)) {
        test_exclusion(folder);
        test_stale_text(folder);
        test_leftovers(folder);
        test_replaced_file(folder);
        test_exec_drops(folder);
        test_race(folder, "race-lock");
    } else {
        printf("locks do not work here: only the counter is tested\n");
    }
    rp_hold_tuning = (struct rp_hold_tuning){.raise_every = 0.1, .standstill = 1.6, .settle = 0.2};
    test_mixed(folder);
    rp_hold_tuning.locks_are_off = true;
    test_counter_excludes(folder);
    test_counter_lost(folder);
    test_race(folder, "race-counter");
    remove_folder(folder);
    return test_result();
}
