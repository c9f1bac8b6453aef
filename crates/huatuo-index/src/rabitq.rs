//! One-bit codes of vectors, with a bound on how wrong what they say may be (RaBitQ; Gao and Long, SIGMOD 2024).
//!
//! What a vector differs from a centre by is rotated at random and replaced by the signs of its numbers. The inner product of
//! a question with the vector is then estimated without bias from those signs and three numbers kept beside them.

use crate::error::Malformed;

/// Bytes of the three numbers behind the signs.
pub(crate) const FACTOR_BYTES: usize = 6;
/// Standard deviations of the estimate that its bound is wide, as in the paper's section 5: one estimate in twenty is beyond.
const DEVIATIONS: f32 = 1.9;
/// Rounds of signs and mixing; after four a vector with one number is spread over all.
const ROUNDS: usize = 4;
/// Steps of a stored length: lengths of differences of unit vectors are at most two.
const LENGTH_STEPS: f32 = 32768.0;
/// Steps of a stored cosine.
const COSINE_STEPS: f32 = 65535.0;
/// Steps of a stored addend, which lies between -4 and 4.
const ADDEND_STEPS: f32 = 8192.0;
/// Values of a byte.
const BYTE_VALUES: usize = 256;

/// A rotation that depends on a seed alone: random signs, a fast Hadamard transform of as many numbers as are a power of two,
/// from the front and the back in turn, and a step of Kac's walk between both halves.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    padded: usize,
    signs: Vec<f32>,
}

