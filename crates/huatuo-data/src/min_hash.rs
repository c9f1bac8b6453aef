//! How much two texts share, estimated from 128 bits of each: 1-bit MinHash (Li and König, "b-Bit Minwise Hashing",
//! WWW 2010) over the set of their character trigrams.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::comparable::BREAK;

/// Hash functions, one bit of a signature each.
const HASHES: usize = 128;
/// Characters of a shingle.
const SHINGLE: usize = 3;
/// Shorter texts, in characters, are the same or they are not: one changed character of fewer than 57 already leaves a
/// similarity below 0.9, and an estimate from few shingles is worth little.
const SHORTEST: usize = 48;
/// Minima of which a key is made: a candidate shares this many with the text looked for.
const MINIMA_OF_KEY: usize = 2;
/// Keys of a text.
pub(crate) const KEYS: usize = 2;

/// Multiplier and summand of each hash function.
const FUNCTIONS: ([u32; HASHES], [u32; HASHES]) = functions();

/// What is kept of a text to compare it by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Signature(pub(crate) u128);

impl Signature {
    /// Bits that differ: two texts of Jaccard similarity J differ in 64 (1 − J) bits on average; of texts below 48
    /// characters, equal ones in none and others in about 64.
    pub(crate) fn distance(self, other: Self) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}

/// The signature of a comparable text, and two keys: with a text of similarity 0.9 it has one of them in common with a
/// probability of 0.96, with one of 0.95 of 0.99.
pub(crate) fn min_hash(comparable: &str) -> (Signature, [u64; KEYS]) {
    let codes: Vec<u32> = comparable.chars().filter(|c| *c != BREAK).map(u32::from).collect();
    if codes.len() < SHORTEST {
        let hash = xxh3_128(comparable.as_bytes());
        return (Signature(hash), [hash as u64; KEYS]);
    }
    let mut minima = [u32::MAX; HASHES];
    for shingle in codes.windows(SHINGLE) {
        let hash = shingle.iter().fold(0, |hash: u64, code| mix(hash ^ u64::from(*code))) as u32;
        // Over arrays of a fixed size, so that it compiles to vector instructions.
        for ((minimum, multiplier), summand) in minima.iter_mut().zip(&FUNCTIONS.0).zip(&FUNCTIONS.1) {
            *minimum = (*minimum).min(hash.wrapping_mul(*multiplier).wrapping_add(*summand));
        }
    }
    // The lowest bit of a product is that of its factors; mixed, it says nothing but whether the minima are equal.
    let bits = minima.iter().fold(0u128, |bits, minimum| bits << 1 | u128::from(mix(u64::from(*minimum)) & 1));
    let keys = std::array::from_fn(|key| {
        let rows = &minima[key * MINIMA_OF_KEY..][..MINIMA_OF_KEY];
        rows.iter().fold(key as u64, |hash, minimum| mix(hash ^ u64::from(*minimum)))
    });
    (Signature(bits), keys)
}

/// One hash of several.
pub(crate) fn join(hashes: &[u64]) -> u64 {
    let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

/// A step of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
const fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const fn functions() -> ([u32; HASHES], [u32; HASHES]) {
    let (mut multipliers, mut summands) = ([0; HASHES], [0; HASHES]);
    let mut at = 0;
    while at < HASHES {
        let random = mix(at as u64);
        // Odd, so that the function is a permutation.
        multipliers[at] = random as u32 | 1;
        summands[at] = (random >> 32) as u32;
        at += 1;
    }
    (multipliers, summands)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct characters, so that the similarity is known.
    fn text(from: u32, length: u32) -> String {
        (from..from + length).filter_map(|n| char::from_u32(0x4e00 + n)).collect()
    }

    #[test]
    fn the_distance_of_two_signatures_estimates_their_similarity() {
        // 1,000 and 1,000 trigrams, 500 of them shared: J = 1/3, a third of the bits differ.
        let mut distance = 0;
        for n in 0..20 {
            let (left, right) = (min_hash(&text(n * 100, 1002)).0, min_hash(&text(n * 100 + 500, 1002)).0);
            distance += left.distance(right);
        }
        let expected = 20.0 * 128.0 / 3.0;
        assert!((f64::from(distance) - expected).abs() < 0.1 * expected, "{distance}, expected {expected}");
    }

    #[test]
    fn a_short_text_is_the_same_or_far_away() {
        let short = text(0, 40);
        let distance = |other: &str| min_hash(&short).0.distance(min_hash(other).0);
        assert_eq!(distance(&short), 0);
        assert!(distance(&format!("{short}谢")) > 30);
    }
}
