// Weights as bytes: they are stored around 128, but for the highest of a word.
const HAS_OFFSET: bool = false;
const HAS_TWO_SCALES: bool = false;

// Quads 2k and 2k + 1.
fn load_bytes(block: u32, lane: u32, k: u32) -> vec2<u32> {
    let at = words_at(block, lane, 8u) + 64u * k;
    return vec2<u32>(quants[at], quants[at + 32u]) ^ vec2<u32>(0x00808080u);
}