impl Rotation {
    /// A rotation of vectors with so many numbers, padded to whole words of 64 bits.
    pub fn new(dimensions: usize, seed: u64) -> Self {
        let padded = dimensions.next_multiple_of(64);
        let mut state = seed;
        let signs = (0..ROUNDS * padded).map(|_| if split_mix(&mut state) >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Self { padded, signs }
    }

    /// Bytes of a code: the signs, and three numbers of two bytes.
    pub fn code_bytes(&self) -> usize {
        self.padded / 8 + FACTOR_BYTES
    }

    /// The vector, rotated; its length and all inner products stay what they were.
    pub fn rotate(&self, vector: &[f32]) -> Vec<f32> {
        let mut out = vector.to_vec();
        out.resize(self.padded, 0.0);
        let power = 1usize << self.padded.ilog2();
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate() {
            out.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
            let first = if round % 2 == 0 { 0 } else { self.padded - power };
            hadamard(&mut out[first..first + power]);
            if power < self.padded {
                kac(&mut out);
            }
        }
        out
    }

    /// About the vector, `[dimensions]`, that a code stands for, relative to its centre.
    pub fn decode(&self, code: &[u8], dimensions: usize) -> Vec<f32> {
        let (signs, factors) = code.split_at(self.padded / 8);
        let length = f32::from(u16::from_le_bytes([factors[0], factors[1]])) / LENGTH_STEPS;
        let each = length / (self.padded as f32).sqrt();
        let sign = |i: usize| if signs[i / 8] >> (i % 8) & 1 == 1 { each } else { -each };
        let mut out: Vec<f32> = (0..self.padded).map(sign).collect();
        let power = 1usize << self.padded.ilog2();
        // Each step of the rotation undoes itself.
        for (round, signs) in self.signs.chunks_exact(self.padded).enumerate().rev() {
            if power < self.padded {
                kac(&mut out);
            }
            let first = if round % 2 == 0 { 0 } else { self.padded - power };
            hadamard(&mut out[first..first + power]);
            out.iter_mut().zip(signs).for_each(|(x, sign)| *x *= sign);
        }
        out.truncate(dimensions);
        out
    }
}

/// The generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The normalised fast Walsh-Hadamard transform.
fn hadamard(x: &mut [f32]) {
    let mut half = 1;
    while half < x.len() {
        for pair in x.chunks_exact_mut(2 * half) {
            let (a, b) = pair.split_at_mut(half);
            for (a, b) in a.iter_mut().zip(b) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (x.len() as f32).sqrt();
    x.iter_mut().for_each(|x| *x *= scale);
}

/// Turns each number of the first half with its partner in the second by 45 degrees.
fn kac(x: &mut [f32]) {
    let half = x.len() / 2;
    let (a, b) = x.split_at_mut(half);
    for (a, b) in a.iter_mut().zip(b) {
        (*a, *b) = ((*a + *b) * std::f32::consts::FRAC_1_SQRT_2, (*a - *b) * std::f32::consts::FRAC_1_SQRT_2);
    }
}

/// Appends the code of a vector relative to a centre, given both also rotated.
#[cfg(feature = "write")]
pub(crate) fn put_code(out: &mut Vec<u8>, (vector, rotated): (&[f32], &[f32]), (centre, turned): (&[f32], &[f32])) {
    let (mut square, mut ones, mut along) = (0.0f32, 0.0f32, 0.0f32);
    let mut byte = 0u8;
    for (i, (x, c)) in rotated.iter().zip(turned).enumerate() {
        let rest = x - c;
        let positive = rest >= 0.0;
        square += rest * rest;
        ones += rest.abs();
        along += if positive { *c } else { -*c };
        byte |= u8::from(positive) << (i % 8);
        if i % 8 == 7 {
            out.push(std::mem::take(&mut byte));
        }
    }
    let signs = (rotated.len() as f32).sqrt();
    let cosine = if square > 0.0 { ones / (signs * square.sqrt()) } else { 1.0 };
    let length = (square.sqrt() * LENGTH_STEPS).round().min(COSINE_STEPS) as u16;
    let cosine = (cosine.clamp(0.0, 1.0) * COSINE_STEPS).round().max(1.0) as u16;
    // What estimates add up is made with the stored numbers, so their rounding does not add to its error.
    let (rescale, _) = factors(length, cosine, rotated.len());
    let onto: f32 = vector.iter().zip(centre).map(|(x, c)| (x - c) * c).sum();
    let addend = ((onto - rescale * along) * ADDEND_STEPS).round() as i16;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&cosine.to_le_bytes());
    out.extend_from_slice(&addend.to_le_bytes());
}

/// From stored numbers: what the signs' inner product is scaled by, and what the question's distance from the centre is
/// scaled by for the bound.
fn factors(length: u16, cosine: u16, padded: usize) -> (f32, f32) {
    let (length, cosine) = (f32::from(length) / LENGTH_STEPS, f32::from(cosine) / COSINE_STEPS);
    let dimensions = padded as f32;
    let rescale = length / (cosine * dimensions.sqrt());
    let spread = (1.0 - cosine * cosine).max(0.0).sqrt() / (cosine * (dimensions - 1.0).sqrt());
    (rescale, DEVIATIONS * length * spread)
}

/// What a code says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    /// The inner product of question and vector.
    pub cosine: f32,
    /// How far it may be off.
    pub bound: f32,
}

/// A question's vector, made ready for all codes of one rotation: sums of its signed numbers for each value of each byte.
pub(crate) struct QueryTable {
    sums: Vec<f32>,
    padded: usize,
}

impl QueryTable {
    pub fn new(rotation: &Rotation, query: &[f32]) -> Self {
        let rotated = rotation.rotate(query);
        let mut sums = Vec::with_capacity(rotated.len() / 8 * BYTE_VALUES);
        for eight in rotated.chunks_exact(8) {
            let first = sums.len();
            sums.push(-eight.iter().sum::<f32>());
            for value in 1..BYTE_VALUES {
                // The sum without the lowest bit that is set is there already.
                let without = sums[first + (value & (value - 1))];
                sums.push(without + 2.0 * eight[value.trailing_zeros() as usize]);
            }
        }
        Self { sums, padded: rotated.len() }
    }

