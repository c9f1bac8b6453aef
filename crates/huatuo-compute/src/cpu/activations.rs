//! Activations quantized to 8 bits, once for all matrices that they meet.

use super::format::BLOCK;
use super::lanes::Lanes;

/// Rows of activations in blocks of 32, each with a scale: `x ≈ scale · quant`, quants from -127 to 127.
pub(super) struct Activations {
    /// Blocks of a row.
    pub blocks: usize,
    /// `[rows, blocks, ACTIVATION_BYTES]`.
    pub quants: Vec<u8>,
    /// `[rows, blocks]`.
    pub scales: Vec<f32>,
    /// Sums of the quants of each half block, `[rows, blocks, 2]`.
    pub sums: Vec<[i32; 2]>,
}

impl Activations {
    /// Quantizes `x` of `[rows, columns]`; columns are whole blocks.
    pub fn quantize<L: Lanes>(x: &[f32], columns: usize) -> Self {
        let blocks = x.len() / BLOCK;
        let mut out = Self {
            blocks: columns / BLOCK,
            quants: vec![0; blocks * L::ACTIVATION_BYTES],
            scales: Vec::with_capacity(blocks),
            sums: Vec::with_capacity(blocks),
        };
        for (x, bytes) in x.chunks_exact(BLOCK).zip(out.quants.chunks_exact_mut(L::ACTIVATION_BYTES)) {
            let (quants, scale) = quantize_block(x);
            let half = |quants: &[i8]| quants.iter().map(|q| i32::from(*q)).sum();
            out.sums.push([half(&quants[..BLOCK / 2]), half(&quants[BLOCK / 2..])]);
            out.scales.push(scale);
            L::arrange(&quants, bytes);
        }
        out
    }
}

/// The nearest quants; halves are rounded to even, which is one instruction everywhere.
#[inline(always)]
fn quantize_block(x: &[f32]) -> ([i8; BLOCK], f32) {
    // Eight running maxima, so that the compiler may use vectors.
    let mut greatest = [0.0f32; 8];
    for x in x.chunks_exact(8) {
        for (g, x) in greatest.iter_mut().zip(x) {
            let x = x.abs();
            *g = if x > *g { x } else { *g };
        }
    }
    let greatest = greatest.iter().fold(0.0f32, |m, x| m.max(*x));
    let scale = greatest / 127.0;
    // What is not a number, or so small that its inverse isn't, becomes zero: nothing downstream may trap.
    let inverse = if scale > f32::MIN_POSITIVE && scale.is_finite() { 1.0 / scale } else { 0.0 };
    let mut quants = [0; BLOCK];
    for (q, x) in quants.iter_mut().zip(x) {
        *q = (x * inverse).round_ties_even() as i8;
    }
    (quants, scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_off_by_half_a_step_at_most() {
        let x: Vec<f32> = (0..32).map(|i| (i as f32).sin() * 3.0).collect();
        let (quants, scale) = quantize_block(&x);
        for (q, x) in quants.iter().zip(&x) {
            assert!((f32::from(*q) * scale - x).abs() <= scale * 0.5001);
        }
    }

    #[test]
    fn zeros_tiny_numbers_and_no_numbers_stay_in_range() {
        for x in [0.0, f32::MIN_POSITIVE / 4.0, f32::NAN, f32::INFINITY] {
            let (quants, _) = quantize_block(&[x; 32]);
            assert!(quants.iter().all(|q| *q >= -127));
        }
    }
}
