/* evaluate_ranks.c - an evaluation divided among the ranks, in rounds. In a round every rank takes
 * a block of passes that follow each other, rank 0 the first; then the ranks add their losses one
 * after another to the one fp64 sum, so that it is that of a single rank, addition by addition. A
 * round ends in about a second: the ranks learn there whether one was asked to stop. */
#include "train/train_int.h"

#include "base/mem.h"
#include "base/sys.h"

#include <string.h>

enum { MOST_LOSSES = 1 << 16 }; /* that a rank keeps for its turn, where a pass has no more */
static const double SECONDS_OF_ROUND = 1;

/* What a rank says when it has measured its block. */
struct block_said {
    double loss; /* rank 0: the sum so far with its losses added */
    int64_t samples, values, first_right, five_right;
    double seconds; /* of a pass; 0: had none */
    uint8_t stop;   /* it was asked to */
};

static double add_losses(double sum, const struct rp_eval_block *block)
{
    for (int64_t i = 0; i < block->n; i++) sum += (double)block->loss[i];
    return sum;
}

enum rp_status rp_evaluation_join(struct rp_comm *comm, const struct rp_eval_block *block,
                                  struct rp_evaluation *e, double *seconds, struct rp_error *err)
{
    struct block_said mine, all[RP_COMM_MAX_RANKS];
    double sum, sums[RP_COMM_MAX_RANKS];
    memset(&mine, 0, sizeof mine);
    mine.loss = comm->rank == 0 ? add_losses(e->loss, block) : 0;
    mine.samples = block->count.samples;
    mine.values = block->count.values;
    mine.first_right = block->count.first_right;
    mine.five_right = block->count.five_right;
    mine.seconds = block->seconds;
    mine.stop = block->count.abandoned;
    RP_TRY(rp_comm_agree(comm, &mine, sizeof mine, all, err));
    *seconds = 0;
    for (int r = 0; r < comm->n_ranks; r++) {
        e->samples += all[r].samples;
        e->values += all[r].values;
        e->first_right += all[r].first_right;
        e->five_right += all[r].five_right;
        e->abandoned |= all[r].stop;
        if (all[r].seconds > *seconds) *seconds = all[r].seconds;
    }
    e->loss = all[0].loss;
    for (int r = 1; r < comm->n_ranks && !e->abandoned; r++) {
        if (all[r].values == 0) continue; /* every rank knows it: nobody's turn */
        sum = comm->rank == r ? add_losses(e->loss, block) : 0;
        RP_TRY(rp_comm_agree(comm, &sum, sizeof sum, sums, err));
        e->loss = sums[r];
    }
    return RP_STATUS_OK;
}

/* The losses of a pass that count, behind those that the block has. */
static void keep_losses(struct rp_eval_block *block, const struct rp_eval_buffers *b, int64_t n)
{
    const int32_t *target = b->is_tokens ? b->y : NULL;
    for (int64_t i = 0; i < n * b->row; i++)
        if (!target || target[i] >= 0) block->loss[block->n++] = b->loss[i];
}

/* Passes `first` to `end` of a split. */
static enum rp_status measure(struct rp_trainer *t, enum rp_split split, int64_t first, int64_t end,
                              struct rp_eval_buffers *b, struct rp_eval_block *block,
                              struct rp_error *err)
{
    int64_t total = rp_data_samples(t->data, split), most = t->model->eval_samples;
    double begun = rp_sys_clock();
    rp_evaluation_begin(t, &block->count);
    block->n = 0;
    for (int64_t pass = first; pass < end; pass++) {
        int64_t at = pass * most, n = total - at < most ? total - at : most;
        if ((block->count.abandoned = rp_signals_stop_asked())) break;
        RP_TRY(rp_evaluate_pass(t, split, at, n, b, err));
        rp_evaluation_add(&block->count, b, n);
        keep_losses(block, b, n);
    }
    block->seconds = end > first ? (rp_sys_clock() - begun) / (double)(end - first) : 0;
    return RP_STATUS_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static enum rp_status measure_all(struct rp_trainer *t, enum rp_split split,
                                  struct rp_eval_buffers *b, struct rp_eval_block *block,
                                  int64_t most, struct rp_evaluation *e, struct rp_error *err)
{
    int64_t ranks = t->comm.n_ranks, rank = t->comm.rank, size = t->model->eval_samples;
    int64_t passes = (rp_data_samples(t->data, split) + size - 1) / size, each = 1, n;
    for (int64_t at = 0; at < passes && !e->abandoned; at += n) {
        double seconds, begun = rp_sys_clock();
        n = least(passes - at, each * ranks);
        RP_TRY(
            measure(t, split, at + n * rank / ranks, at + n * (rank + 1) / ranks, b, block, err));
        RP_TRY(rp_evaluation_join(&t->comm, block, e, &seconds, err));
        /* One rank alone looks before each pass; the others go on to the end of the round. */
        double stretch = ranks > 1 ? rp_sys_clock() - begun : seconds;
        if (stretch > e->stretch) e->stretch = stretch;
        each = seconds * (double)most > SECONDS_OF_ROUND ? (int64_t)(SECONDS_OF_ROUND / seconds)
                                                         : most;
        if (each < 1) each = 1;
    }
    return RP_STATUS_OK;
}

enum rp_status rp_evaluate(struct rp_trainer *t, enum rp_split split, struct rp_evaluation *e,
                           struct rp_error *err)
{
    struct rp_eval_buffers b;
    struct rp_eval_block block = {0};
    rp_evaluation_begin(t, e);
    enum rp_status status = rp_eval_buffers_init(t, false, &b, err);
    if (status == RP_STATUS_OK) {
        int64_t losses = t->model->eval_samples * b.row;
        int64_t most = losses < MOST_LOSSES ? MOST_LOSSES / losses : 1; /* passes of a block */
        block.loss = RP_NEW_ARRAY(float, most *losses);
        status = measure_all(t, split, &b, &block, most, e, err);
    }
    rp_evaluation_end(t, split, e);
    rp_mem_free(block.loss);
    rp_eval_buffers_release(&b);
    return status;
}
