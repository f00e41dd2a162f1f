// The elementwise functions, as `rnnc_graph::Function` defines them; infinities and NaN pass as they do there.

DEVICE float f_exp(float x) { return expf(x); }
DEVICE float f_clip(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }
// Of x down to -110. The exponent of 2 has two parts, or a large one would be off by much of its last bit.
DEVICE float exp_fast(float x) {
    float high = 1.4426950408889634f * x, low = fused(1.9259629e-8f, x, fused(1.4426950408889634f, x, -high));
    float e = exp2_fast(high);
    return fused(0.69314718f * low, e, e);
}
DEVICE float f_sigmoid(float x) {
    float e = exp_fast(-f_clip(fabsf(x), 0.f, 110.f));
    return (x < 0.f ? e : 1.f) * reciprocal(1.f + e);
}
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
DEVICE float f_softsign(float x) { x = f_clip(x, -3.4028235e38f, 3.4028235e38f); return x / (1.f + fabsf(x)); }
// As `normal` in rnnc-cpu/src/kernels/vecmath.rs: the tail of the normal distribution at t over e = exp(-t * t / 2).
DEVICE float normal_tail(float t) {
    const float p[10] = {0.0171772719f, -0.0661196583f, 0.0596941230f, 0.0173834704f, 0.0222140671f, 0.0813669838f, 0.0739028400f, 0.0950895680f, 0.0995464348f, 0.0997449898f};
    float u = 1.f / (1.f + 0.25f * t), sum = p[0];
    UNROLL for (int i = 1; i < 10; ++i) sum = fused(sum, u, p[i]);
    return sum * u;
}
// y times that e, whose root is no subnormal where the product is none.
DEVICE float times_normal(float y, float t) {
    float high = as_float(as_u32(t) & 0xfffff000u), low = (t - high) * (t + high);
    float h = expf(-0.25f * (high * high));
    return y * expf(-0.5f * low) * h * h;
}
DEVICE float f_gelu(float x) {
    float t = f_clip(fabsf(x), 0.f, 15.f), tail = normal_tail(t);
    return x > 0.f ? x * (1.f - times_normal(tail, t)) : times_normal(-t * tail, t);
}
// By the root of exp(-|x|), which is no subnormal where the result is none.
DEVICE float f_silu(float x) {
    float t = f_clip(x, -120.f, 120.f), h = expf(-0.5f * fabsf(t));
    return (x < 0.f ? t * h * h : x) / (1.f + h * h);
}
DEVICE float f_log(float x) { return logf(x); }
DEVICE float f_sqrt(float x) { return sqrtf(x); }
DEVICE float f_abs(float x) { return fabsf(x); }
DEVICE float f_square(float x) { return x * x; }
DEVICE float f_sin(float x) { return sinf(x); }
DEVICE float f_cos(float x) { return cosf(x); }
DEVICE float f_hard_sigmoid(float x) { return f_clip((x + 3.f) / 6.f, 0.f, 1.f); }
DEVICE float f_hard_tanh(float x) { return f_clip(x, -1.f, 1.f); }

// Their slopes, from the value or the argument (see `Activation::slope_reads`).
DEVICE float d_identity(float) { return 1.f; }
DEVICE float d_sigmoid(float v) { return v * (1.f - v); }
DEVICE float d_tanh(float v) { return 1.f - v * v; }
DEVICE float d_relu(float v) { return v > 0.f ? 1.f : v <= 0.f ? 0.f : v; }
DEVICE float d_leaky_relu(float v) { return v > 0.f ? 1.f : v <= 0.f ? 0.01f : v; }
DEVICE float d_elu(float v) { return v > 0.f ? 1.f : expf(v); }
DEVICE float d_softplus(float v) { return -expm1f(-v); }
DEVICE float d_softsign(float v) { float d = 1.f + fabsf(v); return 1.f / (d * d); }
// About their roots, where sums cancel, by Taylor series.
DEVICE float d_gelu(float v) {
    const float q[10] = {1.86339746e-4f, -7.44826837e-4f, -2.23953807e-3f, 4.53922838e-3f, 1.94216798e-2f, -1.47715221e-2f, -1.14008233e-1f, -1.81996764e-2f, 3.88284983e-1f, 4.31493992e-1f};
    float r = (v + 0.7517915368f) - 1.211444946e-8f, series = q[0];
    UNROLL for (int i = 1; i < 10; ++i) series = fused(series, r, q[i]);
    float t = f_clip(fabsf(v), 0.f, 15.f), y = times_normal(fused(-0.39894228f, t, normal_tail(t)), t);
    return fabsf(r) < 0.4f ? series * r : v > 0.f ? 1.f - y : y;
}
DEVICE float d_silu(float v) {
    const float q[9] = {-4.09053424e-5f, 1.85707244e-4f, 7.98521882e-4f, 1.26627410e-4f, -6.60658914e-3f, -1.52226552e-2f, 1.88748142e-2f, 1.46648797e-1f, 2.17811706e-1f};
    float r = (v + 1.2784645557f) - 1.297928265e-8f, series = q[0];
    UNROLL for (int i = 1; i < 9; ++i) series = fused(series, r, q[i]);
    float t = f_clip(v, -120.f, 120.f), h = expf(-0.5f * fabsf(t)), over = 1.f / (1.f + h * h);
    float inner = fused(t, v < 0.f ? over : h * h * over, 1.f);
    return fabsf(r) < 0.375f ? series * r : (v < 0.f ? inner * h * h : inner) * over;
}
DEVICE float d_exp(float v) { return v; }
DEVICE float d_log(float v) { return 1.f / v; }
DEVICE float d_sqrt(float v) { return 0.5f / v; }
DEVICE float d_abs(float v) { return v > 0.f ? 1.f : v < 0.f ? -1.f : v == 0.f ? 0.f : v; }
DEVICE float d_square(float v) { return 2.f * v; }
DEVICE float d_sin(float v) { return cosf(v); }
DEVICE float d_cos(float v) { return -sinf(v); }
DEVICE float d_hard_sigmoid(float v) { return v > -3.f && v < 3.f ? 1.f / 6.f : v != v ? v : 0.f; }
DEVICE float d_hard_tanh(float v) { return v > -1.f && v < 1.f ? 1.f : v != v ? v : 0.f; }

DEVICE float b_max(float a, float b) { return a != a || a > b ? a : b; }
DEVICE float b_min(float a, float b) { return a != a || a < b ? a : b; }
DEVICE float b_step(float a, float b) { return a > b ? 1.f : a < b ? 0.f : a == b ? 0.5f : as_float(0x7fffffffu); }

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
DEVICE void set4(float* to, const float* from) {
    float4 v;
    v.x = from[0]; v.y = from[1]; v.z = from[2]; v.w = from[3];
    *(float4*)to = v;
}
