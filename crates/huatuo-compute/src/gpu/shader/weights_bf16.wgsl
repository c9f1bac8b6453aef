// The upper halves of singles.
const SPREAD: vec4<f32> = vec4<f32>(1.0);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn four(at: u32) -> vec4<f32> {
    let words = vec2<u32>(quants[at], quants[at + 32u]);
    let both = vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u);
    return bitcast<vec4<f32>>(both);
}

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    let at = words_at(block, lane, 16u) + 128u * k;
    return Pair(four(at), four(at + 64u));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    return Factors(vec2<f32>(1.0), vec2<f32>(0.0));
}
