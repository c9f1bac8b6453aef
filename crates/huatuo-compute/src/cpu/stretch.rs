//! Products in 8 bits with one scale a stretch of 128 columns, for weights that are rounded when they are loaded.
//!
//! ggml's blocks of 32 keep more of a number's bits, but a block's sums are scaled after eight dot products, which takes
//! about as long as those. Here it is after 32. Weights have 7 bits, 1 to 127 less 64: what every instruction set
//! multiplies with signed activations in one dot product, so an encoder gives the same vectors on every host.

use std::slice::from_raw_parts_mut;

use super::lanes::Lanes;
use super::pool::Pool;
use super::product::Job;

/// Columns of a stretch.
pub(super) const STRETCH: usize = 128;
/// Vectors of rows side by side: an activation is read once for both.
pub(super) const VECTORS: usize = 2;
/// Tokens that a weight meets while it is in a register.
const TOKENS: usize = 4;
/// Columns of a dot product.
const CHUNK: usize = 4;
/// What is added to a weight when it is stored.
const OFFSET: f32 = 64.0;
/// Greatest weight, and greatest activation.
const GREATEST_WEIGHT: f32 = 63.0;
const GREATEST_ACTIVATION: f32 = 127.0;
/// Numbers below which quantizing is not worth sharing among threads: some microseconds.
const LEAST_SHARED: usize = 8192;

/// Bytes of a stretch of a group of `VECTORS · lanes` rows: weights `[chunk, vector, row, column]`, then a scale a row.
pub(super) fn bytes(lanes: usize) -> usize {
    VECTORS * lanes * (STRETCH + 4)
}

/// Rounds the weights of one row of a group, `columns` a multiple of [`STRETCH`], into the group's stretches.
pub(super) fn pack(numbers: &[f32], row: usize, lanes: usize, group: &mut [u8]) {
    for (numbers, out) in numbers.chunks_exact(STRETCH).zip(group.chunks_exact_mut(bytes(lanes))) {
        let greatest = numbers.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let scale = greatest / GREATEST_WEIGHT;
        let inverse = if scale > f32::MIN_POSITIVE && scale.is_finite() { 1.0 / scale } else { 0.0 };
        for (column, x) in numbers.iter().enumerate() {
            out[place(row, column, lanes)] = ((x * inverse).round_ties_even() + OFFSET) as u8;
        }
        let at = VECTORS * lanes * STRETCH + 4 * row;
        out[at..at + 4].copy_from_slice(&scale.to_le_bytes());
    }
}

/// Reads one row of a group back.
pub(super) fn unpack(group: &[u8], row: usize, lanes: usize, out: &mut [f32]) {
    for (numbers, bytes) in out.chunks_exact_mut(STRETCH).zip(group.chunks_exact(bytes(lanes))) {
        let at = VECTORS * lanes * STRETCH + 4 * row;
        let scale = f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        for (column, x) in numbers.iter_mut().enumerate() {
            *x = scale * (f32::from(bytes[place(row, column, lanes)]) - OFFSET);
        }
    }
}

/// Where a weight's byte stands in its stretch.
fn place(row: usize, column: usize, lanes: usize) -> usize {
    (column / CHUNK * VECTORS * lanes + row) * CHUNK + column % CHUNK
}

/// Activations in 8 bits, once for all matrices that they meet, in tiles of [`TOKENS`], the last one smaller.
pub(super) struct StretchActivations {
    /// Stretches of a row.
    stretches: usize,
    /// `[tile, stretch, chunk, token]`, each four activations as the dot products read them.
    quants: Vec<u8>,
    /// `[tile, stretch, token]`, what a sum is multiplied with.
    scales: Vec<f32>,
    /// `[tile, stretch, token]`, what the weights' offset has added to a sum, scaled and negative.
    corrections: Vec<f32>,
}

