/* bench_cuda_gemm.cu - the products on a GPU beside cuBLAS: rp_bench_cuda_gemm [sweep | plans |
 * small]
 *
 * Each line is one shape and form: TFLOP/s of this program, of cuBLAS in fp32 without TF32, and
 * their ratio; a sample of outputs is compared in every bit with the sums of kernels/README.md
 * chapter 5, made here. `sweep` times kinds of tiles instead, `plans` every cut of gemm_plan.cu;
 * `small` takes small shapes, to try the program itself. Needs a driver; cuBLAS is opened where it
 * is found ($RP_CUBLAS, the loader's path, a toolkit, Python's packages). */
#include "cuda/gemm_run.cuh"

#include <algorithm>
#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string>
#include <vector>

/* ---- what the kernels call --------------------------------------------------------------------*/

extern "C" enum rp_status rp_error_set(struct rp_error *err, enum rp_status status,
                                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return status;
}

extern "C" enum rp_status rp_cuda_error(struct rp_error *err, const char *what, int code)
{
    return rp_error_set(err, RP_STATUS_INTERNAL, "%s: %s", what,
                        cudaGetErrorString((cudaError_t)code));
}

static void must(cudaError_t code, const char *what)
{
    if (code == cudaSuccess) return;
    printf("%s: %s\n", what, cudaGetErrorString(code));
    exit(3);
}

static void must_run(enum rp_status status, const struct rp_error *err)
{
    if (status == RP_STATUS_OK) return;
    printf("%s\n", err->text);
    exit(1);
}

/* ---- data: element i of tensor t, the same on both sides --------------------------------------*/

static __host__ __device__ float value_of(uint32_t tensor, uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u + tensor * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float)(int32_t)(x & 0xffffff) * 0x1p-23f - 1.0f;
}

static __global__ void fill(float *to, int64_t n, uint32_t tensor)
{
    for (int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256)
        to[i] = value_of(tensor, (uint64_t)i);
}

static struct rp_cuda cuda;

static enum rp_status run_fill(float *to, int64_t n, uint32_t tensor, struct rp_error *err)
{
    RP_LAUNCH(&cuda, fill, 1024, 256, 0, to, n, tensor);
    return RP_STATUS_OK;
}

static float *device_floats(int64_t n, uint32_t tensor)
{
    struct rp_error err = {};
    float *at;
    must(cudaMalloc((void **)&at, (size_t)n * sizeof(float)), "device memory");
    must_run(run_fill(at, n, tensor, &err), &err);
    return at;
}

static void poison(float *at, int64_t n)
{
    must(cudaMemsetAsync(at, 0xff, (size_t)n * sizeof(float), cuda.stream), "poison");
}

static float read_one(const float *at)
{
    float value;
    must(cudaMemcpyAsync(&value, at, sizeof value, cudaMemcpyDeviceToHost, cuda.stream), "copy");
    must(cudaStreamSynchronize(cuda.stream), "kernel");
    return value;
}

/* ---- the sum of chapter 5, on the host --------------------------------------------------------*/

struct terms {
    virtual float a(int64_t k) const = 0;
    virtual float b(int64_t k) const = 0;
};

static float shard_sum(const terms &of, int64_t first, int64_t count)
{
    float sum = 0.0f;
    for (int64_t k = 0; k < count; k += RP_GEMM_PANEL) {
        float chain = 0.0f;
        for (int64_t i = k; i < count && i < k + RP_GEMM_PANEL; i++)
            chain = rp_fma(of.a(first + i), of.b(first + i), chain);
        sum = k == 0 ? chain : sum + chain;
    }
    return sum;
}

static float tree_sum(const terms &of, int64_t shards, int64_t rows)
{
    std::vector<float> node;
    for (int64_t s = 0; s < shards; s++) node.push_back(shard_sum(of, s * rows, rows));
    for (; node.size() > 1; node.resize(node.size() / 2))
        for (size_t i = 0; i < node.size() / 2; i++) node[i] = node[2 * i] + node[2 * i + 1];
    return node[0];
}

/* ---- time -------------------------------------------------------------------------------------*/

