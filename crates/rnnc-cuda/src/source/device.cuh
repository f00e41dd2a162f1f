// The intrinsics that generated kernels use, on a device. All inline assembly stands here. The host's emulation has a
// file of its own that defines the same names.

#define KERNEL(name) extern "C" __global__ void name(const __grid_constant__ Args a)
#define LOOP_KERNEL(name, threads) extern "C" __global__ void __launch_bounds__(threads, 1) name(const __grid_constant__ Args a)
#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")
#define ROLLED _Pragma("unroll 1")
#define UNROLL4 _Pragma("unroll 4")

DEVICE u32 thread() { return threadIdx.x; }
DEVICE u32 threads() { return blockDim.x; }
DEVICE u32 block() { return blockIdx.x; }
DEVICE u32 blocks() { return gridDim.x; }
DEVICE u64 global_thread() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE u64 global_threads() { return (u64)gridDim.x * blockDim.x; }

// The block's dynamic shared memory, aligned to 16 bytes.
DEVICE float* shared_memory() {
    extern __shared__ float4 dynamic_shared[];
    return (float*)dynamic_shared;
}

DEVICE void block_sync() { __syncthreads(); }
DEVICE void warp_sync() { __syncwarp(); }
DEVICE float shuffle(float v, u32 lane) { return __shfl_sync(~0u, v, lane); }
DEVICE float shuffle_xor(float v, u32 mask) { return __shfl_xor_sync(~0u, v, mask); }
DEVICE u32 ballot(bool v) { return __ballot_sync(~0u, v); }
DEVICE u32 count_ones(u32 v) { return __popc(v); }
DEVICE float as_float(u32 v) { return __uint_as_float(v); }
DEVICE double as_double(u64 v) { return __longlong_as_double((long long)v); }
DEVICE u32 as_u32(float v) { return __float_as_uint(v); }
DEVICE u64 as_u64(double v) { return (u64)__double_as_longlong(v); }
DEVICE double shuffle_xor(double v, u32 mask) { return __shfl_xor_sync(~0u, v, mask); }
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// Numbers that blocks exchange while a kernel runs. `put` writes one; `fresh` reads what other blocks put before they
// signalled; `own` reads what this block put, or what was there before the kernel.
DEVICE void put(float* p, float v) { *p = v; }
DEVICE float own(const float* p) { return *p; }
DEVICE float fresh(const float* p) {
    float v;
    asm volatile("ld.relaxed.gpu.global.f32 %0, [%1];" : "=f"(v) : "l"(p) : "memory");
    return v;
}
DEVICE float4 fresh4(const float* p) {
    float4 v;
    asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p) : "memory");
    return v;
}
// Numbers that blocks find without a signal: `post` writes one for all to see, soon; `look` reads what is there by now.
DEVICE void post(float* p, float v) { asm volatile("st.relaxed.gpu.global.f32 [%0], %1;" ::"l"(p), "f"(v) : "memory"); }
DEVICE float look(const float* p) { return fresh(p); }
DEVICE float4 look4(const float* p) { return fresh4(p); }
// Pairs of bf16: number `at` behind `p`, and four numbers.
DEVICE void put_bf16(float* p, u64 at, float v) {
    unsigned short half;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(half) : "f"(v));
    ((unsigned short*)p)[at] = half;
}
DEVICE uint2 fresh_bf16(const float* p) {
    uint2 v;
    asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
    return v;
}
// Brings a number's line to the second-level cache.
DEVICE void prefetch(const float* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }
// The same as `own`, read where it stands in the text: ahead of its use.
DEVICE float early(const float* p) {
    float v;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(v) : "l"(p));
    return v;
}
DEVICE u32 early(const u32* p) {
    u32 v;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(v) : "l"(p));
    return v;
}
// What no one writes while the kernel runs.
DEVICE float constant(const float* p) { return __ldg(p); }
DEVICE float4 constant4(const float* p) { return __ldg((const float4*)p); }
DEVICE u32 constant(const u32* p) { return __ldg(p); }

// Counters: `signal` adds 1, after all this thread wrote, and all it saw written behind a block_sync; who then sees the
// sum by `peek` sees that too.
DEVICE void signal(u32* counter) { asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory"); }
DEVICE u32 peek(const u32* counter) {
    u32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(counter) : "memory");
    return v;
}
DEVICE u32 ticket(u32* counter) { return atomicAdd(counter, 1u); }
DEVICE void reset(u32* counter) { *counter = 0; }
DEVICE void raise(u32* flag, u32 code) { atomicCAS(flag, 0u, code); }

// Clusters: blocks that reach each other's shared memory.
#if __CUDA_ARCH__ >= 900
DEVICE u32 cluster_rank() { u32 r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
DEVICE void put_shared(float* p, u32 rank, float v) {
    u32 local = (u32)__cvta_generic_to_shared(p), there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(local), "r"(rank));
    asm volatile("st.relaxed.cluster.shared::cluster.f32 [%0], %1;" ::"r"(there), "f"(v) : "memory");
}
DEVICE void put_shared4(float* p, u32 rank, const float4& v) {
    u32 local = (u32)__cvta_generic_to_shared(p), there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(local), "r"(rank));
    asm volatile("st.relaxed.cluster.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}
#endif

// Tensor cores: sum += a b, where a has 16 rows and b 8 columns. Lane l has the numbers of rows (columns) l / 4; of the 8 (or
// 16) numbers along the sum, TF32's are l % 4 and 4 more, pairs of bf16 2 (l % 4) and 8 more; a's second is 8 rows below.
DEVICE void mma_tf32(float (&sum)[4], float a0, float a1, float a2, float a3, float b0, float b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(as_u32(a0)), "r"(as_u32(a1)), "r"(as_u32(a2)), "r"(as_u32(a3)), "r"(as_u32(b0)), "r"(as_u32(b1)));
}
DEVICE void mma_bf16(float (&sum)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
// `v & mask`, computed where it stands in the text: not kept from before.
DEVICE u32 masked_here(u32 v, u32 mask) {
    u32 r;
    asm volatile("and.b32 %0, %1, %2;" : "=r"(r) : "r"(v), "r"(mask));
    return r;
}
// The nearest TF32 number, halves away from 0.
DEVICE float tf32_nearest(float x) {
    u32 v;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(v) : "f"(x));
    return as_float(v);
}
// The nearest bf16 numbers, the first in the low half.
DEVICE u32 bf16_pair(float first, float second) {
    u32 v;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(second), "f"(first));
    return v;
}

// 2^x's and 1/x's hardware approximations: 2 and 1 units in the last place. Subnormal numbers are zero: what would care for them
// takes as long again.
DEVICE float exp2_fast(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
DEVICE float reciprocal(float x) { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
