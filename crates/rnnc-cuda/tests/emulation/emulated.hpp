// The names of device.cuh for the host's compiler: a thread of a kernel is a fiber, which knows itself by the record
// at the top of its stack. What concerns other threads is asked of the scheduler, through `Host`. No includes: that
// saves a tenth of a second for each source.

#define KERNEL(name) extern "C" void name(const Args a)
#define LOOP_KERNEL(name, threads) extern "C" void name(const Args a)
#define BORDER_KERNEL(Type, name) extern "C" void name(const Type a)
#define DEVICE static inline
#define UNROLL
#define ROLLED
#define UNROLL4
#define HERE int line = __builtin_LINE()

struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) uint4 { u32 x, y, z, w; };

extern "C" {
float expf(float) noexcept;
float exp2f(float) noexcept;
float expm1f(float) noexcept;
float erfcf(float) noexcept;
float erff(float) noexcept;
float atanf(float) noexcept;
float rintf(float) noexcept;
float fmodf(float, float) noexcept;
float logf(float) noexcept;
float log1pf(float) noexcept;
float sinf(float) noexcept;
float cosf(float) noexcept;
float sqrtf(float) noexcept;
float powf(float, float) noexcept;
float fabsf(float) noexcept;
float fminf(float, float) noexcept;
float fmaxf(float, float) noexcept;
float copysignf(float, float) noexcept;
float floorf(float) noexcept;
float fmaf(float, float, float) noexcept;
double sqrt(double) noexcept;
double fabs(double) noexcept;
}

// `Lane` and `Host` of lane.rs.
struct Host;
struct Lane {
    u32 thread, threads, block, blocks, rank, id;
    float* shared;
    u64 shared_bytes;
    u64 low, size;  // the allocation that was used last
    Host* host;
};
typedef void (*Combine)(void** lanes, u32 count);
struct Host {
    u32 buffered;  // whether this launch has put anything
    u32 unused;
    void* launch;
    void (*block_sync)(Lane*, int line);
    void (*together)(Lane*, int line, void* mine, Combine);
    void (*warp_sync)(Lane*, int line);
    void (*cluster_arrive)(Lane*, int line);
    void (*cluster_wait)(Lane*, int line);
    void (*check)(Lane*, int line, const void*, u32 bytes);
    void (*check_constant)(Lane*, int line, const void*, u32 bytes);
    void (*put)(Lane*, int line, float*, u32 bits);
    void (*put_shared)(Lane*, int line, float*, u32 rank, u32 bits);
    void (*post)(Lane*, int line, float*, u32 bits);
    u32 (*fresh)(Lane*, int line, const float*);
    u32 (*own)(Lane*, int line, const float*);
    void (*signal)(Lane*, int line, u32*);
    u32 (*peek)(Lane*, int line, const u32*);
    u32 (*ticket)(Lane*, int line, u32*);
    void (*reset)(Lane*, int line, u32*);
    void (*raise)(Lane*, int line, u32*, u32 code);
};

// Stacks are aligned to their size.
DEVICE Lane* lane_record() {
    return (Lane*)(((u64)__builtin_frame_address(0) | (STACK_BYTES - 1)) + 1) - 1;
}

DEVICE u32 thread() { return lane_record()->thread; }
DEVICE u32 threads() { return lane_record()->threads; }
DEVICE u32 block() { return lane_record()->block; }
DEVICE u32 blocks() { return lane_record()->blocks; }
DEVICE u64 global_thread() { return (u64)block() * threads() + thread(); }
DEVICE u64 global_threads() { return (u64)blocks() * threads(); }
DEVICE float* shared_memory() { return lane_record()->shared; }

DEVICE u32 count_ones(u32 v) { return (u32)__builtin_popcount(v); }
DEVICE float as_float(u32 v) { float f; __builtin_memcpy(&f, &v, 4); return f; }
DEVICE double as_double(u64 v) { double d; __builtin_memcpy(&d, &v, 8); return d; }
DEVICE u64 as_u64(double v) { u64 u; __builtin_memcpy(&u, &v, 8); return u; }
DEVICE u32 as_u32(float v) { u32 u; __builtin_memcpy(&u, &v, 4); return u; }
DEVICE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float rsqrtf(float v) { return 1.f / sqrtf(v); }

DEVICE void block_sync(HERE) { Lane* l = lane_record(); l->host->block_sync(l, line); }
DEVICE void warp_sync(HERE) { Lane* l = lane_record(); l->host->warp_sync(l, line); }

