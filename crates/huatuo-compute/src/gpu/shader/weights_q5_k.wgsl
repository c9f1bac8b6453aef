// Q5_K: nibbles and a plane of fifth bits, bit q of byte j for weight j of quad q, with a scale and a minimum.
const SPREAD: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    const MASK = vec4<u32>(1u, 0x100u, 0x10000u, 0x1000000u);
    let pair = nibbles(block, lane, k);
    let plane = extras[words_at(block, lane, 2u)] >> (2u * k);
    return Pair(pair.low + 16.0 * masked(plane, MASK), pair.high + 8.0 * masked(plane, 2u * MASK));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    let factors = unpack2x16float(extras[words_at(block, lane, 2u) + 32u]);
    return Factors(vec2<f32>(factors.x), vec2<f32>(factors.y));
}
