/* test_cuda_gemm.cu - every way of cutting a product that gemm_plan.cu can think of, on the
 * simulated device: all must give the bits of the naive sum, whichever the estimate would take. */
#include "cuda/gemm_run.cuh"

#include <stdlib.h>
#include <vector>

#include "unit/test.h"

/* ---- a product, and its naive sum -------------------------------------------------------------*/

struct product {
    int64_t m, n;
    struct rp_gemm_sum sum;
    bool a_along_k, b_along_k;
    bool narrow; /* pointers that are not aligned */
    bool bias;
};

/* Device memory, which on the simulated device is the host's, with a guard at the end. */
struct floats {
    float *block, *at;
    int64_t n;
};
enum { GUARD = 64 };

static struct floats floats_new(int64_t n, bool unaligned, uint32_t seed)
{
    struct floats f = {NULL, NULL, n};
    if (cudaMalloc((void **)&f.block, (size_t)(n + 2 * GUARD) * sizeof(float)) != cudaSuccess)
        exit(1);
    memset(f.block, 0xff, (size_t)(n + 2 * GUARD) * sizeof(float));
    f.at = f.block + GUARD + (unaligned ? 1 : 0);
    for (int64_t i = 0; i < n && seed; i++) {
        seed = seed * 1664525u + 1013904223u;
        uint32_t draw = seed >> 8;
        float x = (float)(int32_t)(draw % 2001) / 1000.0f - 1.0f;
        /* Products that underflow from either side, zeros of either sign. */
        f.at[i] = draw % 11 == 0 ? (draw & 1024 ? 1e-30f : -1e-30f) : draw % 13 == 0 ? -0.0f : x;
    }
    return f;
}

static bool guarded(const struct floats &f)
{
    bool good = true;
    for (const float *p = f.block; p < f.at; p++) good &= rp_float_bits(*p) == 0xffffffffu;
    for (const float *p = f.at + f.n; p < f.block + f.n + 2 * GUARD; p++)
        good &= rp_float_bits(*p) == 0xffffffffu;
    return good;
}

/* One output over rows [0, rows) of each shard; `panel` is 1024, or another number as a control. */
static float naive(const struct product &p, const float *a, const float *b, int64_t m, int64_t n,
                   int panel)
{
    int64_t k_all = p.sum.shards * p.sum.rows;
    std::vector<float> node;
    for (int64_t s = 0; s < p.sum.shards; s++) {
        float sum = 0.0f, chain = 0.0f;
        for (int64_t r = 0; r < p.sum.rows; r++) {
            int64_t k = s * p.sum.rows + r;
            float x = p.a_along_k ? a[m * k_all + k] : a[k * p.m + m];
            float y = p.b_along_k ? b[n * k_all + k] : b[k * p.n + n];
            chain = rp_fma(x, y, r % panel == 0 ? 0.0f : chain);
            if ((r + 1) % panel == 0 || r + 1 == p.sum.rows) sum = r < panel ? chain : sum + chain;
        }
        node.push_back(sum);
    }
    for (; node.size() > 1; node.resize(node.size() / 2))
        for (size_t i = 0; i < node.size() / 2; i++) node[i] = node[2 * i] + node[2 * i + 1];
    return node[0];
}

/* ---- running it -------------------------------------------------------------------------------*/

struct operands_at {
    const float *a, *b;
};

template <bool a_along, bool b_along>
static enum rp_status run_layout(struct rp_cuda *cuda, const struct rp_gemm &gemm,
                                 const struct operands_at &at, int64_t k_all, bool narrow,
                                 const struct rp_gemm_plan &plan, struct rp_error *err)
{
    struct rp_operands<rp_source_matrix<a_along>, rp_source_matrix<b_along>, a_along, b_along> of =
    {
        {at.a, (int)(a_along ? k_all : gemm.m), 0}, { at.b, (int)(b_along ? k_all : gemm.n), 0 }
    };
    RP_TRY(rp_gemm_run_plan(cuda, gemm, of, narrow, plan, err));
    RP_CUDA_TRY(cudaStreamSynchronize(cuda->stream));
    return RP_STATUS_OK;
}

