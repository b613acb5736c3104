/* wrong_kernels.cu - kernels with one fault each, and what the simulator must find of it: else it
 * is blind. Never launched on a device. */
#include "cuda/gpu.h"

#include <stdlib.h>
#include <unistd.h>
#include <vector>

enum { THREADS = 256, BLOCKS = 2, SEEDS = 8 };

/* Nothing is wrong with this one. */
static __global__ void right(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    if (blockIdx.x > 0) return;
    s[t] = x[t];
    __syncthreads();
    y[t] = s[(t + 1) % THREADS] + __shfl_xor_sync(0xffffffffu, x[t], 1);
}

/* Reads a neighbour's value without a barrier. */
static __global__ void no_barrier(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    y[t] = s[(t + 1) % THREADS];
}

/* Overwrites a buffer that slower threads still read. */
static __global__ void no_second_barrier(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    float sum = 0.0f;
    for (int round = 0; round < 4; round++) {
        s[t] = x[t] + (float)round;
        __syncthreads();
        sum += s[(t + 37) % THREADS];
    }
    y[t] = sum;
}

/* Exchanges within a warp through shared memory; a shuffle is no fence. */
static __global__ void no_syncwarp(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    s[t] = x[t];
    float other = __shfl_xor_sync(0xffffffffu, x[t], 1);
    y[t] = s[t ^ 3] + other;
}

/* Whole segments run one after the other here, so the sum comes out right. */
static __global__ void lost_update(const float *x, float *y)
{
    RP_SHARED(int, count, [1]);
    int t = (int)threadIdx.x;
    if (t == 0) count[0] = 0;
    __syncthreads();
    count[0] += 1;
    __syncthreads();
    y[t] = x[t] + (float)count[0];
}

static __global__ void blocks_collide(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    if (t == 0) y[0] = (float)blockIdx.x;
    if (blockIdx.x == 0 && t > 0) y[t] = x[t];
}

/* Correct locking, but fp32 addition in the order of arrival. */
static __global__ void arrival_order(const float *x, float *y)
{
    unsigned *bits = reinterpret_cast<unsigned *>(y);
    int t = (int)threadIdx.x;
    if (t > 0) y[t] = 0.0f;
    unsigned old = atomicAdd(bits, 0u), seen;
    do {
        seen = old;
        old = atomicCAS(bits, seen, __float_as_uint(__uint_as_float(seen) + x[t]));
    } while (old != seen);
}

static __global__ void barrier_in_branch(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    y[t] = x[t];
    if (t < 40) __syncthreads();
}

static __global__ void two_barriers(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    if (t < 128) {
        __syncthreads();
        y[t] = x[t];
    } else {
        __syncthreads();
        y[t] = -x[t];
    }
}

static __global__ void early_return(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    y[t] = x[t];
    if (t >= 200) return;
    __syncthreads();
    y[t] = x[t ^ 1];
}

static __global__ void shuffle_against_barrier(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    float v = x[t];
    if (t % 32 < 16)
        v += __shfl_xor_sync(0xffffffffu, v, 1);
    else
        __syncthreads();
    y[t] = v;
}

/* Reads a lane that does not take part. */
static __global__ void shuffle_from_outside(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    y[t] = x[t];
    if (t % 32 < 16) y[t] = __shfl_sync(0x0000ffffu, x[t], (t + 1) % 32);
}

static __global__ void no_copy_wait(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    rp_copy_async4(&s[t], &x[t]);
    rp_copy_async_commit();
    __syncthreads();
    y[t] = s[t];
    rp_copy_async_wait<0>();
}

/* Waits for its own copies, but not for the other threads'. */
static __global__ void no_barrier_after_wait(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    rp_copy_async4(&s[t], &x[t]);
    rp_copy_async_commit();
    rp_copy_async_wait<0>();
    y[t] = s[t ^ 32];
}

static __global__ void uninitialised(const float *x, float *y)
{
    RP_SHARED(float, s, [THREADS]);
    int t = (int)threadIdx.x;
    if (t < 200) s[t] = x[t];
    __syncthreads();
    y[t] = s[t];
}

/* One number too far, and only in the last thread. */
static __global__ void read_past_the_end(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    float next = x[t + 1];
    y[t] = next != next ? 0.0f : x[t];
}

