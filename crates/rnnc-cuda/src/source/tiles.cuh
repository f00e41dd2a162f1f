// Products of tiles by tensor cores: 16 rows by 16 columns of weights, times 8 streams. A lane has rows lane / 4 and 8
// below of the weights, stream lane / 4 of the sources, and of both the columns 4 (lane % 4) .. + 3.

// The larger of two TF32 numbers, of together 22 bits, whose sum a number is.
DEVICE float tf32_part(float x) { return as_float(as_u32(x) & 0xffffe000u); }

// Four numbers of a source, as the products want them.
DEVICE uint2 four_bf16(const float4& x) {
    uint2 v;
    v.x = bf16_pair(x.x, x.y); v.y = bf16_pair(x.z, x.w);
    return v;
}

// Eight weights, row by row, as the products want them.
DEVICE void tile_f32(u32 (&w)[8], const float (&v)[8]) { UNROLL for (u32 i = 0; i < 8; i++) w[i] = as_u32(v[i]); }
DEVICE void tile_tf32(u32 (&w)[8], const float (&v)[8]) { UNROLL for (u32 i = 0; i < 8; i++) w[i] = as_u32(tf32_nearest(v[i])); }
DEVICE void tile_bf16(u32 (&w)[4], const float (&v)[8]) {
    w[0] = bf16_pair(v[0], v[1]); w[1] = bf16_pair(v[4], v[5]);
    w[2] = bf16_pair(v[2], v[3]); w[3] = bf16_pair(v[6], v[7]);
}

// Single precision: both in two parts, without the product of the small ones.
DEVICE void multiply_f32(float (&sum)[4], const u32 (&w)[8], const float4& x) {
    float high[8], low[8];
    UNROLL for (u32 i = 0; i < 8; i++) {
        const float v = as_float(w[i]);
        // Anew in every step, for parts take twice the registers.
        high[i] = as_float(masked_here(w[i], 0xffffe000u));
        low[i] = tf32_part(v - high[i]);
    }
    const float a = tf32_part(x.x), b = tf32_part(x.y), c = tf32_part(x.z), d = tf32_part(x.w);
    const float e = tf32_part(x.x - a), f = tf32_part(x.y - b), g = tf32_part(x.z - c), h = tf32_part(x.w - d);
    mma_tf32(sum, low[0], low[4], low[1], low[5], a, b);
    mma_tf32(sum, low[2], low[6], low[3], low[7], c, d);
    mma_tf32(sum, high[0], high[4], high[1], high[5], e, f);
    mma_tf32(sum, high[2], high[6], high[3], high[7], g, h);
    mma_tf32(sum, high[0], high[4], high[1], high[5], a, b);
    mma_tf32(sum, high[2], high[6], high[3], high[7], c, d);
}
DEVICE void multiply_tf32(float (&sum)[4], const u32 (&w)[8], const float4& x) {
    const float a = tf32_nearest(x.x), b = tf32_nearest(x.y), c = tf32_nearest(x.z), d = tf32_nearest(x.w);
    mma_tf32(sum, as_float(w[0]), as_float(w[4]), as_float(w[1]), as_float(w[5]), a, b);
    mma_tf32(sum, as_float(w[2]), as_float(w[6]), as_float(w[3]), as_float(w[7]), c, d);
}
DEVICE void multiply_bf16(float (&sum)[4], const u32 (&w)[4], const uint2& x) {
    mma_bf16(sum, w[0], w[1], w[2], w[3], x.x, x.y);
}
DEVICE void multiply_bf16(float (&sum)[4], const u32 (&w)[4], const float4& x) { multiply_bf16(sum, w, four_bf16(x)); }

// Weights in memory, bits as they are.
DEVICE void keep4(float4* to, const u32* w) {
    float4 v;
    v.x = as_float(w[0]); v.y = as_float(w[1]); v.z = as_float(w[2]); v.w = as_float(w[3]);
    *to = v;
}
DEVICE void kept4(u32* w, const float4* from) {
    const float4 v = *from;
    w[0] = as_u32(v.x); w[1] = as_u32(v.y); w[2] = as_u32(v.z); w[3] = as_u32(v.w);
}

// Weights of lanes that are kept in bf16: four of one row, and of two rows side by side.
DEVICE float4 four_of_bf16(u32 first, u32 second) {
    float4 v;
    v.x = as_float(first << 16); v.y = as_float(first & 0xffff0000u);
    v.z = as_float(second << 16); v.w = as_float(second & 0xffff0000u);
    return v;
}
DEVICE float4 two_in_bf16(const float4& one, const float4& other) {
    const uint2 a = four_bf16(one), b = four_bf16(other);
    float4 v;
    v.x = as_float(a.x); v.y = as_float(a.y); v.z = as_float(b.x); v.w = as_float(b.y);
    return v;
}
DEVICE float4 one_of_two(const float4& kept, u32 which) {
    return which == 0 ? four_of_bf16(as_u32(kept.x), as_u32(kept.y)) : four_of_bf16(as_u32(kept.z), as_u32(kept.w));
}
