/* gemm_run.cuh - private to kernels/cuda: launches a product as gemm_plan.cu has cut it. An op file
 * instantiates it for its operands. */
#ifndef RP_CUDA_GEMM_RUN_CUH
#define RP_CUDA_GEMM_RUN_CUH

#include "cuda/gemm_tile.cuh"

/* As measured with `rp_bench_cuda_gemm sweep` on an H200. */
using rp_tile_128_128 = rp_tile<2, 2, 4, 2, 8, 2>;
using rp_tile_128_64 = rp_tile<4, 2, 2, 1, 16, 2>;
using rp_tile_64_128 = rp_tile<2, 2, 2, 2, 16, 3>;
using rp_tile_64_64 = rp_tile<4, 1, 1, 2, 16, 4>;
using rp_tile_narrow = rp_tile<4, 2, 1, 1, 16, 3>;
using rp_tile_512_4 = rp_tile<4, 1, 1, 1, 8, 4, 1>;

/* Outputs of a tile whose operands pass by the registers: smaller ones have registers to spare. */
enum { RP_GEMM_DIRECT_LEAST = 64 * 128 };

/* How the operands of an op lie: their sources, and whether k or the outer index runs with stride
 * 1; whether its products may be thin; and whether both may come to shared memory directly. */
template <class source_a_, class source_b_, bool a_along_k, bool b_along_k, bool thin_ = false,
          bool direct_ = !a_along_k && !b_along_k>
struct rp_operands {
    enum { thin = thin_, along_k = a_along_k && b_along_k };
    using source_a = source_a_;
    using source_b = source_b_;
    source_a a;
    source_b b;

    template <bool along, class source, int rows, class tile, int width> struct load {
        using type = rp_load_along_k<source, rows, tile::depth, tile::threads, width>;
    };
    template <class source, int rows, class tile, int width>
    struct load<false, source, rows, tile, width> {
        using type = rp_load_across_k<source, rows, tile::depth, tile::threads, width,
                                      direct_ && tile::bm * tile::bn >= RP_GEMM_DIRECT_LEAST>;
    };
    template <class tile, int width_a, int width_b> struct loads {
        using a = typename load<a_along_k, source_a, tile::bm, tile, width_a>::type;
        using b = typename load<b_along_k, source_b, tile::bn, tile, width_b>::type;
    };
};

/* Runs one job with tiles of one kind. */
template <class tile, int width_a, int width_b, class operands>
RP_NODISCARD static enum rp_status rp_gemm_launch_tile(struct rp_cuda *cuda, const operands &of,
                                                       const struct rp_gemm_job &job,
                                                       int64_t blocks, struct rp_error *err)
{
    using load_a = typename operands::template loads<tile, width_a, width_b>::a;
    using load_b = typename operands::template loads<tile, width_a, width_b>::b;
    RP_LAUNCH(cuda,
              (rp_gemm_kernel<tile, load_a, load_b, typename operands::source_a,
                              typename operands::source_b>),
              (unsigned)blocks, tile::threads, 0, job, of.a, of.b);
    return RP_STATUS_OK;
}

template <class operands>
RP_NODISCARD static enum rp_status
rp_gemm_launch(struct rp_cuda *cuda, const operands &of, bool narrow,
               const struct rp_gemm_plan &plan, const struct rp_gemm_job &job, struct rp_error *err)
{
    int64_t blocks = job.pieces < plan.blocks ? job.pieces : plan.blocks;
    if constexpr (operands::thin)
        if (plan.tile == RP_GEMM_TILE_512_4)
            return rp_gemm_launch_tile<rp_tile_512_4, 4, 1>(cuda, of, job, blocks, err);
    if (narrow) return rp_gemm_launch_tile<rp_tile_narrow, 1, 1>(cuda, of, job, blocks, err);
    if (plan.tile == RP_GEMM_TILE_128_128)
        return rp_gemm_launch_tile<rp_tile_128_128, 4, 4>(cuda, of, job, blocks, err);
    if constexpr (operands::along_k) {
        if (plan.tile == RP_GEMM_TILE_128_64)
            return rp_gemm_launch_tile<rp_tile_128_64, 4, 4>(cuda, of, job, blocks, err);
    } else {
        if (plan.tile == RP_GEMM_TILE_64_128)
            return rp_gemm_launch_tile<rp_tile_64_128, 4, 4>(cuda, of, job, blocks, err);
    }
    return rp_gemm_launch_tile<rp_tile_64_64, 4, 4>(cuda, of, job, blocks, err);
}

