/* spawn.c - ranks on this host, started by the process that becomes rank 0. */
#include "comm/comm.h"
#include "comm/net.h"
#include "comm/spawn.h"

#include "base/mem.h"
#include "base/sys.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ARGUMENTS = 4096, MAX_BYTES = 1 << 21 };

static pid_t children[RP_COMM_MAX_RANKS]; /* of local rank i + 1; 0: reaped */
static int n_children;

/* The arguments of this program, as the kernel has them; `bytes` holds them. A file of /proc has no
 * size until it is read. */
static enum rp_status own_arguments(char **bytes, char *arguments[MAX_ARGUMENTS],
                                    struct rp_error *err)
{
    static const char path[] = "/proc/self/cmdline";
    size_t length = 0, got = 1;
    int n = 0, fd = -1;
    enum rp_status status = RP_STATUS_OK;
    *bytes = rp_mem_new(MAX_BYTES + 1);
    RP_TRY(rp_sys_open_read(path, RP_STATUS_ENVIRONMENT, &fd, err));
    for (; got > 0 && status == RP_STATUS_OK && length < MAX_BYTES; length += got)
        status = rp_sys_read(fd, *bytes + length, MAX_BYTES - length, &got, path,
                             RP_STATUS_ENVIRONMENT, err);
    rp_sys_close(fd);
    RP_TRY(status);
    for (char *at = *bytes; at < *bytes + length && n < MAX_ARGUMENTS - 1; at += strlen(at) + 1)
        arguments[n++] = at;
    arguments[n] = NULL;
    return RP_STATUS_OK;
}

static void set_number(const char *name, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    rp_sys_set_env(name, text);
}

/* In the child; returns only when it cannot become a rank. */
static void become_rank(const struct rp_comm_world *world, int rank, pid_t parent,
                        const char *program, char **arguments)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(RP_STATUS_PEER_LOST); /* it died before we asked */
    set_number("REPRISE_RANK", rank);
    set_number("REPRISE_RANKS", world->n_ranks);
    set_number("REPRISE_LOCAL_RANK", rank - world->rank);
    set_number("REPRISE_LOCAL_RANKS", world->local_ranks);
    set_number("REPRISE_PORT", world->port);
    if (world->patience) set_number("REPRISE_WAIT", world->patience);
    rp_sys_set_env("REPRISE_ADDRESS", world->address);
    rp_sys_set_env("REPRISE_TOKEN", world->token);
    execv(program, arguments);
    _exit(RP_STATUS_INTERNAL);
}

/* execv takes words that it does not write to. */
static void take_words(const char *const *words, char *arguments[MAX_ARGUMENTS])
{
    int n = 0;
    while (words[n] && n < MAX_ARGUMENTS - 1) n++;
    memcpy(arguments, words, (size_t)n * sizeof *arguments);
    arguments[n] = NULL;
}

enum rp_status rp_comm_found(struct rp_comm_world *world, int n, struct rp_error *err)
{
    world->launcher = "reprise";
    world->n_ranks = world->local_ranks = n;
    snprintf(world->address, sizeof world->address, "127.0.0.1");
    snprintf(world->token, sizeof world->token, "%016llx%016llx",
             (unsigned long long)rp_sys_random(), (unsigned long long)rp_sys_random());
    return rp_net_listen(world->address, &world->port, &world->listener, err);
}

enum rp_status rp_comm_spawn(struct rp_comm_world *world, int n, const char *const *words,
                             struct rp_error *err)
{
    char *bytes = NULL, *arguments[MAX_ARGUMENTS], *program = rp_sys_self();
    enum rp_status status = RP_STATUS_OK;
    world->local_ranks = n;
    if (world->n_nodes > 1) {
        world->rank = world->node * n;
        world->n_ranks = world->n_nodes * n;
    } else {
        RP_TRY_GOTO(status, rp_comm_found(world, n, err), out);
    }
    if (words)
        take_words(words, arguments);
    else
        RP_TRY_GOTO(status, own_arguments(&bytes, arguments, err), out);
    fflush(NULL);
    pid_t self = getpid();
    for (int rank = world->rank + 1; rank < world->rank + n; rank++) {
        pid_t child = fork();
        if (child == 0) become_rank(world, rank, self, program, arguments);
        if (child < 0) {
            status = rp_error_set(err, RP_STATUS_ENVIRONMENT,
                                  "cannot start rank %d of %d: %s; lower resources.ranks or raise "
                                  "the limit on processes",
                                  rank, world->n_ranks, strerror(errno));
            goto out;
        }
        children[n_children++] = child;
    }
out:
    rp_mem_free(bytes);
    rp_mem_free(program);
    return status;
}

int rp_spawn_ended(int *code)
{
    int state = 0;
    for (int i = 0; i < n_children; i++) {
        if (children[i] == 0 || waitpid(children[i], &state, WNOHANG) != children[i]) continue;
        children[i] = 0;
        *code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
        return i + 1;
    }
    return 0;
}

void rp_comm_reap(double seconds)
{
    double until = rp_sys_clock() + seconds;
    for (int i = 0; i < n_children; i++) {
        while (children[i] && waitpid(children[i], NULL, WNOHANG) == 0) {
            if (rp_sys_clock() > until) kill(children[i], SIGKILL);
            rp_sys_sleep(0.002);
        }
    }
    n_children = 0;
}
