// The elementwise functions, as `rnnc_graph::Function` defines them; infinities and NaN pass as they do there.

DEVICE float f_exp(float x) { return expf(x); }
DEVICE float f_sigmoid(float x) { return reciprocal(1.f + exp2_fast(-1.4426950408889634f * x)); }
DEVICE float f_tanh(float x) {
    // Near 0, where 1 - e would cancel, by the series up to x^9 (error 5e-9 at 0.25).
    float y = fabsf(x), e = exp2_fast(-2.8853900817779268f * y), s = x * x;
    float series = fused(fused(fused(fused(0.021869488536155203f, s, -0.053968253968253971f), s, 0.13333333333333333f), s, -0.33333333333333331f), s * x, x);
    float large = (1.f - e) * reciprocal(1.f + e);
    return y < 0.25f ? series : copysignf(large, x);
}
DEVICE float f_identity(float x) { return x; }
DEVICE float f_relu(float x) { return x < 0.f ? 0.f : x; }
DEVICE float f_leaky_relu(float x) { return x < 0.f ? 0.01f * x : x; }
DEVICE float f_elu(float x) { return x > 0.f ? x : expm1f(x); }
DEVICE float f_softplus(float x) { return x > 0.f ? x + log1pf(expf(-x)) : log1pf(expf(x)); }
DEVICE float f_softsign(float x) { return x / (1.f + fabsf(x)); }
DEVICE float f_gelu(float x) { return 0.5f * x * erfcf(-x * 0.70710678118654752f); }
DEVICE float f_silu(float x) { return x * f_sigmoid(x); }
DEVICE float f_log(float x) { return logf(x); }
DEVICE float f_sqrt(float x) { return sqrtf(x); }
DEVICE float f_abs(float x) { return fabsf(x); }
DEVICE float f_square(float x) { return x * x; }
DEVICE float f_sin(float x) { return sinf(x); }
DEVICE float f_cos(float x) { return cosf(x); }
DEVICE float f_clip(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }
DEVICE float f_hard_sigmoid(float x) { return f_clip((x + 3.f) / 6.f, 0.f, 1.f); }
DEVICE float f_hard_tanh(float x) { return f_clip(x, -1.f, 1.f); }

// Their slopes, from the value or the argument (see `Activation::slope_reads`).
DEVICE float d_identity(float) { return 1.f; }
DEVICE float d_sigmoid(float v) { return v * (1.f - v); }
DEVICE float d_tanh(float v) { return 1.f - v * v; }
DEVICE float d_relu(float v) { return v > 0.f ? 1.f : 0.f; }
DEVICE float d_leaky_relu(float v) { return v > 0.f ? 1.f : 0.01f; }
DEVICE float d_elu(float v) { return v > 0.f ? 1.f : v + 1.f; }
DEVICE float d_softplus(float v) { return -expm1f(-v); }
DEVICE float d_softsign(float v) { float d = 1.f + fabsf(v); return 1.f / (d * d); }
DEVICE float d_gelu(float v) { return 0.5f * erfcf(-v * 0.70710678118654752f) + v * expf(-0.5f * v * v) * 0.3989422804014327f; }
DEVICE float d_silu(float v) { float g = f_sigmoid(v); return g + v * g * (1.f - g); }
DEVICE float d_exp(float v) { return v; }
DEVICE float d_log(float v) { return 1.f / v; }
DEVICE float d_sqrt(float v) { return 0.5f / v; }
DEVICE float d_abs(float v) { return v > 0.f ? 1.f : v < 0.f ? -1.f : 0.f; }
DEVICE float d_square(float v) { return 2.f * v; }
DEVICE float d_sin(float v) { return cosf(v); }
DEVICE float d_cos(float v) { return -sinf(v); }
DEVICE float d_hard_sigmoid(float v) { return v > 0.f && v < 1.f ? 1.f / 6.f : 0.f; }
DEVICE float d_hard_tanh(float v) { return v > -1.f && v < 1.f ? 1.f : 0.f; }

DEVICE float b_max(float a, float b) { return a != a || a > b ? a : b; }
DEVICE float b_min(float a, float b) { return a != a || a < b ? a : b; }
DEVICE float b_step(float a, float b) { return a > b ? 1.f : a == b ? 0.5f : 0.f; }

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
DEVICE float one_sum(float v) { return v; }
DEVICE float one_max(float v) { return v; }
DEVICE float half_sum(float v) {
    UNROLL for (u32 mask = 8; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
DEVICE float half_max(float v) {
    UNROLL for (u32 mask = 8; mask > 0; mask /= 2) v = b_max(v, shuffle_xor(v, mask));
    return v;
}
DEVICE float warp_sum(float v) {
    UNROLL for (u32 mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    return v;
}
DEVICE float warp_max(float v) {
    UNROLL for (u32 mask = 16; mask > 0; mask /= 2) v = b_max(v, shuffle_xor(v, mask));
    return v;
}
DEVICE float block_sum(float v) {
    float* parts = shared_memory();
    v = warp_sum(v);
    if (thread() % 32 == 0) parts[thread() / 32] = v;
    block_sync();
    float sum = parts[0];
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
DEVICE void set4(float* to, const float* from) {
    float4 v;
    v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
    *(float4*)to = v;
}