template <class run> static double milliseconds(const run &once, int repeats)
{
    cudaEvent_t from, to;
    std::vector<float> times;
    must(cudaEventCreateWithFlags(&from, 0), "event");
    must(cudaEventCreateWithFlags(&to, 0), "event");
    once();
    for (int i = 0; i < repeats; i++) {
        float time;
        must(cudaEventRecord(from, cuda.stream), "event");
        once();
        must(cudaEventRecord(to, cuda.stream), "event");
        must(cudaEventSynchronize(to), "kernel");
        must(cudaEventElapsedTime(&time, from, to), "event");
        times.push_back(time);
    }
    std::sort(times.begin(), times.end());
    cudaEventDestroy(from);
    cudaEventDestroy(to);
    return times[times.size() / 2];
}

/* ---- cuBLAS -----------------------------------------------------------------------------------*/

static struct {
    void *handle;
    int (*create)(void **);
    int (*set_stream)(void *, cudaStream_t);
    int (*set_mode)(void *, int);
    int (*sgemm)(void *, int, int, int, int, int, const float *, const float *, int, const float *,
                 int, const float *, float *, int);
    std::string path;
} blas;

static void *open_library(const std::string &path)
{
    std::string lt = path;
    size_t name = lt.rfind("libcublas.so");
    if (name != std::string::npos) {
        lt.replace(name, 12, "libcublasLt.so");
        dlopen(lt.c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
    return dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
}

static void *find_blas()
{
    static const char *const patterns[] = {
        "/usr/local/cuda*/lib64/libcublas.so.1?",
        "/usr/lib/x86_64-linux-gnu/libcublas.so.1?",
        "/usr/lib/python3*/*-packages/nvidia/*/lib/libcublas.so.1?",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcublas.so.1?",
        "/opt/*/lib/python3*/site-packages/nvidia/*/lib/libcublas.so.1?",
        "/*/*/lib/python3*/site-packages/nvidia/*/lib/libcublas.so.1?",
        "/*/*/.venv/lib/python3*/site-packages/nvidia/*/lib/libcublas.so.1?",
        "/*/lib/python3*/site-packages/nvidia/*/lib/libcublas.so.1?"};
    std::vector<std::string> paths;
    if (getenv("RP_CUBLAS")) paths.push_back(getenv("RP_CUBLAS"));
    paths.push_back("libcublas.so.13");
    paths.push_back("libcublas.so.12");
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        glob_t found;
        if (glob(patterns[i], 0, NULL, &found) == 0)
            paths.insert(paths.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
        globfree(&found);
    }
    for (size_t i = 0; i < paths.size(); i++)
        if (void *library = open_library(paths[i])) {
            blas.path = paths[i];
            return library;
        }
    return NULL;
}

static bool open_blas()
{
    void *library = find_blas();
    if (!library) return false;
    *(void **)&blas.create = dlsym(library, "cublasCreate_v2");
    *(void **)&blas.set_stream = dlsym(library, "cublasSetStream_v2");
    *(void **)&blas.set_mode = dlsym(library, "cublasSetMathMode");
    *(void **)&blas.sgemm = dlsym(library, "cublasSgemm_v2");
    if (!blas.create || !blas.sgemm || blas.create(&blas.handle) != 0) return false;
    blas.set_stream(blas.handle, cuda.stream);
    return true;
}

/* ---- linear -----------------------------------------------------------------------------------*/

enum form { FORWARD, DATA, WEIGHT, FORMS };
static const char *const form_names[FORMS] = {"forward", "data grad", "weight grad"};
static const int SHARDS = 8;

/* y (rows, out) = x (rows, in) w (out, in)^T, and its gradients. */
struct linear {
    int64_t rows, in, out;
    float *x, *w, *y, *result;
};

static struct linear linear_new(int64_t rows, int64_t in, int64_t out)
{
    struct linear l = {rows,
                       in,
                       out,
                       device_floats(rows * in, 1),
                       device_floats(out * in, 2),
                       device_floats(rows * out, 3),
                       NULL};
    l.result = device_floats(std::max(rows * std::max(in, out), in * out), 4);
    return l;
}

static void linear_free(const struct linear &l)
{
    cudaFree(l.x), cudaFree(l.w), cudaFree(l.y), cudaFree(l.result);
}

static struct rp_tensor matrix(float *data, int64_t rows, int64_t columns)
{
    struct rp_tensor t = {data, RP_DTYPE_F32, 2, {rows, columns}};
    return t;
}

static struct rp_op_call linear_call(const struct linear &l, enum form form)
{
    struct rp_op_call call = {};
    struct rp_tensor x = matrix(l.x, l.rows, l.in), w = matrix(l.w, l.out, l.in),
                     y = matrix(l.y, l.rows, l.out);
    if (form == FORWARD) {
        call.in[0] = x, call.in[1] = w, call.out[0] = matrix(l.result, l.rows, l.out);
    } else if (form == DATA) {
        call.in[0] = y, call.in[1] = w, call.out[0] = matrix(l.result, l.rows, l.in);
    } else {
        call.in[0] = y, call.in[1] = x, call.out[0] = matrix(l.result, l.out, l.in);
    }
    return call;
}

static void linear_run(const struct rp_op_call &call, enum form form)
{
    struct rp_error err = {};
    struct rp_pass pass = {};
    int64_t rows = call.in[0].dims[0];
    pass.rows = {rows / SHARDS, 0, SHARDS, 0, rows};
    must_run(form == FORWARD ? rp_cuda_linear(&cuda, &call, &pass, &err)
             : form == DATA  ? rp_cuda_linear_dx(&cuda, &call, &pass, &err)
                             : rp_cuda_linear_dw(&cuda, &call, &pass, &err),
             &err);
}

static void linear_blas(const struct linear &l, enum form form)
{
    const float one = 1, zero = 0;
    int rows = (int)l.rows, in = (int)l.in, out = (int)l.out;
    if (form == FORWARD)
        blas.sgemm(blas.handle, 1, 0, out, rows, in, &one, l.w, in, l.x, in, &zero, l.result, out);
    else if (form == DATA)
        blas.sgemm(blas.handle, 0, 0, in, rows, out, &one, l.w, in, l.y, out, &zero, l.result, in);
    else
        blas.sgemm(blas.handle, 0, 1, in, out, rows, &one, l.x, in, l.y, out, &zero, l.result, in);
}

struct linear_terms : terms {
    enum form form;
    int64_t in, out, i, j;
    float x(int64_t row, int64_t k) const { return value_of(1, (uint64_t)(row * in + k)); }
    float w(int64_t o, int64_t k) const { return value_of(2, (uint64_t)(o * in + k)); }
    float y(int64_t row, int64_t o) const { return value_of(3, (uint64_t)(row * out + o)); }
    float a(int64_t k) const override
    {
        return form == FORWARD ? x(i, k) : form == DATA ? y(i, k) : y(k, i);
    }
    float b(int64_t k) const override
    {
        return form == FORWARD ? w(j, k) : form == DATA ? w(k, j) : x(k, j);
    }
};

/* A sample of outputs: corners, and others at random. */
static int linear_wrong(const struct linear &l, enum form form)
{
    int wrong = 0;
    int64_t m = form == WEIGHT ? l.out : l.rows, n = form == FORWARD ? l.out : l.in;
    for (int s = 0; s < 48; s++) {
        struct linear_terms of;
        of.form = form, of.in = l.in, of.out = l.out;
        of.i = s < 4 ? s / 2 * (m - 1) : (int64_t)(s * INT64_C(7919)) % m;
        of.j = s < 4 ? s % 2 * (n - 1) : (int64_t)(s * INT64_C(104729)) % n;
        float want = form == WEIGHT ? tree_sum(of, SHARDS, l.rows / SHARDS)
                     : form == DATA ? shard_sum(of, 0, l.out)
                                    : shard_sum(of, 0, l.in);
        float got = read_one(l.result + of.i * n + of.j);
        wrong += rp_float_bits(got) != rp_float_bits(want);
    }
    return wrong;
}

static int repeats_of(double flops)
{
    int repeats = (int)(0.15 * 40e12 / flops);
    return repeats < 5 ? 5 : repeats > 31 ? 31 : repeats;
}

static int bench_linear(int64_t rows, int64_t in, int64_t out)
{
    struct linear l = linear_new(rows, in, out);
    double flops = 2.0 * (double)rows * (double)in * (double)out;
    int bad = 0;
    for (int f = 0; f < FORMS; f++) {
        enum form form = (enum form)f;
        struct rp_op_call call = linear_call(l, form);
        poison(l.result, rp_tensor_elements(&call.out[0]));
        linear_run(call, form);
        int wrong = linear_wrong(l, form);
        double ours = milliseconds([&] { linear_run(call, form); }, repeats_of(flops)), theirs = 0;
        if (blas.handle)
            for (int mode = 0; mode <= 2; mode += 2) { /* default, pedantic: neither has TF32 */
                blas.set_mode(blas.handle, mode);
                double time = milliseconds([&] { linear_blas(l, form); }, repeats_of(flops));
                if (theirs == 0 || time < theirs) theirs = time;
            }
        printf("%6ld x %5ld -> %5ld  %-12s %8.3f ms %6.2f TFLOP/s", (long)rows, (long)in, (long)out,
               form_names[f], ours, flops / ours * 1e-9);
        if (theirs > 0)
            printf("   cuBLAS %8.3f ms %6.2f TFLOP/s   ratio %.3f", theirs, flops / theirs * 1e-9,
                   theirs / ours);
        printf("   bits %s\n", wrong ? "DIFFER" : "equal");
        bad += wrong;
    }
    linear_free(l);
    return bad;
}

/* ---- conv2d -----------------------------------------------------------------------------------*/

struct conv {
    int64_t n, size, c, o;
    int kernel, stride, pad;
};

static int64_t conv_out(const struct conv &v)
{
    return (v.size + 2 * v.pad - v.kernel) / v.stride + 1;
}

static struct rp_tensor images(float *data, int64_t n, int64_t h, int64_t w, int64_t c)
{
    struct rp_tensor t = {data, RP_DTYPE_F32, 4, {n, h, w, c}};
    return t;
}

struct conv_terms : terms {
    struct conv v;
    enum form form;
    int64_t at[4]; /* of the output: n, oh, ow, o; n, h, w, c; o, kh, kw, c */

    float x(int64_t n, int64_t h, int64_t w, int64_t c) const
    {
        if (h < 0 || w < 0 || h >= v.size || w >= v.size) return 0.0f;
        return value_of(1, (uint64_t)(((n * v.size + h) * v.size + w) * v.c + c));
    }
    float w(int64_t o, int64_t kh, int64_t kw, int64_t c) const
    {
        return value_of(2, (uint64_t)(((o * v.kernel + kh) * v.kernel + kw) * v.c + c));
    }
    float y(int64_t n, int64_t h, int64_t w, int64_t o) const
    {
        int64_t size = conv_out(v);
        if (h < 0 || w < 0 || h >= size || w >= size) return 0.0f;
        return value_of(3, (uint64_t)(((n * size + h) * size + w) * v.o + o));
    }
    int64_t first(int axis) const { return (at[axis] + v.pad) % v.stride; }
    int64_t taps(int axis) const
    {
        return first(axis) < v.kernel ? (v.kernel - 1 - first(axis)) / v.stride + 1 : 0;
    }
    int64_t count() const
    {
        return form == FORWARD ? v.kernel * v.kernel * v.c : taps(1) * taps(2) * v.o;
    }
    float a(int64_t k) const override
    {
        int64_t size = conv_out(v);
        if (form == FORWARD)
            return x(at[0], at[1] * v.stride - v.pad + k / v.c / v.kernel,
                     at[2] * v.stride - v.pad + k / v.c % v.kernel, k % v.c);
        if (form == DATA)
            return y(at[0], (at[1] + v.pad) / v.stride - k / v.o / taps(2),
                     (at[2] + v.pad) / v.stride - k / v.o % taps(2), k % v.o);
        return y(k / size / size, k / size % size, k % size, at[0]);
    }
    float b(int64_t k) const override
    {
        int64_t size = conv_out(v);
        if (form == FORWARD) return w(at[3], k / v.c / v.kernel, k / v.c % v.kernel, k % v.c);
        if (form == DATA)
            return w(k % v.o, first(1) + k / v.o / taps(2) * v.stride,
                     first(2) + k / v.o % taps(2) * v.stride, at[3]);
        return x(k / size / size, k / size % size * v.stride - v.pad + at[1],
                 k % size * v.stride - v.pad + at[2], at[3]);
    }
};

static int conv_wrong(const struct conv &v, enum form form, const struct rp_tensor &result)
{
    int wrong = 0;
    int64_t elements = rp_tensor_elements(&result), rows = v.n * conv_out(v) * conv_out(v);
    for (int s = 0; s < (form == WEIGHT ? 6 : 48); s++) {
        struct conv_terms of;
        of.v = v, of.form = form;
        int64_t i = s == 0   ? 0
                    : s == 1 ? elements - 1
                             : (s * INT64_C(1000003)) % elements,
                rest = i;
        for (int d = 3; d >= 0; d--) of.at[d] = rest % result.dims[d], rest /= result.dims[d];
        float want =
            form == WEIGHT ? tree_sum(of, SHARDS, rows / SHARDS) : shard_sum(of, 0, of.count());
        float got = read_one((float *)result.data + i);
        wrong += rp_float_bits(got) != rp_float_bits(want);
    }
    return wrong;
}

static int bench_conv(const struct conv &v)
{
    int64_t size = conv_out(v);
    struct rp_tensor x = images(NULL, v.n, v.size, v.size, v.c),
                     w = images(NULL, v.o, v.kernel, v.kernel, v.c),
                     y = images(NULL, v.n, size, size, v.o);
    x.data = device_floats(rp_tensor_elements(&x), 1);
    w.data = device_floats(rp_tensor_elements(&w), 2);
    y.data = device_floats(rp_tensor_elements(&y), 3);
    float *result = device_floats(
        std::max(std::max(rp_tensor_elements(&x), rp_tensor_elements(&y)), rp_tensor_elements(&w)),
        4);
    double flops = 2.0 * (double)rp_tensor_elements(&y) * v.kernel * v.kernel * (double)v.c;
    double bytes =
        4.0 * (double)(rp_tensor_elements(&x) + rp_tensor_elements(&y) + rp_tensor_elements(&w));
    int bad = 0;
    for (int f = 0; f < FORMS; f++) {
        struct rp_op_call call = {};
        struct rp_pass pass = {};
        call.params.conv2d = {v.kernel, v.kernel, v.stride, v.stride, v.pad, v.pad, 1};
        call.in[0] = f == FORWARD ? x : y, call.in[1] = f == WEIGHT ? x : w;
        call.out[0] = f == FORWARD ? y : f == DATA ? x : w;
        call.out[0].data = result;
        pass.rows = {v.n / SHARDS, 0, SHARDS, 0, v.n};
        auto once = [&] {
            struct rp_error err = {};
            must_run(f == FORWARD ? rp_cuda_conv2d(&cuda, &call, &pass, &err)
                     : f == DATA  ? rp_cuda_conv2d_dx(&cuda, &call, &pass, &err)
                                  : rp_cuda_conv2d_dw(&cuda, &call, &pass, &err),
                     &err);
        };
        poison(result, rp_tensor_elements(&call.out[0]));
        once();
        int wrong = conv_wrong(v, (enum form)f, call.out[0]);
        double ours = milliseconds(once, repeats_of(flops));
        double floor = std::max(flops / 60e9, bytes / 3e9);
        printf("conv %3ld x %3ld^2 x %4ld -> %4ld  %dx%d/%d  %-12s %8.3f ms %6.2f TFLOP/s   floor "
               "(60 TFLOP/s, 3 TB/s) %8.3f ms   bits %s\n",
               (long)v.n, (long)v.size, (long)v.c, (long)v.o, v.kernel, v.kernel, v.stride,
               form_names[f], ours, flops / ours * 1e-9, floor, wrong ? "DIFFER" : "equal");
        bad += wrong;
    }
    cudaFree(x.data), cudaFree(w.data), cudaFree(y.data), cudaFree(result);
    return bad;
}

/* ---- kinds of tiles ---------------------------------------------------------------------------*/

template <class tile, class operands>
static void sweep_form(const struct rp_gemm &gemm, const operands &of)
{
    struct rp_gemm_plan plan = {};
    plan.shards_of_item = 1;
    struct rp_gemm_job job = rp_gemm_job_of(gemm, plan);
    job.tiles_m = (gemm.m + tile::bm - 1) / tile::bm;
    job.tiles_n = (gemm.n + tile::bn - 1) / tile::bn;
    job.c = gemm.c;
    rp_gemm_job_take(&job, 0, job.panels);
    auto once = [&] {
        struct rp_error err = {};
        must_run((rp_gemm_launch_tile<tile, 4, 4>(&cuda, of, job, job.pieces, &err)), &err);
    };
    double flops = 2.0 * (double)gemm.m * (double)gemm.n * (double)gemm.sum.rows;
    printf(" %6.2f", flops / milliseconds(once, repeats_of(flops)) * 1e-9);
}

/* The three layouts of m x n outputs over k terms. */
template <class tile> static void sweep_tile(const char *name, const struct linear &l)
{
    using along = rp_source_matrix<true>;
    using across = rp_source_matrix<false>;
    struct rp_gemm gemm = {};
    gemm.m = l.rows, gemm.n = l.out, gemm.groups = 1;
    gemm.sum = rp_gemm_whole(l.in);
    gemm.c = rp_gemm_out_plain(l.result, l.out, l.out, 0);
    printf("  %-34s", name);
    along a = {l.x, (int)l.in, 0}, b = {l.w, (int)l.in, 0};
    across a_across = {l.x, (int)l.rows, 0}, b_across = {l.w, (int)l.out, 0};
    sweep_form<tile>(gemm, rp_operands<along, along, true, true>{a, b});
    sweep_form<tile>(gemm, rp_operands<along, across, true, false>{a, b_across});
    sweep_form<tile>(gemm, rp_operands<across, across, false, false>{a_across, b_across});
    sweep_form<tile>(gemm,
                     rp_operands<across, across, false, false, false, false>{a_across, b_across});
    printf("\n");
}

#define SWEEP(...) sweep_tile<rp_tile<__VA_ARGS__>>("tile<" #__VA_ARGS__ ">", l)

static void sweep(int64_t m, int64_t k, int64_t n)
{
    struct linear l = linear_new(m, k, n);
    printf("%ld x %ld x %ld: warps m, n, quads m, n, depth, resident: TFLOP/s of x w^T, x w, "
           "x^T w, x^T w through registers\n",
           (long)m, (long)k, (long)n);
    SWEEP(2, 2, 4, 2, 8, 2);
    SWEEP(2, 2, 4, 2, 16, 2);
    SWEEP(2, 2, 2, 4, 8, 2);
    SWEEP(4, 2, 2, 2, 8, 2);
    SWEEP(4, 2, 4, 2, 8, 1);
    SWEEP(2, 1, 4, 2, 8, 4);
    SWEEP(1, 2, 4, 2, 8, 4);
    SWEEP(2, 2, 2, 2, 8, 4);
    SWEEP(2, 2, 2, 2, 16, 3);
    SWEEP(4, 2, 2, 1, 16, 2);
    SWEEP(4, 1, 1, 2, 16, 4);
    SWEEP(4, 2, 1, 1, 16, 4);
    linear_free(l);
}

/* ---- cuts -------------------------------------------------------------------------------------*/

/* Every cut that gemm_plan.cu considers: what it takes, and what was reckoned. */
template <class operands>
static void plans_of(const char *form, const struct rp_gemm &gemm, const operands &of)
{
    struct rp_gemm_plans plans;
    rp_gemm_plans(&cuda, &gemm, false, operands::along_k, &plans);
    struct rp_gemm_plan best = rp_gemm_plan(&cuda, &gemm, false, operands::along_k);
    double flops =
        2.0 * (double)gemm.m * (double)gemm.n * (double)(gemm.sum.shards * gemm.sum.count);
    printf("%s of (%ld, %ld), %ld shards of %ld terms\n", form, (long)gemm.m, (long)gemm.n,
           (long)gemm.sum.shards, (long)gemm.sum.count);
    for (int i = 0; i < plans.n; i++) {
        const struct rp_gemm_plan &plan = plans.plan[i];
        int bm, bn;
        rp_gemm_tile_size(plan.tile, &bm, &bn);
        double time = milliseconds(
            [&] {
                struct rp_error err = {};
                must_run(rp_gemm_run_plan(&cuda, gemm, of, false, plan, &err), &err);
            },
            repeats_of(flops));
        bool chosen = plan.tile == best.tile && plan.chains == best.chains &&
                      plan.shards_of_item == best.shards_of_item;
        printf("%c %3d x %3d %s %2ld shards an item, %5ld blocks %8.3f ms %6.2f TFLOP/s, reckoned "
               "%8.0f cycles\n",
               chosen ? '>' : ' ', bm, bn, plan.chains ? "chains" : "shards",
               (long)plan.shards_of_item, (long)plan.blocks, time, flops / time * 1e-9, plan.time);
    }
}

static void plans(int64_t rows, int64_t in, int64_t out)
{
    struct linear l = linear_new(rows, in, out);
    using along = rp_source_matrix<true>;
    using across = rp_source_matrix<false>;
    struct rp_gemm gemm = {};
    gemm.groups = 1;
    gemm.m = rows, gemm.n = out, gemm.sum = rp_gemm_whole(in);
    gemm.c = rp_gemm_out_plain(l.result, gemm.n, gemm.n, 0);
    along x = {l.x, (int)in, 0}, w = {l.w, (int)in, 0};
    plans_of("forward", gemm, rp_operands<along, along, true, true>{x, w});
    struct rp_rows cut = {rows / SHARDS, 0, SHARDS, 0, rows};
    gemm.m = out, gemm.n = in, gemm.sum = rp_gemm_cut(&cut, 1);
    gemm.c = rp_gemm_out_plain(l.result, gemm.n, gemm.n, 0);
    across dy = {l.y, (int)out, 0}, x_across = {l.x, (int)in, 0};
    plans_of("weight grad", gemm, rp_operands<across, across, false, false>{dy, x_across});
    linear_free(l);
}

static const int64_t gpt2[][2] = {{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}, {768, 50304}};

static void all_plans()
{
    for (int64_t n = 1024; n <= 2048; n *= 2) plans(n, n, n);
    for (auto &shape : gpt2)
        if (shape[1] <= 3072) plans(4096, shape[0], shape[1]);
}

/* ---- all of it --------------------------------------------------------------------------------*/

static int bench_all()
{
    int bad = 0;
    if (open_blas())
        printf("cuBLAS: %s\n", blas.path.c_str());
    else
        printf("no cuBLAS found (RP_CUBLAS names one): only this program's figures\n");
    for (int64_t n = 1024; n <= 8192; n *= 2) bad += bench_linear(n, n, n);
    for (auto &shape : gpt2) bad += bench_linear(4096, shape[0], shape[1]);
    bad += bench_linear(128, 784, 128);
    bad += bench_linear(128, 400, 120);
    static const struct conv convs[] = {{256, 56, 64, 64, 3, 1, 1},   {256, 56, 64, 256, 1, 1, 0},
                                        {256, 56, 128, 128, 3, 2, 1}, {256, 28, 128, 128, 3, 1, 1},
                                        {256, 14, 256, 256, 3, 1, 1}, {256, 7, 512, 512, 3, 1, 1},
                                        {64, 224, 3, 64, 7, 2, 3},    {128, 32, 64, 64, 3, 1, 1},
                                        {128, 28, 1, 32, 5, 1, 2},    {128, 14, 32, 64, 5, 1, 2}};
    for (auto &shape : convs) bad += bench_conv(shape);
    return bad;
}

static int bench_small()
{
    int bad = bench_linear(128, 130, 72) + bench_linear(136, 1100, 68) + bench_linear(2048, 36, 20);
    static const struct conv convs[] = {{8, 7, 8, 12, 3, 1, 1},
                                        {16, 9, 4, 8, 3, 2, 1},
                                        {8, 6, 3, 5, 5, 1, 2},
                                        {16, 14, 8, 8, 1, 2, 0}};
    for (auto &shape : convs) bad += bench_conv(shape);
    return bad;
}

int main(int argc, char **argv)
{
    cudaDeviceProp device;
    must(cudaGetDeviceProperties(&device, 0), "no GPU");
    printf("%s, %d processors\n", device.name, device.multiProcessorCount);
    cuda.n_processors = device.multiProcessorCount;
    cuda.shared_most = device.sharedMemPerBlockOptin;
    cuda.scratch_bytes = (size_t)128 << 20;
    must(cudaMalloc(&cuda.scratch, cuda.scratch_bytes), "scratch");
    must(cudaStreamCreateWithFlags(&cuda.stream, cudaStreamNonBlocking), "stream");
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 1 && strcmp(argv[1], "sweep") == 0) {
        sweep(4096, 4096, 4096);
        sweep(1024, 1024, 1024);
        sweep(4096, 768, 768);
        return 0;
    }
    if (argc > 1 && strcmp(argv[1], "plans") == 0) {
        all_plans();
        return 0;
    }
    int bad = argc > 1 && strcmp(argv[1], "small") == 0 ? bench_small() : bench_all();
    if (bad) printf("%d outputs DIFFER\n", bad);
    return bad != 0;
}
