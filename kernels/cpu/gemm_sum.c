/* gemm_sum.c - the order of additions over k, as steps of pieces. */
#include "cpu/gemm_sum.h"

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Terms of this product that lie in the panel which holds term k. */
static int64_t panel_terms(const struct rp_gemm_sum *sum, int64_t k)
{
    int64_t row = sum->first + k % sum->count, end = sum->first + sum->count;
    int64_t border = (row / RP_GEMM_PANEL + 1) * RP_GEMM_PANEL;
    return smaller(border, end) - row;
}

/* Terms of the panel up to k that this product holds. */
static int64_t terms_before(const struct rp_gemm_sum *sum, int64_t k)
{
    int64_t row = sum->first + k % sum->count;
    return smaller(row % RP_GEMM_PANEL, row - sum->first);
}

/* A shard ends with this piece: like a binary counter, as many nodes are complete as the shard's
 * number ends in ones. */
static void end_shard(const struct rp_gemm_sum *sum, int64_t shard, struct rp_gemm_piece *piece)
{
    int level = 0;
    while (shard >> level & 1) level++;
    piece->add_end = (int8_t)(SLOT_TREE + level);
    piece->store = shard == sum->shards - 1 ? SLOT_NONE : (int8_t)(SLOT_TREE + level);
}

/* The piece of n_k terms that begins at term k: where it comes from and where it goes. */
static struct rp_gemm_piece make_piece(const struct rp_gemm_sum *sum, int64_t k, int64_t n_k)
{
    int64_t shard = k / sum->count, row = sum->first + k % sum->count, end = row + n_k;
    bool panel_ends = end % RP_GEMM_PANEL == 0 || end == sum->rows;
    struct rp_gemm_piece piece = {.n_k = (int)n_k,
                                  .load = row % RP_GEMM_PANEL ? SLOT_CHAIN : SLOT_NONE,
                                  .add = SLOT_TREE,
                                  .add_end = SLOT_TREE,
                                  .store = SLOT_CHAIN};
    if (!panel_ends) return piece;
    if (row >= RP_GEMM_PANEL) piece.add = SLOT_SUM;
    piece.store = SLOT_SUM;
    if (end < sum->rows) return piece;
    end_shard(sum, shard, &piece);
    return piece;
}

/* Two shards, each of one piece, as one: the tree's lowest level is added where they are made. */
static struct rp_gemm_piece make_pair(const struct rp_gemm_sum *sum, int64_t k)
{
    struct rp_gemm_piece piece = {.n_k = (int)sum->rows, .load = SLOT_NONE, .pair = true};
    end_shard(sum, k / sum->rows + 1, &piece);
    piece.add = SLOT_TREE + 1;
    return piece;
}

/* Fills the step from step->k on. A panel that is longer than a step is cut into equal parts, each
 * a step; of shorter ones as many as fit make one step. */
static void fill(const struct rp_gemm_sum *sum, struct rp_gemm_step *step)
{
    int64_t total = sum->shards * sum->count, k = step->k;
    step->n_k = step->n_pieces = 0;
    if (step->pairs) {
        for (; k < total && step->n_k + 2 * sum->rows <= STEP_K; k += 2 * sum->rows) {
            step->piece[step->n_pieces++] = make_pair(sum, k);
            step->n_k += 2 * (int)sum->rows;
        }
        step->last = k == total;
        return;
    }
    while (k < total) {
        int64_t terms = panel_terms(sum, k), whole = terms + terms_before(sum, k);
        int64_t part = (whole + STEP_K - 1) / STEP_K;
        part = smaller((whole + part - 1) / part, terms);
        if (step->n_k > 0 && step->n_k + part > STEP_K) break;
        step->piece[step->n_pieces++] = make_piece(sum, k, part);
        step->n_k += (int)part;
        k += part;
        if (part < terms) break;
    }
    step->last = k == total;
}

void RP_ISA_NAME(rp_gemm_step_first)(const struct rp_gemm_sum *sum, bool pairs,
                                     struct rp_gemm_step *step)
{
    step->k = 0;
    step->pairs = pairs && sum->shards > 1 && 2 * sum->rows <= STEP_K;
    if (sum->shards * sum->count > 0) {
        fill(sum, step);
        return;
    }
    /* An empty sum is +0. */
    step->n_k = 0;
    step->n_pieces = 1;
    step->last = true;
    step->piece[0] = (struct rp_gemm_piece){
        .load = SLOT_NONE, .add = SLOT_TREE, .add_end = SLOT_TREE, .store = SLOT_NONE};
}

bool RP_ISA_NAME(rp_gemm_step_next)(const struct rp_gemm_sum *sum, struct rp_gemm_step *step)
{
    if (step->last) return false;
    step->k += step->n_k;
    fill(sum, step);
    return true;
}

int RP_ISA_NAME(rp_gemm_slots)(const struct rp_gemm_sum *sum)
{
    int levels = 0;
    while (sum->shards >> levels > 1) levels++;
    if (levels > 0) return SLOT_TREE + levels;
    return sum->rows > RP_GEMM_PANEL ? SLOT_SUM + 1 : SLOT_CHAIN + 1;
}
