/* gemm_plan.cu - how a product is cut between blocks: which tile, and whether shards or panels of
 * one output go to different blocks. The order of additions is the same for every cut, so this is
 * about time alone; it is estimated in cycles of the whole device. */
#include "cuda/gemm.h"

#include <math.h>

enum { MAX_SCRATCH = 128 << 20, PART_LEAST = 8, MANY_TILES = 1024 };

/* What a tile is good for: the share of the fma rate that it reaches where processors are full, and
 * where one block has a processor for itself. */
struct tile_kind {
    int bm, bn, resident;
    double full, alone;
};
static const struct tile_kind kinds[RP_GEMM_TILE_COUNT] = {
    {128, 128, 2, 0.82, 0.65}, {128, 64, 2, 0.72, 0.58}, {64, 128, 3, 0.80, 0.60},
    {64, 64, 4, 0.72, 0.38},   {512, 4, 4, 0.45, 0.25},
};
static const double FMAS = 128, BYTES = 14, LAUNCH = 5000, PIECE = 1500; /* of a processor */

static int64_t cut(int64_t n, int64_t by)
{
    return (n + by - 1) / by;
}

static int log2_of(int64_t n)
{
    int levels = 0;
    while (n >> levels > 1) levels++;
    return levels;
}

void rp_gemm_tile_size(enum rp_gemm_tile tile, int *bm, int *bn)
{
    *bm = kinds[tile].bm;
    *bn = kinds[tile].bn;
}

int64_t rp_gemm_panels(const struct rp_gemm_sum *sum)
{
    if (sum->count == 0) return 1;
    return (sum->first + sum->count - 1) / RP_GEMM_PANEL - sum->first / RP_GEMM_PANEL + 1;
}

struct rp_gemm_out rp_gemm_out_plain(float *base, int64_t n, int64_t stride, int64_t group)
{
    struct rp_gemm_out out = {};
    out.base = base;
    out.group = group;
    out.stride = stride;
    out.vector = rp_gemm_aligned(base) && n % 4 == 0 && stride % 4 == 0 && group % 4 == 0;
    return out;
}

/* ---- scratch ----------------------------------------------------------------------------------*/

size_t rp_gemm_scratch(int64_t m, int64_t n, int groups, int64_t k, bool samples)
{
    int64_t padded = cut(m, 64) * 64 * cut(n, 64) * 64 * groups * (int64_t)sizeof(float);
    int64_t leaves = k / RP_GEMM_PANEL + 1, least = 0;
    if (samples) {
        least = (int64_t)kinds[0].bm * kinds[0].bn * (int64_t)sizeof(float) * log2_of(k);
        leaves += 2 * PART_LEAST;
    } else if (leaves == 1 || cut(m, 64) * cut(n, 64) * groups >= MANY_TILES) {
        return 0;
    }
    int64_t most = MAX_SCRATCH, bytes = padded > most / leaves ? most : padded * leaves;
    return (size_t)(bytes < least ? least : bytes);
}

/* ---- time -------------------------------------------------------------------------------------*/

/* Cycles of a launch of `blocks` blocks, `terms` of k each. */
static double launch_time(const struct tile_kind *kind, int64_t processors, int64_t blocks,
                          double terms)
{
    double work = (double)kind->bm * kind->bn * terms / FMAS;
    int64_t each = cut(blocks, processors), full = each / kind->resident * kind->resident;
    return LAUNCH + (double)full * (work / kind->full + PIECE / kind->resident) +
           (double)(each - full) * (work / (each - full > 1 ? kind->full : kind->alone)) +
           (each > full ? PIECE : 0);
}

static double fold_time(int64_t processors, double outputs, double parts)
{
    return LAUNCH + outputs * (parts + 1) * (double)sizeof(float) / (BYTES * (double)processors);
}

/* Items are whole shards, `per_item` of them; more than one item leave parts, and a tree inside an
 * item needs nodes for each block. */
