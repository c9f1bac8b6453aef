// Q8_0: bytes around 128, but for the highest of a word, which is signed: under its mask it is the word's sign.
const SPREAD: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);
const OFFSET: vec4<f32> = vec4<f32>(1.0, 1.0, 1.0, 0.0);

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    const MASK = vec4<u32>(0xffu, 0xff00u, 0xff0000u, 0xff000000u);
    let at = words_at(block, lane, 8u) + 64u * k;
    return Pair(masked(quants[at], MASK), masked(quants[at + 32u], MASK));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    let scale = half_scale(block, lane);
    return Factors(vec2<f32>(scale), vec2<f32>(128.0 * scale));
}
