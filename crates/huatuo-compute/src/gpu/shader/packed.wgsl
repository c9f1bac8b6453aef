// Blocks of 32 activations as signed bytes.
struct Packed {
    low: vec4<u32>,
    high: vec4<u32>,
    // The scale, and the scaled sum of the bytes of either half.
    factors: vec4<f32>,
}

fn byte_sum(words: vec4<u32>) -> i32 {
    const ONES = 0x01010101u;
    return dot4I8Packed(words.x, ONES) + dot4I8Packed(words.y, ONES)
        + dot4I8Packed(words.z, ONES) + dot4I8Packed(words.w, ONES);
}

fn packed(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>,
          e: vec4<f32>, f: vec4<f32>, g: vec4<f32>, h: vec4<f32>) -> Packed {
    let tops = max(max(max(abs(a), abs(b)), max(abs(c), abs(d))), max(max(abs(e), abs(f)), max(abs(g), abs(h))));
    let top = max(max(tops.x, tops.y), max(tops.z, tops.w));
    let inverse = select(0.0, 1.0 / top, top > 0.0);
    let low = vec4<u32>(pack4x8snorm(a * inverse), pack4x8snorm(b * inverse),
        pack4x8snorm(c * inverse), pack4x8snorm(d * inverse));
    let high = vec4<u32>(pack4x8snorm(e * inverse), pack4x8snorm(f * inverse),
        pack4x8snorm(g * inverse), pack4x8snorm(h * inverse));
    let scale = top / 127.0;
    let factors = vec4<f32>(scale, scale * f32(byte_sum(low)), scale * f32(byte_sum(high)), 0.0);
    return Packed(low, high, factors);
}