static __global__ void write_past_the_end(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    y[t] = x[t];
    if (t + 1 == THREADS) y[t + 1] = 0.0f;
}

static __global__ void misaligned(const float *x, float *y)
{
    int t = (int)threadIdx.x;
    y[t] = x[t];
    if (t == 0) y[0] = reinterpret_cast<const double *>(x + 1)[0] > 0 ? 1.0f : 2.0f;
}

static __global__ void too_much_shared(const float *x, float *y)
{
    RP_SHARED_DYNAMIC(float, s);
    s[0] = x[0];
    y[0] = s[0];
}

/* Neither kind of shared memory is too much, both together are. */
static __global__ void shared_together(const float *x, float *y)
{
    RP_SHARED(float, s, [4096]);
    RP_SHARED_DYNAMIC(float, d);
    s[0] = d[0] = x[0];
    y[0] = s[0];
}

/* ---- what is found --------------------------------------------------------------------------- */

enum found {
    NOTHING = 0,
    BITS = 1,   /* they depend on the order of execution */
    POISON = 2, /* a NaN that nobody wrote */
    ERROR = 4,  /* the simulator says so: a barrier, a limit, a race */
    OTHER = 8   /* it says something else than it should */
};

#ifdef RP_SIM_RACE
enum { RACE_BUILD = 1 };
#else
enum { RACE_BUILD = 0 };
#endif

typedef void (*kernel)(const float *x, float *y);
static const struct fault {
    const char *name;
    kernel run;
    int plain, race; /* what each build must find */
    size_t shared;
    const char *says; /* a part of the error */
} faults[] = {
    {"right", right, NOTHING, NOTHING, 0, nullptr},
    {"no_barrier", no_barrier, POISON, ERROR, 0, "data race on shared"},
    {"no_second_barrier", no_second_barrier, BITS, ERROR, 0, "data race on shared"},
    {"no_syncwarp", no_syncwarp, NOTHING, ERROR, 0, "data race on shared"},
    {"lost_update", lost_update, NOTHING, ERROR, 0, "data race on shared"},
    {"blocks_collide", blocks_collide, BITS, ERROR, 0, "data race on global"},
    {"arrival_order", arrival_order, BITS, BITS, 0, nullptr},
    {"barrier_in_branch", barrier_in_branch, ERROR, ERROR, 0, "wait at a barrier"},
    {"two_barriers", two_barriers, ERROR, ERROR, 0, "different barriers"},
    {"early_return", early_return, ERROR, ERROR, 0, "wait at a barrier"},
    {"shuffle_against_barrier", shuffle_against_barrier, ERROR, ERROR, 0, "no thread can go on"},
    {"shuffle_from_outside", shuffle_from_outside, POISON, POISON, 0, nullptr},
    {"no_copy_wait", no_copy_wait, POISON, POISON, 0, nullptr},
    {"no_barrier_after_wait", no_barrier_after_wait, POISON, ERROR, 0, "data race on shared"},
    {"uninitialised", uninitialised, POISON, POISON, 0, nullptr},
    {"read_past_the_end", read_past_the_end, NOTHING, ERROR, 0, "read of 4 bytes"},
    {"write_past_the_end", write_past_the_end, NOTHING, ERROR, 0, "write of 4 bytes"},
    {"misaligned", misaligned, NOTHING, ERROR, 0, "misaligned read of 8"},
    {"too_much_shared", too_much_shared, ERROR, ERROR, 60000, "of dynamic shared memory"},
    {"shared_together", shared_together, ERROR, ERROR, 40000, "of shared memory"},
};

/* THREADS numbers in a block of device memory of their own. */
static float *numbers()
{
    void *made;
    if (cudaMalloc(&made, sizeof(float) * THREADS) != cudaSuccess) abort();
    return static_cast<float *>(made);
}

