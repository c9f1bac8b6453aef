// Q4_0: nibbles around 8.
const SPREAD: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    return nibbles(block, lane, k);
}

fn load_factors(block: u32, lane: u32) -> Factors {
    let scale = half_scale(block, lane);
    return Factors(vec2<f32>(scale), vec2<f32>(8.0 * scale));
}