static enum rp_status run_plan(struct rp_cuda *cuda, const struct product &p,
                               const struct rp_gemm &gemm, const struct operands_at &at,
                               const struct rp_gemm_plan &plan)
{
    struct rp_error err = {};
    int64_t k_all = p.sum.shards * p.sum.rows;
    if (p.a_along_k && p.b_along_k)
        return run_layout<true, true>(cuda, gemm, at, k_all, p.narrow, plan, &err);
    if (p.a_along_k) return run_layout<true, false>(cuda, gemm, at, k_all, p.narrow, plan, &err);
    return run_layout<false, false>(cuda, gemm, at, k_all, p.narrow, plan, &err);
}

/* The passes that hold all rows: one, or `cuts` parts of a shard. Plan number `number` of each. */
static bool run_parts(struct rp_cuda *cuda, const struct product &p, struct rp_gemm gemm,
                      const struct floats &a, const struct floats &b, int cuts, int number)
{
    bool more = false;
    for (int part = 0; part < cuts; part++) {
        struct rp_gemm_plans plans;
        int64_t begin = p.sum.rows * part / cuts, end = p.sum.rows * (part + 1) / cuts;
        if (cuts > 1) gemm.sum.first = begin, gemm.sum.count = end - begin;
        struct operands_at at = {a.at + (cuts > 1 ? begin * p.m : 0),
                                 b.at + (cuts > 1 ? begin * p.n : 0)};
        rp_gemm_plans(cuda, &gemm, p.narrow, p.a_along_k && p.b_along_k, &plans);
        CHECK(plans.n > 0);
        more |= number + 1 < plans.n;
        CHECK(run_plan(cuda, p, gemm, at, plans.plan[number < plans.n ? number : 0]) ==
              RP_STATUS_OK);
    }
    return more;
}

static int64_t differences(const struct product &p, const struct floats &c,
                           const std::vector<float> &want)
{
    int64_t n = 0;
    for (int64_t i = 0; i < p.m * p.n; i++)
        n += rp_float_bits(c.at[i]) != rp_float_bits(want[(size_t)i]);
    return n;
}

static void test_product(struct rp_cuda *cuda, const struct product &p, int cuts)
{
    int64_t k_all = p.sum.shards * p.sum.rows;
    struct floats a = floats_new(p.m * k_all, p.narrow, 1),
                  b = floats_new(p.n * k_all, p.narrow, 2);
    struct floats bias = floats_new(p.n, false, 3), c = floats_new(p.m * p.n, p.narrow, 0);
    struct floats chain = floats_new(p.m * p.n, false, 0);
    std::vector<float> want, control;
    for (int64_t m = 0; m < p.m; m++)
        for (int64_t n = 0; n < p.n; n++) {
            want.push_back(naive(p, a.at, b.at, m, n, RP_GEMM_PANEL));
            control.push_back(naive(p, a.at, b.at, m, n, 16));
            if (p.bias) want.back() = want.back() + bias.at[n];
        }
    struct rp_gemm gemm = {};
    gemm.m = p.m, gemm.n = p.n, gemm.groups = 1, gemm.sum = p.sum;
    gemm.c = rp_gemm_out_plain(c.at, p.n, p.n, 0);
    gemm.chain = cuts > 1 ? chain.at : NULL;
    gemm.bias = p.bias ? bias.at : NULL;
    for (int number = 0;; number++) {
        memset(c.at, 0xff, (size_t)c.n * sizeof(float));
        memset(cuda->scratch, 0xff, cuda->scratch_bytes);
        bool more = run_parts(cuda, p, gemm, a, b, cuts, number);
        int64_t wrong = differences(p, c, want);
        if (wrong)
            printf("m %d n %d shards %d rows %d cuts %d along %d %d narrow %d scratch %d plan %d\n",
                   (int)p.m, (int)p.n, (int)p.sum.shards, (int)p.sum.rows, cuts, p.a_along_k,
                   p.b_along_k, p.narrow, (int)cuda->scratch_bytes, number);
        CHECK_INT(wrong, 0);
        if (p.sum.rows > 16 && !p.bias) CHECK(differences(p, c, control) > 0);
        if (!more) break;
    }
    CHECK(guarded(c) && guarded(chain));
    cudaFree(a.block), cudaFree(b.block), cudaFree(bias.block), cudaFree(c.block);
    cudaFree(chain.block);
}