// What the lanes of a warp do together: each hands in its operands; the last to come computes for all.
template <class T> DEVICE void together(T& mine, Combine combine, int line) {
    Lane* l = lane_record();
    l->host->together(l, line, &mine, combine);
}
struct Exchanged { float v; u32 lane; float got; };
DEVICE void exchange(void** lanes, u32 count) {
    for (u32 i = 0; i < count; ++i) {
        Exchanged* e = (Exchanged*)lanes[i];
        e->got = e->lane < count ? ((Exchanged*)lanes[e->lane])->v : as_float(~0u);
    }
}
DEVICE float shuffle(float v, u32 lane, HERE) {
    Exchanged e = {v, lane % 32, 0.f};
    together(e, exchange, line);
    return e.got;
}
DEVICE float shuffle_xor(float v, u32 mask, HERE) { return shuffle(v, thread() % 32 ^ mask, line); }
DEVICE double shuffle_xor(double v, u32 mask, HERE) {
    const u64 bits = as_u64(v);
    const u64 high = as_u32(shuffle_xor(as_float((u32)(bits >> 32)), mask, line));
    return as_double(high << 32 | as_u32(shuffle_xor(as_float((u32)bits), mask, line)));
}
struct Vote { u32 v, all; };
DEVICE void count_votes(void** lanes, u32 count) {
    u32 all = 0;
    for (u32 i = 0; i < count; ++i) all |= ((Vote*)lanes[i])->v << i;
    for (u32 i = 0; i < count; ++i) ((Vote*)lanes[i])->all = all;
}
DEVICE u32 ballot(bool v, HERE) {
    Vote vote = {v, 0};
    together(vote, count_votes, line);
    return vote.all;
}

// Tensor cores: every lane hands in its numbers of both matrices and gets its four sums. The sums are in double precision.
DEVICE float bf16(u32 half) { return as_float(half << 16); } // of the low half
template <u32 along> struct Tiles { float a[along / 2], b[along / 4], sum[4]; };
template <u32 along> DEVICE void multiply_tiles(void** lanes, u32) {
    float a[16][along], b[8][along];
    for (u32 l = 0; l < 32; ++l) {
        const Tiles<along>* t = (const Tiles<along>*)lanes[l];
        // Numbers side by side, the groups of them, and the rows.
        for (u32 k = 0; k < along / 8; ++k)
            for (u32 half = 0; half < 2; ++half) {
                const u32 at = (l % 4) * (along / 8) + half * (along / 2) + k;
                for (u32 low = 0; low < 2; ++low) a[l / 4 + 8 * low][at] = t->a[(half * 2 + low) * (along / 8) + k];
                b[l / 4][at] = t->b[half * (along / 8) + k];
            }
    }
    for (u32 l = 0; l < 32; ++l)
        for (u32 e = 0; e < 4; ++e) {
            float* sum = ((Tiles<along>*)lanes[l])->sum + e;
            double s = *sum;
            for (u32 k = 0; k < along; ++k) s += (double)a[l / 4 + e / 2 * 8][k] * b[l % 4 * 2 + e % 2][k];
            *sum = (float)s;
        }
}
DEVICE float tf32_held(float v) { return as_float(as_u32(v) & 0xffffe000u); }
DEVICE void mma_tf32(float (&sum)[4], float a0, float a1, float a2, float a3, float b0, float b1, HERE) {
    Tiles<8> t = {{tf32_held(a0), tf32_held(a1), tf32_held(a2), tf32_held(a3)}, {tf32_held(b0), tf32_held(b1)}, {sum[0], sum[1], sum[2], sum[3]}};
    together(t, multiply_tiles<8>, line);
    for (u32 e = 0; e < 4; ++e) sum[e] = t.sum[e];
}
DEVICE void mma_bf16(float (&sum)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1, HERE) {
    Tiles<16> t = {{bf16(a0), bf16(a0 >> 16), bf16(a1), bf16(a1 >> 16), bf16(a2), bf16(a2 >> 16), bf16(a3), bf16(a3 >> 16)},
                   {bf16(b0), bf16(b0 >> 16), bf16(b1), bf16(b1 >> 16)}, {sum[0], sum[1], sum[2], sum[3]}};
    together(t, multiply_tiles<16>, line);
    for (u32 e = 0; e < 4; ++e) sum[e] = t.sum[e];
}
DEVICE u32 masked_here(u32 v, u32 mask) { return v & mask; }
DEVICE float tf32_nearest(float x) { return x != x || x - x != x - x ? x : as_float((as_u32(x) + 0x1000u) & 0xffffe000u); }
DEVICE u32 bf16_half(float x) {
    const u32 v = as_u32(x);
    return x != x ? 0x7fffu : (v + 0x7fffu + (v >> 16 & 1u)) >> 16;
}
DEVICE u32 bf16_pair(float first, float second) { return bf16_half(first) | bf16_half(second) << 16; }

