// What is made of numbers that is no formula: dropout masks, sums over lanes.

// Whether a dropout mask keeps a unit: `rnnc_plan::dropout::keeps`.
DEVICE u64 mix(u64 z) {
    z += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
DEVICE float mask(u64 seed, u64 key, u64 frame, u32 stream, u32 unit, u64 least, float kept) {
    u64 hash = mix(mix(mix(seed ^ mix(key)) ^ frame) ^ ((u64)stream << 32 | unit));
    return (hash >> 32) >= least ? kept : 0.f;
}
DEVICE u64 absolute(const Args& a, int frame) {
    long long f = (long long)a.run[RUN_BEFORE] + frame;
    return f < 0 ? 0 : (u64)f;
}

// Sums and maxima over lanes, in an order that depends on nothing but their number.
template <class T> DEVICE T one_sum(T v) { return v; }
DEVICE float one_max(float v) { return v; }
template <class T> DEVICE T lanes_sum(T v, u32 lanes) {
    UNROLL for (u32 mask = lanes / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
DEVICE float lanes_max(float v, u32 lanes) {
    UNROLL for (u32 mask = lanes / 2; mask > 0; mask /= 2) v = b_max(v, shuffle_xor(v, mask));
    return v;
}
template <class T> DEVICE T half_sum(T v) { return lanes_sum(v, 16); }
DEVICE float half_max(float v) { return lanes_max(v, 16); }
template <class T> DEVICE T warp_sum(T v) { return lanes_sum(v, 32); }
DEVICE float warp_max(float v) { return lanes_max(v, 32); }
template <class T> DEVICE T block_sum(T v) {
    T* parts = (T*)shared_memory();
    v = warp_sum(v);
    if (thread() % 32 == 0) parts[thread() / 32] = v;
    block_sync();
    T sum = parts[0];
    for (u32 i = 1; i < threads() / 32; ++i) sum += parts[i];
    block_sync();
    return sum;
}
DEVICE float block_max(float v) {
    float* parts = shared_memory();
    v = warp_max(v);
    if (thread() % 32 == 0) parts[thread() / 32] = v;
    block_sync();
    float max = parts[0];
    for (u32 i = 1; i < threads() / 32; ++i) max = b_max(max, parts[i]);
    block_sync();
    return max;
}

// Four numbers side by side, at a multiple of 16 bytes.
DEVICE void get4(float* to, const float* from) {
    const float4 v = *(const float4*)from;
    to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
}
DEVICE void set4_bf16(float* to, const float* from) {
    uint2 v;
    v.x = bf16_pair(from[0], from[1]); v.y = bf16_pair(from[2], from[3]);
    *(uint2*)to = v;
}
DEVICE void set4(float* to, const float* from) {
    float4 v;
    v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
    *(float4*)to = v;
}
