//! Vectors in int8 steps with a scale each, and their products.

use crate::error::Malformed;

/// Bytes of a row's scale.
const SCALE_BYTES: usize = 4;
/// Independent sums of the dot product: two AVX2 or four SIMD128 registers in flight.
const LANES: usize = 16;

/// Divides a vector by its length; a vector of zeros stays one. Fails with the position of a number that is not finite.
pub(crate) fn normalise(vector: &[f32]) -> Result<Vec<f32>, usize> {
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        return Err(position);
    }
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    Ok(vector.iter().map(|x| (f64::from(*x) * factor) as f32).collect())
}

/// Bytes of one row: its steps and its scale.
pub(crate) fn row_bytes(dimensions: usize) -> usize {
    dimensions + SCALE_BYTES
}

/// A vector as it is stored: scale times steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub steps: &'a [u8],
    pub scale: f32,
}

impl<'a> Row<'a> {
    /// Reads a row of [`row_bytes`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (steps, scale) = bytes.split_last_chunk::<SCALE_BYTES>().ok_or(Malformed("a vector has no scale"))?;
        let scale = f32::from_le_bytes(*scale);
        if !(0.0..=1.0).contains(&scale) {
            return Err(Malformed("a vector's scale is not between 0 and 1"));
        }
        Ok(Self { steps, scale })
    }

    /// The inner product with a vector of as many numbers.
    pub fn product(&self, query: &[f32]) -> f32 {
        dot(query, self.steps) * self.scale
    }

    /// The square of its length.
    pub fn square(&self) -> f32 {
        let squares: i64 = self.steps.iter().map(|step| i64::from(*step as i8).pow(2)).sum();
        squares as f32 * self.scale * self.scale
    }

    /// Its numbers.
    #[cfg(feature = "write")]
    pub fn numbers(&self) -> Vec<f32> {
        self.steps.iter().map(|step| f32::from(*step as i8) * self.scale).collect()
    }
}

/// Appends a row: the vector in int8 steps, and the scale that gives it a length again (1 for what is indexed).
#[cfg(feature = "write")]
pub(crate) fn put_row(out: &mut Vec<u8>, vector: &[f32], length: f32) {
    let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let steps = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let start = out.len();
    out.extend(vector.iter().map(|x| (x * steps).round() as i8 as u8));
    let squares: i64 = out[start..].iter().map(|byte| i64::from(*byte as i8).pow(2)).sum();
    // The scale makes the *quantised* row as long as it should be, so its product with a unit query is a cosine.
    let scale = if squares > 0 { length / (squares as f64).sqrt() as f32 } else { 0.0 };
    out.extend_from_slice(&scale.min(1.0).to_le_bytes());
}

/// The product of a query and a row of int8 steps, written so that the compiler makes SIMD of it on every target.
fn dot(query: &[f32], steps: &[u8]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (query_chunks, step_chunks) = (query.chunks_exact(LANES), steps.chunks_exact(LANES));
    let tail = query_chunks.remainder().iter().zip(step_chunks.remainder());
    let tail: f32 = tail.map(|(x, step)| x * f32::from(*step as i8)).sum();
    for (xs, steps) in query_chunks.zip(step_chunks) {
        for ((sum, x), step) in sums.iter_mut().zip(xs).zip(steps) {
            *sum += x * f32::from(*step as i8);
        }
    }
    sums.iter().sum::<f32>() + tail
}

/// Writes the products of some steps with rows behind one another, each times its row's scale. Products of steps are exact, so they are
/// the same on every machine.
#[cfg(feature = "write")]
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2"))]
pub(crate) fn step_products(steps: &[u8], rows: &[u8], products: &mut [f32]) {
    // A loop, since a closure given to an iterator would be compiled without the targets.
    for (row, out) in rows.chunks_exact(row_bytes(steps.len())).zip(products) {
        let (row, scale) = row.split_at(steps.len());
        let product: i32 =
            steps.iter().zip(row).map(|(a, b)| i32::from(i16::from(*a as i8) * i16::from(*b as i8))).sum();
        *out = product as f32 * scale.try_into().map_or(0.0, f32::from_le_bytes);
    }
}

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The cosine by its definition, in double precision and without quantisation.
    fn naive_cosine(a: &[f32], b: &[f32]) -> f64 {
        let product =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
        let lengths = (product(a, a) * product(b, b)).sqrt();
        if lengths > 0.0 { product(a, b) / lengths } else { 0.0 }
    }

    fn cosine(row: &[f32], query: &[f32]) -> f32 {
        let mut bytes = Vec::new();
        put_row(&mut bytes, &normalise(row).unwrap(), 1.0);
        Row::parse(&bytes).unwrap().product(&normalise(query).unwrap())
    }

    proptest! {
        #[test]
        fn products_agree_with_the_definition(
            pair in (1usize..100).prop_flat_map(|dimensions| vec(vec(-1.0f32..1.0, dimensions), 2))
        ) {
            prop_assert!((f64::from(cosine(&pair[0], &pair[1])) - naive_cosine(&pair[0], &pair[1])).abs() < 0.01);
        }

        #[test]
        fn products_of_steps_are_exact(pairs in vec((any::<u8>(), any::<u8>()), 0..300)) {
            let (a, b): (Vec<u8>, Vec<u8>) = pairs.iter().copied().unzip();
            let naive: i32 = pairs.iter().map(|(a, b)| i32::from(*a as i8) * i32::from(*b as i8)).sum();
            let row = [b.as_slice(), &0.5f32.to_le_bytes()].concat();
            let mut products = [f32::NAN; 2];
            step_products(&a, &row.repeat(2), &mut products);
            prop_assert_eq!(products, [naive as f32 * 0.5; 2]);
        }
    }

    #[test]
    fn a_vector_of_zeros_is_like_nothing() {
        assert_eq!(cosine(&[0.0; 3], &[1.0, 2.0, 3.0]), 0.0);
    }

    #[test]
    fn a_vector_is_like_itself_and_has_length_one() {
        let vector: Vec<f32> = (0..256).map(|n| (n as f32 * 0.7).sin()).collect();
        assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-4);
        let mut bytes = Vec::new();
        put_row(&mut bytes, &normalise(&vector).unwrap(), 1.0);
        assert!((Row::parse(&bytes).unwrap().square() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_scale_out_of_range_is_refused() {
        assert!(Row::parse(&[1, 2, 3]).is_err());
        assert!(Row::parse(&[&[1, 2][..], &f32::NAN.to_le_bytes()].concat()).is_err());
    }
}
