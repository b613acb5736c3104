/* gemm_sum.cuh - private to gemm*: the order of additions over k (README.md chapters 5 and 6).
 *
 * A block walks over the segments of its item. Where a segment ends its chain is added to what
 * waits: the sum of the shard's earlier panels, which lies where the output will, then the complete
 * nodes of the tree over shards, lowest first. */
#ifndef RP_CUDA_GEMM_SUM_CUH
#define RP_CUDA_GEMM_SUM_CUH

#include "cuda/gemm.h"

/* ---- segments ---------------------------------------------------------------------------------*/

/* The terms [begin, end) of one shard, which lie from k on in the pass. */
struct rp_gemm_segment {
    int shard, begin, end, k;
};

static __device__ __forceinline__ struct rp_gemm_segment
rp_gemm_segment_of(const struct rp_gemm_job &job, int number)
{
    struct rp_gemm_segment s;
    s.shard = number / job.panels;
    int panel = job.first_panel + (number - s.shard * job.panels);
    int first = (int)job.sum.first, last = first + (int)job.sum.count;
    s.begin = panel * RP_GEMM_PANEL, s.end = s.begin + RP_GEMM_PANEL;
    if (s.begin < first) s.begin = first;
    if (s.end > last) s.end = last;
    s.k = s.shard * (int)job.sum.count + s.begin - first;
    return s;
}

/* The chain goes on from what an earlier pass left open. */
static __device__ __forceinline__ bool rp_gemm_segment_continues(const struct rp_gemm_segment &s)
{
    return s.begin % RP_GEMM_PANEL != 0;
}
/* The panel is complete: its chain may be added. */
static __device__ __forceinline__ bool rp_gemm_segment_closes(const struct rp_gemm_job &job,
                                                              const struct rp_gemm_segment &s)
{
    return s.end % RP_GEMM_PANEL == 0 || s.end == job.sum.rows;
}

/* ---- a tile of outputs in memory --------------------------------------------------------------*/

/* Outputs of one group from row and column 0 on, of which (m, n) exist. */
struct rp_gemm_view {
    struct rp_gemm_out out;
    int64_t m, n;
};

static __device__ __forceinline__ struct rp_gemm_view
rp_gemm_view_of(const struct rp_gemm_job &job, struct rp_gemm_out out, int group)
{
    struct rp_gemm_view view = {out, job.m, job.n};
    view.out.base += group * out.group;
    return view;
}

static __device__ __forceinline__ float *rp_gemm_out_row(const struct rp_gemm_out &out, int64_t m)
{
    if (!out.images) return out.base + m * out.stride;
    uint32_t image = rp_divide((uint32_t)m, out.per_image);
    uint32_t rest = (uint32_t)m - image * out.per_image.by;
    uint32_t line = rp_divide(rest, out.per_line), pixel = rest - line * out.per_line.by;
    return out.base + image * out.image + line * out.line + pixel * out.pixel;
}

/* What is done with the accumulators and a tile in memory. */
enum rp_gemm_visit { RP_GEMM_TAKE, RP_GEMM_ADD, RP_GEMM_STORE };

/* acc[0 .. 3] and the four outputs at `at`. */
static __device__ __forceinline__ void rp_gemm_visit_vector(float *acc, float *at,
                                                            enum rp_gemm_visit visit)
{
    float4 *there = reinterpret_cast<float4 *>(at);
    if (visit == RP_GEMM_STORE) {
        *there = make_float4(acc[0], acc[1], acc[2], acc[3]);
        return;
    }
    float4 v = *there;
    bool add = visit == RP_GEMM_ADD;
    acc[0] = add ? v.x + acc[0] : v.x;
    acc[1] = add ? v.y + acc[1] : v.y;
    acc[2] = add ? v.z + acc[2] : v.z;
    acc[3] = add ? v.w + acc[3] : v.w;
}

static __device__ __forceinline__ void rp_gemm_visit_one(float &acc, float *at,
                                                         enum rp_gemm_visit visit)
{
    if (visit == RP_GEMM_STORE)
        *at = acc;
    else
        acc = visit == RP_GEMM_ADD ? *at + acc : *at;
}

/* ---- the end of a segment ---------------------------------------------------------------------*/

/* The chain of a segment is added to `sum` where there are earlier panels, then to `nodes` nodes;
 * then it is stored: as the open chain, the sum of the panels so far, a node, or the output. */
struct rp_gemm_end {
    bool adds_sum;
    int nodes;
    enum { OPEN, SUM, NODE, OUTPUT } store;
};

static __device__ __forceinline__ struct rp_gemm_end rp_gemm_end_of(const struct rp_gemm_job &job,
                                                                    const struct rp_gemm_segment &s)
{
    struct rp_gemm_end end = {false, 0, rp_gemm_end::OUTPUT};
    if (job.chains) return end;
    end.store = rp_gemm_end::OPEN;
    if (!rp_gemm_segment_closes(job, s)) return end;
    end.adds_sum = s.begin >= RP_GEMM_PANEL;
    end.store = rp_gemm_end::SUM;
    if (s.end < job.sum.rows) return end;
    /* The shard ends: like a binary counter, as many nodes are complete as its number ends in
     * ones. */
    int shard = s.shard % job.shards_of_item;
    while (shard >> end.nodes & 1) end.nodes++;
    end.store = shard == job.shards_of_item - 1 ? rp_gemm_end::OUTPUT : rp_gemm_end::NODE;
    return end;
}

#endif