/* What every launch of a product shares. */
static inline struct rp_gemm_job rp_gemm_job_of(const struct rp_gemm &gemm,
                                                const struct rp_gemm_plan &plan)
{
    struct rp_gemm_job job = {};
    int bm, bn;
    rp_gemm_tile_size(plan.tile, &bm, &bn);
    job.m = gemm.m, job.n = gemm.n, job.groups = gemm.groups;
    job.sum = gemm.sum;
    job.panels = (int)rp_gemm_panels(&gemm.sum);
    job.first_panel = (int)(gemm.sum.first / RP_GEMM_PANEL);
    job.shards_of_item = (int)plan.shards_of_item;
    job.chains = plan.chains;
    job.per_item = plan.chains ? 1 : job.shards_of_item * job.panels;
    job.tiles_m = (gemm.m + bm - 1) / bm, job.tiles_n = (gemm.n + bn - 1) / bn;
    job.item_stride = gemm.m * gemm.n * gemm.groups;
    if (gemm.chain) job.open = rp_gemm_out_plain(gemm.chain, gemm.n, gemm.n, gemm.m * gemm.n);
    job.levels = plan.levels;
    return job;
}

static inline void rp_gemm_job_take(struct rp_gemm_job *job, int64_t first_segment,
                                    int64_t segments)
{
    job->first_segment = (int)first_segment;
    job->items = (int)(segments / job->per_item);
    job->pieces = job->tiles_m * job->tiles_n * job->groups * job->items;
}

static inline struct rp_gemm_out rp_gemm_parts(const struct rp_gemm &gemm, float *base)
{
    return rp_gemm_out_plain(base, gemm.n, gemm.n, gemm.m * gemm.n);
}

static inline struct rp_gemm_fold rp_gemm_fold_of(const struct rp_gemm &gemm, const float *parts,
                                                  int64_t leaves, int64_t shards)
{
    struct rp_gemm_fold fold = {};
    fold.parts = parts;
    fold.stride = gemm.m * gemm.n * gemm.groups;
    fold.leaves = leaves, fold.shards = shards;
    fold.m = gemm.m, fold.n = gemm.n, fold.groups = gemm.groups;
    fold.c = gemm.c;
    fold.bias = gemm.bias;
    return fold;
}

/* Items are whole shards: all in one launch, straight into c or into parts. */
template <class operands>
RP_NODISCARD static enum rp_status
rp_gemm_run_shards(struct rp_cuda *cuda, const struct rp_gemm &gemm, const operands &of,
                   bool narrow, const struct rp_gemm_plan &plan, struct rp_error *err)
{
    struct rp_gemm_job job = rp_gemm_job_of(gemm, plan);
    rp_gemm_job_take(&job, 0, gemm.sum.shards * job.panels);
    float *parts = (float *)cuda->scratch;
    bool folds = job.items > 1;
    job.c = folds ? rp_gemm_parts(gemm, parts) : gemm.c;
    job.bias = folds ? NULL : gemm.bias;
    job.nodes = folds ? parts + (job.items * job.item_stride + 3) / 4 * 4 : parts;
    RP_TRY(rp_gemm_launch(cuda, of, narrow, plan, job, err));
    if (!folds) return RP_STATUS_OK;
    struct rp_gemm_fold fold = rp_gemm_fold_of(gemm, parts, 1, job.items);
    return rp_gemm_fold_run(cuda, &fold, err);
}

