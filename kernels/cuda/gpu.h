/* gpu.h - the one header of every .cu file, compiled in two ways:
 *
 *   nvcc                                  for the device
 *   g++ -x c++ -include tests/cuda/sim.h  on the CPU, under the simulator (RP_SIM is defined)
 *
 * Rules of the portable kernels, which scripts/check-ptx and the simulator hold them to: every
 * fused operation is written as rp_fma; no fminf, fmaxf or libm; no float atomics; shared memory
 * through RP_SHARED alone; no order of additions that depends on grid, occupancy or number of
 * processors; clamps are written `x < c ? c : x` with the constant as the value taken, never `x > c
 * ? x : c`, of which nvcc makes max or min, whose zero may have the other sign. */
#ifndef RP_GPU_H
#define RP_GPU_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

#include "cuda/cuda_int.h"
extern "C" {
#include "attention.h"
#include "row.h"
#include "shape.h"
#include "window.h"
}
#include "digest.h"
#include "numerics.h"

/* ---- launch, shared memory ------------------------------------------------------------------ */

/* A statement in a function that returns a status and has `err`: launches on cuda's stream; where
 * the launch is refused, returns with the message. A kernel with template arguments in parentheses:
 *     RP_LAUNCH(cuda, (relu<4>), rp_blocks(n, 256), 256, 0, x, y, n); */
#if defined(__CUDACC__)

#define RP_LAUNCH(cuda, kernel, grid, block, shared_bytes, ...)                                    \
    do {                                                                                           \
        kernel<<<(grid), (block), (shared_bytes), (cuda)->stream>>>(__VA_ARGS__);                  \
        cudaError_t rp_code_ = cudaGetLastError();                                                 \
        if (rp_code_ != cudaSuccess) return rp_cuda_error(err, #kernel, (int)rp_code_);            \
    } while (0)

/* More than 48 KiB of shared memory, static and dynamic, must be allowed before the launch; a
 * statement like RP_LAUNCH. At most 99 KiB, so that every device from sm_80 (and sm_86) runs it,
 * unless the kernel has a smaller form to fall back on (cuda->shared_most). What is allowed last
 * holds also for launches that a graph replays: allow what any launch of the kernel may ask for. */
#define RP_ALLOW_SHARED(kernel, bytes)                                                             \
    do {                                                                                           \
        cudaError_t rp_code_ = cudaFuncSetAttribute(                                               \
            (const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes));    \
        if (rp_code_ != cudaSuccess) return rp_cuda_error(err, #kernel, (int)rp_code_);            \
    } while (0)

/* RP_SHARED(float, tile, [2][8][132]); 16-byte aligned. */
#define RP_SHARED(type, name, dims) __shared__ __align__(16) type name dims
#define RP_SHARED_DYNAMIC(type, name)                                                              \
    extern __shared__ __align__(16) unsigned char rp_dynamic_[];                                   \
    type *name = reinterpret_cast<type *>(rp_dynamic_)

#define RP_UNROLL    _Pragma("unroll")
#define RP_UNROLL_4  _Pragma("unroll 4")
#define RP_NO_UNROLL _Pragma("unroll 1")

#else /* RP_SIM */

#define RP_LAUNCH(cuda, kernel, grid, block, shared_bytes, ...)                                    \
    do {                                                                                           \
        int rp_code_ = rp_sim::launch((cuda)->stream, #kernel, (grid), (block), (shared_bytes),    \
                                      kernel, __VA_ARGS__);                                        \
        if (rp_code_ != 0) return rp_cuda_error(err, #kernel, rp_code_);                           \
    } while (0)

#define RP_ALLOW_SHARED(kernel, bytes)                                                             \
    do {                                                                                           \
        rp_sim::allow_shared(reinterpret_cast<const void *>(kernel), (bytes));                     \
        if (0) return rp_cuda_error(err, #kernel, 0);                                              \
    } while (0)

#define RP_SHARED(type, name, dims)                                                                \
    typedef type rp_shared_type_##name dims;                                                       \
    static const char rp_shared_key_##name = 0;                                                    \
    rp_shared_type_##name &name = *static_cast<rp_shared_type_##name *>(                           \
        rp_sim::shared_array(&rp_shared_key_##name, sizeof(rp_shared_type_##name)))
#define RP_SHARED_DYNAMIC(type, name) type *name = static_cast<type *>(rp_sim::shared_dynamic())

#define RP_UNROLL /* the simulator is no faster for it, and compiles three times as long */
#define RP_UNROLL_4
#define RP_NO_UNROLL

#endif

/* Blocks of `per_block` things each that hold n. */
static inline unsigned rp_blocks(int64_t n, int64_t per_block)
{
    return (unsigned)((n + per_block - 1) / per_block);
}

/* ---- asynchronous copies from global to shared memory ----------------------------------------
 * `valid == false` writes zeros and does not read `from`. Issue, commit, wait, __syncthreads, use,
 * __syncthreads before the buffer is filled again. 16 bytes want both addresses 16-byte aligned. */

#if defined(__CUDACC__)

static __device__ __forceinline__ void rp_copy_async16(void *to, const void *from,
                                                       bool valid = true)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
/* The same; the rest of its 128 bytes comes into the L2 cache, for blocks that want it soon. */
static __device__ __forceinline__ void rp_copy_async16_line(void *to, const void *from,
                                                            bool valid = true)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void rp_copy_async8(void *to, const void *from, bool valid = true)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(at), "l"(from),
                 "r"(valid ? 8 : 0)
                 : "memory");
}
static __device__ __forceinline__ void rp_copy_async4(void *to, const void *from, bool valid = true)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(at), "l"(from),
                 "r"(valid ? 4 : 0)
                 : "memory");
}
static __device__ __forceinline__ void rp_copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Waits until at most `left` of this thread's groups are in flight. */
template <int left> static __device__ __forceinline__ void rp_copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

#else

static inline void rp_copy_async16(void *to, const void *from, bool valid = true)
{
    rp_sim::copy_async(to, from, 16, valid ? 16 : 0);
}
static inline void rp_copy_async16_line(void *to, const void *from, bool valid = true)
{
    rp_copy_async16(to, from, valid);
}
static inline void rp_copy_async8(void *to, const void *from, bool valid = true)
{
    rp_sim::copy_async(to, from, 8, valid ? 8 : 0);
}
static inline void rp_copy_async4(void *to, const void *from, bool valid = true)
{
    rp_sim::copy_async(to, from, 4, valid ? 4 : 0);
}
static inline void rp_copy_async_commit()
{
    rp_sim::copy_async_commit();
}
template <int left> static inline void rp_copy_async_wait()
{
    rp_sim::copy_async_wait(left);
}

#endif

#endif