static int try_fault(const struct fault &f)
{
    float *x = numbers(), *y = numbers();
    std::vector<float> first;
    int found = NOTHING;
    for (int i = 0; i < THREADS; i++) x[i] = 1.0f / (float)(3 * i + 1);
    bool only = f.run != blocks_collide && f.run != right; /* else blocks write the same words */
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        rp_sim::options.seed = seed;
        for (int i = 0; i < THREADS; i++) y[i] = 0;
        int code = rp_sim::launch(nullptr, f.name, only ? 1 : BLOCKS, THREADS, f.shared, f.run,
                                  (const float *)x, y);
        const char *told = rp_sim::last_error();
        if (code != 0 || told) found |= ERROR;
        if (told && (!f.says || !strstr(told, f.says))) printf("%s\n", told), found |= OTHER;
        if (found & ERROR) continue; /* what it wrote is nothing to compare */
        for (int i = 0; i < THREADS; i++) found |= y[i] != y[i] ? POISON : NOTHING;
        if (first.empty()) first.assign(y, y + THREADS);
        if (memcmp(first.data(), y, sizeof(float) * THREADS) != 0) found |= BITS;
    }
    cudaFree(x);
    cudaFree(y);
    return found;
}

/* ---- limits ---------------------------------------------------------------------------------- */

static bool is_launched(dim3 grid, unsigned threads, size_t shared, kernel run)
{
    std::vector<float> x(THREADS), y(THREADS);
    int code = rp_sim::launch(nullptr, "limits", grid, threads, shared, run,
                              (const float *)x.data(), y.data());
    (void)rp_sim::last_error();
    return code == 0;
}

/* Under a table of limits that holds one line for `right`; NULL: there is none. */
static bool fits_table(const char *line, unsigned threads, size_t shared)
{
    char path[] = "/tmp/reprise-limits-XXXXXX";
    int file = mkstemp(path);
    static char kept[16][sizeof path]; /* a table is read once */
    static int n;
    if (file < 0) return false;
    bool written = write(file, line, strlen(line)) == (ssize_t)strlen(line);
    close(file);
    rp_sim::options.limits_file = (const char *)memcpy(kept[n++], path, sizeof path);
    bool good = written && is_launched(1, threads, shared, right);
    rp_sim::options.limits_file = nullptr;
    unlink(path);
    return good;
}

static int check_limits()
{
    int failed = 0;
    const struct {
        const char *what;
        bool found, wanted;
    } checks[] = {
        {"a grid that fits", is_launched(dim3(BLOCKS), THREADS, 0, right), true},
        {"65536 blocks in y", is_launched(dim3(1, 65536), 1, 0, right), false},
        {"65536 blocks in z", is_launched(dim3(1, 1, 65536), 1, 0, right), false},
        {"2^31 blocks in x", is_launched(dim3(0x80000000u), 1, 0, right), false},
        {"1056 threads", is_launched(1, 1056, 0, right), false},
        {"a table that is kept to", fits_table("_Z5rightPKfPf 256 64 1024\n", THREADS, 0), true},
        {"more threads than its bounds", fits_table("_Z5rightPKfPf 128 64 0\n", THREADS, 0), false},
        {"no bounds", fits_table("_Z5rightPKfPf 0 64 0\n", THREADS, 0), true},
        {"too many registers", fits_table("_Z5rightPKfPf 256 260 0\n", THREADS, 0), false},
        {"static and dynamic", fits_table("_Z5rightPKfPf 256 64 30000\n", THREADS, 20000), false},
        {"two architectures",
         fits_table("_Z5rightPKfPf 256 64 0\n_Z5rightPKfPf 256 260 0\n", THREADS, 0), false},
        {"not in the table", fits_table("_Z5wrongPKfPf 256 64 0\n", THREADS, 0), false},
    };
    for (const auto &c : checks) {
        printf("%-32s %s%s\n", c.what,
               c.found == c.wanted ? "" : "WRONG: ", c.found ? "launched" : "refused");
        failed += c.found != c.wanted;
    }
    return failed;
}

int main()
{
    int failed = check_limits();
    for (const fault &f : faults) {
        int want = RACE_BUILD ? f.race : f.plain, found = try_fault(f);
        bool good = want == NOTHING ? found == NOTHING : (found & want) && !(found & OTHER);
        printf("%-24s %s%s%s%s%s\n", f.name, good ? "" : "WRONG: ", found & BITS ? "bits " : "",
               found & POISON ? "poison " : "", found & ERROR ? "error" : "",
               found ? "" : "nothing");
        failed += !good;
    }
    return failed != 0;
}
