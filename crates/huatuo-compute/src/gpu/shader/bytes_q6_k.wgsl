// Weights as bytes: nibbles and two planes of two more bits, quad q's at bit 2 (q % 4) of each byte.
const HAS_OFFSET: bool = true;
const HAS_TWO_SCALES: bool = true;

// Quads 2k and 2k + 1.
fn load_bytes(block: u32, lane: u32, k: u32) -> vec2<u32> {
    let word = quants[words_at(block, lane, 4u) + 32u * k];
    let plane = extras[words_at(block, lane, 3u) + 32u * (k / 2u)] >> (4u * (k % 2u));
    let bits = vec2<u32>(plane, plane >> 2u) & vec2<u32>(0x03030303u);
    return (vec2<u32>(word, word >> 4u) & vec2<u32>(0x0f0f0f0fu)) | (bits << vec2<u32>(4u));
}
