//! Products with unquantized weights, in panels of `PANEL_VECTORS · ROWS` rows side by side.
//!
//! Weights stay as they are stored and are widened in registers: reading them is what takes time. Those of bfloat16 stand in
//! pairs of columns, `[pair, row, column of the pair]`, as matrix instructions read them.
//!
//! A token's sums are added up in the same order whatever other tokens there are, so that an answer doesn't depend on what is
//! computed together with it: column after column, and for bfloat16 as matrix instructions do it (see [`Pairs`]).

use super::lanes::Lanes;
use super::panel::{self, Element, PANEL_VECTORS, Panel};
use super::product::Job;
use crate::Encoding;

/// Bytes of a panel of `width` rows.
pub(super) fn bytes(encoding: Encoding, columns: usize, width: usize) -> usize {
    stored_columns(encoding, columns) * width * encoding.block_bytes()
}

/// The same, where the numbers may be a damaged file's.
pub(super) fn checked_bytes(encoding: Encoding, columns: usize, width: usize) -> Option<usize> {
    columns.checked_add(1)?.checked_mul(width * encoding.block_bytes())?;
    Some(bytes(encoding, columns, width))
}

fn stored_columns(encoding: Encoding, columns: usize) -> usize {
    if encoding == Encoding::Bf16 { columns.next_multiple_of(2) } else { columns }
}

/// Where a number's bytes stand in its panel.
pub(super) fn place(encoding: Encoding, row: usize, column: usize, width: usize) -> usize {
    match encoding {
        Encoding::Bf16 => 2 * (2 * (column / 2 * width + row) + column % 2),
        _ => encoding.block_bytes() * (column * width + row),
    }
}

/// Panels that a single token meets at once: as many streams of weights come from memory side by side, and enough additions are
/// under way.
const DECODE_PANELS: usize = 4;
/// Tokens that a panel of weights meets together.
const TOKENS: usize = 4;

/// Activations for products with bfloat16 weights: rounded to the same precision, which is what such models were trained with, and
/// what matrix instructions read.
pub(super) fn round(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| super::tiles::nearest(*x).to_f32()).collect()
}

/// Rows `[tokens, columns]` in tiles of [`TOKENS`], the last one smaller: `[tile, column, token]`. A kernel finds
/// what a column of weights meets side by side, behind one pointer instead of several.
pub(super) fn interleave(x: &[f32], columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for tile in x.chunks(TOKENS * columns.max(1)) {
        match tile.len() / columns.max(1) {
            TOKENS => {
                let (first, second) = tile.split_at(2 * columns);
                let ((a, b), (c, d)) = (first.split_at(columns), second.split_at(columns));
                out.extend(a.iter().zip(b).zip(c.iter().zip(d)).flat_map(|((a, b), (c, d))| [*a, *b, *c, *d]));
            }
            count => out.extend((0..columns).flat_map(|k| (0..count).map(move |t| tile[t * columns + k]))),
        }
    }
    out
}

/// `out[token, row] = Σ x[token, k] · w[row, k]`; `x` is `[tokens, columns]` as [`interleave`] puts it.
///
/// # Safety
///
/// As [`super::product::quantized`].
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes>(encoding: Encoding, job: &Job<'_>, x: &[f32]) {
    // SAFETY: the caller's.
    unsafe {
        match encoding {
            Encoding::F16 => of_columns::<L, u16>(job, x),
            Encoding::Bf16 => of_pairs::<L>(job, x),
            _ => of_columns::<L, f32>(job, x),
        }
    }
}

/// # Safety
///
/// As [`multiply`].
#[inline(always)]
unsafe fn of_columns<L: Lanes, E: Element>(job: &Job<'_>, x: &[f32]) {
    let ((rows, columns), stride) = (job.shape, PANEL_VECTORS * L::ROWS);
    let panel_bytes = columns * stride * size_of::<E>();
    let mut groups = job.groups.clone();
    // No closure around the kernels here and below: it would be compiled without the instruction set.
    if job.tokens == 1 {
        while groups.len() >= DECODE_PANELS && (groups.start + DECODE_PANELS) * stride <= rows {
            let weights = job.weights[groups.start * panel_bytes..][..DECODE_PANELS * panel_bytes].as_ptr().cast::<E>();
            // SAFETY: the caller's; all rows of these panels are the matrix's.
            unsafe { single_token::<L, E>(weights, columns, x.as_ptr(), job.out.add(groups.start * stride)) };
            groups.start += DECODE_PANELS;
        }
    }
    for number in groups {
        let weights = job.weights[number * panel_bytes..][..panel_bytes].as_ptr().cast::<E>();
        let panel = Panel { weights, columns, stride };
        let kept = (rows - number * stride).min(stride);
        for token in (0..job.tokens).step_by(TOKENS) {
            // SAFETY: the caller's; tokens stay below the job's.
            unsafe {
                let (x, out) = (x.as_ptr().add(token * columns), job.out.add(token * rows + number * stride));
                match job.tokens - token {
                    1 => tile::<L, E, 1>(panel, x, out, rows, kept),
                    2 => tile::<L, E, 2>(panel, x, out, rows, kept),
                    3 => tile::<L, E, 3>(panel, x, out, rows, kept),
                    _ => tile::<L, E, TOKENS>(panel, x, out, rows, kept),
                }
            }
        }
    }
}

