//! Products of packed matrices with activations: one kernel for all formats, instruction sets and numbers of tokens.

use std::ops::Range;

use super::activations::{Activations, tiles};
use super::format::{BLOCK, CHUNKS, Format};
use super::lanes::Lanes;

/// Groups that a single token meets at once: its activations are read once for all of them, and their sums run side by
/// side, where one group's would wait for each dot product.
pub(super) const DECODE_GROUPS: usize = 4;

/// Groups of rows of a product, for one thread.
pub(super) struct Job<'a> {
    /// Packed weights of the whole matrix.
    pub weights: &'a [u8],
    /// Rows and columns of the matrix.
    pub shape: (usize, usize),
    /// Groups to compute.
    pub groups: Range<usize>,
    /// `[tokens, rows]`; other threads write other rows of it.
    pub out: *mut f32,
    /// Tokens.
    pub tokens: usize,
}

/// `out[token, row] = Σ x[token, k] · w[row, k]` for quantized weights.
///
/// # Safety
///
/// The processor has the instruction set; `weights` holds all groups, `activations` all tokens, and `out` is writable
/// for the rows of the job's groups in every token, by nobody else meanwhile.
#[inline(always)]
pub(super) unsafe fn quantized<L: Lanes, F: Format>(job: &Job<'_>, activations: &Activations) {
    let (rows, columns) = job.shape;
    let group_bytes = F::bytes(L::ROWS) * (columns / BLOCK);
    let weights = |group: usize| job.weights[group * group_bytes..].as_ptr();
    let place = |group: usize| Place { out: job.out, rows, row: group * L::ROWS };
    let mut groups = job.groups.clone();
    // SAFETY: the caller's; tokens stay below the job's.
    unsafe {
        if job.tokens == 1 {
            while groups.len() >= DECODE_GROUPS {
                tile::<L, F, 1, DECODE_GROUPS>(weights(groups.start), activations, 0, place(groups.start));
                groups.start += DECODE_GROUPS;
            }
        }
        for group in groups {
            let (weights, place) = (weights(group), place(group));
            for (token, count) in tiles(job.tokens, L::TOKENS) {
                match count {
                    8 => tile::<L, F, 8, 1>(weights, activations, token, place),
                    4 => tile::<L, F, 4, 1>(weights, activations, token, place),
                    _ => tile::<L, F, 1, 1>(weights, activations, token, place),
                }
            }
        }
    }
}

/// Where a group's results go.
#[derive(Clone, Copy)]
struct Place {
    out: *mut f32,
    rows: usize,
    row: usize,
}

impl Place {
    /// Writes a token's numbers, those of rows that the matrix has.
    #[inline(always)]
    unsafe fn store<L: Lanes>(self, token: usize, x: L::Floats) {
        let kept = (self.rows - self.row).min(L::ROWS);
        // SAFETY: the caller's; only rows below the matrix's are written.
        unsafe {
            let at = self.out.add(token * self.rows + self.row);
            if kept == L::ROWS {
                L::store(x, at);
            } else {
                let mut all = [0.0f32; 16];
                L::store(x, all.as_mut_ptr());
                std::ptr::copy_nonoverlapping(all.as_ptr(), at, kept);
            }
        }
    }
}

/// `G` groups of rows, one behind the other, with the tile of `T` tokens from `token` on.
#[inline(always)]
unsafe fn tile<L: Lanes, F: Format, const T: usize, const G: usize>(
    weights: *const u8,
    activations: &Activations,
    token: usize,
    place: Place,
) {
    let first = token * activations.blocks;
    let (block_bytes, group_bytes) = (F::bytes(L::ROWS), F::bytes(L::ROWS) * activations.blocks);
    // What is added for each unit of the activations' sums: the weights' common offset, or their minimum.
    let offset = if F::SIGNED { L::SIGNED_BIAS } else { F::OFFSET };
    // SAFETY: the caller's; `weights` holds `blocks` blocks of each group, `activations` the tokens `token..token + T`.
    unsafe {
        let mut totals = [[L::splat(0.0); T]; G];
        let mut quants = activations.quants.as_ptr().add(first * L::ACTIVATION_BYTES);
        let mut scales = activations.scales.as_ptr().add(first);
        let mut sums = activations.sums.as_ptr().add(2 * first);
        let mut at = weights;
        for _ in 0..activations.blocks {
            let factors = |g: usize, index: usize| {
                L::load_f16(at.add(g * group_bytes + L::ROWS * F::DATA).cast::<u16>().add(index * L::ROWS))
            };
            for half in 0..F::SCALES {
                let mut parts = [[L::zero(); T]; G];
                for chunk in 0..CHUNKS / F::SCALES {
                    let chunk = half * (CHUNKS / F::SCALES) + chunk;
                    for (g, parts) in parts.iter_mut().enumerate() {
                        let w = F::chunk::<L>(at.add(g * group_bytes), chunk);
                        for (t, part) in parts.iter_mut().enumerate() {
                            let a = quants.add(t * L::ACTIVATION_BYTES + chunk * L::CHUNK_BYTES);
                            *part = if F::SIGNED { L::dot_signed(*part, w, a) } else { L::dot_unsigned(*part, w, a) };
                        }
                    }
                }
                for (g, (parts, totals)) in parts.into_iter().zip(&mut totals).enumerate() {
                    let scale = factors(g, half);
                    for (t, (part, total)) in parts.into_iter().zip(totals).enumerate() {
                        let scaled = L::splat(*scales.add(t));
                        let value = match offset {
                            0 => L::mul(L::finish(part), scaled),
                            _ => {
                                let sum = match F::SCALES {
                                    1 => *sums.add(t) + *sums.add(T + t),
                                    _ => *sums.add(half * T + t),
                                };
                                // the same for all groups, so it is computed once
                                let lifted = L::mul(L::splat(sum), L::splat(-offset as f32));
                                L::mul_add(L::finish(part), scaled, lifted)
                            }
                        };
                        *total = L::mul_add(value, scale, *total);
                    }
                }
            }
            if F::HAS_MINIMUM {
                for (g, totals) in totals.iter_mut().enumerate() {
                    let minimum = factors(g, F::SCALES);
                    for (t, total) in totals.iter_mut().enumerate() {
                        *total = L::mul_add(minimum, L::splat(-(*sums.add(t) + *sums.add(T + t))), *total);
                    }
                }
            }
            at = at.add(block_bytes);
            quants = quants.add(T * L::ACTIVATION_BYTES);
            scales = scales.add(T);
            sums = sums.add(2 * T);
        }
        for (g, totals) in totals.into_iter().enumerate() {
            for (t, total) in totals.into_iter().enumerate() {
                Place { row: place.row + g * L::ROWS, ..place }.store::<L>(token + t, total);
            }
        }
    }
}
