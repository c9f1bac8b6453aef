// Q6_K: nibbles and two planes of two more bits, those of quad q at bit 2 (q % 4) of each byte, around 32, with a scale for
// each half.
const SPREAD: vec4<f32> = vec4<f32>(1.0, 0.00390625, 0.0000152587890625, 0.000000059604644775390625);
const OFFSET: vec4<f32> = vec4<f32>(1.0);

fn load_pair(block: u32, lane: u32, k: u32) -> Pair {
    const MASK = vec4<u32>(3u, 0x300u, 0x30000u, 0x3000000u);
    let pair = nibbles(block, lane, k);
    let plane = extras[words_at(block, lane, 3u) + 32u * (k / 2u)] >> (4u * (k % 2u));
    return Pair(pair.low + 16.0 * masked(plane, MASK), pair.high + 4.0 * masked(plane, 4u * MASK));
}

fn load_factors(block: u32, lane: u32) -> Factors {
    let scales = unpack2x16float(extras[words_at(block, lane, 3u) + 64u]);
    return Factors(scales, 32.0 * scales);
}