/// # Safety
///
/// As [`multiply`].
#[inline(always)]
unsafe fn of_pairs<L: Lanes>(job: &Job<'_>, x: &[f32]) {
    let ((rows, columns), width) = (job.shape, PANEL_VECTORS * L::ROWS);
    let panel_bytes = bytes(Encoding::Bf16, columns, width);
    let mut groups = job.groups.clone();
    if job.tokens == 1 && columns.is_multiple_of(2) {
        while groups.len() >= DECODE_PANELS && (groups.start + DECODE_PANELS) * width <= rows {
            let weights =
                job.weights[groups.start * panel_bytes..][..DECODE_PANELS * panel_bytes].as_ptr().cast::<u16>();
            // SAFETY: the caller's; all rows of these panels are the matrix's.
            unsafe { single_token_of_pairs::<L>(weights, columns, x.as_ptr(), job.out.add(groups.start * width)) };
            groups.start += DECODE_PANELS;
        }
    }
    for panel in groups {
        let weights = job.weights[panel * panel_bytes..][..panel_bytes].as_ptr().cast::<u16>();
        let kept = (rows - panel * width).min(width);
        for token in (0..job.tokens).step_by(TOKENS) {
            // SAFETY: the caller's; tokens stay below the job's.
            unsafe {
                let (x, out) = (x.as_ptr().add(token * columns), job.out.add(token * rows + panel * width));
                match job.tokens - token {
                    1 => pair_tile::<L, 1>(weights, columns, x, out, rows, kept),
                    2 => pair_tile::<L, 2>(weights, columns, x, out, rows, kept),
                    3 => pair_tile::<L, 3>(weights, columns, x, out, rows, kept),
                    _ => pair_tile::<L, TOKENS>(weights, columns, x, out, rows, kept),
                }
            }
        }
    }
}

/// One panel with a tile of `T` tokens; results stand `rows` apart.
#[inline(always)]
unsafe fn tile<L: Lanes, E: Element, const T: usize>(
    panel: Panel<E>,
    x: *const f32,
    out: *mut f32,
    rows: usize,
    kept: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let (x, out) = (std::array::from_fn(|t| x.add(t)), std::array::from_fn(|t| out.add(t * rows)));
        panel::multiply::<L, E, T>(panel, x, T, out, kept);
    }
}

/// A single token with [`DECODE_PANELS`] panels.
///
/// # Safety
///
/// As [`multiply`]; all rows of the panels are the matrix's.
#[inline(always)]
unsafe fn single_token<L: Lanes, E: Element>(weights: *const E, columns: usize, x: *const f32, out: *mut f32) {
    let stride = PANEL_VECTORS * L::ROWS;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = [panel::no_sums::<L, 1>(); DECODE_PANELS];
        for column in 0..columns {
            for (at, sums) in sums.iter_mut().enumerate() {
                let panel = Panel { weights: weights.add(at * columns * stride), columns, stride };
                panel::add_column::<L, E, 1>(panel, column, [x.add(column)], sums);
            }
        }
        for (at, [sums]) in sums.into_iter().enumerate() {
            panel::store::<L>(sums, out.add(at * stride), stride);
        }
    }
}

