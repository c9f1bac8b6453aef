// Weights as bytes: nibbles with a plane of one more bit, quad q's at bit q of each byte.
const HAS_OFFSET: bool = true;
const HAS_TWO_SCALES: bool = false;

// Quads 2k and 2k + 1.
fn load_bytes(block: u32, lane: u32, k: u32) -> vec2<u32> {
    let word = quants[words_at(block, lane, 4u) + 32u * k];
    let plane = extras[words_at(block, lane, 2u)] >> (2u * k);
    let bits = vec2<u32>(plane, plane >> 1u) & vec2<u32>(0x01010101u);
    return (vec2<u32>(word, word >> 4u) & vec2<u32>(0x0f0f0f0fu)) | (bits << vec2<u32>(4u));
}