// Every address lies inside an allocation, aligned to what is read there.
template <u32 bytes> DEVICE void check(const void* p, int line) {
    Lane* l = lane_record();
    if ((u64)p - l->low > l->size - bytes || l->size < bytes || (u64)p % bytes) l->host->check(l, line, p, bytes);
}
template <u32 bytes> DEVICE void check_constant(const void* p, int line) {
    Lane* l = lane_record();
    check<bytes>(p, line);
    if (l->host->buffered) l->host->check_constant(l, line, p, bytes);
}

DEVICE void put(float* p, float v, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    l->host->put(l, line, p, as_u32(v));
}
DEVICE float own(const float* p, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    return l->host->buffered ? as_float(l->host->own(l, line, p)) : *p;
}
DEVICE float early(const float* p, HERE) { return own(p, line); }
DEVICE float fresh(const float* p, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    return l->host->buffered ? as_float(l->host->fresh(l, line, p)) : *p;
}
DEVICE float4 fresh4(const float* p, HERE) {
    check<16>(p, line);
    return {fresh(p, line), fresh(p + 1, line), fresh(p + 2, line), fresh(p + 3, line)};
}
DEVICE void post(float* p, float v, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    l->host->post(l, line, p, as_u32(v));
}
// What came to memory, be it this thread's own.
DEVICE float look(const float* p, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    return as_float(l->host->peek(l, line, (const u32*)p));
}
DEVICE float4 look4(const float* p, HERE) {
    check<16>(p, line);
    const float first = look(p, line);
    return {first, p[1], p[2], p[3]};
}
// Halves of words are buffered as such: under odd addresses, one behind their own.
DEVICE void put_bf16(float* p, u64 at, float v, HERE) {
    Lane* l = lane_record();
    const char* half = (const char*)p + 2 * at;
    check<2>(half, line);
    l->host->put(l, line, (float*)(half + 1), bf16_half(v));
}
DEVICE uint2 fresh_bf16(const float* p, HERE) {
    Lane* l = lane_record();
    check<8>(p, line);
    u32 v[4];
    for (u32 i = 0; i < 4; ++i) {
        const char* half = (const char*)p + 2 * i;
        v[i] = l->host->buffered ? l->host->fresh(l, line, (const float*)(half + 1)) : *(const unsigned short*)half;
    }
    return {v[0] | v[1] << 16, v[2] | v[3] << 16};
}
DEVICE void prefetch(const float* p, HERE) { check<4>(p, line); }
DEVICE float constant(const float* p, HERE) { check_constant<4>(p, line); return *p; }
DEVICE float4 constant4(const float* p, HERE) { check_constant<16>(p, line); return *(const float4*)p; }
DEVICE u32 constant(const u32* p, HERE) { check_constant<4>(p, line); return *p; }
DEVICE u32 early(const u32* p, HERE) { return constant(p, line); }

DEVICE void signal(u32* p, HERE) { Lane* l = lane_record(); check<4>(p, line); l->host->signal(l, line, p); }
DEVICE u32 peek(const u32* p, HERE) { Lane* l = lane_record(); check<4>(p, line); return l->host->peek(l, line, p); }
DEVICE u32 ticket(u32* p, HERE) { Lane* l = lane_record(); check<4>(p, line); return l->host->ticket(l, line, p); }
DEVICE void reset(u32* p, HERE) { Lane* l = lane_record(); check<4>(p, line); l->host->reset(l, line, p); }
DEVICE void raise(u32* p, u32 code, HERE) {
    Lane* l = lane_record();
    check<4>(p, line);
    l->host->raise(l, line, p, code);
}

DEVICE u32 cluster_rank() { return lane_record()->rank; }
DEVICE void cluster_arrive(HERE) { Lane* l = lane_record(); l->host->cluster_arrive(l, line); }
DEVICE void cluster_wait(HERE) { Lane* l = lane_record(); l->host->cluster_wait(l, line); }
DEVICE void put_shared(float* p, u32 rank, float v, HERE) {
    Lane* l = lane_record();
    l->host->put_shared(l, line, p, rank, as_u32(v));
}
DEVICE void put_shared4(float* p, u32 rank, const float4& v, HERE) {
    const float numbers[4] = {v.x, v.y, v.z, v.w};
    if ((u64)p % 16) check<16>(p, line);
    for (u32 i = 0; i < 4; ++i) put_shared(p + i, rank, numbers[i], line);
}

DEVICE float exp2_fast(float x) { return exp2f(x); }
DEVICE float reciprocal(float x) { return 1.f / x; }