/// One panel of pairs of columns with a tile of `T` tokens; results stand `rows` apart.
#[inline(always)]
unsafe fn pair_tile<L: Lanes, const T: usize>(
    weights: *const u16,
    columns: usize,
    x: *const f32,
    out: *mut f32,
    rows: usize,
    kept: usize,
) {
    let stride = 2 * PANEL_VECTORS * L::ROWS;
    // SAFETY: the caller's.
    unsafe {
        let mut sums = Pairs::<L, T>::none();
        for block in (0..columns).step_by(BLOCK) {
            for pair in block / 2..columns.min(block + BLOCK) / 2 {
                sums.add(weights.add(pair * stride), x.add(2 * pair * T));
            }
            if columns - block < BLOCK && !columns.is_multiple_of(2) {
                sums.add_first(weights.add(columns / 2 * stride), x.add((columns - 1) * T));
            }
            sums.end_block();
        }
        for (t, total) in sums.totals.into_iter().enumerate() {
            panel::store::<L>(total, out.add(t * rows), kept);
        }
    }
}

/// A single token with [`DECODE_PANELS`] panels of pairs of columns.
///
/// # Safety
///
/// As [`multiply`]; columns are even, and all rows of the panels are the matrix's.
#[inline(always)]
unsafe fn single_token_of_pairs<L: Lanes>(weights: *const u16, columns: usize, x: *const f32, out: *mut f32) {
    let (stride, panel) = (2 * PANEL_VECTORS * L::ROWS, columns * PANEL_VECTORS * L::ROWS);
    // SAFETY: the caller's.
    unsafe {
        let mut sums: [Pairs<L, 1>; DECODE_PANELS] = std::array::from_fn(|_| Pairs::none());
        for block in (0..columns).step_by(BLOCK) {
            for pair in block / 2..columns.min(block + BLOCK) / 2 {
                for (at, sums) in sums.iter_mut().enumerate() {
                    sums.add(weights.add(at * panel + pair * stride), x.add(2 * pair));
                }
            }
            for sums in &mut sums {
                sums.end_block();
            }
        }
        for (at, sums) in sums.into_iter().enumerate() {
            panel::store::<L>(sums.totals[0], out.add(at * PANEL_VECTORS * L::ROWS), PANEL_VECTORS * L::ROWS);
        }
    }
}

/// Columns that a matrix instruction takes.
const BLOCK: usize = 32;

/// Sums of `T` tokens over pairs of columns, in the order of matrix instructions: over [`BLOCK`] columns the first of each pair
/// have a sum and the second ones another; then both are added, and that to the total.
///
/// Source: Intel, "Architecture Instruction Set Extensions Programming Reference", TDPBF16PS.
struct Pairs<L: Lanes, const T: usize> {
    firsts: panel::Sums<L, T>,
    seconds: panel::Sums<L, T>,
    totals: panel::Sums<L, T>,
}

impl<L: Lanes, const T: usize> Pairs<L, T> {
    /// # Safety
    ///
    /// As [`multiply`], here and below.
    #[inline(always)]
    unsafe fn none() -> Self {
        // SAFETY: the caller's.
        unsafe {
            Self {
                firsts: panel::no_sums::<L, T>(),
                seconds: panel::no_sums::<L, T>(),
                totals: panel::no_sums::<L, T>(),
            }
        }
    }

    /// Adds the products of a pair of columns, `x` as `[column, token]`.
    #[inline(always)]
    unsafe fn add(&mut self, weights: *const u16, x: *const f32) {
        // SAFETY: the caller's.
        unsafe {
            for v in 0..PANEL_VECTORS {
                let [first, second] = L::load_bf16_pairs(weights.add(v * 2 * L::ROWS));
                for (t, (sum, other)) in self.firsts.iter_mut().zip(&mut self.seconds).enumerate() {
                    sum[v] = L::mul_add(first, L::splat(*x.add(t)), sum[v]);
                    other[v] = L::mul_add(second, L::splat(*x.add(T + t)), other[v]);
                }
            }
        }
    }

    /// The same of a pair whose second column is none of the matrix's.
    #[inline(always)]
    unsafe fn add_first(&mut self, weights: *const u16, x: *const f32) {
        // SAFETY: the caller's.
        unsafe {
            for v in 0..PANEL_VECTORS {
                let [first, _] = L::load_bf16_pairs(weights.add(v * 2 * L::ROWS));
                for (t, sum) in self.firsts.iter_mut().enumerate() {
                    sum[v] = L::mul_add(first, L::splat(*x.add(t)), sum[v]);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn end_block(&mut self) {
        // SAFETY: the caller's.
        unsafe {
            for t in 0..T {
                for v in 0..PANEL_VECTORS {
                    self.totals[t][v] = L::add(self.totals[t][v], L::add(self.firsts[t][v], self.seconds[t][v]));
                }
            }
            self.firsts = panel::no_sums::<L, T>();
            self.seconds = panel::no_sums::<L, T>();
        }
    }
}
