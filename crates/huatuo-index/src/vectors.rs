//! Rows of int8 vectors with a scale each, and the scan over them.

use crate::error::Malformed;
use crate::format::MAX_VECTOR_ROWS;
use crate::varint::Cursor;

/// Bytes of a row's scale.
const SCALE_BYTES: usize = 4;
/// Independent sums of the dot product: two AVX2 or four SIMD128 registers in flight.
const LANES: usize = 16;

/// Some vectors of the index, rows ascending without gaps.
#[derive(Debug)]
pub(crate) struct VectorBlock<'a> {
    pub first_row: u32,
    pub rows: u32,
    dimensions: usize,
    bytes: &'a [u8],
}

/// Divides a vector by its length; a vector of zeros stays one. Fails with the position of a number that is not finite.
pub(crate) fn normalise(vector: &[f32]) -> Result<Vec<f32>, usize> {
    if let Some(position) = vector.iter().position(|x| !x.is_finite()) {
        return Err(position);
    }
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
    Ok(vector.iter().map(|x| (f64::from(*x) * factor) as f32).collect())
}

/// Appends a row: the vector in int8 steps, and the scale that gives it unit length again.
#[cfg(feature = "write")]
pub(crate) fn put_row(out: &mut Vec<u8>, normalised: &[f32]) {
    let largest = normalised.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let steps = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let start = out.len();
    out.extend(normalised.iter().map(|x| (x * steps).round() as i8 as u8));
    let squares: i64 = out[start..].iter().map(|byte| i64::from(*byte as i8).pow(2)).sum();
    // The scale makes the *quantised* row a unit vector, so its product with a unit query is a cosine.
    let scale = if squares > 0 { (1.0 / (squares as f64).sqrt()) as f32 } else { 0.0 };
    out.extend_from_slice(&scale.to_le_bytes());
}

/// Bytes of one row.
pub(crate) fn row_bytes(dimensions: usize) -> usize {
    dimensions + SCALE_BYTES
}

impl<'a> VectorBlock<'a> {
    pub fn parse(payload: &'a [u8], dimensions: usize) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(payload);
        let (first_row, rows) = (cursor.varint_u32()?, cursor.varint_u32()?);
        if rows > MAX_VECTOR_ROWS {
            return Err(Malformed("it has more than 4096 rows"));
        }
        let bytes = cursor.take(rows as usize * row_bytes(dimensions))?;
        cursor.finish()?;
        Ok(Self { first_row, rows, dimensions, bytes })
    }

    /// Appends the cosine of each row with a query of unit length and as many dimensions, in the order of rows.
    pub fn scan(&self, query: &[f32], cosines: &mut Vec<f32>) -> Result<(), Malformed> {
        for row in self.bytes.chunks_exact(row_bytes(self.dimensions)) {
            let (steps, scale) = row.split_at(self.dimensions);
            let scale = f32::from_le_bytes([scale[0], scale[1], scale[2], scale[3]]);
            if !(0.0..=1.0).contains(&scale) {
                return Err(Malformed("a vector's scale is not between 0 and 1"));
            }
            cosines.push((dot(query, steps) * scale).clamp(-1.0, 1.0));
        }
        Ok(())
    }
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

#[cfg(test)]
#[cfg(feature = "write")]
mod tests {
    use super::*;
    use crate::block::encode_rows;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// The cosine by its definition, in double precision and without quantisation.
    fn naive_cosine(a: &[f32], b: &[f32]) -> f64 {
        let product =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
        let lengths = (product(a, a) * product(b, b)).sqrt();
        if lengths > 0.0 { product(a, b) / lengths } else { 0.0 }
    }

    fn scan(rows: &[Vec<f32>], query: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        rows.iter().for_each(|row| put_row(&mut bytes, &normalise(row).unwrap()));
        let payload = encode_rows(7, rows.len() as u32, &bytes);
        let block = VectorBlock::parse(&payload, query.len()).unwrap();
        assert_eq!((block.first_row, block.rows as usize), (7, rows.len()));
        let mut cosines = Vec::new();
        block.scan(&normalise(query).unwrap(), &mut cosines).unwrap();
        cosines
    }

    proptest! {
        #[test]
        fn the_scan_agrees_with_the_definition(
            vectors in (1usize..100).prop_flat_map(|dimensions| vec(vec(-1.0f32..1.0, dimensions), 2..6))
        ) {
            let (query, rows) = vectors.split_last().unwrap();
            for (cosine, row) in scan(rows, query).iter().zip(rows) {
                prop_assert!((f64::from(*cosine) - naive_cosine(query, row)).abs() < 0.01);
            }
        }

        #[test]
        fn any_bytes_give_vectors_or_an_error(payload: Vec<u8>, dimensions in 1usize..20) {
            if let Ok(block) = VectorBlock::parse(&payload, dimensions) {
                let _ = block.scan(&vec![0.5; dimensions], &mut Vec::new());
            }
        }
    }

    #[test]
    fn a_vector_of_zeros_is_like_nothing() {
        assert_eq!(scan(&[vec![0.0; 3]], &[1.0, 2.0, 3.0]), [0.0]);
    }

    #[test]
    fn a_vector_is_like_itself() {
        let vector: Vec<f32> = (0..256).map(|n| (n as f32 * 0.7).sin()).collect();
        assert!((scan(std::slice::from_ref(&vector), &vector)[0] - 1.0).abs() < 1e-4);
    }
}
