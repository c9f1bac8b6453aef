//! Products of packed matrices with activations: one kernel for all formats, instruction sets and numbers of tokens.

use std::ops::Range;

use super::activations::Activations;
use super::format::{BLOCK, CHUNKS, Format};
use super::lanes::Lanes;
use super::panel::{self, PANEL_VECTORS, Panel};

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
    for group in job.groups.clone() {
        let weights = &job.weights[group * group_bytes..][..group_bytes];
        let place = Place { out: job.out, rows, row: group * L::ROWS };
        let mut token = 0;
        // SAFETY: the caller's; tokens stay below the job's.
        unsafe {
            while job.tokens - token >= 8 && L::TOKENS >= 8 {
                tile::<L, F, 8>(weights.as_ptr(), activations, token, place);
                token += 8;
            }
            while job.tokens - token >= 4 {
                tile::<L, F, 4>(weights.as_ptr(), activations, token, place);
                token += 4;
            }
            while token < job.tokens {
                tile::<L, F, 1>(weights.as_ptr(), activations, token, place);
                token += 1;
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

/// One group of rows with `T` tokens from `token` on.
#[inline(always)]
unsafe fn tile<L: Lanes, F: Format, const T: usize>(
    weights: *const u8,
    activations: &Activations,
    token: usize,
    place: Place,
) {
    let blocks = activations.blocks;
    let offset = if F::SIGNED { L::SIGNED_BIAS } else { F::OFFSET };
    // SAFETY: the caller's; `weights` holds `blocks` group blocks, `activations` the tokens `token..token + T`.
    unsafe {
        let mut totals = [L::splat(0.0); T];
        let quants: [*const u8; T] =
            std::array::from_fn(|t| activations.quants.as_ptr().add((token + t) * blocks * L::ACTIVATION_BYTES));
        let scales: [*const f32; T] = std::array::from_fn(|t| activations.scales.as_ptr().add((token + t) * blocks));
        let sums: [*const [i32; 2]; T] = std::array::from_fn(|t| activations.sums.as_ptr().add((token + t) * blocks));
        let mut at = weights;
        for block in 0..blocks {
            let mut factors = at.add(L::ROWS * F::DATA).cast::<u16>();
            for half in 0..F::SCALES {
                let scale = L::load_f16(factors);
                factors = factors.add(L::ROWS);
                let mut parts: [L::Sums; T] = std::array::from_fn(|t| {
                    let [first, second] = *sums[t].add(block);
                    let sum = match (F::SCALES, half) {
                        (1, _) => first + second,
                        (_, 0) => first,
                        _ => second,
                    };
                    L::begin(-offset * sum)
                });
                let per_scale = CHUNKS / F::SCALES;
                for chunk in half * per_scale..(half + 1) * per_scale {
                    let w = F::chunk::<L>(at, chunk);
                    for t in 0..T {
                        let a = quants[t].add(block * L::ACTIVATION_BYTES + chunk * L::CHUNK_BYTES);
                        parts[t] =
                            if F::SIGNED { L::dot_signed(parts[t], w, a) } else { L::dot_unsigned(parts[t], w, a) };
                    }
                }
                for t in 0..T {
                    let factor = L::mul(scale, L::splat(*scales[t].add(block)));
                    totals[t] = L::mul_add(L::finish(parts[t]), factor, totals[t]);
                }
            }
            if F::HAS_MINIMUM {
                let minimum = L::load_f16(factors);
                for t in 0..T {
                    let [first, second] = *sums[t].add(block);
                    let factor = L::splat(-*scales[t].add(block) * (first + second) as f32);
                    totals[t] = L::mul_add(minimum, factor, totals[t]);
                }
            }
            at = at.add(F::bytes(L::ROWS));
        }
        for (t, total) in totals.into_iter().enumerate() {
            place.store::<L>(token + t, total);
        }
    }
}

/// The same for f32 weights, packed in panels; `x` is `[tokens, columns]`.
///
/// # Safety
///
/// As [`quantized`].
#[inline(always)]
pub(super) unsafe fn single<L: Lanes>(job: &Job<'_>, x: &[f32]) {
    let (rows, columns) = job.shape;
    let width = PANEL_VECTORS * L::ROWS;
    for group in job.groups.clone() {
        let weights = job.weights[group * columns * width * 4..][..columns * width * 4].as_ptr().cast::<f32>();
        let panel = Panel { weights, columns, stride: width };
        let kept = (rows - group * width).min(width);
        let mut token = 0;
        // SAFETY: the caller's; tokens stay below the job's.
        unsafe {
            let x = |t: usize| x.as_ptr().add(t * columns);
            let out = |t: usize| job.out.add(t * rows + group * width);
            while job.tokens - token >= 4 {
                let at = [token, token + 1, token + 2, token + 3];
                panel::multiply::<L, f32, 4>(panel, at.map(x), at.map(out), kept);
                token += 4;
            }
            while token < job.tokens {
                panel::multiply::<L, f32, 1>(panel, [x(token)], [out(token)], kept);
                token += 1;
            }
        }
    }
}
