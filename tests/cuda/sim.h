/* sim.h - runs CUDA C kernels on the CPU, one fiber per CUDA thread.
 *
 * Force-included when a .cu file is compiled by g++ or clang++; nvcc never sees it. It defines the
 * part of the CUDA language that the kernels use. What is not defined here (__activemask, textures,
 * float atomics, approximate intrinsics, cooperative groups) does not compile, on purpose.
 *
 * Exactly one thread of a block runs at a time, until it waits (barrier, warp operation) or
 * returns. Who runs next is drawn from the seed: 0 ascending order, 1 descending order, anything
 * else pseudo-random. Blocks are ordered by the same rule and may run on several host threads. What
 * this cannot show (the memory model, timing, what ptxas does) is listed in tests/README.md. */
#ifndef RP_SIM_H
#define RP_SIM_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>
#include <type_traits>

#define RP_SIM 1

/* ---- keywords ------------------------------------------------------------ */

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

/* Shared arrays are declared with RP_SHARED, which can poison, measure and fence them. */
#define __shared__ RP_SIM_declare_shared_arrays_with_RP_SHARED

/* ---- built-in types ------------------------------------------------------ */

/* Aligned as on the device, so that -fsanitize=alignment finds misaligned
 * vector loads; may_alias because kernels cast float pointers to them. */
