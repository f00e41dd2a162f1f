// What formulas compute with (`Number` in rnnc-graph): functions of one number, accurate to some units in the last place.
// Infinities and NaN pass as they do there.

DEVICE float clip(float x, float lo, float hi) { return x < lo ? lo : x > hi ? hi : x; }
// Of x down to -110. The exponent of 2 has two parts, or a large one would be off by much of its last bit.
DEVICE float exp_fast(float x) {
    float high = 1.4426950408889634f * x, low = fused(1.9259629e-8f, x, fused(1.4426950408889634f, x, -high));
    float e = exp2_fast(high);
    return fused(0.69314718f * low, e, e);
}
DEVICE float number_sigmoid(float x) {
    float e = exp_fast(-clip(fabsf(x), 0.f, 110.f));
    return (x < 0.f ? e : 1.f) * reciprocal(1.f + e);
}
DEVICE float number_tanh(float x) {
    // Near 0, where 1 - e would cancel, by the series up to x^9 (error 5e-9 at 0.25).
    float y = fabsf(x), e = exp2_fast(-2.8853900817779268f * y), s = x * x;
    float series = fused(fused(fused(fused(0.021869488536155203f, s, -0.053968253968253971f), s, 0.13333333333333333f), s, -0.33333333333333331f), s * x, x);
    float large = (1.f - e) * reciprocal(1.f + e);
    return y < 0.25f ? series : copysignf(large, x);
}
DEVICE float number_softplus(float x) { return x > 0.f ? x + log1pf(expf(-x)) : log1pf(expf(x)); }
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
// In two factors, as above.
DEVICE float number_exp_minus_square(float x) {
    float t = clip(fabsf(x), 0.f, 11.f), high = as_float(as_u32(t) & 0xfffff000u), low = (t - high) * (t + high);
    float h = expf(-0.5f * (high * high));
    return expf(-low) * h * h;
}
DEVICE float number_gelu(float x) {
    float t = clip(fabsf(x), 0.f, 15.f), tail = normal_tail(t);
    return x > 0.f ? x * (1.f - times_normal(tail, t)) : times_normal(-t * tail, t);
}
// By the root of exp(-|x|), which is no subnormal where the result is none.
DEVICE float number_silu(float x) {
    float t = clip(x, -120.f, 120.f), h = expf(-0.5f * fabsf(t));
    return (x < 0.f ? t * h * h : x) / (1.f + h * h);
}

// Derivatives: about their roots, where sums cancel, by Taylor series.
DEVICE float number_gelu_derivative(float v) {
    const float q[10] = {1.86339746e-4f, -7.44826837e-4f, -2.23953807e-3f, 4.53922838e-3f, 1.94216798e-2f, -1.47715221e-2f, -1.14008233e-1f, -1.81996764e-2f, 3.88284983e-1f, 4.31493992e-1f};
    float r = (v + 0.7517915368f) - 1.211444946e-8f, series = q[0];
    UNROLL for (int i = 1; i < 10; ++i) series = fused(series, r, q[i]);
    float t = clip(fabsf(v), 0.f, 15.f), y = times_normal(fused(-0.39894228f, t, normal_tail(t)), t);
    return fabsf(r) < 0.4f ? series * r : v > 0.f ? 1.f - y : y;
}
DEVICE float number_silu_derivative(float v) {
    const float q[9] = {-4.09053424e-5f, 1.85707244e-4f, 7.98521882e-4f, 1.26627410e-4f, -6.60658914e-3f, -1.52226552e-2f, 1.88748142e-2f, 1.46648797e-1f, 2.17811706e-1f};
    float r = (v + 1.2784645557f) - 1.297928265e-8f, series = q[0];
    UNROLL for (int i = 1; i < 9; ++i) series = fused(series, r, q[i]);
    float t = clip(v, -120.f, 120.f), h = expf(-0.5f * fabsf(t)), over = 1.f / (1.f + h * h);
    float inner = fused(t, v < 0.f ? over : h * h * over, 1.f);
    return fabsf(r) < 0.375f ? series * r : (v < 0.f ? inner * h * h : inner) * over;
}
// sqrt(keep a^2 + rest b^2). Before numbers are squared, a power of 2 takes half of the larger one's exponent away, so that
// squares neither overflow nor underflow.
DEVICE float number_root_mean_square(float keep, float a, float rest, float b) {
    const float first = fabsf(a), second = fabsf(b);
    const u32 down = ((as_u32(first > second ? first : second) >> 1) + (64u << 23)) & (255u << 23);
    const float up = as_float((254u << 23) - down);
    a *= up;
    b *= up;
    return sqrtf(keep * (a * a) + rest * (b * b)) * as_float(down);
}