    /// What a code says of its vector, given the question's inner product with the centre and its distance from it.
    pub fn estimate(&self, code: &[u8], centre: f32, distance: f32) -> Result<Estimate, Malformed> {
        let (signs, numbers) = code.split_at(self.padded / 8);
        let &[l0, l1, c0, c1, a0, a1] = numbers else { return Err(Malformed("a code has another size")) };
        let (length, cosine) = (u16::from_le_bytes([l0, l1]), u16::from_le_bytes([c0, c1]));
        if cosine == 0 {
            return Err(Malformed("a code's cosine is zero"));
        }
        let (rescale, spread) = factors(length, cosine, self.padded);
        let addend = f32::from(i16::from_le_bytes([a0, a1])) / ADDEND_STEPS;
        let mut sum = [0.0f32; 4];
        for (four, bytes) in self.sums.chunks_exact(4 * BYTE_VALUES).zip(signs.chunks_exact(4)) {
            for (i, (sum, byte)) in sum.iter_mut().zip(bytes).enumerate() {
                *sum += four[i * BYTE_VALUES + usize::from(*byte)];
            }
        }
        let product = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        Ok(Estimate { cosine: centre + addend + rescale * product, bound: spread * distance })
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use crate::vectors::normalise;

    fn noise(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
        let mut state = seed;
        let mut number = || (split_mix(&mut state) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        (0..count)
            .map(|_| normalise(&(0..dimensions).map(|_| number() + number()).collect::<Vec<_>>()).unwrap())
            .collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn a_rotation_keeps_inner_products_whatever_the_number_of_dimensions() {
        for dimensions in [1, 3, 64, 100, 256, 384, 1000] {
            let (rotation, pair) = (Rotation::new(dimensions, 1), noise(2, dimensions, 5));
            let turned: Vec<_> = pair.iter().map(|vector| rotation.rotate(vector)).collect();
            assert!((dot(&turned[0], &turned[1]) - dot(&pair[0], &pair[1])).abs() < 1e-4, "{dimensions}");
        }
    }

    #[test]
    fn estimates_are_without_bias_and_within_their_bound_nineteen_times_of_twenty() {
        for dimensions in [64, 256, 384] {
            let rotation = Rotation::new(dimensions, 7);
            let (vectors, queries) = (noise(200, dimensions, 1), noise(20, dimensions, 2));
            let centre: Vec<f32> = noise(1, dimensions, 3)[0].iter().map(|x| x * 0.4).collect();
            let turned = rotation.rotate(&centre);
            let (mut bias, mut beyond, mut all) = (0.0f64, 0, 0);
            for query in &queries {
                let table = QueryTable::new(&rotation, query);
                let at_centre = dot(query, &centre);
                let distance = query.iter().zip(&centre).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
                for vector in &vectors {
                    let mut code = Vec::new();
                    put_code(&mut code, (vector, &rotation.rotate(vector)), (&centre, &turned));
                    assert_eq!(code.len(), rotation.code_bytes());
                    let estimate = table.estimate(&code, at_centre, distance).unwrap();
                    let error = estimate.cosine - dot(query, vector);
                    bias += f64::from(error);
                    beyond += u32::from(error.abs() > estimate.bound);
                    all += 1;
                }
            }
            assert!((bias / f64::from(all)).abs() < 0.01, "{dimensions}: {}", bias / f64::from(all));
            assert!(f64::from(beyond) < 0.08 * f64::from(all), "{dimensions}: {beyond} of {all}");
        }
    }

    #[test]
    fn a_decoded_code_is_like_the_vector() {
        for dimensions in [64, 100, 384] {
            let rotation = Rotation::new(dimensions, 5);
            let (vectors, zero) = (noise(20, dimensions, 3), vec![0.0; dimensions]);
            for vector in vectors {
                let mut code = Vec::new();
                put_code(&mut code, (&vector, &rotation.rotate(&vector)), (&zero, &rotation.rotate(&zero)));
                let decoded = rotation.decode(&code, dimensions);
                let cosine = dot(&vector, &decoded) / (dot(&vector, &vector) * dot(&decoded, &decoded)).sqrt();
                assert!(cosine > 0.7, "{dimensions}: {cosine}");
            }
        }
    }

    #[test]
    fn a_vector_at_its_centre_is_known_exactly() {
        let rotation = Rotation::new(64, 7);
        let (vector, query) = (noise(1, 64, 1).remove(0), noise(1, 64, 2).remove(0));
        let turned = rotation.rotate(&vector);
        let mut code = Vec::new();
        put_code(&mut code, (&vector, &turned), (&vector, &turned));
        let estimate = QueryTable::new(&rotation, &query).estimate(&code, dot(&query, &vector), 1.0).unwrap();
        assert!((estimate.cosine - dot(&query, &vector)).abs() < 1e-3 && estimate.bound == 0.0);
    }

    #[test]
    fn a_code_without_a_cosine_is_refused() {
        let rotation = Rotation::new(64, 7);
        let table = QueryTable::new(&rotation, &[0.1; 64]);
        assert!(table.estimate(&[0; 14], 0.0, 1.0).is_err());
        assert!(table.estimate(&[1; 13], 0.0, 1.0).is_err());
    }
}
