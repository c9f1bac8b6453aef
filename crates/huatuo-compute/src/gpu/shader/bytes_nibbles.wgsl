// Weights as bytes: nibbles, whose offset is a part of the minimums.
const HAS_OFFSET: bool = true;
const HAS_TWO_SCALES: bool = false;

// Quads 2k and 2k + 1.
fn load_bytes(block: u32, lane: u32, k: u32) -> vec2<u32> {
    let word = quants[words_at(block, lane, 4u) + 32u * k];
    return vec2<u32>(word, word >> 4u) & vec2<u32>(0x0f0f0f0fu);
}
