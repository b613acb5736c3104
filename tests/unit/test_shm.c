/* Bytes through shared memory: every rank a thread, slices of any size, call after call; a rank
 * that never comes; memory that another process finds. */
#include "base/mem.h"
#include "base/sys.h"
#include "comm/shm.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLS = 40, MOST = 8 };

struct rank {
    struct rp_shm *shm;
    int rank, n_ranks;
    bool lies, wrong, gave_up;
    uint64_t moved;
};

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* The same borders on every rank: slices of nothing, of a few bytes, of many pieces. */
static uint64_t make_borders(uint32_t seed, int n_ranks, uint64_t *border)
{
    static const uint64_t most[] = {0, 4, 256, 70000, 1 << 20, 3 << 20};
    border[0] = next(&seed) % 100 * 4;
    for (int r = 0; r < n_ranks; r++) {
        uint64_t limit = most[next(&seed) % RP_COUNT(most)];
        border[r + 1] = border[r] + (limit < 256 ? limit : next(&seed) % limit / 4 * 4);
    }
    return border[n_ranks];
}

/* What rank `rank` has at a place before call `call`. */
static uint32_t value(int rank, int call, uint64_t place)
{
    return (uint32_t)rank * 2654435761u + (uint32_t)call * 40503u + (uint32_t)place * 2246822519u;
}

static void fill(uint32_t *block, int rank, int call, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes / 4; i++) block[i] = value(rank, call, i);
}

static void check_all_to_all(struct rank *me, int call, const uint64_t *border, uint32_t *block)
{
    uint64_t begin = border[me->rank] / 4, n = border[me->rank + 1] / 4 - begin;
    uint32_t *out = RP_NEW_ARRAY(uint32_t, n * (uint64_t)me->n_ranks + 1);
    char why[RP_COMM_WHY_BYTES];
    if (!rp_shm_module.all_to_all(me->shm, block, border, out, why)) me->gave_up = true;
    for (int r = 0; r < me->n_ranks && !me->gave_up; r++)
        for (uint64_t i = 0; i < n; i++)
            me->wrong |= out[(uint64_t)r * n + i] != value(r, call, begin + i);
    me->moved += n;
    rp_mem_free(out);
}

static void check_all_gather(struct rank *me, int call, const uint64_t *border, uint32_t *block)
{
    char why[RP_COMM_WHY_BYTES];
    if (!rp_shm_module.all_gather(me->shm, block, border, why)) me->gave_up = true;
    for (uint64_t i = 0; i < border[0] / 4; i++) me->wrong |= block[i] != value(me->rank, call, i);
    for (int r = 0; r < me->n_ranks && !me->gave_up; r++)
        for (uint64_t i = border[r] / 4; i < border[r + 1] / 4; i++)
            me->wrong |= block[i] != value(r, call, i);
}

static void *work(void *arg)
{
    struct rank *me = arg;
    uint64_t border[MOST + 1];
    for (int call = 0; call < CALLS && !me->gave_up; call++) {
        uint64_t bytes = make_borders((uint32_t)(call * MOST + me->n_ranks), me->n_ranks, border);
        uint32_t *block = RP_NEW_ARRAY(uint32_t, bytes / 4 + 1), seed = (uint32_t)call + 99;
        fill(block, me->rank, call, bytes);
        if (me->lies) block[bytes / 8] ^= 1;
        if (next(&seed) % 2)
            check_all_to_all(me, call, border, block);
        else
            check_all_gather(me, call, border, block);
        rp_mem_free(block);
    }
    return NULL;
}

static bool never_over(void *context, uint32_t looks)
{
    (void)context, (void)looks;
    return true;
}

static atomic_bool is_over;
static bool until_over(void *context, uint32_t looks)
{
    (void)context, (void)looks;
    return !atomic_load(&is_over);
}

