//! Activations quantized to 8 bits, once for all matrices that they meet.

use std::slice::from_raw_parts_mut;

use super::format::BLOCK;
use super::lanes::Lanes;
use super::pool::Pool;

/// Numbers below which quantizing is not worth sharing among threads: some microseconds.
const LEAST_SHARED: usize = 8192;

/// Rows of activations in blocks of 32, each with a scale: `x ≈ scale · quant`, quants from -127 to 127.
///
/// Tokens stand in tiles, see [`tiles`]; a tile's blocks follow each other, in each block its tokens. So a kernel finds
/// all that it reads for one block of weights side by side.
pub(super) struct Activations {
    /// Blocks of a row.
    pub blocks: usize,
    /// `[tile, block, token, ACTIVATION_BYTES]`.
    pub quants: Vec<u8>,
    /// `[tile, block, token]`.
    pub scales: Vec<f32>,
    /// Sums of the scaled quants of each half block, `[tile, block, half, token]`.
    pub sums: Vec<f32>,
}

/// Tokens that a kernel with room for `most` takes together, as (first token, number): 8, 4 or 1.
pub(super) fn tiles(tokens: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let count = match tokens - first {
            0 => return None,
            8.. if most >= 8 => 8,
            4.. if most >= 4 => 4,
            _ => 1,
        };
        first += count;
        Some((first - count, count))
    })
}

impl Activations {
    /// Quantizes `x` of `[rows, columns]`; columns are whole blocks.
    pub fn quantize<L: Lanes>(x: &[f32], columns: usize, pool: &Pool) -> Self {
        let (blocks, all) = (columns / BLOCK, x.len() / BLOCK);
        let mut out = Self {
            blocks,
            quants: vec![0; all * L::ACTIVATION_BYTES],
            scales: vec![0.0; all],
            sums: vec![0.0; 2 * all],
        };
        let tiles: Vec<(usize, usize)> = tiles(x.len() / columns.max(1), L::TOKENS).collect();
        let tasks = (x.len() / LEAST_SHARED).min(pool.threads()).min(tiles.len()).max(1);
        let parts = Parts(out.quants.as_mut_ptr(), out.scales.as_mut_ptr(), out.sums.as_mut_ptr());
        let parts = &parts;
        pool.run(tasks, &|task| {
            for &(first, count) in &tiles[task * tiles.len() / tasks..(task + 1) * tiles.len() / tasks] {
                let (at, len) = (first * blocks, count * blocks);
                // SAFETY: a tile's places in the three buffers, which belong to no other task.
                let (quants, scales, sums) = unsafe {
                    (
                        from_raw_parts_mut(parts.0.add(at * L::ACTIVATION_BYTES), len * L::ACTIVATION_BYTES),
                        from_raw_parts_mut(parts.1.add(at), len),
                        from_raw_parts_mut(parts.2.add(2 * at), 2 * len),
                    )
                };
                quantize_tile::<L>(&x[first * columns..(first + count) * columns], count, quants, scales, sums);
            }
        });
        out
    }
}

/// The buffers of which each task writes its own tiles.
struct Parts(*mut u8, *mut f32, *mut f32);
// SAFETY: see `quantize`.
unsafe impl Sync for Parts {}

fn quantize_tile<L: Lanes>(x: &[f32], count: usize, quants: &mut [u8], scales: &mut [f32], sums: &mut [f32]) {
    for (token, row) in x.chunks_exact(x.len() / count).enumerate() {
        for (block, x) in row.chunks_exact(BLOCK).enumerate() {
            let (block_quants, scale) = quantize_block(x);
            let at = block * count;
            scales[at + token] = scale;
            for (half, quants) in block_quants.chunks_exact(BLOCK / 2).enumerate() {
                let sum: i32 = quants.iter().map(|q| i32::from(*q)).sum();
                sums[2 * at + half * count + token] = scale * sum as f32;
            }
            L::arrange(&block_quants, &mut quants[(at + token) * L::ACTIVATION_BYTES..][..L::ACTIVATION_BYTES]);
        }
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
