/* classes.cuh - private to kernels/cuda: rows of logits, their losses and ranks. README.md chapter
 * 10. */
#ifndef RP_CUDA_CLASSES_CUH
#define RP_CUDA_CLASSES_CUH

#include "cuda/elementary.h"
#include "cuda/kept.h"

struct rp_classes_job {
    const float *logits;   /* (rows, n) */
    const int32_t *target; /* (rows), or (rows, 3) when mixed */
    float *loss;           /* (rows) */
    int32_t *rank;         /* (rows), or NULL */
    float *dx;             /* (rows, n); may be the logits */
    float *stats;          /* (rows, 2): maximum and sum, or NULL */
    int64_t rows;
    int n;
    float smoothing;
    bool gaps; /* a row with target -1 has no target: loss, stats +0, rank -1 */
    const struct rp_pass *pass;
};

/* Not (x_j < x_t, or x_j = x_t and j > t): class j stands before the target. */
static __device__ __forceinline__ bool rp_classes_before(float x, float at_target, bool behind)
{
    bool below = behind ? x <= at_target : x < at_target;
    return !below;
}

/* What a row is trained towards: class a, or two classes by their weights. */
struct rp_classes_target {
    int a, b;
    float weight_a, weight_b;
    bool legal;
};

template <bool mixed>
static __device__ __forceinline__ struct rp_classes_target
rp_classes_target_of(const struct rp_classes_job &job, int64_t row)
{
    struct rp_classes_target target = {};
    if constexpr (mixed) {
        const int32_t *mix = job.target + 3 * row;
        const int whole = 1 << 24;
        target.a = mix[0], target.b = mix[1];
        target.legal = target.a >= 0 && target.a < job.n && target.b >= 0 && target.b < job.n &&
                       mix[2] >= 0 && mix[2] <= whole;
        target.weight_a = (float)(target.legal ? mix[2] : 0) * 0x1p-24f;
        target.weight_b = (float)(target.legal ? whole - mix[2] : 0) * 0x1p-24f;
    } else {
        target.a = target.b = job.target[row];
        target.legal = target.a >= 0 && target.a < job.n;
    }
    return target;
}

/* The logit that the loss is taken at. */
template <bool mixed>
static __device__ __forceinline__ double rp_classes_logit(const struct rp_classes_target &target,
                                                          float at_a, float at_b)
{
    if constexpr (mixed)
        return (double)target.weight_a * (double)at_a + (double)target.weight_b * (double)at_b;
    return (double)at_a;
}

static __device__ __forceinline__ float rp_classes_loss(const struct rp_classes_job &job,
                                                        float maximum, float sum, double at_target,
                                                        float sum_x)
{
    double lse = (double)maximum + rp_log64((double)sum);
    double loss = lse - at_target;
    if (job.smoothing != 0.0f) {
        double mean = (double)sum_x / (double)job.n, smoothing = (double)job.smoothing;
        loss = (1.0 - smoothing) * loss + smoothing * (lse - mean);
    }
    return (float)loss;
}

/* Adds to `count`, which stays exact, how many of these elements stand before the target; `e` is
 * the first of this lane's. Comparisons that give 1.0 and additions of floats are the fewest
 * instructions. */
template <class Batch>
static __device__ __forceinline__ void rp_classes_count(Batch batch, const float *x, int e,
                                                        int target, float at_target, float *count)
{
    int first = e - (int)threadIdx.x % 32;
    if (first + 32 * Batch::n <= target) {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++)
            *count += batch.has(i) && rp_classes_before(x[i], at_target, false) ? 1.0f : 0.0f;
    } else if (first > target) {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++)
            *count += batch.has(i) && rp_classes_before(x[i], at_target, true) ? 1.0f : 0.0f;
    } else {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++) {
            int j = e + 32 * i;
            bool before =
                batch.has(i) && j != target && rp_classes_before(x[i], at_target, j > target);
            *count += before ? 1.0f : 0.0f;
        }
    }
}

/* The maximum that a lane has seen, in two chains: half the waiting. */
struct rp_classes_maximum {
    float best[2];

    __device__ __forceinline__ rp_classes_maximum()
    {
        best[0] = best[1] = rp_float_of_bits(0xff800000u);
    }
    template <class Batch> __device__ __forceinline__ void see(Batch batch, const float *x)
    {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++)
            best[i % 2] = batch.has(i) && x[i] > best[i % 2] ? x[i] : best[i % 2];
    }
    __device__ __forceinline__ float get() const { return best[1] > best[0] ? best[1] : best[0]; }
};