/* Every rank has a mapping of its own: rank 0 closes last, so the memory outlives them all. */
static void open_ranks(struct rank *rank, int n, bool (*rest)(void *, uint32_t))
{
    const struct rp_comm_patience patience = {NULL, rest};
    struct rp_sys_shared memory[MOST];
    struct rp_error err = {0};
    CHECK_INT(rp_sys_shared_new(rp_comm_shared_bytes(n), &memory[0], &err), RP_STATUS_OK);
    for (int r = 1; r < n; r++)
        CHECK_INT(rp_sys_shared_open(rp_sys_pid(), memory[0].fd, memory[0].bytes, &memory[r], &err),
                  RP_STATUS_OK);
    for (int r = 0; r < n; r++) {
        rp_sys_shared_forget(&memory[r]);
        rank[r] =
            (struct rank){.shm = rp_shm_new(&memory[r], r, n, &patience), .rank = r, .n_ranks = n};
    }
}

static void test_moves(void)
{
    for (int n = 2; n <= MOST; n += n == 2 ? 1 : n == 3 ? 1 : 4) {
        struct rank rank[MOST];
        pthread_t thread[MOST];
        uint64_t moved = 0;
        open_ranks(rank, n, never_over);
        for (int r = 0; r < n; r++) CHECK(pthread_create(&thread[r], NULL, work, &rank[r]) == 0);
        for (int r = 0; r < n; r++) {
            pthread_join(thread[r], NULL);
            CHECK(!rank[r].wrong && !rank[r].gave_up);
            moved += rank[r].moved;
            rp_shm_module.close(rank[r].shm);
        }
        CHECK(moved > (1 << 20));
    }
}

/* Control: the check sees one number that is not what was sent. */
static void test_the_check(void)
{
    struct rank rank[2];
    pthread_t thread[2];
    open_ranks(rank, 2, never_over);
    rank[1].lies = true;
    for (int r = 0; r < 2; r++) CHECK(pthread_create(&thread[r], NULL, work, &rank[r]) == 0);
    for (int r = 0; r < 2; r++) pthread_join(thread[r], NULL);
    CHECK(rank[0].wrong && !rank[0].gave_up);
    for (int r = 0; r < 2; r++) rp_shm_module.close(rank[r].shm);
}

static void test_a_rank_that_is_lost(void)
{
    struct rank rank[4];
    pthread_t thread[3];
    open_ranks(rank, 4, until_over);
    for (int r = 0; r < 3; r++) CHECK(pthread_create(&thread[r], NULL, work, &rank[r]) == 0);
    rp_sys_sleep(0.2);
    for (int r = 0; r < 3; r++) CHECK(!rank[r].gave_up);
    atomic_store(&is_over, true);
    for (int r = 0; r < 3; r++) {
        pthread_join(thread[r], NULL);
        CHECK(rank[r].gave_up);
    }
    for (int r = 0; r < 4; r++) rp_shm_module.close(rank[r].shm);
}

static int in_a_child(const struct rp_sys_shared *memory, int fd, uint64_t bytes)
{
    struct rp_sys_shared found;
    int status = 0, parent = rp_sys_pid();
    pid_t child = fork();
    if (child == 0) {
        if (rp_sys_shared_open(parent, fd, bytes, &found, NULL) != RP_STATUS_OK) _exit(1);
        ((char *)found.at)[7] = 'x';
        _exit(((const char *)memory->at)[7] == 'x' ? 0 : 2);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_memory(void)
{
    struct rp_sys_shared memory;
    struct rp_error err = {0};
    CHECK_INT(rp_sys_shared_new(8192, &memory, &err), RP_STATUS_OK);
    CHECK_INT(in_a_child(&memory, memory.fd, 8192), 0);
    CHECK(((char *)memory.at)[7] == 'x');
    CHECK_INT(in_a_child(&memory, memory.fd, 4096), 1); /* another size */
    CHECK_INT(in_a_child(&memory, 0, 8192), 1);         /* another file */
    int fd = memory.fd;
    CHECK(ftruncate(fd, 4096) != 0); /* nobody can take a page away */
    rp_sys_shared_forget(&memory);
    CHECK_INT(in_a_child(&memory, fd, 8192), 1);
    rp_sys_shared_close(&memory);
    CHECK_INT(rp_sys_shared_new(rp_sys_memory_limit() + (1ULL << 40), &memory, &err),
              RP_STATUS_MEMORY);
    CHECK(strstr(err.text, "memory for processes to share"));
    char boot[64];
    rp_sys_boot(boot);
    CHECK_INT((int)strlen(boot), 36);
}

int main(void)
{
    test_memory();
    test_the_check();
    test_moves();
    test_a_rank_that_is_lost();
    return test_result();
}
