// Single precision.
const SPREAD: vec4<f32> = vec4<f32>(1.0);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn four(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(quants[at], quants[at + 32u], quants[at + 64u], quants[at + 96u]));
}

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    let at = words_at(block, lane, 32u) + 256u * k;
    return Pair(four(at), four(at + 128u));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    return Factors(vec2<f32>(1.0), vec2<f32>(0.0));
}