static void consider_shards(struct rp_gemm_plans *plans, const struct rp_cuda *cuda,
                            const struct rp_gemm *gemm, enum rp_gemm_tile tile, int64_t per_item)
{
    const struct tile_kind *kind = &kinds[tile];
    int64_t tiles = cut(gemm->m, kind->bm) * cut(gemm->n, kind->bn) * gemm->groups;
    int64_t items = gemm->sum.shards / per_item, panels = rp_gemm_panels(&gemm->sum);
    int64_t outputs = gemm->m * gemm->n * gemm->groups, pieces = tiles * items;
    int64_t left =
        (int64_t)(cuda->scratch_bytes / sizeof(float)) - (items > 1 ? items * outputs + 4 : 0);
    struct rp_gemm_plan plan = {
        tile, false, per_item, per_item * panels * items, pieces, log2_of(per_item), 0};
    if (items > 1 && left < 0) return;
    if (plan.levels > 0) {
        int64_t at_once = (int64_t)cuda->n_processors * kind->resident;
        int64_t room = left / ((int64_t)plan.levels * kind->bm * kind->bn);
        if (room < 1) return;
        plan.blocks = room < at_once ? room : at_once;
        if (plan.blocks > pieces) plan.blocks = pieces;
    }
    double terms = (double)per_item * (double)gemm->sum.count;
    int64_t busy = plan.blocks < cuda->n_processors ? plan.blocks : cuda->n_processors;
    plan.time = launch_time(kind, busy, pieces, terms);
    if (items > 1) plan.time += fold_time(cuda->n_processors, (double)outputs, (double)items);
    plans->plan[plans->n++] = plan;
}

/* Items are chains. One launch takes the segments of as many shards as there is room for, or as
 * many segments of one. */
static void consider_chains(struct rp_gemm_plans *plans, const struct rp_cuda *cuda,
                            const struct rp_gemm *gemm, enum rp_gemm_tile tile)
{
    const struct tile_kind *kind = &kinds[tile];
    int64_t tiles = cut(gemm->m, kind->bm) * cut(gemm->n, kind->bn) * gemm->groups;
    int64_t outputs = gemm->m * gemm->n * gemm->groups, panels = rp_gemm_panels(&gemm->sum);
    int64_t room = ((int64_t)(cuda->scratch_bytes / sizeof(float)) - 4) / outputs;
    int64_t joined = gemm->sum.shards, folds = 1;
    for (; joined > 1 && joined * panels + (folds > 1 ? folds : 0) > room; joined /= 2) folds *= 2;
    int64_t segments = joined * panels, most = room - (folds > 1 ? folds : 0);
    if (segments > most) segments = most;
    if (segments < 1 || panels * gemm->sum.shards < 2) return;
    double launches = (double)(folds * cut(joined * panels, segments));
    double terms = (double)gemm->sum.count / (double)panels;
    double time = launches * (launch_time(kind, cuda->n_processors, segments * tiles, terms) +
                              fold_time(cuda->n_processors, (double)outputs, (double)segments));
    struct rp_gemm_plan plan = {tile, true, joined, segments, segments * tiles, 0, time};
    plans->plan[plans->n++] = plan;
}

void rp_gemm_plans(const struct rp_cuda *cuda, const struct rp_gemm *gemm, bool narrow,
                   bool along_k, struct rp_gemm_plans *plans)
{
    enum rp_gemm_tile not_of = along_k ? RP_GEMM_TILE_64_128 : RP_GEMM_TILE_128_64;
    plans->n = 0;
    int first = narrow ? RP_GEMM_TILE_64_64 : 0, end = RP_GEMM_TILE_512_4;
    if (gemm->thin) first = RP_GEMM_TILE_512_4, end = RP_GEMM_TILE_COUNT;
    for (int t = first; t < end; t++) {
        enum rp_gemm_tile tile = (enum rp_gemm_tile)t;
        if (tile == not_of) continue;
        for (int64_t per_item = gemm->sum.shards; per_item > 0; per_item /= 2)
            consider_shards(plans, cuda, gemm, tile, per_item);
        consider_chains(plans, cuda, gemm, tile);
    }
}

struct rp_gemm_plan rp_gemm_plan(const struct rp_cuda *cuda, const struct rp_gemm *gemm,
                                 bool narrow, bool along_k)
{
    struct rp_gemm_plans plans;
    rp_gemm_plans(cuda, gemm, narrow, along_k, &plans);
    const struct rp_gemm_plan *best = &plans.plan[0];
    for (int i = 1; i < plans.n; i++)
        if (plans.plan[i].time < best->time) best = &plans.plan[i];
    return *best;
}