/* ---- the cases --------------------------------------------------------------------------------*/

/* Scratch as the op would ask for, and so little that launches must be cut. */
static void test_scratches(struct rp_cuda *cuda, struct product p, int cuts, bool samples)
{
    size_t most = rp_gemm_scratch(p.m, p.n, 1, p.sum.shards * p.sum.rows, samples);
    size_t tight = (size_t)(p.m * p.n * 3 + 8) * sizeof(float), nodes = 0;
    for (int64_t shards = p.sum.shards; shards > 1; shards /= 2) nodes += 64 * 64 * sizeof(float);
    if (tight < nodes) tight = nodes;
    size_t bytes[] = {most, tight < most ? tight : most, 64};
    for (int i = 0; i < 3; i++) {
        if (i == 2 && p.sum.shards > 1) continue; /* a tree must have its nodes */
        cuda->scratch_bytes = bytes[i];
        if (cudaMalloc(&cuda->scratch, bytes[i] + 256) != cudaSuccess) exit(1);
        memset((char *)cuda->scratch + bytes[i], 0x5a, 256);
        test_product(cuda, p, cuts);
        const unsigned char *after = (const unsigned char *)cuda->scratch + bytes[i];
        for (int j = 0; j < 256; j++) CHECK_INT(after[j], 0x5a);
        cudaFree(cuda->scratch);
    }
}

static void test_whole(struct rp_cuda *cuda)
{
    static const int64_t shapes[][3] = {/* m, n, k */
                                        {1, 4, 4},      {5, 8, 12},     {130, 68, 20},
                                        {65, 132, 100}, {3, 4, 0},      {4, 8, 1024},
                                        {9, 12, 1028},  {20, 36, 3200}, {132, 4, 2052}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int layout = 0; layout < 4; layout++) {
            bool narrow = layout & 1;
            struct product p = {shapes[i][0],
                                shapes[i][1] - narrow,
                                rp_gemm_whole(shapes[i][2] - (narrow && shapes[i][2] > 0)),
                                true,
                                layout < 2,
                                narrow,
                                layout == 2};
            test_scratches(cuda, p, 1, false);
        }
}

static void test_shards(struct rp_cuda *cuda)
{
    static const int64_t shapes[][4] = {/* m, n, shards, rows */
                                        {4, 4, 2, 1},     {12, 8, 8, 3},    {132, 68, 4, 17},
                                        {68, 132, 8, 16}, {8, 12, 4, 1025}, {20, 4, 2, 2100},
                                        {4, 4, 64, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int narrow = 0; narrow < 2; narrow++) {
            struct rp_gemm_sum sum = {shapes[i][2], shapes[i][3], 0, shapes[i][3]};
            struct product p = {shapes[i][0] - narrow,
                                shapes[i][1] - narrow,
                                sum,
                                false,
                                false,
                                narrow != 0,
                                false};
            test_scratches(cuda, p, 1, true);
        }
}

static void test_parts(struct rp_cuda *cuda)
{
    static const int64_t shapes[][4] = {/* m, n, rows, cuts */
                                        {4, 8, 40, 3},
                                        {12, 4, 2048, 2},
                                        {8, 8, 2500, 5},
                                        {68, 4, 3000, 2},
                                        {4, 4, 5000, 3}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int narrow = 0; narrow < 2; narrow++) {
            struct product p = {shapes[i][0],
                                shapes[i][1] - narrow,
                                rp_gemm_whole(shapes[i][2]),
                                false,
                                false,
                                narrow != 0,
                                false};
            test_scratches(cuda, p, (int)shapes[i][3], true);
        }
}

int main()
{
    struct rp_cuda cuda = {};
    if (cudaSetDevice(0) != cudaSuccess ||
        cudaStreamCreateWithFlags(&cuda.stream, cudaStreamNonBlocking) != cudaSuccess)
        return 1;
    cuda.n_processors = 4;
    test_whole(&cuda);
    test_shards(&cuda);
    test_parts(&cuda);
    cudaStreamDestroy(cuda.stream);
    return test_result();
}