impl StretchActivations {
    /// Quantizes `x` of `[rows, columns]`; columns are whole stretches.
    pub fn quantize<L: Lanes>(x: &[f32], columns: usize, pool: &Pool) -> Self {
        let (stretches, all) = (columns / STRETCH, x.len() / STRETCH);
        let mut out = Self {
            stretches,
            quants: vec![0; all * STRETCH / CHUNK * L::CHUNK_BYTES],
            scales: vec![0.0; all],
            corrections: vec![0.0; all],
        };
        let tiles = (x.len() / columns.max(1)).div_ceil(TOKENS);
        let tasks = (x.len() / LEAST_SHARED).min(pool.threads()).min(tiles).max(1);
        let parts = Parts(out.quants.as_mut_ptr(), out.scales.as_mut_ptr(), out.corrections.as_mut_ptr());
        let parts = &parts;
        pool.run(tasks, &|task| {
            let chunk_bytes = STRETCH / CHUNK * L::CHUNK_BYTES;
            let of_tiles = x.chunks(TOKENS * columns).enumerate().take((task + 1) * tiles / tasks);
            for (tile, x) in of_tiles.skip(task * tiles / tasks) {
                let (at, len) = (tile * TOKENS * stretches, x.len() / STRETCH);
                // SAFETY: a tile's places in the three buffers, which belong to no other task.
                let (quants, scales, corrections) = unsafe {
                    (
                        from_raw_parts_mut(parts.0.add(at * chunk_bytes), len * chunk_bytes),
                        from_raw_parts_mut(parts.1.add(at), len),
                        from_raw_parts_mut(parts.2.add(at), len),
                    )
                };
                let count = x.len() / columns;
                for (token, x) in x.chunks_exact(columns).enumerate() {
                    for (stretch, x) in x.chunks_exact(STRETCH).enumerate() {
                        let at = stretch * count;
                        let quants = &mut quants[at * chunk_bytes..][..count * chunk_bytes];
                        let (scale, sum) = quantize_stretch::<L>(x, token, count, quants);
                        scales[at + token] = scale;
                        corrections[at + token] = -OFFSET * scale * sum as f32;
                    }
                }
            }
        });
        out
    }
}

/// The buffers of which each task writes its own tiles.
struct Parts(*mut u8, *mut f32, *mut f32);
// SAFETY: see `quantize`.
unsafe impl Sync for Parts {}

/// Writes one token's quants of a stretch between those of the others; gives their scale and sum.
#[inline(always)]
fn quantize_stretch<L: Lanes>(x: &[f32], token: usize, count: usize, out: &mut [u8]) -> (f32, i32) {
    // Running maxima and sums, so that the compiler may use vectors.
    let mut greatest = [0.0f32; 8];
    for x in x.chunks_exact(8) {
        for (g, x) in greatest.iter_mut().zip(x) {
            let x = x.abs();
            *g = if x > *g { x } else { *g };
        }
    }
    let scale = greatest.iter().fold(0.0f32, |m, x| m.max(*x)) / GREATEST_ACTIVATION;
    // What is not a number, or so small that its inverse isn't, becomes zero: nothing downstream may trap.
    let inverse = if scale > f32::MIN_POSITIVE && scale.is_finite() { 1.0 / scale } else { 0.0 };
    let mut quants = [0i8; STRETCH];
    for (q, x) in quants.iter_mut().zip(x) {
        *q = nearest(x * inverse) as i8;
    }
    for (chunk, quants) in quants.chunks_exact(CHUNK).enumerate() {
        let at = (chunk * count + token) * L::CHUNK_BYTES;
        L::arrange_chunk(quants, &mut out[at..at + L::CHUNK_BYTES]);
    }
    (scale, quants.iter().map(|q| i32::from(*q)).sum())
}