/* Chains of the segments [first, first + count) into `parts`, and from there into c of `fold`. */
template <class operands>
RP_NODISCARD static enum rp_status
rp_gemm_run_segments(struct rp_cuda *cuda, const operands &of, bool narrow,
                     const struct rp_gemm_plan &plan, struct rp_gemm_job job, int64_t first,
                     int64_t count, struct rp_gemm_fold fold, struct rp_error *err)
{
    rp_gemm_job_take(&job, first, count);
    RP_TRY(rp_gemm_launch(cuda, of, narrow, plan, job, err));
    bool ends_open = job.sum.first + job.sum.count < job.sum.rows &&
                     (job.sum.first + job.sum.count) % RP_GEMM_PANEL != 0;
    if (ends_open && first + count == job.panels) {
        fold.leaves--;
        fold.open = job.open.base;
    }
    return rp_gemm_fold_run(cuda, &fold, err);
}

/* Items are chains. Each fold joins the leaves of plan.shards_of_item shards to a node; the tree
 * over these nodes is the last fold. Where a launch does not hold a whole shard, the fold goes on
 * from the sum of the launch before. */
template <class operands>
RP_NODISCARD static enum rp_status
rp_gemm_run_chains(struct rp_cuda *cuda, const struct rp_gemm &gemm, const operands &of,
                   bool narrow, const struct rp_gemm_plan &plan, struct rp_error *err)
{
    struct rp_gemm_job job = rp_gemm_job_of(gemm, plan);
    int64_t nodes = gemm.sum.shards / plan.shards_of_item,
            held = nodes > 1 ? nodes * job.item_stride : 0;
    int64_t all = plan.shards_of_item * job.panels;
    float *node = (float *)cuda->scratch, *parts = node + (held + 3) / 4 * 4;
    job.c = rp_gemm_parts(gemm, parts);
    for (int64_t i = 0; i < nodes; i++)
        for (int64_t first = 0; first < all; first += plan.segments) {
            int64_t count = all - first < plan.segments ? all - first : plan.segments;
            bool is_whole = count == all;
            struct rp_gemm_fold fold = rp_gemm_fold_of(gemm, parts, is_whole ? job.panels : count,
                                                       is_whole ? plan.shards_of_item : 1);
            fold.continues = first > 0 || job.first_panel > 0;
            if (nodes > 1) fold.c = rp_gemm_parts(gemm, node + i * job.item_stride);
            if (nodes > 1 || first + count < all) fold.bias = NULL;
            RP_TRY(rp_gemm_run_segments(cuda, of, narrow, plan, job, i * all + first, count, fold,
                                        err));
        }
    if (nodes == 1) return RP_STATUS_OK;
    struct rp_gemm_fold fold = rp_gemm_fold_of(gemm, node, 1, nodes);
    return rp_gemm_fold_run(cuda, &fold, err);
}

template <class operands>
RP_NODISCARD static enum rp_status
rp_gemm_run_plan(struct rp_cuda *cuda, const struct rp_gemm &gemm, const operands &of, bool narrow,
                 const struct rp_gemm_plan &plan, struct rp_error *err)
{
    return plan.chains ? rp_gemm_run_chains(cuda, gemm, of, narrow, plan, err)
                       : rp_gemm_run_shards(cuda, gemm, of, narrow, plan, err);
}

/* Runs a product whose operands can be read 16 bytes at a time, or, if `narrow`, not. */
template <class operands>
RP_NODISCARD static enum rp_status rp_gemm_run(struct rp_cuda *cuda, const struct rp_gemm &gemm,
                                               const operands &of, bool narrow,
                                               struct rp_error *err)
{
    const int64_t most = INT32_MAX - RP_GEMM_PANEL, terms = gemm.sum.shards * gemm.sum.count;
    if (gemm.m == 0 || gemm.n == 0) return RP_STATUS_OK;
    if (gemm.m > most || gemm.n > most || terms > most || gemm.sum.rows > most)
        return rp_error_set(err, RP_STATUS_USAGE,
                            "a product of (%" PRId64 ", %" PRId64 ") over %" PRId64
                            " terms on a GPU: each must be below 2^31 - 1024; take a smaller "
                            "micro_batch",
                            gemm.m, gemm.n, terms);
    return rp_gemm_run_plan(cuda, gemm, of, narrow,
                            rp_gemm_plan(cuda, &gemm, narrow, operands::along_k), err);
}

#endif