#define RP_SIM_VEC(bytes) struct __attribute__((may_alias, aligned(bytes)))
RP_SIM_VEC(8) float2
{
    float x, y;
};
RP_SIM_VEC(16) float4
{
    float x, y, z, w;
};
RP_SIM_VEC(8) int2
{
    int x, y;
};
RP_SIM_VEC(16) int4
{
    int x, y, z, w;
};
RP_SIM_VEC(8) uint2
{
    unsigned x, y;
};
RP_SIM_VEC(16) uint4
{
    unsigned x, y, z, w;
};
RP_SIM_VEC(16) double2
{
    double x, y;
};
RP_SIM_VEC(16) longlong2
{
    long long x, y;
};
RP_SIM_VEC(16) ulonglong2
{
    unsigned long long x, y;
};
RP_SIM_VEC(2) uchar2
{
    unsigned char x, y;
};
RP_SIM_VEC(4) uchar4
{
    unsigned char x, y, z, w;
};
#undef RP_SIM_VEC
struct float3 {
    float x, y, z;
};
struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline int2 make_int2(int x, int y)
{
    return {x, y};
}
static inline int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline double2 make_double2(double x, double y)
{
    return {x, y};
}
static inline ulonglong2 make_ulonglong2(unsigned long long x, unsigned long long y)
{
    return {x, y};
}
static inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w)
{
    return {x, y, z, w};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* Set by the scheduler at every switch.  Plain variables rather than macros:
 * they can be printed in a debugger. */
extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;
enum { warpSize = 32 };

/* ---- control of the harness ---------------------------------------------- */

namespace rp_sim
{

struct Options {
    uint64_t seed = 0;    /* 0 ascending, 1 descending, else pseudo-random */
    int host_threads = 1; /* blocks run on this many host threads */
    bool strict = true;   /* a barrier passed while some threads have left is an error */
    size_t shared_limit = 163 * 1024; /* opt-in limit per block: sm_80 163 KiB, sm_90 227 KiB */
    uint32_t watch = UINT32_MAX;    /* blocks at either end of a grid that the race detector sees */
    uint64_t run_most = UINT64_MAX; /* launches of more threads are only looked at, and not run */
    const char *limits_file = nullptr; /* table written by scripts/check-ptx, or none */
};

struct Stats {
    uint64_t launches, blocks, threads;
    uint64_t plain_threads; /* threads that returned without ever waiting */
    uint64_t switches, barriers, warp_ops;
    uint64_t max_shared; /* largest static + dynamic shared memory of one block, bytes */
};

constexpr uint32_t poison_word = 0xffc0deadu; /* a quiet NaN; as an int, a wild index */

extern Options options;
Stats stats(bool reset);
const char *last_error(); /* nullptr, or the first error since the last call */
void allow_shared(const void *kernel, size_t bytes);

/* ---- what the macros and templates below call ----------------------------- */

enum class Op : uint8_t {
    none,
    barrier,
    sync_warp,
    ballot,
    shfl_idx,
    shfl_up,
    shfl_down,
    shfl_xor
};

void *shared_array(const void *key, size_t bytes);
void *shared_dynamic();
int block_barrier(int predicate, const char *file, int line);
uint64_t warp_op(Op op, unsigned mask, uint64_t value, int arg, int width, const char *file,
                 int line);
void copy_async(void *dst, const void *src, unsigned bytes, unsigned src_bytes);
void copy_async_commit();
void copy_async_wait(unsigned groups_left);
int launch_erased(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared,
                  size_t param_bytes, void (*run)(const void *), const void *call);
int check_parameter(void *stream, const char *name, const void *parameter, size_t bytes);
/* Does `what` now, or when the graph that is being captured on `stream` is launched. */
int enqueue(void *stream, std::function<int()> what);

#ifdef RP_SIM_RACE
void race_access(const void *p, size_t bytes, bool write, bool atomic, const void *pc);
#endif

/* Gaps hold what was there before, which may look like an address: where nobody can clear them,
 * pointers alone are checked. */
template <class T> int check_parameter(void *stream, const char *name, T &parameter)
{
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
#define RP_SIM_CLEARS 1
#endif
#endif
#ifdef RP_SIM_CLEARS
    if constexpr (std::is_empty<T>::value) return 0; /* it may lie where its neighbour does */
    if constexpr (std::is_class<T>::value) __builtin_clear_padding(&parameter);
    return check_parameter(stream, name, &parameter, sizeof parameter);
#else
    bool whole = std::is_pointer<T>::value;
    return check_parameter(stream, name, &parameter, whole ? sizeof parameter : 0);
#endif
}

/* Arguments are evaluated once and converted to the parameter types, as on the device. Not 0: what
 * last_error() says. */
template <class... P, class... A>
int launch(void *stream, const char *name, dim3 grid, dim3 block, size_t shared,
           void (*kernel)(P...), A &&...args)
{
    struct Call {
        void (*kernel)(P...);
        std::tuple<P...> params;
    } call{kernel, std::tuple<P...>(static_cast<P>(args)...)};
    int code = 0;
    std::apply(
        [&](auto &...parameter) {
            ((code = code ? code : check_parameter(stream, name, parameter)), ...);
        },
        call.params);
    if (code != 0) return code;
    return enqueue(stream, [=] {
        auto run = [](const void *c) {
            const Call *self = static_cast<const Call *>(c);
            std::apply(self->kernel, self->params);
        };
        return launch_erased(name, reinterpret_cast<const void *>(kernel), grid, block, shared,
                             sizeof call.params, run, &call);
    });
}

template <class T> uint64_t to_bits(T v)
{
    static_assert(std::is_trivially_copyable<T>::value && (sizeof(T) == 4 || sizeof(T) == 8),
                  "shuffles move 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}

template <class T> T from_bits(uint64_t bits)
{
    T v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

} // namespace rp_sim

/* ---- barriers, shuffles, votes -------------------------------------------
 * The call site comes from default arguments, not from the return address:
 * the compiler may duplicate a call (loop unswitching) without the source
 * having two. */

#define RP_SIM_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

static inline void __syncthreads(RP_SIM_SITE)
{
    rp_sim::block_barrier(0, file, line);
}
static inline int __syncthreads_count(int p, RP_SIM_SITE)
{
    return rp_sim::block_barrier(p != 0, file, line);
}
static inline int __syncthreads_or(int p, RP_SIM_SITE)
{
    return rp_sim::block_barrier(p != 0, file, line) != 0;
}
static inline int __syncthreads_and(int p, RP_SIM_SITE)
{
    return rp_sim::block_barrier(p == 0, file, line) == 0;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, RP_SIM_SITE)
{
    rp_sim::warp_op(rp_sim::Op::sync_warp, mask, 0, 0, 32, file, line);
}
static inline unsigned __ballot_sync(unsigned mask, int p, RP_SIM_SITE)
{
    return (unsigned)rp_sim::warp_op(rp_sim::Op::ballot, mask, p != 0, 0, 32, file, line);
}
static inline int __any_sync(unsigned mask, int p, RP_SIM_SITE)
{
    return __ballot_sync(mask, p, file, line) != 0;
}
static inline int __all_sync(unsigned mask, int p, RP_SIM_SITE)
{
    return __ballot_sync(mask, !p, file, line) == 0;
}

#define RP_SIM_SHUFFLE(name, op)                                                                   \
    template <class T>                                                                             \
    static inline T name(unsigned mask, T v, int arg, int width = 32, RP_SIM_SITE)                 \
    {                                                                                              \
        return rp_sim::from_bits<T>(                                                               \
            rp_sim::warp_op(rp_sim::Op::op, mask, rp_sim::to_bits(v), arg, width, file, line));    \
    }
RP_SIM_SHUFFLE(__shfl_sync, shfl_idx)
RP_SIM_SHUFFLE(__shfl_up_sync, shfl_up)
RP_SIM_SHUFFLE(__shfl_down_sync, shfl_down)
RP_SIM_SHUFFLE(__shfl_xor_sync, shfl_xor)
#undef RP_SIM_SHUFFLE

static inline void __threadfence()
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __threadfence_block() {}

/* ---- integer atomics (float atomics are order-dependent: not defined) ------ */

#ifdef RP_SIM_RACE
#define RP_SIM_ATOMIC_HOOK(p)                                                                      \
    rp_sim::race_access((p), sizeof *(p), true, true, __builtin_return_address(0))
#ifdef __clang__ /* its no_sanitize still turns atomics into calls */
#define RP_SIM_ATOMIC static inline __attribute__((disable_sanitizer_instrumentation, noinline))
#else
#define RP_SIM_ATOMIC static inline __attribute__((no_sanitize("thread"), noinline))
#endif
#else
#define RP_SIM_ATOMIC_HOOK(p) ((void)0)
#define RP_SIM_ATOMIC         static inline
#endif

#define RP_SIM_ATOMICS(T)                                                                          \
    RP_SIM_ATOMIC T atomicAdd(T *p, T v)                                                           \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);                                         \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicOr(T *p, T v)                                                            \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        return __atomic_fetch_or(p, v, __ATOMIC_RELAXED);                                          \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicAnd(T *p, T v)                                                           \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        return __atomic_fetch_and(p, v, __ATOMIC_RELAXED);                                         \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicXor(T *p, T v)                                                           \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        return __atomic_fetch_xor(p, v, __ATOMIC_RELAXED);                                         \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicExch(T *p, T v)                                                          \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        return __atomic_exchange_n(p, v, __ATOMIC_RELAXED);                                        \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicCAS(T *p, T expected, T v)                                               \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);   \
        return expected;                                                                           \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicMax(T *p, T v)                                                           \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        T old = __atomic_load_n(p, __ATOMIC_RELAXED);                                              \
        while (old < v && !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED,         \
                                                       __ATOMIC_RELAXED)) {                        \
        }                                                                                          \
        return old;                                                                                \
    }                                                                                              \
    RP_SIM_ATOMIC T atomicMin(T *p, T v)                                                           \
    {                                                                                              \
        RP_SIM_ATOMIC_HOOK(p);                                                                     \
        T old = __atomic_load_n(p, __ATOMIC_RELAXED);                                              \
        while (v < old && !__atomic_compare_exchange_n(p, &old, v, true, __ATOMIC_RELAXED,         \
                                                       __ATOMIC_RELAXED)) {                        \
        }                                                                                          \
        return old;                                                                                \
    }
