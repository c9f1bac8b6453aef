// Half precision; needs no shader-f16.
const SPREAD: vec4<f32> = vec4<f32>(1.0);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn four(at: u32) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(quants[at]), unpack2x16float(quants[at + 32u]));
}

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    let at = words_at(block, lane, 16u) + 128u * k;
    return Pair(four(at), four(at + 64u));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    return Factors(vec2<f32>(1.0), vec2<f32>(0.0));
}
