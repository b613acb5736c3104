/* An evaluation divided among ranks: threads that stand for ranks, on real control channels. */
#include "base/mem.h"
#include "comm/control.h"
#include "comm/net.h"
#include "test.h"
#include "train/train_int.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

enum { MOST = 8, N = 1000, ROUNDS = 3 };

/* One thread: its number, and which block of each round it measures. */
struct rank {
    struct rp_comm_world world;
    int block;
    int64_t left_out; /* of all losses; -1: none */
    int stops_in;     /* the round in which it is asked to; -1: never */
    struct rp_evaluation got;
    bool fine;
};

static float losses[N];

/* From 2^-20 to 2^20, so that additions in fp64 round, and each order of them has bits of its own.
 */
static void make_losses(void)
{
    uint32_t state = 7;
    for (int i = 0; i < N; i++) {
        state = state * 1664525u + 1013904223u;
        losses[i] = ldexpf((float)(state >> 8), (int)(state % 41) - 44);
    }
}

static int64_t cut(int64_t first, int64_t end, int part, int parts)
{
    return first + (end - first) * part / parts;
}

static void fill_block(const struct rank *r, int round, struct rp_eval_block *block)
{
    int64_t first = cut(0, N, round, ROUNDS), end = cut(0, N, round + 1, ROUNDS);
    int64_t from = cut(first, end, r->block, r->world.n_ranks);
    int64_t to = cut(first, end, r->block + 1, r->world.n_ranks);
    block->n = 0;
    block->count = (struct rp_evaluation){.abandoned = round == r->stops_in};
    block->seconds = 1 + r->world.rank;
    for (int64_t i = from; i < to; i++) {
        if (i == r->left_out) continue;
        block->loss[block->n++] = losses[i];
        block->count.samples++, block->count.values++;
        block->count.first_right += i % 3 == 0;
        block->count.five_right += i % 2 == 0;
    }
}

static void *be_rank(void *arg)
{
    struct rank *r = arg;
    struct rp_comm comm;
    struct rp_error err = {0};
    struct rp_comm_options options = {.peer_timeout = 20};
    struct rp_eval_block block = {.loss = RP_NEW_ARRAY(float, N)};
    double seconds = 0;
    rp_comm_open_one(&comm);
    comm.rank = r->world.rank;
    comm.n_ranks = r->world.n_ranks;
    r->fine = comm.n_ranks == 1 ||
              rp_control_open(&r->world, &options, &comm.control, &err) == RP_STATUS_OK;
    for (int round = 0; round < ROUNDS && r->fine && !r->got.abandoned; round++) {
        fill_block(r, round, &block);
        r->fine = rp_evaluation_join(&comm, &block, &r->got, &seconds, &err) == RP_STATUS_OK &&
                  (seconds >= comm.n_ranks && seconds <= comm.n_ranks);
    }
    rp_comm_close(&comm, r->fine ? RP_STATUS_OK : RP_STATUS_INTERNAL, "");
    rp_mem_free(block.loss);
    return NULL;
}

/* What n ranks get, which is the same on each; `change` (NULL: none) spoils something before. */
static struct rp_evaluation evaluate(int n, void (*change)(struct rank *ranks))
{
    struct rank ranks[MOST];
    pthread_t thread[MOST];
    struct rp_error err = {0};
    int port = 0, listener = -1;
    CHECK_INT(rp_net_listen("127.0.0.1", &port, &listener, &err), RP_STATUS_OK);
    for (int r = 0; r < n; r++) {
        ranks[r] = (struct rank){.world = {.rank = r,
                                           .n_ranks = n,
                                           .local_ranks = n,
                                           .address = "127.0.0.1",
                                           .port = port,
                                           .token = "test",
                                           .listener = r == 0 && n > 1 ? listener : -1},
                                 .block = r,
                                 .left_out = -1,
                                 .stops_in = -1};
    }
    if (change) change(ranks);
    for (int r = 0; r < n; r++) pthread_create(&thread[r], NULL, be_rank, &ranks[r]);
    for (int r = 0; r < n; r++) pthread_join(thread[r], NULL);
    for (int r = 0; r < n; r++) {
        CHECK(ranks[r].fine);
        CHECK(memcmp(&ranks[r].got, &ranks[0].got, sizeof ranks[r].got) == 0);
    }
    if (n == 1) rp_net_close(listener);
    return ranks[0].got;
}

static void swap_blocks(struct rank *ranks)
{
    ranks[1].block = 2;
    ranks[2].block = 1;
}

static void leave_one_out(struct rank *ranks)
{
    ranks[2].left_out = N / 2;
}

static void stop_one(struct rank *ranks)
{
    ranks[3].stops_in = 1;
}

static bool same_loss(const struct rp_evaluation *a, const struct rp_evaluation *b)
{
    return memcmp(&a->loss, &b->loss, sizeof a->loss) == 0;
}

static void test_ranks_agree(void)
{
    struct rp_evaluation one = evaluate(1, NULL);
    double sum = 0, parts = 0;
    for (int i = 0; i < N; i++) sum += (double)losses[i];
    CHECK(memcmp(&sum, &one.loss, sizeof sum) == 0);
    CHECK(one.samples == N && one.values == N && one.first_right == 334 && one.five_right == 500);
    for (int n = 2; n <= MOST; n *= 2) {
        struct rp_evaluation some = evaluate(n, NULL);
        CHECK(same_loss(&some, &one));
        CHECK(some.samples == N && some.values == N && !some.abandoned);
        CHECK(some.first_right == one.first_right && some.five_right == one.five_right);
    }
    /* Control: sums of halves, added, are another number, and so are blocks in another order. */
    for (int half = 0; half < 2; half++) {
        double part = 0;
        for (int i = half * N / 2; i < (half + 1) * N / 2; i++) part += (double)losses[i];
        parts += part;
    }
    CHECK(memcmp(&sum, &parts, sizeof sum) != 0);
    struct rp_evaluation swapped = evaluate(4, swap_blocks), less = evaluate(4, leave_one_out);
    CHECK(!same_loss(&swapped, &one));
    CHECK(swapped.samples == N && swapped.first_right == one.first_right);
    CHECK(!same_loss(&less, &one));
    CHECK(less.samples == N - 1);
}

static void test_one_is_asked_to_stop(void)
{
    CHECK(evaluate(4, stop_one).abandoned);
    CHECK(!evaluate(4, NULL).abandoned); /* control */
}

int main(void)
{
    make_losses();
    test_ranks_agree();
    test_one_is_asked_to_stop();
    return test_result();
}