/* Adds exp(x - best) of these elements to `sum`; x becomes the exponentials. */
template <class Batch>
static __device__ __forceinline__ void rp_classes_add_exp(Batch batch, float *x, float best,
                                                          float *sum)
{
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++) x[i] = rp_exp_below(x[i] - best);
    RP_UNROLL
    for (int i = 0; i < Batch::n; i++)
        if (batch.has(i)) *sum += x[i];
}

/* Sum of exp(x - best) over the row; keep(batch, e, v) gets what is added. */
template <class Team, class Keep>
static __device__ __forceinline__ float rp_classes_exp_sum(Team &team, float best, Keep keep)
{
    float sum[1];
    team.sum(
        [=](auto batch, float *const *v, int e, float *acc) {
            rp_classes_add_exp(batch, v[0], best, acc);
            keep(batch, e, v[0]);
        },
        sum);
    return sum[0];
}

/* What is known of a row when it has been read. */
struct rp_classes_found {
    float best, sum, sum_x, at_a, at_b;
    int count;
};

template <bool mixed>
static __device__ __forceinline__ void rp_classes_write(const struct rp_classes_job &job,
                                                        int64_t row,
                                                        const struct rp_classes_found &found)
{
    struct rp_classes_target target = rp_classes_target_of<mixed>(job, row);
    bool legal = target.legal, gap = job.gaps && target.a == -1;
    double at_target = rp_classes_logit<mixed>(target, found.at_a, found.at_b);
    float loss = rp_float_of_bits(gap ? 0 : 0x7fc00000u);
    if (legal) loss = rp_classes_loss(job, found.best, found.sum, at_target, found.sum_x);
    job.loss[row] = loss;
    if (job.rank) job.rank[row] = legal ? found.count : gap ? -1 : job.n;
    if (!job.stats) return;
    job.stats[2 * row] = gap ? 0.0f : found.best;
    job.stats[2 * row + 1] = gap ? 0.0f : found.sum;
}

/* Of a warp that comes to every `step`th row: its lanes each keep what was found of one, until all
 * of them make their losses at once; the logarithm of a single row is as long as that of 32. */
template <bool mixed> struct rp_classes_later {
    struct rp_classes_found mine;
    int n;

    __device__ __forceinline__ rp_classes_later() : mine(), n(0) {}
    __device__ __forceinline__ void add(const struct rp_classes_job &job, int64_t row, int64_t step,
                                        const struct rp_classes_found &found)
    {
        if (n == (int)threadIdx.x % 32) mine = found;
        if (++n < 32 && row + step < job.rows) return;
        int64_t of_mine = row - (n - 1 - (int)threadIdx.x % 32) * step;
        if (of_mine <= row) rp_classes_write<mixed>(job, of_mine, mine);
        n = 0;
    }
};

template <int kind, bool mixed>
static __device__ __forceinline__ void rp_classes_run(const struct rp_classes_job &job)
{
    rp_row_team<kind, 1> team(job.n);
    rp_classes_later<mixed> later;
    int64_t step = team.next(0);
    struct rp_classes_target target = {}, coming = {};
    if (team.first() < job.rows) coming = rp_classes_target_of<mixed>(job, team.first());
    for (int64_t row = team.first(); row < job.rows; row += step) {
        const float *logits = job.logits + row * job.n;
        struct rp_classes_found found = {};
        target = coming; /* read a row ahead, so that its logit comes with the row */
        if (target.legal) found.at_a = logits[target.a];
        if (mixed && target.legal) found.at_b = logits[target.b];
        team.take(0, logits);
        if (row + step < job.rows) coming = rp_classes_target_of<mixed>(job, row + step);
        struct rp_classes_maximum maximum;
        float count = 0;
        team.each([&](auto batch, float *const *v, int e) {
            maximum.see(batch, v[0]);
            if (!mixed) rp_classes_count(batch, v[0], e, target.a, found.at_a, &count);
        });
        found.best = maximum.get();
        found.count = (int)count;
        team.join(&found.best, &found.count);
        if (job.smoothing != 0.0f) found.sum_x = rp_row_plain_sum(team);
        found.sum = rp_classes_exp_sum(team, found.best, [](auto, int, float *) {});
        if (team.warp_leads()) later.add(job, row, step, found);
    }
}

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) rp_classes_rows(const struct rp_classes_job job)
{
    rp_classes_run<kind, false>(job);
}

