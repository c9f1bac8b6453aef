// Blocks of 32 weights: weight j of quad q is scales[q / 4] * quad[j] * SPREAD[j] - minimums[q / 4] * OFFSET[j].
//
// Rows stand in groups of 32, word by word side by side: neighbouring lanes, each with a row of its own, read neighbouring
// words, and no sum over lanes is ever needed. Quantized weights are masked out of their words and left where they are, so
// that the second byte counts 2^8, the third 2^16 and so on; SPREAD takes that back, once for all rows, with the
// activations. Shifts, of which each lane would have its own, cost some devices more than all the rest.
struct Pair {
    low: vec4<f32>,
    high: vec4<f32>,
}

struct Factors {
    scales: vec2<f32>,
    minimums: vec2<f32>,
}

// Blocks of a row; the columns behind the last whole block are zeros.
override BLOCKS: u32 = 1u;

@group(0) @binding(1) var<storage, read> quants: array<u32>;
@group(0) @binding(2) var<storage, read> extras: array<u32>;

// Where the words of a row's block begin, of a row with so many words a block; the next word is 32 further. `block` counts
// the blocks of whole groups, `lane` is the row's place in its group.
fn words_at(block: u32, lane: u32, words: u32) -> u32 {
    return block * (words * 32u) + lane;
}

// A word's bits under a mask for each byte; the highest bit must not be among them.
fn masked(word: u32, mask: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4<u32>(word) & mask));
}

// Quads 2k and 2k + 1 are the low and the high nibbles of word k.
fn nibbles(block: u32, lane: u32, k: u32) -> Pair {
    const MASK = vec4<u32>(0xfu, 0xf00u, 0xf0000u, 0xf000000u);
    let word = quants[words_at(block, lane, 4u) + 32u * k];
    return Pair(masked(word, MASK), masked(word >> 4u, MASK));
}

// The scales of two rows share a word: lanes 0 to 15 the low halves, 16 to 31 the high ones.
fn half_scale(block: u32, lane: u32) -> f32 {
    let both = unpack2x16float(extras[block * 16u + (lane & 15u)]);
    return select(both.x, both.y, lane > 15u);
}