RP_SIM_ATOMICS(int)
RP_SIM_ATOMICS(unsigned)
RP_SIM_ATOMICS(unsigned long long)
#undef RP_SIM_ATOMICS

/* ---- arithmetic with a stated rounding ------------------------------------ */

static inline float __fmaf_rn(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline double __fma_rn(double a, double b, double c)
{
    return __builtin_fma(a, b, c);
}
static inline double __dadd_rn(double a, double b)
{
    return a + b;
}
static inline double __dsub_rn(double a, double b)
{
    return a - b;
}
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}
static inline double __ddiv_rn(double a, double b)
{
    return a / b;
}
static inline double __dsqrt_rn(double a)
{
    return __builtin_sqrt(a);
}
static inline float __frcp_rn(float a)
{
    return 1.0f / a;
}
static inline float __fsqrt_rn(float a)
{
    return __builtin_sqrtf(a);
}
static inline float __int_as_float(int i)
{
    return rp_sim::from_bits<float>((uint32_t)i);
}
static inline float __uint_as_float(unsigned i)
{
    return rp_sim::from_bits<float>(i);
}
static inline int __float_as_int(float f)
{
    return (int)rp_sim::to_bits(f);
}
static inline unsigned __float_as_uint(float f)
{
    return (unsigned)rp_sim::to_bits(f);
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((uint64_t)a * b >> 32);
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}
/* The device has min and max of integers; those of floats are not for portable kernels. */
template <class T>
static inline typename std::enable_if<std::is_integral<T>::value, T>::type min(T a, T b)
{
    return b < a ? b : a;
}
template <class T>
static inline typename std::enable_if<std::is_integral<T>::value, T>::type max(T a, T b)
{
    return a < b ? b : a;
}
template <class T> static inline T __ldg(const T *p)
{
    return *p;
}

#include "sim_runtime.h"

#endif