/* Long rows: the exponentials of one are added up as the next one comes. */
template <bool mixed>
static __device__ __forceinline__ void rp_classes_run_kept(const struct rp_classes_job &job)
{
    rp_kept_row<2> kept(job.n);
    rp_classes_later<mixed> later;
    struct rp_classes_found found = {};
    struct rp_classes_target target = rp_classes_target_of<mixed>(job, blockIdx.x);
    int64_t step = gridDim.x, row = (int64_t)blockIdx.x - step;
    for (;; row += step) {
        bool here = row >= 0, more = row + step < job.rows;
        struct rp_classes_found next = {};
        struct rp_classes_maximum maximum;
        const float *logits = job.logits + (row + step) * job.n;
        float chain = -0.0f, chain_x = -0.0f, count = 0;
        int target_a = target.a;
        if (more && target.legal) {
            next.at_a = logits[target.a];
            if (mixed) next.at_b = logits[target.b];
        }
        if (row + 2 * step < job.rows) target = rp_classes_target_of<mixed>(job, row + 2 * step);
        RP_NO_UNROLL
        for (int q = 0; q < kept.batches + RP_KEPT_LAG; q++) {
            if (q < kept.batches)
                kept.visit(q, [&](auto batch, float *at, int e) {
                    if (here) {
                        float v[batch.n];
                        rp_batch_load(batch, at, 0, v);
                        kept.begin_batch(q, &chain);
                        rp_classes_add_exp(batch, v, found.best, &chain);
                    }
                    if (more) rp_kept_fill(batch, at, logits, e);
                });
            if (here && q < kept.batches) kept.end_batch(q, 0, chain);
            rp_copy_async_commit();
            if (!more || q < RP_KEPT_LAG) continue;
            rp_copy_async_wait<RP_KEPT_LAG>();
            kept.visit(q - RP_KEPT_LAG, [&](auto batch, float *at, int e) {
                float v[batch.n];
                rp_batch_load(batch, at, 0, v);
                maximum.see(batch, v);
                if (!mixed) rp_classes_count(batch, v, e, target_a, next.at_a, &count);
                if (job.smoothing == 0.0f) return;
                kept.begin_batch(q - RP_KEPT_LAG, &chain_x);
                RP_UNROLL
                for (int i = 0; i < batch.n; i++)
                    if (batch.has(i)) chain_x += v[i];
            });
            if (job.smoothing != 0.0f) kept.end_batch(q - RP_KEPT_LAG, 1, chain_x);
        }
        kept.tell(maximum.get(), (int)count);
        int past = kept.meet();
        if (here && kept.warp == kept.n_warps - 1) { /* its last block is the shorter one */
            found.sum = kept.sum(past, 0);
            later.add(job, row, step, found);
        }
        if (!more) return;
        kept.told(past, &next.best, &next.count);
        if (job.smoothing != 0.0f) next.sum_x = kept.sum(past, 1);
        found = next;
    }
}

template <bool mixed>
__global__ void RP_KEPT_BOUNDS rp_classes_kept(const struct rp_classes_job job)
{
    rp_classes_run_kept<mixed>(job);
}

/* As many blocks as a GPU holds: a warp that goes from row to row has its next target already, and
 * makes the losses of 32 rows at once. */
static inline struct rp_row_plan rp_classes_plan(const struct rp_cuda *cuda,
                                                 const struct rp_classes_job &job)
{
    struct rp_row_plan plan = rp_row_plan(cuda, job.rows, job.n, 1);
    if (plan.kind == RP_ROW_STREAM) return plan;
    unsigned threads = (unsigned)(rp_row_resident(plan.kind, 1) * rp_row_threads(plan.kind));
    unsigned together = threads / plan.threads * (unsigned)cuda->n_processors;
    if (plan.blocks > together) plan.blocks = together;
    return plan;
}

/* A statement like RP_LAUNCH, of rows<kind>(job) by its plan, or of kept(job) where rows are long.
 */
#define RP_CLASSES_LAUNCH(cuda, plan, rows_kernel, kept_kernel, job)                               \
    do {                                                                                           \
        struct rp_row_plan kept_ = {};                                                             \
        if (rp_kept_plan((cuda), (job).rows, (job).n, 2, &kept_)) {                                \
            RP_ALLOW_SHARED(kept_kernel, (cuda)->shared_most - RP_KEPT_STATIC);                    \
            RP_LAUNCH((cuda), kept_kernel, kept_.blocks, kept_.threads, kept_.shared, (job));      \
        } else {                                                                                   \
            RP_ROW_LAUNCH((cuda), plan, rows_kernel, (job));                                       \
        }                                                                                          \
    } while (0)

#endif