/// The nearest whole number of one up to [`GREATEST_ACTIVATION`], zero of what is no number; without a conversion that
/// saturates, which not every instruction set has for vectors.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to a whole number in the low bits
    let x = if x.abs() < GREATEST_ACTIVATION + 0.5 { x } else { 0.0 };
    ((x + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

/// `out[token, row] = Σ x[token, k] · w[row, k]`.
///
/// # Safety
///
/// As [`super::product::quantized`].
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes>(job: &Job<'_>, activations: &StretchActivations) {
    let (rows, columns) = job.shape;
    let (stretches, width) = (columns / STRETCH, VECTORS * L::ROWS);
    let group_bytes = stretches * bytes(L::ROWS);
    for group in job.groups.clone() {
        let weights = job.weights[group * group_bytes..][..group_bytes].as_ptr();
        let kept = (rows - group * width).min(width);
        for token in (0..job.tokens).step_by(TOKENS) {
            // SAFETY: the caller's; tokens stay below the job's.
            unsafe {
                let out = Place { out: job.out.add(token * rows + group * width), rows, kept };
                match job.tokens - token {
                    1 => tile::<L, 1>(weights, activations, token, out),
                    2 => tile::<L, 2>(weights, activations, token, out),
                    3 => tile::<L, 3>(weights, activations, token, out),
                    _ => tile::<L, TOKENS>(weights, activations, token, out),
                }
            }
        }
    }
}

/// Where a tile's results go: `kept` rows of each token.
#[derive(Clone, Copy)]
struct Place {
    out: *mut f32,
    rows: usize,
    kept: usize,
}

/// One group of rows with a tile of `T` tokens from `token` on.
#[inline(always)]
unsafe fn tile<L: Lanes, const T: usize>(
    weights: *const u8,
    activations: &StretchActivations,
    token: usize,
    place: Place,
) {
    let first = token * activations.stretches;
    // SAFETY: the caller's; `weights` holds the group's stretches, `activations` the tokens `token..token + T`.
    unsafe {
        let mut totals = [[L::splat(0.0); VECTORS]; T];
        let mut at = weights;
        let mut quants = activations.quants.as_ptr().add(first * (STRETCH / CHUNK * L::CHUNK_BYTES));
        for stretch in 0..activations.stretches {
            let mut sums = [[L::zero(); VECTORS]; T];
            for _ in 0..STRETCH / CHUNK {
                let w: [L::Bytes; VECTORS] = std::array::from_fn(|v| L::load(at.add(v * CHUNK * L::ROWS)));
                for (t, sums) in sums.iter_mut().enumerate() {
                    for (sum, w) in sums.iter_mut().zip(w) {
                        *sum = L::dot_unsigned(*sum, w, quants.add(t * L::CHUNK_BYTES));
                    }
                }
                at = at.add(VECTORS * CHUNK * L::ROWS);
                quants = quants.add(T * L::CHUNK_BYTES);
            }
            let scales: [L::Floats; VECTORS] =
                std::array::from_fn(|v| L::load_f32(at.add(v * 4 * L::ROWS).cast::<f32>()));
            for (t, (sums, totals)) in sums.into_iter().zip(&mut totals).enumerate() {
                let index = first + stretch * T + t;
                let scale = L::splat(*activations.scales.as_ptr().add(index));
                let correction = L::splat(*activations.corrections.as_ptr().add(index));
                for ((sum, total), scales) in sums.into_iter().zip(totals).zip(scales) {
                    *total = L::mul_add(L::mul_add(L::finish(sum), scale, correction), scales, *total);
                }
            }
            at = at.add(VECTORS * 4 * L::ROWS);
        }
        for (t, totals) in totals.into_iter().enumerate() {
            super::panel::store::<L>(totals, place.out.add(t * place.rows), place.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_off_by_half_a_step_at_most() {
        let numbers: Vec<f32> = (0..256).map(|i| (i as f32 * 0.7).sin() * (1.0 + (i / 128) as f32)).collect();
        let mut group = vec![0; 2 * bytes(4)];
        pack(&numbers, 5, 4, &mut group);
        let mut out = vec![0.0; 256];
        unpack(&group, 5, 4, &mut out);
        for (i, (got, wanted)) in out.iter().zip(&numbers).enumerate() {
            let step = (1.0 + (i / 128) as f32) / GREATEST_WEIGHT;
            assert!((got - wanted).abs() <= 0.501 * step, "{i}: {got} {wanted}");
        }
    }

    #[test]
    fn zeros_tiny_numbers_and_no_numbers_become_zero() {
        for x in [0.0, f32::MIN_POSITIVE / 4.0, f32::NAN, f32::INFINITY] {
            let mut group = vec![0; bytes(4)];
            pack(&[x; STRETCH], 0, 4, &mut group);
            assert!(group[..4].iter().all(|w| *w <= 127));
            assert_eq!(nearest(if x.is_nan() { x } else { 0.0 }), 0);
        }
        assert_eq!([nearest(127.000_02), nearest(-127.0), nearest(0.5), nearest(-1.6)], [127, -127, 0, -2]);
    }
}
