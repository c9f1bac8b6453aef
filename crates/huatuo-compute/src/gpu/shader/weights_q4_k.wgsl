// Q4_K: nibbles with a scale and a minimum.
const SPREAD: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    return nibbles(block, lane, k);
}

fn load_factors(block: u32, lane: u32) -> Factors {
    let factors = unpack2x16float(extras[words_at(block, lane, 1u)]);
    return Factors(vec2<f32>(factors.x), vec2<f32>(factors.y));
}
