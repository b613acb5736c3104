/* classes.cuh - private to kernels/cuda: rows of logits, their losses and ranks. README.md chapter
 * 10. */
#ifndef RP_CUDA_CLASSES_CUH
#define RP_CUDA_CLASSES_CUH

#include "cuda/elementary.h"
#include "cuda/rows.h"

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
                                                          float at_a, const float *logits)
{
    if constexpr (mixed)
        return (double)target.weight_a * (double)at_a +
               (double)target.weight_b * (double)(target.legal ? logits[target.b] : 0.0f);
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

/* How many of these elements stand before the target; `e` is the first of this lane's. */
template <class Batch>
static __device__ __forceinline__ int rp_classes_count(Batch batch, const float *x, int e,
                                                       int target, float at_target)
{
    int count = 0, first = e - (int)threadIdx.x % 32;
    if (first + 32 * Batch::n <= target) {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++)
            count += batch.has(i) && rp_classes_before(x[i], at_target, false);
    } else if (first > target) {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++)
            count += batch.has(i) && rp_classes_before(x[i], at_target, true);
    } else {
        RP_UNROLL
        for (int i = 0; i < Batch::n; i++) {
            int j = e + 32 * i;
            count += batch.has(i) && j != target && rp_classes_before(x[i], at_target, j > target);
        }
    }
    return count;
}

/* Sum of exp(x - best) over the row; keep(batch, e, v) gets what is added. */
template <class Team, class Keep>
static __device__ __forceinline__ float rp_classes_exp_sum(Team &team, float best, Keep keep)
{
    float sum[1];
    team.sum(
        [=](auto batch, float *const *v, int e, float *acc) {
            RP_UNROLL
            for (int i = 0; i < batch.n; i++) v[0][i] = rp_exp_below(v[0][i] - best);
            keep(batch, e, v[0]);
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                if (batch.has(i)) acc[0] += v[0][i];
        },
        sum);
    return sum[0];
}

template <int kind, bool mixed>
static __device__ __forceinline__ void rp_classes_run(const struct rp_classes_job &job)
{
    rp_row_team<kind, 1> team(job.n);
    for (int64_t row = team.first(); row < job.rows; row = team.next(row)) {
        const float *logits = job.logits + row * job.n;
        struct rp_classes_target target = rp_classes_target_of<mixed>(job, row);
        bool legal = target.legal;
        int count = 0;
        float at_a = legal ? logits[target.a] : 0.0f;
        float best = rp_float_of_bits(0xff800000u), sum_x = 0;
        team.take(0, logits);
        team.each([&](auto batch, float *const *v, int e) {
            RP_UNROLL
            for (int i = 0; i < batch.n; i++)
                best = batch.has(i) && v[0][i] > best ? v[0][i] : best;
            if (!mixed) count += rp_classes_count(batch, v[0], e, target.a, at_a);
        });
        team.join(&best, &count);
        if (job.smoothing != 0.0f) sum_x = rp_row_plain_sum(team);
        float sum = rp_classes_exp_sum(team, best, [](auto, int, float *) {});
        if (!team.leads()) continue;
        bool gap = job.gaps && target.a == -1;
        double at_target = rp_classes_logit<mixed>(target, at_a, logits);
        float loss = rp_float_of_bits(gap ? 0 : 0x7fc00000u);
        if (legal) loss = rp_classes_loss(job, best, sum, at_target, sum_x);
        job.loss[row] = loss;
        if (job.rank) job.rank[row] = legal ? count : gap ? -1 : job.n;
        if (!job.stats) continue;
        job.stats[2 * row] = gap ? 0.0f : best;
        job.stats[2 * row + 1] = gap ? 0.0f : sum;
    }
}

template <int kind>
__global__ void RP_ROW_BOUNDS(kind, 1) rp_classes_rows(const struct rp_classes_job job)
{
    rp_classes_run<kind, false>(job);
}

#endif
